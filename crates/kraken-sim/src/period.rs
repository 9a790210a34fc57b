//! Something that an operator said, as somebody notes it who was only told: since when, and until when.

use kraken_model::Millis;
use std::time::Duration;

/// Since when something counts, and when it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    since: Millis,
    until: Option<Millis>,
}

impl Period {
    /// It is said now, for so long or until it is taken back, in place of what was said before. What
    /// counted until now has counted since then.
    pub(crate) fn said(before: Option<Self>, now: Millis, lasts: Option<Duration>) -> Self {
        let since = before.filter(|before| before.counts(now)).map_or(now, |before| before.since);
        Self { since, until: lasts.map(|lasts| now.plus(lasts)) }
    }

    /// Whether it counts: until its end, and not at it.
    pub(crate) fn counts(self, now: Millis) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it counts and did so at a time before.
    pub(crate) fn counted_before(self, then: Millis, now: Millis) -> bool {
        self.counts(now) && self.since < then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn it_counts_until_its_end_and_not_at_it() {
        let period = Period::said(None, Millis(500), SECOND);
        assert!(period.counts(Millis(1_499)) && !period.counts(Millis(1_500)));
        assert!(period.counted_before(Millis(501), Millis(1_499)));
        assert!(!period.counted_before(Millis(500), Millis(1_499)), "it was said only then");
        assert!(!period.counted_before(Millis(501), Millis(1_500)), "it is over");
        assert!(Period::said(None, Millis(0), None).counts(Millis(u64::MAX)));
    }

    #[test]
    fn what_is_said_again_counts_since_the_first_time_and_what_is_over_begins_anew() {
        let first = Period::said(None, Millis(0), SECOND);
        let again = Period::said(Some(first), Millis(900), SECOND);
        assert_eq!(again, Period { since: Millis(0), until: Some(Millis(1_900)) });
        let shorter = Period::said(Some(Period::said(None, Millis(0), None)), Millis(100), SECOND);
        assert!(!shorter.counts(Millis(1_100)), "the last word counts");
        let anew = Period::said(Some(first), Millis(1_000), None);
        assert_eq!(anew, Period { since: Millis(1_000), until: None });
    }
}
