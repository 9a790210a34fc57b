//! The section `storm`: when nodes that fall silent together are left alone.

use crate::sections::duration;
use kraken_model::{Document, NodeId, Path, Registry, Side, nearest};
use kraken_yaml::{Data, Node, Report};
use layercake_schema::{Timing, format_duration};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// How many addresses may name failure domains.
const MAX_PER: usize = 16;

/// How many hellos have to fit into the window, at the least: nodes behind one switch are found silent one by one.
const WINDOW_HELLOS: u32 = 3;

/// The addresses that name failure domains unless the file says otherwise.
const PER: [&str; 3] = ["location.rack", "location.chassis", "location.switch"];

/// When nodes that fall silent together are left alone, because one fault is likelier than many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// The share of the nodes, in percent, above which it is a storm.
    pub share: u32,
    /// The number of nodes below which it is none; but see small domains in `docs/concepts.md`.
    pub at_least: u32,
    /// How close together they fall silent.
    pub window: Duration,
    /// How long a silent node that has power is left alone while others of its domain are silent too.
    pub patience: Duration,
    /// The addresses whose values name failure domains: each is judged apart.
    pub per: Vec<Path>,
}

impl Default for Storm {
    fn default() -> Self {
        Self {
            share: 20,
            at_least: 5,
            window: Duration::from_secs(60),
            patience: Duration::from_secs(300),
            per: PER.map(Path::known).into(),
        }
    }
}

struct Share(u32);

impl FromStr for Share {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        let percent = text.strip_suffix('%').and_then(|text| text.trim_end().parse().ok());
        percent.filter(|percent| (1..=100).contains(percent)).map(Self).ok_or(fmt::Error)
    }
}

pub(crate) fn storm(
    root: &Node,
    registry: &Registry,
    timing: &Timing,
    report: &mut Report,
) -> Storm {
    let mut storm = Storm::default();
    let Some(section) = root.get("storm") else { return storm };
    let path = "storm";
    report.known(section, path, &["share", "at_least", "window", "patience", "per"]);
    if let Some(Share(share)) = report.value(section, path, "share", "1% to 100%") {
        storm.share = share;
    }
    let at_least: Option<NonZeroU32> =
        report.value(section, path, "at_least", "a number of nodes, from 1");
    storm.at_least = at_least.map_or(storm.at_least, Into::into);
    for (key, time) in [("window", &mut storm.window), ("patience", &mut storm.patience)] {
        let said = section.get(key).map(|node| duration(node, &format!("{path}.{key}"), report));
        *time = said.flatten().unwrap_or(*time);
    }
    let least = timing.hello * WINDOW_HELLOS;
    if storm.window < least {
        let at = section.get("window").map_or(section.at, |node| node.at);
        let what = format!("storm.window is too short: {}", format_duration(storm.window));
        let why = "nodes behind one switch are found silent one by one, as their hellos are missed";
        let hint = format!("{} at the least, beside timing.hello", format_duration(least));
        report.add(at, "storm.window", what, why, hint);
    }
    if let Some(node) = section.get("per") {
        storm.per = per(node, registry, report);
    }
    storm
}

fn per(node: &Node, registry: &Registry, report: &mut Report) -> Vec<Path> {
    let place = "storm.per";
    let list = match &node.data {
        Data::List(list) => &list[..],
        Data::Scalar(..) if !node.is_null() => std::slice::from_ref(node),
        _ => {
            let why = "addresses of cfg belong here, in a list";
            let hint = "such as [location.rack, labels.switch], or [] for none";
            report.add(node.at, place, "storm.per cannot be read", why, hint);
            return Vec::new();
        }
    };
    if list.len() > MAX_PER {
        let what = format!("storm.per has {} addresses", list.len());
        report.add(node.at, place, what, format!("there may be {MAX_PER}"), "");
    }
    let mut found: Vec<Path> = Vec::new();
    for node in list {
        let text = node.text().unwrap_or_default();
        let field = registry.field(text).filter(|field| field.sides.contains(&Side::Cfg));
        let field = field.filter(|_| registry.variable(text).is_none());
        let Some((address, _)) = Path::new(text).ok().zip(field) else {
            let what = format!("{text:?} cannot name failure domains");
            let why = "no value of that address can be configured";
            let known = [&PER[..], &["location.pdu", "labels.switch"]].concat();
            let hint = match nearest(text, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "such as location.rack or labels.switch".to_owned(),
            };
            report.add(node.at, place, what, why, hint);
            continue;
        };
        if found.contains(&address) {
            let why = "it stands there already";
            report.add(node.at, place, format!("duplicate address {address}"), why, "");
        } else {
            found.push(address);
        }
    }
    found
}

impl Storm {
    /// The addresses that were meant to name failure domains and that no node has a value at.
    #[must_use]
    pub fn unused<'a>(&'a self, nodes: &BTreeMap<NodeId, Document>) -> Vec<&'a Path> {
        if *self == Self::default() || nodes.is_empty() {
            return Vec::new();
        }
        let is_used = |path: &&Path| nodes.values().any(|cfg| cfg.get(path.as_str()).is_some());
        let said = self.per.iter().filter(|path| !PER.contains(&path.as_str()));
        said.filter(|path| !is_used(path)).collect()
    }
}
