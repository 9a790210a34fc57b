//! What readers see of the nodes: the latest documents, without asking the engine.

use kraken_engine::{Mark, Marks};
use kraken_model::{Document, NodeId};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use tokio::sync::Notify;

/// The latest documents of every node. Reading never waits for the engine.
#[derive(Debug, Default)]
pub struct Views {
    nodes: RwLock<Nodes>,
    subscribers: Mutex<Vec<Weak<Dirty>>>,
    freeze: RwLock<Option<Mark>>,
    /// Nodes that were taken away and may come back.
    departed: RwLock<BTreeSet<NodeId>>,
}

/// A name keeps its place for good, so that whoever looks only after a node was taken away finds that
/// out.
#[derive(Debug, Default)]
struct Nodes {
    places: FxHashMap<NodeId, u32>,
    /// By place: a name, and its node if there is one.
    slots: Vec<(NodeId, Option<View>)>,
    /// How many nodes there are.
    present: usize,
}

/// Both documents of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it should be.
    pub cfg: Document,
    /// What is wanted of it instead until it is off, while it is restarted.
    pub passing: Option<Document>,
    /// What it is known to be.
    pub dsc: Document,
    /// Whether an operator holds it: no step is taken.
    pub held: bool,
    /// What operators say of it; few nodes have any. The freeze of everything is in
    /// [`Views::freeze`].
    pub marks: Option<Arc<Marks>>,
    /// The disruptive step that the node may take by itself now.
    pub permitted: Option<Arc<str>>,
}

/// Which nodes a subscriber has not looked at since they changed. Bounded by the number of nodes,
/// however slow the subscriber is.
#[derive(Debug, Default)]
struct Dirty {
    marked: Mutex<Marked>,
    some: Notify,
}

/// Places, each once, in the order in which they were marked.
#[derive(Debug, Default)]
struct Marked {
    /// By place.
    is: Vec<bool>,
    list: Vec<u32>,
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
        self.nodes().get(node).cloned()
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes().get(node).is_some()
    }

    /// Looks at one node, if there is one, without copying anything of it; and how many there are.
    pub(crate) fn look<T>(&self, node: &NodeId, look: impl FnOnce(&View, usize) -> T) -> Option<T> {
        let nodes = self.nodes();
        nodes.get(node).map(|view| look(view, nodes.present))
    }

    /// All nodes, in the order of their names.
    #[must_use]
    pub fn all(&self) -> BTreeMap<NodeId, View> {
        let nodes = self.nodes();
        let all = nodes.slots.iter().filter_map(|(id, view)| Some((id.clone(), view.clone()?)));
        all.collect()
    }

    /// Whether a node was taken away and may come back: what is kept for it is kept until it is shown as gone and
    /// this is no longer so.
    #[must_use]
    pub fn may_return(&self, node: &NodeId) -> bool {
        self.departed.read().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    pub(crate) fn set_departed(&self, departed: BTreeSet<NodeId>) {
        *self.departed.write().unwrap_or_else(PoisonError::into_inner) = departed;
    }

    pub(crate) fn depart(&self, node: &NodeId) {
        self.departed.write().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
    }

    /// A node is back, or is not waited for any longer; then everybody is told again that it is gone.
    pub(crate) fn return_or_forget(&self, node: &NodeId) {
        self.departed.write().unwrap_or_else(PoisonError::into_inner).remove(node);
        if !self.contains(node) {
            self.put(node, None);
        }
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
        self.nodes().present
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
        self.subscribers().push(Arc::downgrade(&dirty));
        let nodes = self.nodes();
        let places = (0..).zip(&nodes.slots).filter(|(_, (_, view))| view.is_some());
        dirty.mark(places.map(|(place, _)| place));
        drop(nodes);
        Subscription { views: Arc::clone(self), dirty }
    }

    /// Replaces the documents of a node; `None` takes the node away.
    pub(crate) fn put(&self, node: &NodeId, view: Option<View>) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let place = nodes.put(node, view);
        drop(nodes);
        self.subscribers().retain(|subscriber| {
            let dirty = subscriber.upgrade();
            if let Some(dirty) = &dirty {
                dirty.mark([place]);
            }
            dirty.is_some()
        });
    }

    fn nodes(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Weak<Dirty>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    fn get(&self, node: &NodeId) -> Option<&View> {
        let place = *self.places.get(node)?;
        self.slots[place as usize].1.as_ref()
    }

    /// The place of the node.
    fn put(&mut self, node: &NodeId, view: Option<View>) -> u32 {
        let place = self.places.get(node).copied().unwrap_or_else(|| {
            // Four billion names do not fit into memory.
            let place = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            self.places.insert(node.clone(), place);
            self.slots.push((node.clone(), None));
            place
        });
        self.present += usize::from(view.is_some());
        let before = std::mem::replace(&mut self.slots[place as usize].1, view);
        self.present -= usize::from(before.is_some());
        place
    }
}

impl Dirty {
    fn mark(&self, places: impl IntoIterator<Item = u32>) {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = marked.list.is_empty();
        for place in places {
            let index = place as usize;
            if index >= marked.is.len() {
                marked.is.resize(index + 1, false);
            }
            if !std::mem::replace(&mut marked.is[index], true) {
                marked.list.push(place);
            }
        }
        if was_empty && !marked.list.is_empty() {
            drop(marked);
            self.some.notify_one();
        }
    }

    fn take(&self) -> Vec<u32> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let list = std::mem::take(&mut marked.list);
        for place in &list {
            marked.is[*place as usize] = false;
        }
        list
    }
}

impl Subscription {
    /// Every node that changed since it was last looked at, without waiting.
    pub fn take(&mut self) -> Vec<(NodeId, Option<View>)> {
        let places = self.dirty.take();
        if places.is_empty() {
            return Vec::new();
        }
        let nodes = self.views.nodes();
        places.into_iter().map(|place| nodes.slots[place as usize].clone()).collect()
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
        assert_eq!(views.all(), BTreeMap::new());
        views.put(&node, view(4));
        assert_eq!(subscription.changed().await, [(node.clone(), view(4))]);
        assert_eq!((views.len(), views.get(&node)), (1, view(4)));
        assert_eq!(views.subscribe().take(), [(node, view(4))]);
    }

    #[test]
    fn a_dropped_subscriber_is_forgotten() {
        let views = Arc::new(Views::default());
        drop(views.subscribe());
        views.put(&NodeId::new("n1").unwrap(), view(1));
        assert_eq!(views.subscribers.lock().unwrap().len(), 0);
    }
}
