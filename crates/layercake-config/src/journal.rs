//! The section that says how much is remembered of what happened.

use kraken_model::Moment;
use kraken_yaml::{Node, Report};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How many entries a journal may be told to keep: fewer would tell nothing, more have never been
/// tried.
const ENTRIES: RangeInclusive<u64> = 1_000..=1_000_000_000;

/// How many bytes: 1 MiB to 1 TiB.
const BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;

/// How far back, in seconds: an hour to ten years.
const AGE_SECS: RangeInclusive<u64> = 3_600..=3_652 * 86_400;

/// An [`Age`], for a person.
pub(crate) const AGE: &str = "a time from 1h to 3652d, such as 90d";

/// How much of the journal is kept; what is not said is up to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// How many entries.
    pub entries: Option<u64>,
    /// How many bytes they take.
    pub bytes: Option<u64>,
    /// How far they reach back.
    pub age: Option<Duration>,
}

/// A size as people write it: a whole number with KiB, MiB, GiB or TiB.
struct Size(u64);

impl FromStr for Size {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let parsed = units.iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        parsed.filter(|bytes| BYTES.contains(bytes)).map(Self).ok_or(fmt::Error)
    }
}

struct Entries(u64);

impl FromStr for Entries {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        let parsed = text.parse().ok();
        parsed.filter(|entries| ENTRIES.contains(entries)).map(Self).ok_or(fmt::Error)
    }
}

/// A time as people write it, from an hour to ten years.
pub(crate) struct Age(pub(crate) Duration);

impl FromStr for Age {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        match text.parse() {
            Ok(Moment::Away(age)) if AGE_SECS.contains(&age.as_secs()) => Ok(Self(age)),
            _ => Err(fmt::Error),
        }
    }
}

pub(crate) fn journal(root: &Node, report: &mut Report) -> Journal {
    let mut journal = Journal::default();
    let Some(section) = root.get("journal") else { return journal };
    let path = "journal";
    report.known(section, path, &["entries", "size", "age"]);
    let what = "a whole number, 1000 to 1000000000";
    journal.entries = report.value(section, path, "entries", what).map(|Entries(n)| n);
    let what = "a size from 1MiB to 1TiB, such as 512MiB";
    journal.bytes = report.value(section, path, "size", what).map(|Size(bytes)| bytes);
    journal.age = report.value(section, path, "age", AGE).map(|Age(age)| age);
    journal
}
