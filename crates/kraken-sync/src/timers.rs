//! When which session wants attention.
//!
//! A hello moves nothing here: the timer of a child's silence stays where it is, and when it is
//! due, it is put off to where it belongs by then. So a hello costs the same with a hundred
//! children and with a hundred thousand.

use crate::SessionId;
use kraken_model::Millis;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Its silence is to be judged. Each session has one of these, or is silent.
    Silence,
    /// Something has to be sent again.
    Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Millis,
    pub(crate) session: SessionId,
    pub(crate) why: Why,
}

/// Timers, the earliest first. None is ever taken back: whoever is woken looks whether it is still
/// wanted.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    pub(crate) fn due(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }
}
