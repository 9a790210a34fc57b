//! The section that says how long nodes are remembered that are no longer in the file.

use crate::journal::{AGE, Age};
use kraken_yaml::{Node, Report};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How many nodes may be remembered.
const NODES: RangeInclusive<usize> = 0..=1_000_000;

/// How long, and of how many nodes, what they need to come back is kept after they have left the file; what is not said
/// is up to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How long.
    pub keep: Option<Duration>,
    /// Of how many nodes.
    pub nodes: Option<usize>,
}

struct Nodes(usize);

impl FromStr for Nodes {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        let parsed = text.parse().ok();
        parsed.filter(|nodes| NODES.contains(nodes)).map(Self).ok_or(fmt::Error)
    }
}

pub(crate) fn removed(root: &Node, report: &mut Report) -> Removed {
    let mut removed = Removed::default();
    let Some(section) = root.get("removed") else { return removed };
    let path = "removed";
    report.known(section, path, &["keep", "nodes"]);
    removed.keep = report.value(section, path, "keep", AGE).map(|Age(age)| age);
    let what = "a whole number, 0 to 1000000";
    removed.nodes = report.value(section, path, "nodes", what).map(|Nodes(nodes)| nodes);
    removed
}
