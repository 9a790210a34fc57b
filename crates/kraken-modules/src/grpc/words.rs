//! Between documents and what goes over the wire.

use super::proto::{self, value::Kind};
use kraken::{Order, View};
use kraken_model::{Change, Document, NodeId, Path, Value};
use std::collections::HashMap;
use std::time::Duration;

/// How deep a list may lie in lists. Schemas know one level.
const MAX_DEPTH: usize = 4;

/// The most that is taken of a reason, in characters.
const MAX_REASON: usize = 512;

pub(super) fn order(order: &Order, within: Duration) -> proto::Order {
    proto::Order {
        mutation: order.mutation.to_string(),
        node: Some(node(&order.node, &order.cfg, &order.dsc)),
        attempt: order.id.to_string(),
        within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn view(name: &NodeId, view: Option<&View>) -> proto::Node {
    match view {
        Some(view) => node(name, &view.cfg, &view.dsc),
        None => proto::Node { name: name.to_string(), gone: true, ..proto::Node::default() },
    }
}

fn node(name: &NodeId, cfg: &Document, dsc: &Document) -> proto::Node {
    proto::Node { name: name.to_string(), cfg: map(cfg), dsc: map(dsc), gone: false }
}

fn map(document: &Document) -> HashMap<String, proto::Value> {
    document.iter().map(|(path, value)| (path.to_string(), to_wire(value))).collect()
}

fn to_wire(value: &Value) -> proto::Value {
    let kind = match value {
        Value::Bool(truth) => Kind::Truth(*truth),
        Value::Int(number) => Kind::Number(*number),
        Value::Text(text) => Kind::Text(text.to_string()),
        Value::List(list) => {
            Kind::List(proto::List { members: list.iter().map(to_wire).collect() })
        }
    };
    proto::Value { kind: Some(kind) }
}

/// What a module says it has found.
///
/// # Errors
/// With the reason, when it says nothing that can be understood.
pub(super) fn discovery(said: proto::Discovery) -> Result<(NodeId, Vec<Change>), String> {
    let node = NodeId::new(&said.node).map_err(|error| error.to_string())?;
    // In the order of the addresses: a map has none, and the same must come out the same.
    let mut values: Vec<(String, proto::Value)> = said.values.into_iter().collect();
    values.sort_by(|(a, _), (b, _)| a.cmp(b));
    let change = |(path, value): (String, proto::Value)| {
        let path = Path::new(&path).map_err(|error| error.to_string())?;
        let value = value.kind.map(|kind| from_wire(kind, 0)).transpose()?;
        Ok(Change { path, value })
    };
    let changes: Result<Vec<Change>, String> = values.into_iter().map(change).collect();
    Ok((node, changes?))
}

fn from_wire(kind: Kind, depth: usize) -> Result<Value, String> {
    Ok(match kind {
        Kind::Truth(truth) => truth.into(),
        Kind::Number(number) => number.into(),
        Kind::Text(text) => text.into(),
        Kind::List(_) if depth == MAX_DEPTH => return Err("lists lie too deep in lists".to_owned()),
        Kind::List(list) => {
            let member = |member: proto::Value| {
                let kind = member.kind.ok_or("a member of a list is nothing")?;
                from_wire(kind, depth + 1)
            };
            let members: Result<Vec<Value>, String> =
                list.members.into_iter().map(member).collect();
            members?.into()
        }
    })
}

/// A reason, fit for a journal.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_goes_over_the_wire_comes_back() {
        let mut document = Document::new();
        let list: Value = vec!["a".into(), 2.into(), true.into()].into();
        for (path, value) in
            [("a.b", list), ("n", i64::MIN.into()), ("t", "x".into()), ("y", false.into())]
        {
            document.set(Path::known(path), value);
        }
        let said = proto::Discovery { node: "n1".to_owned(), values: map(&document) };
        let (node, changes) = discovery(said).unwrap();
        let mut back = Document::new();
        back.apply(&changes);
        assert_eq!((node.as_str(), back), ("n1", document));
    }

    #[test]
    fn what_is_no_discovery_is_refused_with_the_reason() {
        let said = |node: &str, path: &str, kind| proto::Discovery {
            node: node.to_owned(),
            values: [(path.to_owned(), proto::Value { kind })].into(),
        };
        assert!(discovery(said("N 1", "a", None)).unwrap_err().contains("not a node name"));
        assert!(discovery(said("n1", "a b", None)).unwrap_err().contains("not an address"));
        let empty = proto::Value { kind: None };
        let list = Kind::List(proto::List { members: vec![empty] });
        assert!(discovery(said("n1", "a", Some(list))).unwrap_err().contains("is nothing"));
        let deep = (0..1000).fold(Kind::Truth(true), |inner, _| {
            Kind::List(proto::List { members: vec![proto::Value { kind: Some(inner) }] })
        });
        assert!(discovery(said("n1", "a", Some(deep))).unwrap_err().contains("too deep"));
        assert_eq!(discovery(said("n1", "a", None)).unwrap().1, [Change::remove(Path::known("a"))]);
    }
}
