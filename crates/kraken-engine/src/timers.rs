//! When what has to be looked at again.

use kraken_model::Millis;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A node, by its place in the table.
    Node(u32),
    /// A limit's gate.
    Gate(u32),
    /// What operators say of a node, by its place in the table.
    Marks(u32),
    /// The freeze of everything.
    Freeze,
    /// A node that may still be heard, by its place in the table.
    Found(u32),
}

/// A heap of times. Entries are never taken out early: whoever is woken for nothing goes back to
/// sleep. Each node has one entry that counts (see [`Alarm`]), so the heap stays as small as the
/// table but for wakes that were brought forward.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Millis, Timer)>>,
}

/// The alarm of one node: when it wants to be woken, and for when it is entered in the heap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm {
    wanted: Option<Millis>,
    entered: Option<Millis>,
}

impl Timers {
    pub(crate) fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// What is due, earliest first.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<(Millis, Timer)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    pub(crate) fn push(&mut self, at: Millis, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }
}

impl Alarm {
    /// Wants to be woken at `at`, or not at all. An entry that is early enough is kept: most
    /// deadlines are never reached, and the heap need not hear of each.
    pub(crate) fn set(&mut self, at: Option<Millis>, node: u32, timers: &mut Timers) {
        self.wanted = at;
        if let Some(at) = at
            && self.entered.is_none_or(|entered| entered > at)
        {
            self.entered = Some(at);
            timers.push(at, Timer::Node(node));
        }
    }

    /// An entry for `at` has come up. Whether it is time; otherwise it is entered again for later.
    pub(crate) fn rings(&mut self, at: Millis, node: u32, timers: &mut Timers) -> bool {
        if self.entered != Some(at) {
            return false;
        }
        self.entered = None;
        match self.wanted {
            Some(wanted) if wanted <= at => {
                self.wanted = None;
                true
            }
            later => {
                self.set(later, node, timers);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_is_put_off_rings_once_and_late() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        alarm.set(Some(Millis(10)), 0, &mut timers);
        alarm.set(Some(Millis(20)), 0, &mut timers);
        assert_eq!(timers.heap.len(), 1, "a later wish does not grow the heap");
        let mut rang = Vec::new();
        while let Some((at, _)) = timers.pop_due(Millis(100)) {
            if alarm.rings(at, 0, &mut timers) {
                rang.push(at);
            }
        }
        assert_eq!(rang, [Millis(20)]);
    }

    #[test]
    fn an_alarm_that_is_brought_forward_rings_early_and_only_once() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        alarm.set(Some(Millis(20)), 0, &mut timers);
        alarm.set(Some(Millis(10)), 0, &mut timers);
        let mut rang = Vec::new();
        while let Some((at, _)) = timers.pop_due(Millis(100)) {
            if alarm.rings(at, 0, &mut timers) {
                rang.push(at);
            }
        }
        assert_eq!(rang, [Millis(10)]);
    }
}
