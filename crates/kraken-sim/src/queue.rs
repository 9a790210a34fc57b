//! What happens next: virtual time is nothing but the order of events.

use kraken_model::Millis;
use std::collections::{BTreeMap, VecDeque};

/// How many milliseconds a page has.
const PAGE: u64 = 64;

/// Events by time; of those at the same time, the one that was entered first comes first.
///
/// Like a calendar: what is on the open page is kept by its millisecond, and what is on a later page just in
/// the order in which it was entered, until that page is turned to. In a large fleet all nodes
/// write into the few pages ahead, of which only the ends have to be at hand.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// The number of the open page: its first millisecond by [`PAGE`].
    page: u64,
    /// Which millisecond of it is next.
    line: usize,
    /// One list for each millisecond of the open page.
    open: Vec<VecDeque<E>>,
    later: BTreeMap<u64, Vec<(Millis, E)>>,
    /// Pages that were turned, to write on again.
    blank: Vec<Vec<(Millis, E)>>,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        let open = (0..PAGE).map(|_| VecDeque::new()).collect();
        Self { page: 0, line: 0, open, later: BTreeMap::new(), blank: Vec::new() }
    }

    /// Enters an event; one of the past happens next.
    pub(crate) fn push(&mut self, at: Millis, event: E) {
        let at = at.max(self.time());
        if at.0 / PAGE == self.page {
            self.open[(at.0 % PAGE) as usize].push_back(event);
        } else {
            let blank = &mut self.blank;
            let page = self.later.entry(at.0 / PAGE);
            page.or_insert_with(|| blank.pop().unwrap_or_default()).push((at, event));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(Millis, E)> {
        let at = self.next()?;
        if at.0 / PAGE != self.page {
            self.turn();
        }
        self.line = (at.0 % PAGE) as usize;
        self.open[self.line].pop_front().map(|event| (at, event))
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> Option<Millis> {
        let line = (self.line..self.open.len()).find(|line| !self.open[*line].is_empty());
        match line {
            Some(line) => Some(Millis(self.page * PAGE + line as u64)),
            None => self.later.first_key_value()?.1.iter().map(|(at, _)| *at).min(),
        }
    }

    /// The millisecond of the event that came last.
    fn time(&self) -> Millis {
        Millis(self.page * PAGE + self.line as u64)
    }

    /// Turns to the next page with events.
    fn turn(&mut self) {
        let Some((page, mut events)) = self.later.pop_first() else { return };
        (self.page, self.line) = (page, 0);
        for (at, event) in events.drain(..) {
            self.open[(at.0 % PAGE) as usize].push_back(event);
        }
        self.blank.push(events);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Random;

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

    #[test]
    fn whenever_events_are_entered_they_come_as_from_a_sorted_list() {
        let mut random = Random::new(7);
        let (mut queue, mut list, mut now) = (Queue::new(), Vec::new(), Millis(0));
        for number in 0..20_000 {
            let ahead = [0, 1, 3, PAGE, 5 * PAGE, 1_000 * PAGE][random.below(6) as usize];
            let at = Millis(now.0 + random.below(ahead + 1));
            queue.push(at, number);
            list.push((at, number));
            assert_eq!(queue.next(), list.iter().map(|(at, _)| *at).min());
            if random.chance(48) {
                let first = (0..list.len()).min_by_key(|i| list[*i]).unwrap();
                let first = list.remove(first);
                now = first.0;
                assert_eq!(queue.pop(), Some(first));
            }
            if list.len() > 60 {
                list.sort_unstable();
                for event in list.drain(..50) {
                    now = event.0;
                    assert_eq!(queue.pop(), Some(event));
                }
            }
        }
    }
}
