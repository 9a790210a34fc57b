//! What happens next: virtual time is nothing but the order of events.

use kraken_model::Millis;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Events by time; of those at the same time, the one that was entered first comes first.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Millis,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), entered: 0 }
    }

    pub(crate) fn push(&mut self, at: Millis, event: E) {
        self.entered += 1;
        self.heap.push(Entry { at, number: self.entered, event });
    }

    pub(crate) fn pop(&mut self) -> Option<(Millis, E)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|entry| entry.at)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The heap gives its greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_of_their_entry() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(Millis(at), event);
        }
        assert_eq!(queue.next(), Some(Millis(1)));
        let all: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(all, "abcd");
    }
}
