//! What applying a cluster file changes, as people and programs are told.

use kraken::View;
use kraken_model::{Document, NodeId, Path, Value, diff};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an application of a cluster file changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// The revision of the store afterwards; 0 when nothing was written.
    pub revision: u64,
    /// The nodes that change, in the order of their names.
    pub nodes: Vec<ChangedNode>,
    /// What a person should know besides.
    pub notes: Vec<String>,
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

/// The writes that turn what is there into what is wanted, and what they change.
pub(crate) fn between(
    before: &BTreeMap<NodeId, View>,
    after: &BTreeMap<NodeId, Document>,
) -> (Vec<(NodeId, Option<Document>)>, Vec<ChangedNode>) {
    let nothing = Document::new();
    let (mut writes, mut nodes) = (Vec::new(), Vec::new());
    let mut names: Vec<&NodeId> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (old, new) = (before.get(name).map(|view| &view.cfg), after.get(name));
        if old == new {
            continue;
        }
        let (added, removed) = (old.is_none(), new.is_none());
        let old = old.unwrap_or(&nothing);
        let changes = diff(old, new.unwrap_or(&nothing)).into_iter().map(|change| ChangedValue {
            before: old.get(change.path.as_str()).cloned(),
            path: change.path,
            after: change.value,
        });
        nodes.push(ChangedNode { name: name.clone(), added, removed, changes: changes.collect() });
        writes.push((name.clone(), new.cloned()));
    }
    (writes, nodes)
}
