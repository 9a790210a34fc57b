//! Something for each node, or for some of them, found by the node's number.

/// What nodes have, in the order of their numbers. Nodes are numbered from 0 without gaps, so this is no
/// map: each look-up is one access.
#[derive(Clone, Debug)]
pub(crate) struct PerNode<T> {
    slots: Vec<Option<T>>,
}

impl<T> Default for PerNode<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> PerNode<T> {
    pub(crate) fn get(&self, n: usize) -> Option<&T> {
        self.slots.get(n)?.as_ref()
    }

    pub(crate) fn insert(&mut self, n: usize, value: T) {
        *self.slot(n) = Some(value);
    }

    pub(crate) fn remove(&mut self, n: usize) -> Option<T> {
        self.slots.get_mut(n)?.take()
    }

    /// What a node has; it gets this when it has nothing yet.
    pub(crate) fn or_insert_with(&mut self, n: usize, make: impl FnOnce() -> T) -> &mut T {
        self.slot(n).get_or_insert_with(make)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(n, slot)| Some((n, slot.as_ref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().flatten()
    }

    fn slot(&mut self, n: usize) -> &mut Option<T> {
        if self.slots.len() <= n {
            self.slots.resize_with(n + 1, || None);
        }
        &mut self.slots[n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own() {
        let mut letters = PerNode::default();
        letters.insert(3, 'd');
        letters.insert(1, 'b');
        *letters.or_insert_with(1, || 'x') = 'c';
        assert_eq!(letters.get(1), Some(&'c'));
        assert_eq!((letters.get(0), letters.get(9)), (None, None));
        assert_eq!(letters.iter().collect::<Vec<_>>(), [(1, &'c'), (3, &'d')]);
        assert_eq!(
            (letters.remove(3), letters.remove(3), letters.remove(9)),
            (Some('d'), None, None)
        );
        assert_eq!(letters.into_values().collect::<String>(), "c");
    }
}
