//! Faults that come by themselves, from the seed.

use crate::fault::Kind;
use kraken_sim::Random;
use std::time::Duration;

/// The most faults that come by themselves in an hour of the machines.
pub const MOST_PER_HOUR: f64 = 3600.0;

/// The purpose of its random numbers, apart from those of the machines.
const PURPOSE: u64 = 9;

/// How many nodes a fault hits at the most that is not about a rack.
const MOST_NODES: u64 = 5;

/// Draws faults.
#[derive(Debug)]
pub(crate) struct Chaos {
    random: Random,
    per_hour: f64,
}

/// A fault that comes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) kind: Kind,
    /// The first node that it hits, or any of the rack that it hits, as its place among all.
    pub(crate) first: usize,
    /// How many nodes it hits.
    pub(crate) count: usize,
    /// How long it lasts, in the time of the machines.
    pub(crate) lasts: Duration,
}

impl Chaos {
    /// So many faults in an hour of the machines, on average; none for none.
    pub(crate) fn new(seed: u64, per_hour: f64) -> Option<Self> {
        (per_hour > 0.0).then(|| Self { random: Random::apart(seed, PURPOSE), per_hour })
    }

    /// How long it takes until the next one, in the time of the machines: as of things that happen
    /// whatever happened before.
    pub(crate) fn pause(&mut self) -> Duration {
        let share = (self.random.below(1 << 20) + 1) as f64 / f64::from(1 << 20);
        Duration::from_secs_f64(-share.ln() * 3600.0 / self.per_hour)
    }

    /// The next one, among so many nodes.
    pub(crate) fn draw(&mut self, nodes: usize) -> Drawn {
        let kind = Kind::ALL[self.random.below(Kind::ALL.len() as u64) as usize];
        let first = self.random.below(nodes as u64) as usize;
        let count = self.random.within(1, MOST_NODES) as usize;
        let lasts = Duration::from_secs(self.random.within(20, 600));
        Drawn { kind, first, count, lasts }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_as_many_as_were_asked_for() {
        let mut chaos = [Chaos::new(5, 60.0).unwrap(), Chaos::new(5, 60.0).unwrap()];
        let mut took = Duration::ZERO;
        for _ in 0..1000 {
            let [one, other] = &mut chaos;
            let pause = one.pause();
            assert_eq!(pause, other.pause());
            let drawn = one.draw(130);
            assert_eq!(drawn, other.draw(130));
            assert!(drawn.first < 130);
            took += pause;
        }
        let minutes = took.as_secs_f64() / 60.0;
        assert!((900.0..1100.0).contains(&minutes), "1000 faults in {minutes} minutes");
        assert!(Chaos::new(5, 0.0).is_none());
    }
}
