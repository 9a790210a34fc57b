//! When which node is looked at next.

use kraken_model::NodeId;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How often, at most, the pause after a look that failed is doubled.
const MAX_DOUBLINGS: u32 = 4;

/// The nodes that are looked at in turn. A new one comes at once; one whose look failed waits longer.
#[derive(Debug)]
pub(crate) struct Polling {
    every: Duration,
    due: BTreeSet<(Instant, NodeId)>,
    known: HashMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    /// When it is due; nothing while it is looked at.
    due: Option<Instant>,
    /// What is found now may be old already: it is due again at once.
    is_hurried: bool,
    failures: u32,
}

impl Polling {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, due: BTreeSet::new(), known: HashMap::new() }
    }

    /// There is such a node.
    pub(crate) fn see(&mut self, now: Instant, node: &NodeId) {
        if !self.known.contains_key(node) {
            self.due.insert((now, node.clone()));
            self.known
                .insert(node.clone(), Known { due: Some(now), is_hurried: false, failures: 0 });
        }
    }

    /// There is no such node any more.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        if let Some(due) = self.known.remove(node).and_then(|known| known.due) {
            self.due.remove(&(due, node.clone()));
        }
    }

    /// A node is to be looked at now, and once more if it is being looked at.
    pub(crate) fn hurry(&mut self, now: Instant, node: &NodeId) {
        let Some(known) = self.known.get_mut(node) else { return };
        match known.due.replace(now) {
            Some(due) => drop(self.due.remove(&(due, node.clone()))),
            None => {
                known.due = None;
                known.is_hurried = true;
                return;
            }
        }
        self.due.insert((now, node.clone()));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A node that is due; it is not again before it was looked at.
    pub(crate) fn take(&mut self, now: Instant) -> Option<NodeId> {
        let (at, node) = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&(at, node.clone()));
        if let Some(known) = self.known.get_mut(&node) {
            known.due = None;
        }
        Some(node)
    }

    /// A node was looked at.
    pub(crate) fn looked(&mut self, now: Instant, node: &NodeId, found: bool) {
        let Some(known) = self.known.get_mut(node).filter(|known| known.due.is_none()) else {
            return;
        };
        known.failures = if found { 0 } else { (known.failures + 1).min(MAX_DOUBLINGS) };
        let pause = self.every * 2_u32.pow(known.failures);
        let at = if std::mem::take(&mut known.is_hurried) { now } else { now + pause };
        known.due = Some(at);
        self.due.insert((at, node.clone()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn a_node_is_due_at_once_then_in_turn_and_later_when_looking_fails() {
        let (start, n1) = (Instant::now(), node("n1"));
        let mut polling = Polling::new(EVERY);
        polling.see(start, &n1);
        polling.see(start, &n1);
        assert_eq!(polling.take(start), Some(n1.clone()));
        assert_eq!((polling.take(start), polling.next()), (None, None));
        polling.looked(start, &n1, true);
        assert_eq!(polling.next(), Some(start + EVERY));
        assert_eq!(polling.take(start), None);
        for pause in [EVERY * 2, EVERY * 4, EVERY * 8, EVERY * 16, EVERY * 16] {
            let at = polling.next().unwrap();
            assert_eq!(polling.take(at), Some(n1.clone()));
            polling.looked(at, &n1, false);
            assert_eq!(polling.next(), Some(at + pause));
        }
    }

    #[test]
    fn a_node_that_is_wanted_in_a_hurry_is_due_at_once_and_once_more_if_it_is_being_looked_at() {
        let (start, n1) = (Instant::now(), node("n1"));
        let mut polling = Polling::new(EVERY);
        polling.see(start, &n1);
        assert_eq!(polling.take(start), Some(n1.clone()));
        polling.hurry(start, &n1);
        assert_eq!(polling.next(), None, "it is being looked at");
        polling.looked(start, &n1, true);
        assert_eq!(polling.take(start), Some(n1.clone()));
        polling.looked(start, &n1, true);
        assert_eq!(polling.next(), Some(start + EVERY));
        polling.hurry(start, &n1);
        assert_eq!(polling.take(start), Some(n1.clone()));
        assert_eq!(polling.next(), None, "it was due once");
    }

    #[test]
    fn a_node_that_is_gone_is_not_looked_at_again() {
        let (start, n1) = (Instant::now(), node("n1"));
        let mut polling = Polling::new(EVERY);
        polling.see(start, &n1);
        polling.forget(&n1);
        assert_eq!(polling.next(), None);
        polling.see(start, &n1);
        assert_eq!(polling.take(start), Some(n1.clone()));
        polling.forget(&n1);
        polling.looked(start, &n1, true);
        assert_eq!(polling.next(), None);
    }
}
