//! Moments as people write them: `2h`, `18:00`, `2026-11-25T14:05:00Z`.

use crate::Millis;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest time in one direction, in days: a hundred years.
const MAX_DAYS: u64 = 36_525;

const MILLIS_A_DAY: u64 = 86_400_000;

/// A moment as people write it, which may depend on what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long from now, in whichever direction makes sense: `2h`, `1d12h`, `90s`.
    Away(Duration),
    /// When a clock shows this in UTC, nearest in the direction that makes sense: so long after
    /// midnight.
    Clock(Duration),
    /// Exactly then (RFC 3339).
    At(Millis),
}

/// A text is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time: write how far away it is (90s, 30m, 2h, 1d12h), a time of day in UTC \
     (18:00) or a date and time (2026-11-25T18:00:00Z)"
)]
pub struct MomentError(String);

impl Moment {
    /// The moment, when it is one that is still to come; `None` when it has passed.
    #[must_use]
    pub fn to_come(self, now: Millis) -> Option<Millis> {
        let at = match self {
            Self::Away(distance) => now.plus(distance),
            Self::Clock(time) => {
                let today = Millis(now.0 - now.0 % MILLIS_A_DAY).plus(time);
                if today > now { today } else { Millis(today.0 + MILLIS_A_DAY) }
            }
            Self::At(at) => at,
        };
        (at > now).then_some(at)
    }

    /// The moment, when it is one that has passed; `None` when it is still to come.
    #[must_use]
    pub fn passed(self, now: Millis) -> Option<Millis> {
        let at = match self {
            Self::Away(distance) => Millis(now.0.saturating_sub(Millis(0).plus(distance).0)),
            Self::Clock(time) => {
                let today = Millis(now.0 - now.0 % MILLIS_A_DAY).plus(time);
                if today <= now { today } else { Millis(today.0.saturating_sub(MILLIS_A_DAY)) }
            }
            Self::At(at) => at,
        };
        (at <= now).then_some(at)
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let moment = distance(text)
            .map(Self::Away)
            .or_else(|| time_of_day(text).map(|millis| Self::Clock(Duration::from_millis(millis))))
            .or_else(|| date_and_time(text).map(Self::At));
        moment.ok_or_else(|| MomentError(text.chars().take(80).collect()))
    }
}

/// Whole numbers with their units, the largest first or not: `1d12h`.
fn distance(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[digits..digits + unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => MILLIS_A_DAY,
            "w" => 7 * MILLIS_A_DAY,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(millis)?)?;
        rest = &rest[digits + unit..];
    }
    let is_sane = !text.is_empty() && sum <= MAX_DAYS * MILLIS_A_DAY;
    is_sane.then(|| Duration::from_millis(sum))
}

/// `18:00`, `18:00:30` or `18:00:30.250`, in milliseconds after midnight.
fn time_of_day(text: &str) -> Option<u64> {
    let (text, millis) = match text.split_once('.') {
        Some((text, fraction)) if text.len() == 8 => (text, thousandths(fraction)?),
        Some(_) => return None,
        None => (text, 0),
    };
    let mut parts = text.split(':').map(two_digits);
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0))?;
    let is_time = parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 60;
    is_time.then_some((hours * 3_600 + minutes * 60 + seconds) * 1_000 + millis)
}

fn two_digits(text: &str) -> Option<u64> {
    let is_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

/// The first three digits of a fraction of a second.
fn thousandths(fraction: &str) -> Option<u64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{fraction}00");
    padded[..3].parse().ok()
}

/// RFC 3339 §5.6, with a space in place of the `T` if somebody likes that better.
fn date_and_time(text: &str) -> Option<Millis> {
    if !text.is_ascii() || text.len() < 17 || !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (date, rest) = (&text[..10], &text[11..]);
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || parts.next().is_some() {
        return None;
    }
    let (year, month, day): (u64, _, _) =
        (year.parse().ok()?, two_digits(month)?, two_digits(day)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let next_month =
        if month == 12 { days_before(year + 1, 1) } else { days_before(year, month + 1) };
    if days >= next_month {
        return None;
    }
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let local = days * MILLIS_A_DAY + time_of_day(time)?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => time_of_day(&zone[1..]).filter(|_| zone.len() == 6)?,
    };
    // What is ahead of UTC has had its morning earlier.
    if zone.starts_with('+') { local.checked_sub(offset) } else { local.checked_add(offset) }
        .map(Millis)
}

/// How many days lie between 1 January 1970 and the first day of a month.
fn days_before(year: u64, month: u64) -> u64 {
    // Years that begin in March have their leap day at the end (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400;
    days + (153 * month + 2) / 5 - 719_468
}

impl Millis {
    /// The time as RFC 3339 has it, in UTC; milliseconds only when there are some.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (days, rest) = (self.0 / MILLIS_A_DAY, self.0 % MILLIS_A_DAY);
        // Farther ahead than four digits of a year go is as good as for ever.
        if days >= days_before(10_000, 1) {
            return "9999-12-31T23:59:59Z".to_owned();
        }
        let latest = 1970 + days / 365;
        let year = (1970..=latest).rev().find(|y| days_before(*y, 1) <= days).unwrap_or(1970);
        let month = (1..=12).rev().find(|m| days_before(year, *m) <= days).unwrap_or(1);
        let day = days - days_before(year, month) + 1;
        let (h, m, s) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
        let fraction = match rest % 1_000 {
            0 => String::new(),
            millis => format!(".{millis:03}"),
        };
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}{fraction}Z")
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(distance) => write!(f, "{}ms", distance.as_millis()),
            Self::Clock(time) => {
                let text = Millis(0).plus(*time).rfc3339();
                f.write_str(&text["1970-01-01T".len()..text.len() - 1])
            }
            Self::At(at) => f.write_str(&at.rfc3339()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-25 14:05:00 UTC.
    const NOW: Millis = Millis(1_795_615_500_000);

    fn moment(text: &str) -> Moment {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_time_is_read_as_it_was_written(millis in 0..250_000_000_000_000_u64) {
            let text = Millis(millis).rfc3339();
            prop_assert_eq!(moment(&text), Moment::At(Millis(millis)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}|[0-9TZ:.+dhms -]{0,30}") {
            if let Ok(moment) = text.parse::<Moment>() {
                prop_assert_eq!(moment.to_string().parse(), Ok(moment));
            }
        }
    }

    #[test]
    fn what_is_to_come_lies_ahead_and_what_has_passed_behind() {
        assert_eq!(NOW.rfc3339(), "2026-11-25T14:05:00Z");
        let cases = [
            ("2h", "2026-11-25T16:05:00Z", "2026-11-25T12:05:00Z"),
            ("1d12h", "2026-11-27T02:05:00Z", "2026-11-24T02:05:00Z"),
            ("18:00", "2026-11-25T18:00:00Z", "2026-11-24T18:00:00Z"),
            ("06:30:01.5", "2026-11-26T06:30:01.500Z", "2026-11-25T06:30:01.500Z"),
        ];
        for (text, ahead, behind) in cases {
            assert_eq!(moment(text).to_come(NOW).unwrap().rfc3339(), ahead, "{text}");
            assert_eq!(moment(text).passed(NOW).unwrap().rfc3339(), behind, "{text}");
        }
        assert_eq!(moment("14:05").passed(NOW), Some(NOW), "now has passed");
        assert_eq!(moment("2026-11-25T14:05:01Z").passed(NOW), None);
        assert_eq!(moment("2026-11-25T14:05:00Z").to_come(NOW), None);
        assert_eq!(moment("0s").to_come(NOW), None);
    }

    #[test]
    fn zones_leap_days_and_fractions_are_understood() {
        let at = |text| match moment(text) {
            Moment::At(at) => at.rfc3339(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at("2026-11-25T19:05:00+05:00"), "2026-11-25T14:05:00Z");
        assert_eq!(at("2028-02-29 23:30:00.25-01:00"), "2028-03-01T00:30:00.250Z");
        assert_eq!(at("1970-01-01T00:00Z"), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        let bad = [
            "",
            "5",
            "h",
            "2 h",
            "-2h",
            "25:00",
            "1:00",
            "12:60",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-25",
            "2026-11-25T14:05:00",
            "99999999999w",
            "soon",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
        ];
        for text in bad {
            let error = text.parse::<Moment>().unwrap_err().to_string();
            assert!(error.contains("18:00"), "{text}: {error}");
        }
    }
}
