//! What readers see of the nodes: the latest documents, without asking the engine.

use kraken_engine::{Mark, Marks};
use kraken_model::{Document, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use tokio::sync::Notify;

/// The latest documents of every node. Reading never waits for the engine.
#[derive(Debug, Default)]
pub struct Views {
    nodes: RwLock<BTreeMap<NodeId, View>>,
    subscribers: Mutex<Vec<Weak<Dirty>>>,
    freeze: RwLock<Option<Mark>>,
}

/// Both documents of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it should be.
    pub cfg: Document,
    /// What it is known to be.
    pub dsc: Document,
    /// Whether an operator holds or freezes it, or has frozen everything.
    pub held: bool,
    /// What operators say of it; few nodes have any. The freeze of everything is in
    /// [`Views::freeze`].
    pub marks: Option<Arc<Marks>>,
}

/// Which nodes a subscriber has not looked at since they changed. Bounded by the number of nodes,
/// however slow the subscriber is.
#[derive(Debug, Default)]
struct Dirty {
    nodes: Mutex<BTreeSet<NodeId>>,
    some: Notify,
}

/// A level-triggered view of all changes: a node that changes ten times while nobody looks is seen
/// once, as it is then.
#[derive(Debug)]
pub struct Subscription {
    views: Arc<Views>,
    dirty: Arc<Dirty>,
}

impl Views {
    /// The documents of one node.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<View> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// All nodes, in the order of their names.
    #[must_use]
    pub fn all(&self) -> BTreeMap<NodeId, View> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who froze everything disruptive, why, and until when.
    #[must_use]
    pub fn freeze(&self) -> Option<Mark> {
        self.freeze.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_freeze(&self, freeze: Option<Mark>) {
        *self.freeze.write().unwrap_or_else(PoisonError::into_inner) = freeze;
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that changes from now on, beginning with every node that there is.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        let dirty = Arc::new(Dirty::default());
        // Registered before the nodes are listed: a change in between is seen twice, never missed.
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Arc::downgrade(&dirty));
        drop(subscribers);
        dirty.mark(self.all().into_keys());
        Subscription { views: Arc::clone(self), dirty }
    }

    /// Replaces the documents of a node; `None` takes the node away.
    pub(crate) fn put(&self, node: &NodeId, view: Option<View>) {
        {
            let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
            match view {
                Some(view) => nodes.insert(node.clone(), view),
                None => nodes.remove(node),
            };
        }
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| {
            let dirty = subscriber.upgrade();
            if let Some(dirty) = &dirty {
                dirty.mark([node.clone()]);
            }
            dirty.is_some()
        });
    }
}

impl Dirty {
    fn mark(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes);
        self.some.notify_one();
    }
}

impl Subscription {
    /// Every node that changed since it was last looked at, without waiting.
    pub(crate) fn take(&mut self) -> Vec<(NodeId, Option<View>)> {
        let nodes = {
            let mut dirty = self.dirty.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dirty)
        };
        nodes.into_iter().map(|node| (node.clone(), self.views.get(&node))).collect()
    }

    /// Waits for changes, and gives every node that changed as it is now; `None` for a node that
    /// is gone. Cancel-safe: what is not returned is returned the next time.
    pub async fn changed(&mut self) -> Vec<(NodeId, Option<View>)> {
        loop {
            let changed = self.take();
            if !changed.is_empty() {
                return changed;
            }
            self.dirty.some.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Path;

    fn view(number: i64) -> Option<View> {
        let mut view = View::default();
        view.cfg.set(Path::known("x"), number);
        Some(view)
    }

    #[tokio::test]
    async fn a_subscriber_sees_what_is_there_and_then_the_latest_of_each_change() {
        let views = Arc::new(Views::default());
        let node = NodeId::new("n1").unwrap();
        views.put(&node, view(1));
        let mut subscription = views.subscribe();
        assert_eq!(subscription.changed().await, [(node.clone(), view(1))]);
        views.put(&node, view(2));
        views.put(&node, view(3));
        assert_eq!(subscription.changed().await, [(node.clone(), view(3))]);
        views.put(&node, None);
        assert_eq!(subscription.changed().await, [(node.clone(), None)]);
        assert!(views.is_empty());
    }

    #[test]
    fn a_dropped_subscriber_is_forgotten() {
        let views = Arc::new(Views::default());
        drop(views.subscribe());
        views.put(&NodeId::new("n1").unwrap(), view(1));
        assert_eq!(views.subscribers.lock().unwrap().len(), 0);
    }
}
