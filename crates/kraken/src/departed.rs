//! Nodes that were taken away, remembered for a while: they may come back, and run meanwhile.

use crate::turn::Reconfigured;
use kraken_engine::{Command, Mark, MarkKind, Marks};
use kraken_model::{Millis, NodeId};
use kraken_store::{Store, StoreError, ValueWrite};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Where in the store they are, by name.
const NAMESPACE: &str = "departed";

/// How long, and for how many nodes, all that they need to come back is kept after they were taken away: what modules
/// keep of them, such as the secret with which a boot joins again, and what operators said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembrance {
    /// How long.
    pub keep: Duration,
    /// How many; when there are more, those are forgotten that went first.
    pub nodes: usize,
}

impl Default for Remembrance {
    /// A week, 100,000 nodes.
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 86_400), nodes: 100_000 }
    }
}

/// A node that was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    /// When.
    at: Millis,
    /// What operators said of it then.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    marks: Marks,
}

/// The nodes that were taken away, and may come back.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    bounds: Remembrance,
    gone: BTreeMap<NodeId, Gone>,
}

/// What is kept of those who went.
pub(crate) fn kept(store: &mut dyn Store) -> Result<Vec<(NodeId, Gone)>, StoreError> {
    let all = store.list(NAMESPACE)?.into_iter();
    let read = all.filter_map(|(key, bytes)| {
        let node = NodeId::new(&key).ok()?;
        let gone = serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%node, %error, "unreadable: a node that went"));
        // That it went is certain, whatever cannot be read of it.
        Some((node, gone.unwrap_or_default()))
    });
    Ok(read.collect())
}

impl Departed {
    pub(crate) fn new(bounds: Remembrance, kept: Vec<(NodeId, Gone)>) -> Self {
        Self { bounds, gone: kept.into_iter().collect() }
    }

    pub(crate) fn names(&self) -> BTreeSet<NodeId> {
        self.gone.keys().cloned().collect()
    }

    /// What has to be written together with a change of cfg.
    pub(crate) fn writes(
        &self,
        changed: &[Reconfigured],
        now: Millis,
        marks: impl Fn(&NodeId) -> Marks,
    ) -> Vec<ValueWrite> {
        let write = |change: &Reconfigured| {
            let value = match change.after {
                None => {
                    let gone = Gone { at: now, marks: marks(&change.node) };
                    Some(serde_json::to_vec(&gone).unwrap_or_default())
                }
                Some(_) if self.gone.contains_key(&change.node) => None,
                Some(_) => return None,
            };
            let (namespace, key) = (NAMESPACE.to_owned(), change.node.to_string());
            Some(ValueWrite { namespace, key, value })
        };
        changed.iter().filter_map(write).collect()
    }

    /// A node goes now.
    pub(crate) fn leave(&mut self, node: &NodeId, now: Millis, marks: Marks) {
        self.gone.insert(node.clone(), Gone { at: now, marks });
    }

    /// A node has come.
    pub(crate) fn come(&mut self, node: &NodeId) {
        self.gone.remove(node);
    }

    /// What operators had said of a node when it went, and is not over: the commands that say it again, each with
    /// who gave it.
    pub(crate) fn said(&self, node: &NodeId, now: Millis) -> Vec<(Command, Arc<str>)> {
        let Some(Gone { marks, .. }) = self.gone.get(node) else { return Vec::new() };
        let counts = |mark: &Mark| mark.terms.until.is_none_or(|until| until > now);
        let again = |(kind, mark): (MarkKind, &Mark)| {
            let (node, terms) = (node.clone(), mark.terms.clone());
            let command = match kind {
                MarkKind::Hold => Command::Hold { node, terms },
                MarkKind::Freeze => Command::Freeze { node: Some(node), terms },
                MarkKind::Busy => Command::Busy { node, terms },
                // A node that comes back is to be left alone: whoever still wants it restarted says so again.
                MarkKind::Restart => return None,
            };
            Some((command, Arc::clone(&mark.by)))
        };
        marks.iter().filter(|(_, mark)| counts(mark)).filter_map(again).collect()
    }

    /// Those that are not remembered any longer: the time of some is over, and of others there are too many.
    pub(crate) fn forget(&mut self, now: Millis) -> Vec<NodeId> {
        let Remembrance { keep, nodes } = self.bounds;
        let mut by_age: Vec<(Millis, NodeId)> =
            self.gone.iter().map(|(node, gone)| (gone.at, node.clone())).collect();
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(nodes);
        let is_over = |(index, (at, _)): &(usize, (Millis, NodeId))| {
            *index < too_many || now.since(*at) >= keep
        };
        let over = by_age.into_iter().enumerate().filter(is_over).map(|(_, (_, node))| node);
        let over: Vec<NodeId> = over.collect();
        over.iter().for_each(|node| drop(self.gone.remove(node)));
        over
    }
}

/// What is written when these are not remembered any longer.
pub(crate) fn forgotten(nodes: &[NodeId]) -> Vec<ValueWrite> {
    let write = |node: &NodeId| {
        let (namespace, key) = (NAMESPACE.to_owned(), node.to_string());
        ValueWrite { namespace, key, value: None }
    };
    nodes.iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_engine::Terms;

    fn node(n: usize) -> NodeId {
        NodeId::new(&format!("n{n}")).unwrap()
    }

    fn departed(nodes: usize) -> Departed {
        let keep = Duration::from_secs(100);
        Departed::new(Remembrance { keep, nodes }, Vec::new())
    }

    #[test]
    fn whoever_went_long_ago_or_first_of_too_many_is_forgotten() {
        let mut departed = departed(2);
        for (n, at) in [(3, 0), (1, 50_000), (2, 60_000), (4, 60_000)] {
            departed.leave(&node(n), Millis(at), Marks::default());
        }
        assert_eq!(departed.forget(Millis(60_000)), [node(3), node(1)]);
        assert_eq!(departed.forget(Millis(159_999)), []);
        assert_eq!(departed.forget(Millis(160_000)), [node(2), node(4)]);
    }

    #[test]
    fn what_was_said_of_a_node_is_said_again_unless_its_time_is_over() {
        let mark = |until| Mark { by: "anna".into(), terms: Terms { until, ..Terms::default() } };
        let marks = Marks {
            hold: Some(mark(None)),
            freeze: Some(mark(Some(Millis(10)))),
            busy: Some(mark(Some(Millis(30)))),
            ..Marks::default()
        };
        let mut departed = departed(2);
        departed.leave(&node(1), Millis(0), marks.clone());
        let kept = serde_json::to_vec(&departed.gone[&node(1)]).unwrap();
        assert_eq!(serde_json::from_slice::<Gone>(&kept).unwrap().marks, marks);
        let again = departed.said(&node(1), Millis(20));
        let hold = Command::Hold { node: node(1), terms: Terms::default() };
        let terms = Terms { until: Some(Millis(30)), ..Terms::default() };
        let busy = Command::Busy { node: node(1), terms };
        assert_eq!(again, [(hold, "anna".into()), (busy, "anna".into())]);
        departed.come(&node(1));
        assert_eq!(departed.said(&node(1), Millis(20)), []);
    }
}
