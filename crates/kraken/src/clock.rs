//! What time it is: the one place of this crate that asks.

use kraken_model::Millis;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that tells the time of day when it was made and never goes back from there, whatever
/// happens to the system's time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_millis: u64,
}

impl Clock {
    /// A clock set by the system's.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { start: Instant::now(), start_millis }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(self.start_millis).plus(self.start.elapsed())
    }

    /// The instant at which it will be that time, for timers.
    #[must_use]
    pub fn instant(&self, at: Millis) -> tokio::time::Instant {
        (self.start + at.since(Millis(self.start_millis))).into()
    }
}
