//! What a command that looks has found, as it prints it.
//!
//! Lines of `ADDRESS=VALUE`, or one JSON object of addresses and values. An empty value, or `null`,
//! says that there is none: the variable is unknown, the fact is gone. Empty lines, and those that
//! begin with `#`, say nothing. Where one run answers for all nodes, a line begins with the node, and
//! the JSON object has one such object for each.

use crate::guard::value_of;
use kraken_model::{Change, NodeId, Path, Registry, Value};
use std::collections::BTreeMap;

/// What was found of one node.
pub(crate) type Found = Vec<Change>;

/// Reads the answer for one node.
///
/// # Errors
/// With the reason, when it is none: then nothing of it is taken.
pub(crate) fn of_node(text: &str, registry: &Registry) -> Result<Found, String> {
    if text.trim_start().starts_with('{') {
        let object = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        return changes(&object);
    }
    lines(text).map(|line| change(line, registry)).collect()
}

/// Reads the answer for all nodes.
///
/// # Errors
/// With the reason, when it is none: then nothing of it is taken.
pub(crate) fn of_all(text: &str, registry: &Registry) -> Result<BTreeMap<NodeId, Found>, String> {
    let node = |name: &str| NodeId::new(name).map_err(|error| error.to_string());
    if text.trim_start().starts_with('{') {
        let objects: BTreeMap<String, Object> =
            serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        return objects.iter().map(|(name, object)| Ok((node(name)?, changes(object)?))).collect();
    }
    let mut found: BTreeMap<NodeId, Found> = BTreeMap::new();
    for line in lines(text) {
        let (name, rest) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{line:?} is no line of NODE ADDRESS=VALUE"))?;
        found.entry(node(name)?).or_default().push(change(rest.trim_start(), registry)?);
    }
    Ok(found)
}

type Object = BTreeMap<String, Option<Value>>;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn change(line: &str, registry: &Registry) -> Result<Change, String> {
    let shown: String = line.chars().take(80).collect();
    let (address, text) =
        line.split_once('=').ok_or_else(|| format!("{shown:?} is no line of ADDRESS=VALUE"))?;
    let path = Path::new(address.trim_end()).map_err(|error| error.to_string())?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(Change::remove(path));
    }
    // What no schema knows is refused later, and counted.
    let value = match registry.field(path.as_str()) {
        Some(field) => value_of(text, &field.kind).map_err(|why| format!("{path}: {why}"))?,
        None => text.into(),
    };
    Ok(Change { path, value: Some(value) })
}

fn changes(object: &Object) -> Result<Found, String> {
    let change = |(address, value): (&String, &Option<Value>)| {
        let path = Path::new(address).map_err(|error| error.to_string())?;
        Ok(Change { path, value: value.clone() })
    };
    object.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::{Field, Kind, Schema, Side};

    fn registry() -> Registry {
        let jobs = Field::new("jobs", Kind::Int { min: 0, max: 9 }, &[Side::Dsc], "").unwrap();
        let state = Field::variable("state", &["UNKNOWN", "IN_USE"], "").unwrap();
        Registry::new(vec![Schema { name: "t".into(), fields: vec![jobs, state] }]).unwrap()
    }

    #[test]
    fn lines_and_json_say_the_same() {
        let lines = of_node("# a comment\n\n state = IN_USE\njobs=3\n", &registry()).unwrap();
        let json = of_node(r#" {"jobs": 3, "state": "IN_USE"}"#, &registry()).unwrap();
        let wanted =
            [Change::set(Path::known("state"), "IN_USE"), Change::set(Path::known("jobs"), 3)];
        assert_eq!(lines, wanted);
        assert_eq!(json.iter().rev().cloned().collect::<Vec<_>>(), wanted);
        let gone = [Change::remove(Path::known("state"))];
        assert_eq!(of_node("state=", &registry()).unwrap(), gone);
        assert_eq!(of_node(r#"{"state": null}"#, &registry()).unwrap(), gone);
    }

    #[test]
    fn one_answer_speaks_of_all_nodes() {
        let lines = of_all("n1 state=IN_USE\nn1 jobs=1\nn2  state=\n", &registry()).unwrap();
        let json = r#"{"n1": {"jobs": 1, "state": "IN_USE"}, "n2": {"state": null}}"#;
        let json = of_all(json, &registry()).unwrap();
        assert_eq!(lines.keys().collect::<Vec<_>>(), json.keys().collect::<Vec<_>>());
        assert_eq!(lines.values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(lines.values().last(), json.values().last());
    }

    #[test]
    fn what_is_no_answer_is_refused_whole() {
        for bad in ["state", "jobs=many", "st ate=x", "{", r#"{"jobs": {}}"#, r#"{"jobs": 1.5}"#] {
            assert!(of_node(bad, &registry()).is_err(), "{bad}");
        }
        for bad in ["state=IN_USE", "N_1 state=IN_USE", r#"{"n1": 3}"#] {
            assert!(of_all(bad, &registry()).is_err(), "{bad}");
        }
    }
    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "[a-c0-9={}:\",\\[\\]#. \n\t\u{e4}-]{0,80}") {
            let _ = (of_node(&text, &registry()), of_all(&text, &registry()));
            let _ = of_node(&format!("jobs={text}"), &registry());
        }
    }
}
