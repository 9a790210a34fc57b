//! All nodes, dense, and found by their names.

use crate::node::Node;
use kraken_model::{Millis, NodeId};
use rustc_hash::FxHashMap;

/// The nodes. A node keeps its place as long as it exists; places are used again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Box<Node>>>,
    free: Vec<u32>,
    index: FxHashMap<NodeId, u32>,
    /// Attempts of a node that comes back are numbered on from here, so that an answer to what its
    /// earlier life dispatched is never taken for one to its present.
    first_attempt: u32,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn find(&self, id: &NodeId) -> Option<u32> {
        self.index.get(id).copied()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Node> {
        self.slots.get(at as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.slots.get_mut(at as usize)?.as_deref_mut()
    }

    pub(crate) fn add(&mut self, id: NodeId, now: Millis) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // Four billion nodes do not fit into memory.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let node = Node::new(id.clone(), self.first_attempt, now);
        self.slots[at as usize] = Some(Box::new(node));
        self.index.insert(id, at);
        at
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Node> {
        let node = *self.slots.get_mut(at as usize)?.take()?;
        self.index.remove(&node.id);
        self.free.push(at);
        self.first_attempt = self.first_attempt.max(node.attempts);
        Some(node)
    }

    /// Every place, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.slots.iter_mut().flatten().map(Box::as_mut)
    }
}
