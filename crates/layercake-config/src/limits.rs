//! The section `limits`: how much may happen at once.

use crate::sections::duration;
use kraken_model::{Document, NodeId, NodeSet, Path, Registry, Side, nearest, suggest};
use kraken_yaml::{Data, Node, Report};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// The word for every step that may end what runs on a node.
const DISRUPTIVE: &str = "disruptive";

/// The word for every step.
const ALL: &str = "all";

/// How much may happen at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many steps may be under way, and how close together they may begin.
    pub steps: Vec<StepLimit>,
    /// How many nodes may be unavailable before a disruptive step makes one more so.
    pub unavailable: Vec<UnavailableLimit>,
}

/// A limit on steps that are under way at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLimit {
    /// Which steps.
    pub of: Steps,
    /// For which nodes, and counted how.
    pub nodes: Where,
    /// How many of them.
    pub at_once: Option<u32>,
    /// How much time lies between the beginnings of two, at least.
    pub every: Option<Duration>,
}

/// A limit on nodes that are unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnavailableLimit {
    /// Which nodes, and counted how.
    pub nodes: Where,
    /// How many of them.
    pub at_most: Portion,
}

/// Which nodes a limit is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Where {
    /// The nodes of this group; nothing: all.
    pub group: Option<String>,
    /// Counted apart for every value of this address of cfg.
    pub per: Option<Path>,
}

/// Which steps a limit is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// All of them.
    All,
    /// Those that may end what runs on a node.
    Disruptive,
    /// These mutations, counted together.
    Named(Vec<String>),
}

/// A part of a number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// What the section is read against.
pub(crate) struct Names<'a> {
    pub(crate) groups: &'a BTreeMap<String, NodeSet>,
    pub(crate) nodes: &'a BTreeMap<NodeId, Document>,
    pub(crate) registry: &'a Registry,
    pub(crate) steps: &'a [&'a str],
}

pub(crate) fn limits(root: &Node, names: &Names<'_>, report: &mut Report) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = root.get("limits") else { return limits };
    report.known(section, "limits", &["power_on", "steps", "unavailable"]);
    if let Some(on) = section.get("power_on") {
        let path = "limits.power_on";
        report.known(on, path, &["at_once", "every"]);
        let of = Steps::Named(vec!["power.on".to_owned()]);
        if let Some((at_once, every)) = pace(on, path, report) {
            limits.steps.push(StepLimit { of, nodes: Where::default(), at_once, every });
        }
    }
    for (index, entry) in members(section, "steps", report).iter().enumerate() {
        let path = format!("limits.steps[{index}]");
        report.known(entry, &path, &["of", "group", "per", "at_once", "every"]);
        let (of, nodes) = (steps(entry, &path, names, report), place(entry, &path, names, report));
        // Read whatever they are, so that nothing that is wrong hides what else is wrong.
        let pace = pace(entry, &path, report);
        if let (Some(of), Some(nodes), Some((at_once, every))) = (of, nodes, pace) {
            limits.steps.push(StepLimit { of, nodes, at_once, every });
        }
    }
    for (index, entry) in members(section, "unavailable", report).iter().enumerate() {
        let path = format!("limits.unavailable[{index}]");
        report.known(entry, &path, &["group", "per", "at_most"]);
        let nodes = place(entry, &path, names, report);
        let at_most = portion(entry, &path, report);
        if let (Some(nodes), Some(at_most)) = (nodes, at_most) {
            limits.unavailable.push(UnavailableLimit { nodes, at_most });
        }
    }
    limits
}

/// The members of a list of limits.
fn members<'a>(section: &'a Node, key: &str, report: &mut Report) -> &'a [Node] {
    match section.get(key) {
        Some(Node { data: Data::List(list), .. }) => list,
        Some(node) if !node.is_null() => {
            let path = format!("limits.{key}");
            let why = "there may be several, each with `- ` before it";
            report.add(node.at, &path, format!("{path} is not a list"), why, "");
            &[]
        }
        _ => &[],
    }
}

/// How many steps may be under way, and how much time lies between the beginnings of two.
type Pace = (Option<u32>, Option<Duration>);

fn pace(entry: &Node, path: &str, report: &mut Report) -> Option<Pace> {
    let at_once: Option<NonZeroU32> = report.value(entry, path, "at_once", "a number from 1");
    let every = entry.get("every");
    if at_once.is_none() && entry.get("at_once").is_none() && every.is_none() {
        let what = format!("{path} limits nothing");
        report.add(entry.at, path, what, "it says neither at_once nor every", "add at_once: 10");
        return None;
    }
    let every = every.and_then(|node| duration(node, &format!("{path}.every"), report));
    Some((at_once.map(Into::into), every))
}

fn steps(entry: &Node, path: &str, names: &Names<'_>, report: &mut Report) -> Option<Steps> {
    let place = format!("{path}.of");
    let Some(of) = entry.get("of") else {
        let hint = "add of: disruptive, of: all, or names such as of: [power.on, power.off]";
        let what = format!("{place} is missing");
        report.add(entry.at, &place, what, "it says which steps are limited", hint);
        return None;
    };
    match of.text() {
        Some(ALL) => return Some(Steps::All),
        Some(DISRUPTIVE) => return Some(Steps::Disruptive),
        _ => {}
    }
    let list = if let Data::List(list) = &of.data { list } else { std::slice::from_ref(of) };
    if list.is_empty() {
        let why = "it says which steps are limited";
        report.add(of.at, &place, format!("{place} names no step"), why, "such as of: disruptive");
    }
    let mut named = Vec::new();
    for node in list {
        let name = node.text().unwrap_or_default();
        if names.steps.contains(&name) {
            named.push(name.to_owned());
        } else {
            let what = format!("there is no step {name:?}");
            let why = "`layercake graph` shows the steps that there are";
            let known = [ALL, DISRUPTIVE].into_iter().chain(names.steps.iter().copied());
            report.add(node.at, &place, what, why, suggest(name, known));
        }
    }
    (!named.is_empty()).then_some(Steps::Named(named))
}

fn place(entry: &Node, path: &str, names: &Names<'_>, report: &mut Report) -> Option<Where> {
    let group = entry.get("group").map(|node| group(node, path, names, report));
    let per = entry.get("per").map(|node| per(node, path, names, report));
    // Both are read before either is missed.
    let is_read = group != Some(None) && per != Some(None);
    let place = Where { group: group.flatten(), per: per.flatten() };
    (counts_somebody(&place, entry, path, names, report) && is_read).then_some(place)
}

fn group(node: &Node, path: &str, names: &Names<'_>, report: &mut Report) -> Option<String> {
    let name = node.text().unwrap_or_default();
    if names.groups.contains_key(name) {
        return Some(name.to_owned());
    }
    let near = suggest(name, names.groups.keys().map(String::as_str));
    let (path, why) = (format!("{path}.group"), "it is not in the section groups");
    report.add(node.at, &path, format!("there is no group {name:?}"), why, near);
    None
}

fn per(node: &Node, path: &str, names: &Names<'_>, report: &mut Report) -> Option<Path> {
    let text = node.text().unwrap_or_default();
    let field = names.registry.field(text).filter(|field| field.sides.contains(&Side::Cfg));
    if let (Ok(address), Some(_)) = (Path::new(text), field) {
        return Some(address);
    }
    let configured = names.nodes.values().flat_map(|cfg| cfg.iter().map(|(path, _)| path.as_str()));
    let hint = match nearest(text, configured) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "such as location.rack or labels.pdu".to_owned(),
    };
    let why = "no value of that address can be configured";
    report.add(
        node.at,
        &format!("{path}.per"),
        format!("{text:?} cannot be counted by"),
        why,
        hint,
    );
    None
}

/// A limit by a value that no node has limits nothing: that is a slip, and one that costs something.
fn counts_somebody(
    place: &Where,
    entry: &Node,
    path: &str,
    names: &Names<'_>,
    report: &mut Report,
) -> bool {
    let Some(per) = &place.per else { return true };
    let group = place.group.as_ref().and_then(|group| names.groups.get(group));
    let mut nodes = names.nodes.iter().filter(|(id, _)| group.is_none_or(|set| set.contains(id)));
    if nodes.clone().next().is_none() || nodes.any(|(_, cfg)| cfg.get(per.as_str()).is_some()) {
        return true;
    }
    let at = entry.get("per").map_or(entry.at, |node| node.at);
    let what = format!("no node has a value at {per}");
    let why = "the limit counts nodes with the same value together, so it would limit nothing";
    let configured = names.nodes.values().flat_map(|cfg| cfg.iter().map(|(path, _)| path.as_str()));
    let hint = match nearest(per.as_str(), configured) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "give it to the nodes, or mend the address".to_owned(),
    };
    report.add(at, &format!("{path}.per"), what, why, hint);
    false
}

fn portion(entry: &Node, path: &str, report: &mut Report) -> Option<Portion> {
    let place = format!("{path}.at_most");
    let (at, text) = entry.get("at_most").map_or((entry.at, None), |node| (node.at, node.text()));
    let number = |text: &str| text.parse::<NonZeroU32>().ok().map(u32::from);
    let portion = text.and_then(|text| match text.strip_suffix('%') {
        Some(percent) => number(percent.trim_end()).filter(|p| *p <= 100).map(Portion::Percent),
        None => number(text).map(Portion::Count),
    });
    if portion.is_none() {
        let what = match text {
            Some(text) => format!("{text:?} cannot be {place}"),
            None => format!("{place} is missing"),
        };
        report.add(at, &place, what, "it must be a number from 1, or 1% to 100%", "");
    }
    portion
}
