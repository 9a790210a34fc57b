//! The sections that speak of the cluster as a whole.

use crate::journal::Journal;
use crate::limits::Limits;
use crate::network::Network;
use crate::removed::Removed;
use crate::storm::Storm;
use kraken_yaml::{Node, Report};
use layercake_schema::{Contradiction, Timing, format_duration, parse_duration};
use std::time::Duration;

/// The settings of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The network that machines boot from.
    pub network: Network,
    /// How much may happen at once.
    pub limits: Limits,
    /// When nodes that fall silent together are left alone.
    pub storm: Storm,
    /// How long everything may take.
    pub timing: Timing,
    /// How much is remembered of what happened.
    pub journal: Journal,
    /// How long nodes are remembered that have left the file.
    pub removed: Removed,
}

pub(crate) fn duration(node: &Node, path: &str, report: &mut Report) -> Option<Duration> {
    let text = report.text(node, path, "a time such as 500ms, 30s or 5m")?;
    parse_duration(text)
        .map_err(|error| {
            report.add(node.at, path, format!("{path} cannot be read"), error.to_string(), "");
        })
        .ok()
}

pub(crate) fn timing(root: &Node, report: &mut Report) -> Timing {
    let mut timing = Timing::default();
    let section = root.get("timing").map(|node| report.map(node, "timing")).unwrap_or_default();
    for (key, at, node) in section {
        let path = format!("timing.{key}");
        if timing.get(key).is_none() {
            report.unknown(*at, &path, key, Timing::NAMES.iter().map(|(name, _)| *name));
        } else if let Some(value) = duration(node, &path, report)
            && let Err(error) = timing.set(key, value)
        {
            report.add(node.at, &path, format!("{path} cannot be set"), error.to_string(), "");
        }
    }
    for contradiction in timing.contradictions() {
        contradicts(root, &timing, &contradiction, report);
    }
    timing
}

/// Says that two times cannot hold together, at the one that the file sets: both may be set, or one
/// that does not go with what comes by itself.
fn contradicts(root: &Node, timing: &Timing, found: &Contradiction, report: &mut Report) {
    let Contradiction { short, least, beside, why } = found;
    let shown = |name: &str| timing.get(name).map(format_duration).unwrap_or_default();
    let section = root.get("timing");
    let set = |name: &str| section.and_then(|section| section.get(name)).map(|node| node.at);
    let at = set(short).or_else(|| set(beside)).unwrap_or(root.at);
    let path = format!("timing.{short}");
    let what =
        format!("{path} is too short: {} beside {beside} of {}", shown(short), shown(beside));
    let least = format_duration(*least);
    let hint = format!("set {short} to {least} at the least, or a shorter {beside}");
    report.add(at, &path, what, *why, hint);
}
