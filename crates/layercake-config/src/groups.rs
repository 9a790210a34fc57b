//! The section `groups`: named sets of nodes, and what holds for them.

use crate::build::Images;
use crate::machine::Layer;
use kraken_model::{NodeId, NodeLookup, NodeSet, Registry, Side, nearest, suggest};
use kraken_yaml::{Data, Node, Report};
use std::collections::BTreeMap;

/// The groups, and what they say in the order of the file.
pub(crate) fn groups(
    root: &Node,
    all: &NodeSet,
    registry: &Registry,
    images: &Images,
    report: &mut Report,
) -> (BTreeMap<String, NodeSet>, Vec<(String, Layer)>) {
    let mut groups: BTreeMap<String, NodeSet> = BTreeMap::new();
    let mut layers = Vec::new();
    let section = root.get("groups").map(|node| report.map(node, "groups")).unwrap_or_default();
    for (name, at, body) in section {
        let path = format!("groups.{name}");
        // One whose name no node set could say would be there for nothing.
        if !can_be_named(name, root) {
            let why = "a node set names it as @NAME: letters, digits, '_', '-' and '.'";
            report.add(*at, &path, format!("{name:?} cannot name a group"), why, "");
        }
        let layer = Layer::read(body, &path, &["nodes"], registry, images, report);
        layers.push((name.clone(), layer));
        if body.get("nodes").is_none() && (body.is_null() || matches!(body.data, Data::Map(_))) {
            report.add(*at, &path, format!("{path}.nodes is missing"), "a group has nodes", "");
        }
        let set = body.get("nodes").and_then(|node| {
            let text =
                report.text(node, &format!("{path}.nodes"), "a node set such as \"n[1-3],n7\"")?;
            let file = File { all, groups: &groups, root };
            let refuse = |error: &dyn ToString, report: &mut Report| {
                let what = format!("{text:?} is not a set of nodes");
                report.add(node.at, &path, what, error.to_string(), "");
            };
            NodeSet::parse(text, &file).map_err(|error| refuse(&error, report)).ok()
        });
        // One that cannot be read is a name all the same: whoever refers to it is not wrong as well.
        groups.insert(name.clone(), set.unwrap_or_default());
    }
    (groups, layers)
}

/// Whether a node set can refer to a group of this name.
fn can_be_named(name: &str, root: &Node) -> bool {
    let groups = BTreeMap::from([(name.to_owned(), NodeSet::new())]);
    let file = File { all: &NodeSet::new(), groups: &groups, root };
    name != "*" && NodeSet::parse(&format!("@{name}"), &file).is_ok()
}

/// A cluster file as far as it is read when a group refers to it.
struct File<'a> {
    all: &'a NodeSet,
    groups: &'a BTreeMap<String, NodeSet>,
    root: &'a Node,
}

impl NodeLookup for File<'_> {
    fn contains(&self, node: &NodeId) -> bool {
        self.all.contains(node)
    }

    fn all(&self) -> Option<NodeSet> {
        Some(self.all.clone())
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        if let Some(group) = self.groups.get(name) {
            return Ok(group.clone());
        }
        if self.root.get("groups").is_some_and(|groups| groups.get(name).is_some()) {
            let hint = "put it before the groups that refer to it";
            return Err(format!("the group @{name} is this one, or stands further down: {hint}"));
        }
        let known = self.groups.keys().map(String::as_str);
        Err(match nearest(name, known.clone()) {
            Some(near) => format!("no such group: @{name} (did you mean @{near}?)"),
            None => format!("no such group: @{name}; {}", suggest(name, known)),
        })
    }

    fn select(&self, _: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        Err(format!("{path}={value} cannot stand here: a group has the nodes that it names"))
    }
}
