//! What failed on a node, how often, and when it may be tried again.

use crate::node::LastDone;
use kraken_model::Millis;
use kraken_plan::{MutationId, Retry};
use std::sync::Arc;
use std::time::Duration;

/// A small generator of numbers that look random and are the same every time: SplitMix64 (Steele,
/// Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Somewhere between half of a pause and all of it, so that nodes that failed together do not
    /// come back together.
    pub(crate) fn of(&mut self, pause: Duration) -> Duration {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let half = millis / 2;
        Duration::from_millis(millis - half + self.next() % (half + 1))
    }
}

/// The pause after the n-th failure in a row, without jitter: `base * 2^(n-1)`, `cap` at most.
pub(crate) fn pause(retry: &Retry, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    retry.base.saturating_mul(1 << doublings).min(retry.cap)
}

impl LastDone {
    /// Whether a step that is needed again now was done so lately that it did not help: within twice the
    /// longest pause, so that one that rests for that long still counts.
    pub(crate) fn did_not_last(&self, mutation: MutationId, now: Millis, retry: &Retry) -> bool {
        self.mutation == mutation && now.since(self.at) < retry.cap * 2
    }

    /// Until when a step rests that is needed again: as after so many failures, counted from when it
    /// was done. What held out for longer than that is done again at once.
    pub(crate) fn rests_until(
        &self,
        mutation: MutationId,
        now: Millis,
        retry: &Retry,
    ) -> Option<Millis> {
        let until = self.at.plus(pause(retry, self.repeats.saturating_add(1)));
        (self.did_not_last(mutation, now, retry) && until > now).then_some(until)
    }
}

/// What failed on one node.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) mutation: MutationId,
    /// How many times in a row.
    pub(crate) failures: u32,
    /// Why, the last time.
    pub(crate) reason: Arc<str>,
    /// Not before then; `None`: never again, until the cfg changes or a person says so.
    pub(crate) retry_at: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { base: Duration::from_secs(5), cap: Duration::from_secs(60), limit: None };

    #[test]
    fn pauses_double_up_to_their_cap_and_never_overflow() {
        let seconds: Vec<u64> = (1..=6).map(|n| pause(&RETRY, n).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        assert_eq!(pause(&RETRY, u32::MAX), RETRY.cap);
    }

    #[test]
    fn jitter_takes_away_half_of_a_pause_at_most() {
        let mut jitter = Jitter::new(7);
        let all: Vec<Duration> = (0..1000).map(|_| jitter.of(RETRY.base)).collect();
        assert!(all.iter().all(|p| (RETRY.base / 2..=RETRY.base).contains(p)));
        assert!(all.iter().min() < Some(&Duration::from_millis(2600)), "it reaches down to half");
        assert!(all.iter().max() > Some(&Duration::from_millis(4900)), "and up to all of it");
    }

    #[test]
    fn the_same_seed_gives_the_same_jitter() {
        let run = |seed| {
            let mut jitter = Jitter::new(seed);
            [(); 8].map(|()| jitter.of(RETRY.cap))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
