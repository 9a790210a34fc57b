//! What happens next: virtual time is nothing but the order of events.

use kraken_model::Millis;
use std::collections::{BTreeMap, VecDeque};

/// Events by time; of those at the same time, the one that was entered first comes first.
///
/// In a large fleet many events share a millisecond, so that finding the next one is nearly always
/// taking the next of the same list: events are never moved once they are in.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    by_time: BTreeMap<Millis, VecDeque<E>>,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { by_time: BTreeMap::new() }
    }

    pub(crate) fn push(&mut self, at: Millis, event: E) {
        self.by_time.entry(at).or_default().push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Millis, E)> {
        let mut first = self.by_time.first_entry()?;
        let at = *first.key();
        let event = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        event.map(|event| (at, event))
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first_key_value().map(|(at, _)| *at)
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
