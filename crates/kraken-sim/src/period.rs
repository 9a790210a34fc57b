//! Something that an operator said, as somebody notes it who was only told: until when.

use kraken_model::Millis;
use std::time::Duration;

/// When something that counts ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    until: Option<Millis>,
}

impl Period {
    /// It is said now, for so long or until it is taken back, in place of what was said before.
    pub(crate) fn said(now: Millis, lasts: Option<Duration>) -> Self {
        Self { until: lasts.map(|lasts| now.plus(lasts)) }
    }

    /// Whether it counts: until its end, and not at it.
    pub(crate) fn counts(self, now: Millis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_until_its_end_and_not_at_it() {
        let period = Period::said(Millis(500), Some(Duration::from_secs(1)));
        assert!(period.counts(Millis(1_499)) && !period.counts(Millis(1_500)));
        assert!(Period::said(Millis(0), None).counts(Millis(u64::MAX)));
    }
}
