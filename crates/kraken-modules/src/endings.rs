//! When attempts ended, so that nobody believes what was seen before.

use kraken_model::NodeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// When the latest attempt on each node came to its end, and which nodes have to be looked at for
/// that.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    kept: Mutex<Kept>,
    /// Rung when somebody wants to know now.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    ended: HashMap<NodeId, Instant>,
    hurried: Vec<NodeId>,
}

/// An attempt that is under way. Dropped, however that comes about, it is over, and the node is looked at in a
/// hurry unless somebody has done so.
pub(crate) struct Attempt<'a> {
    endings: &'a Endings,
    node: &'a NodeId,
    has_acted: bool,
    is_seen: bool,
}

impl Endings {
    /// An attempt begins.
    pub(crate) fn begin<'a>(&'a self, node: &'a NodeId) -> Attempt<'a> {
        Attempt { endings: self, node, has_acted: false, is_seen: false }
    }

    /// Whether what was begun to be looked at then may be older than what an attempt has done.
    pub(crate) fn is_outdated(&self, node: &NodeId, began: Instant) -> bool {
        self.with(|kept| kept.ended.get(node).is_some_and(|ended| *ended >= began))
    }

    /// There is no such node any more.
    pub(crate) fn forget(&self, node: &NodeId) {
        self.with(|kept| kept.ended.remove(node));
    }

    /// Somebody wants to know now.
    pub(crate) fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody wants to know now. Cancel-safe.
    pub(crate) async fn hurried(&self) {
        self.wanted.notified().await;
    }

    /// The nodes of which somebody wants to know.
    pub(crate) fn take_hurried(&self) -> Vec<NodeId> {
        self.with(|kept| std::mem::take(&mut kept.hurried))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Attempt<'_> {
    /// It has done what it was to do: what is seen from now on is so.
    pub(crate) fn acted(&mut self) {
        self.has_acted = true;
        self.endings.with(|kept| kept.ended.insert(self.node.clone(), Instant::now()));
    }

    /// The node was looked at since.
    pub(crate) fn seen(mut self) {
        self.is_seen = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_acted {
            self.acted();
        }
        if !self.is_seen {
            self.endings.with(|kept| kept.hurried.push(self.node.clone()));
            self.endings.hurry();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_seen_before_an_attempt_ended_is_outdated_and_what_nobody_saw_is_looked_at() {
        let (endings, n1) = (Endings::default(), NodeId::new("n1").unwrap());
        let before = Instant::now();
        assert!(!endings.is_outdated(&n1, before));
        let mut attempt = endings.begin(&n1);
        attempt.acted();
        assert!(endings.is_outdated(&n1, before));
        attempt.seen();
        assert_eq!(endings.take_hurried(), []);
        // Interrupted: nobody knows what it did.
        let before = Instant::now();
        drop(endings.begin(&n1));
        assert!(endings.is_outdated(&n1, before));
        assert_eq!(endings.take_hurried(), std::slice::from_ref(&n1));
        endings.forget(&n1);
        assert!(!endings.is_outdated(&n1, before));
    }
}
