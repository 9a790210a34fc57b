//! What applying a cluster file changes, as people and programs are told.

use kraken::{Limit, Reconfigured, View};
use kraken_model::{Document, NodeId, NodeSet, Path, Value, diff};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Changes that need a person's word before a cluster file is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The file is that of a cluster with another name: `--rename`, `rename=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<Renamed>,
    /// It removes more than half of the nodes: `--yes`, `remove=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

/// Another name of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The name that counts.
    pub from: String,
    /// The name in the file.
    pub to: String,
}

/// Nodes that a cluster file does not have any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Their names.
    pub nodes: NodeSet,
    /// The number of nodes before.
    pub of: usize,
    /// The SHA-256 of the names; `remove=DIGEST` permits the removal of just these nodes.
    pub digest: String,
}

impl Confirmation {
    /// Whether nothing needs a person's word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.renamed.is_none() && self.removed.is_none()
    }

    /// Every change with the flag that permits it, one a line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let renamed = self.renamed.as_ref().map(|renamed| {
            format!("{renamed}; `layercake apply --rename` (rename=true) permits it")
        });
        let removed = self
            .removed
            .as_ref()
            .map(|removed| format!("{removed}; `layercake apply --yes` (remove=true) permits it"));
        renamed.into_iter().chain(removed)
    }
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file is that of cluster {:?}, and this is cluster {:?}", self.to, self.from)
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, of, .. } = self;
        write!(f, "{} of {of} nodes would be removed: {nodes}", nodes.len())
    }
}

/// What an application of a cluster file changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// The revision of the store afterwards; 0 when nothing was written.
    pub revision: u64,
    /// The nodes that change, in the order of their names.
    pub nodes: Vec<ChangedNode>,
    /// The limits that change; they hold at once.
    #[serde(default)]
    pub limits: ChangedLimits,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// What changes of the limits, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedLimits {
    /// Those that did not hold before.
    pub come: Vec<String>,
    /// Those that do not hold afterwards.
    pub go: Vec<String>,
}

impl ChangedLimits {
    /// Whether none changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.come.is_empty() && self.go.is_empty()
    }

    /// What turns some limits into others; their order means nothing.
    pub(crate) fn between(before: &[Limit], after: &[Limit]) -> Self {
        let (come, go) = (without(after, before), without(before, after));
        let say = |these: &[&Limit], others: &[&Limit]| -> Vec<String> {
            these.iter().map(|limit| in_words(limit, others)).collect()
        };
        Self { come: say(&come, &go), go: say(&go, &come) }
    }
}

/// The limits that the others do not have, or not as often.
fn without<'a>(limits: &'a [Limit], others: &[Limit]) -> Vec<&'a Limit> {
    let mut others: Vec<&Limit> = others.iter().collect();
    let is_new = |limit: &&Limit| match others.iter().position(|other| other == limit) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    };
    limits.iter().filter(is_new).collect()
}

/// A limit in words, with the nodes of its group when nothing else tells it from another one.
fn in_words(limit: &Limit, others: &[&Limit]) -> String {
    let words = limit.to_string();
    match &limit.nodes {
        Some(group) if others.iter().any(|other| other.to_string() == words) => {
            format!("{words} ({} is {})", group.name, group.nodes)
        }
        _ => words,
    }
}

/// What changes of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedNode {
    /// Its name.
    pub name: NodeId,
    /// It was not there before.
    pub added: bool,
    /// It is not there afterwards.
    pub removed: bool,
    /// Every value of its cfg that changes.
    pub changes: Vec<ChangedValue>,
}

/// One value that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedValue {
    /// Its address.
    pub path: Path,
    /// What it was; nothing when it is new.
    pub before: Option<Value>,
    /// What it is; nothing when it is removed.
    pub after: Option<Value>,
}

impl ChangedNode {
    /// What changes of a node when its cfg becomes another one; nothing when it stays.
    fn between(name: &NodeId, old: Option<&Document>, new: Option<&Document>) -> Option<Self> {
        if old == new {
            return None;
        }
        let nothing = Document::new();
        let (added, removed) = (old.is_none(), new.is_none());
        let old = old.unwrap_or(&nothing);
        let changes = diff(old, new.unwrap_or(&nothing)).into_iter().map(|change| ChangedValue {
            before: old.get(change.path.as_str()).cloned(),
            path: change.path,
            after: change.value,
        });
        Some(Self { name: name.clone(), added, removed, changes: changes.collect() })
    }
}

/// What turning what is there into what is wanted would change.
pub(crate) fn between(
    before: &BTreeMap<NodeId, View>,
    after: &BTreeMap<NodeId, Document>,
) -> Vec<ChangedNode> {
    let mut names: Vec<&NodeId> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &NodeId| {
        let old = before.get(name).map(|view| &view.cfg);
        ChangedNode::between(name, old, after.get(name))
    };
    names.into_iter().filter_map(change).collect()
}

/// What a change of cfg that was made has changed.
pub(crate) fn made(nodes: &[Reconfigured]) -> Vec<ChangedNode> {
    let change =
        |n: &Reconfigured| ChangedNode::between(&n.node, n.before.as_ref(), n.after.as_ref());
    nodes.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken::{Group, Scope};
    use std::sync::Arc;

    fn limit(name: &str, at_once: u32) -> Limit {
        Limit::at_most(at_once, Scope::Mutation(name.into()))
    }

    fn of(limit: Limit, nodes: &str) -> Limit {
        let group = Group { name: "front".into(), nodes: nodes.parse().unwrap() };
        Limit { nodes: Some(Arc::new(group)), ..limit }
    }

    #[test]
    fn limits_that_come_and_go_are_said_and_their_order_means_nothing() {
        let before = [limit("power.on", 1), limit("power.off", 2), limit("power.off", 2)];
        let after = [limit("power.off", 2), limit("power.on", 3)];
        let changed = ChangedLimits::between(&before, &after);
        assert_eq!(changed.come, ["power.on: 3 at a time"]);
        assert_eq!(changed.go, ["power.on: 1 at a time", "power.off: 2 at a time"]);
        let mut other_way = before.clone();
        other_way.reverse();
        assert!(ChangedLimits::between(&before, &other_way).is_empty());
    }

    #[test]
    fn a_limit_whose_group_has_other_nodes_is_another_one() {
        let (one, more) = (of(limit("power.on", 1), "n1"), of(limit("power.on", 1), "n[1-3]"));
        let changed = ChangedLimits::between(&[one], &[more]);
        assert_eq!(changed.come, ["power.on in front: 1 at a time (front is n[1-3])"]);
        assert_eq!(changed.go, ["power.on in front: 1 at a time (front is n1)"]);
    }
}
