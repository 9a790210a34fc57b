//! How long an answer takes, how often a neighbour speaks, and when its silence means something.

use kraken_model::Millis;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const FIRST_TIMEOUT_MS: f32 = 500.0;
const MIN_TIMEOUT_MS: f32 = 50.0;
const MAX_TIMEOUT_MS: f32 = 10_000.0;

/// Smoothed round-trip time and its deviation (RFC 6298 §2), in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    smoothed: Option<(f32, f32)>,
}

impl Rtt {
    /// The time between something that was sent once and its answer (Karn's rule, RFC 6298 §3).
    pub(crate) fn sample(&mut self, took: Duration) {
        let took = took.as_secs_f32() * 1000.0;
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2.0),
            Some((mean, dev)) => {
                (mean + (took - mean) / 8.0, dev + ((took - mean).abs() - dev) / 4.0)
            }
        });
    }

    /// When something that was sent so many times is sent again: doubled each time.
    pub(crate) fn timeout(&self, times: u32) -> Duration {
        let once = self.smoothed.map_or(FIRST_TIMEOUT_MS, |(mean, dev)| mean + 4.0 * dev);
        let doubled = once.max(MIN_TIMEOUT_MS) * (1 << times.saturating_sub(1).min(10)) as f32;
        Duration::from_millis(doubled.min(MAX_TIMEOUT_MS) as u64)
    }
}

/// The bounds within which silence is judged; between them every neighbour has its own measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Never silent before this, in milliseconds.
    pub min_ms: u64,
    /// Silent after this in any case, in milliseconds.
    pub max_ms: u64,
}

/// The chance we take of calling a living neighbour silent, as a power of ten.
const ODDS: f32 = 6.0;

/// How regularly a neighbour speaks.
///
/// It is silent after `k * interval + 4 * deviation`, where `k` is how many signs of life in a row
/// a path with the measured loss swallows less than once in a million times (3 to 12).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cadence {
    last: Millis,
    mean_ms: f32,
    deviation_ms: f32,
    loss: f32,
}

impl Cadence {
    pub(crate) fn new(now: Millis, interval_ms: u64) -> Self {
        Self { last: now, mean_ms: interval_ms as f32, deviation_ms: 0.0, loss: 0.01 }
    }

    /// When it was last heard.
    pub(crate) fn last(&self) -> Millis {
        self.last
    }

    /// It was heard, with something else than a regular sign of life.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.last = self.last.max(now);
    }

    /// A regular sign of life came, after so many that did not.
    pub(crate) fn regular(&mut self, gap: Duration, lost: u64) {
        for _ in 0..lost.min(16) {
            self.loss += (1.0 - self.loss) / 32.0;
        }
        self.loss -= self.loss / 32.0;
        // What was lost explains a long gap; the rest is jitter.
        let gap = gap.as_secs_f32() * 1000.0 / (lost as f32 + 1.0);
        self.deviation_ms += ((gap - self.mean_ms).abs() - self.deviation_ms) / 8.0;
        self.mean_ms += (gap - self.mean_ms) / 8.0;
    }

    /// How long it may say nothing before that means something.
    pub(crate) fn patience(&self, interval_ms: u64, bounds: Silence) -> Duration {
        let loss = self.loss.clamp(0.01, 0.9);
        let in_a_row = (ODDS / -loss.log10()).ceil().clamp(3.0, 12.0);
        let interval = self.mean_ms.max(interval_ms as f32);
        let patience = (in_a_row * interval + 4.0 * self.deviation_ms) as u64;
        Duration::from_millis(patience.max(bounds.min_ms).min(bounds.max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Silence = Silence { min_ms: 1_000, max_ms: 120_000 };

    fn heard(times: u32, gap_ms: u64, lost: u64) -> Cadence {
        let mut cadence = Cadence::new(Millis(0), 2_000);
        for _ in 0..times {
            cadence.regular(Duration::from_millis(gap_ms), lost);
        }
        cadence
    }

    #[test]
    fn a_lossy_path_is_given_more_patience_than_a_good_one() {
        let good = heard(100, 2_000, 0).patience(2_000, BOUNDS);
        let lossy = heard(100, 4_000, 1).patience(2_000, BOUNDS);
        assert!(good <= Duration::from_secs(8), "{good:?}");
        assert!(lossy >= Duration::from_secs(18), "{lossy:?}");
    }

    #[test]
    fn patience_stays_within_its_bounds() {
        let tight = Silence { min_ms: 5_000, max_ms: 6_000 };
        assert_eq!(heard(9, 100, 0).patience(100, tight), Duration::from_secs(5));
        assert_eq!(heard(99, 90_000, 9).patience(9_000, tight), Duration::from_secs(6));
    }

    #[test]
    fn an_unanswered_datagram_is_repeated_ever_more_slowly() {
        let mut rtt = Rtt::default();
        (0..20).for_each(|_| rtt.sample(Duration::from_millis(20)));
        assert_eq!(rtt.timeout(1), Duration::from_millis(50));
        assert_eq!(rtt.timeout(3), Duration::from_millis(200));
        assert_eq!(rtt.timeout(60), Duration::from_secs(10));
    }
}
