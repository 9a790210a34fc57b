//! From the tree of the file to a cluster.

use crate::groups::groups;
use crate::images::{ImageLookup, ImageValues, images};
use crate::limits::{Names, limits};
use crate::machine::{Layer, document};
use crate::network::{Network, network};
use crate::place::{self, Sources, column, pick, plug};
use crate::sections::{self, Settings};
use crate::template::Variables;
use kraken_model::{Document, NodeId, NodeSet, Registry};
use kraken_yaml::{Data, Diagnostic, Node, Pos, Report};
use layercake_types::{Claims, boot_interface};
use std::collections::{BTreeMap, HashMap};

/// What a cluster file is read against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What may be said of a node.
    pub registry: &'a Registry,
    /// The images that there are.
    pub images: &'a dyn ImageLookup,
    /// The steps that there are, by name: what limits may be about.
    pub steps: &'a [&'a str],
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// A cluster, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What holds for all of it.
    pub settings: Settings,
    /// What each node is to be.
    pub nodes: BTreeMap<NodeId, Document>,
    /// Which nodes are in which group.
    pub groups: BTreeMap<String, NodeSet>,
}

/// One entry under `nodes`, with the names it stands for.
pub(crate) struct Entry<'a> {
    pub(crate) path: String,
    pub(crate) at: Pos,
    pub(crate) names: Vec<NodeId>,
    pub(crate) body: &'a Node,
    layer: Layer,
}

/// Reads a cluster file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn parse(file: &str, text: &str, context: &Context<'_>) -> Result<Cluster, Vec<Diagnostic>> {
    let (cluster, found) = read(file, text, context);
    cluster.filter(|_| found.is_empty()).ok_or(found)
}

/// Reads a cluster file that counts already: the cluster as far as it can be known, and everything that is
/// wrong with the file, in its order. A rule that came later must not cost a cluster that runs its server.
#[must_use]
pub fn read(file: &str, text: &str, context: &Context<'_>) -> (Option<Cluster>, Vec<Diagnostic>) {
    let mut report = Report::new(file);
    let cluster =
        kraken_yaml::read(text, &mut report).and_then(|root| build(&root, context, &mut report));
    (cluster, report.finish())
}

/// The name of the cluster that a file describes, whatever else is wrong with it.
#[must_use]
pub fn cluster_name(text: &str) -> Option<String> {
    let root = kraken_yaml::read(text, &mut Report::new(""))?;
    root.get("cluster")?.text().map(str::to_owned)
}

fn build(root: &Node, context: &Context<'_>, report: &mut Report) -> Option<Cluster> {
    const KEYS: &[&str] = &[
        "cluster", "network", "images", "limits", "storm", "timing", "journal", "removed",
        "defaults", "groups", "nodes",
    ];
    report.known(root, "the cluster file", KEYS);
    if !matches!(root.data, Data::Map(_)) {
        report.add(root.at, "the cluster file", "the file is empty", "nothing is said in it", "");
        return None;
    }
    let name: Option<NodeId> = report.value(
        root,
        "the file",
        "cluster",
        "a name of lower-case letters, digits and hyphens",
    );
    if root.get("cluster").is_none() {
        let (why, hint) = ("a cluster has a name", "add cluster: NAME");
        report.add(root.at, "cluster", "cluster is missing", why, hint);
    }
    let registry = context.registry;
    let network = network(root, report);
    let images = images(root, context.images, registry, report);
    let timing = sections::timing(root, report);
    let journal = crate::journal::journal(root, report);
    let removed = crate::removed::removed(root, report);
    let storm = crate::storm::storm(root, registry, &timing, report);
    let defaults = root.get("defaults");
    let defaults =
        defaults.map(|node| Layer::read(node, "defaults", &[], registry, &images, report));
    let entries = entries(root, registry, &images, report);
    let all: NodeSet = entries.iter().flat_map(|e| e.names.iter().cloned()).collect();
    let (groups, layers) = groups(root, &all, registry, &images, report);
    let parts = Parts {
        network: network.as_ref(),
        images: &images,
        defaults: &defaults.unwrap_or_default(),
        groups: &groups,
        layers: &layers,
        registry,
    };
    let nodes = nodes(&entries, &parts, report);
    let names = Names { groups: &groups, nodes: &nodes, registry, steps: context.steps };
    let limits = limits(root, &names, report);
    let settings = Settings { network: network?, limits, storm, timing, journal, removed };
    Some(Cluster { name: name?.to_string(), settings, nodes, groups })
}

/// What the nodes of a file are put together from, besides their own entries.
struct Parts<'a> {
    network: Option<&'a Network>,
    images: &'a Images,
    defaults: &'a Layer,
    groups: &'a BTreeMap<String, NodeSet>,
    /// What the groups say, in the order of the file.
    layers: &'a [(String, Layer)],
    registry: &'a Registry,
}

fn entries<'a>(
    root: &'a Node,
    registry: &Registry,
    images: &Images,
    report: &mut Report,
) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    let Some(section) = root.get("nodes").filter(|section| !section.is_null()) else {
        let at = root.get("nodes").map_or(root.at, |section| section.at);
        let hint = "a cluster without any has nodes: {}";
        report.add(at, "nodes", "nodes is missing", "a cluster has nodes", hint);
        return entries;
    };
    for (key, at, body) in report.map(section, "nodes") {
        let path = format!("nodes.{key}");
        let layer = Layer::read(body, &path, &["mac", "address"], registry, images, report);
        match NodeSet::expand(key) {
            Ok(names) => entries.push(Entry { path, at: *at, names, body, layer }),
            Err(error) => {
                let what = format!("{key:?} is not a set of nodes");
                report.add(*at, &path, what, error.to_string(), "");
            }
        }
    }
    let mut taken: HashMap<&NodeId, Pos> = HashMap::new();
    for entry in &entries {
        for name in &entry.names {
            if let Some(first) = taken.insert(name, entry.at) {
                let why = format!("it stands in line {} already", first.line);
                let (what, hint) =
                    (format!("duplicate node {name}"), "put what is common into a group");
                report.add(entry.at, &entry.path, what, why, hint);
            }
        }
    }
    entries
}

/// The cfg of every node.
fn nodes(
    entries: &[Entry<'_>],
    parts: &Parts<'_>,
    report: &mut Report,
) -> BTreeMap<NodeId, Document> {
    let mut nodes = BTreeMap::new();
    let mut claims = Claims::default();
    for entry in entries {
        let macs = column(entry, "mac", 16, report);
        let addresses = column(entry, "address", 10, report);
        for (index, node) in entry.names.iter().enumerate() {
            let member = |(name, _): &&(String, Layer)| {
                parts.groups.get(name).is_some_and(|set| set.contains(node))
            };
            let mine: Vec<&(String, Layer)> = parts.layers.iter().filter(member).collect();
            let variables = Variables {
                node: node.as_str(),
                index,
                number: number(node),
                groups: mine.iter().map(|(name, _)| name.as_str()).collect(),
            };
            let mut layers = vec![parts.defaults];
            layers.extend(mine.iter().map(|(_, layer)| layer));
            layers.push(&entry.layer);
            let mut cfg = document(&layers, parts.images, parts.registry, &variables, report);
            let sources = Sources {
                mac: pick(&macs, &variables, "mac", entry, report),
                address: pick(&addresses, &variables, "address", entry, report),
                entry,
                layers: &layers,
                images: parts.images,
            };
            said_twice(entry, &cfg, report);
            plug(&mut cfg, node, &sources, parts.network, parts.registry, report);
            place::check(node, &cfg, &sources, parts.network, &mut claims, report);
            nodes.insert(node.clone(), cfg);
        }
    }
    nodes
}

/// Says that an entry gives the interface that its nodes boot from two hardware addresses, or two addresses.
fn said_twice(entry: &Entry<'_>, cfg: &Document, report: &mut Report) {
    for key in ["mac", "address"] {
        let address = format!("net.{}.{key}", boot_interface(cfg));
        let said = entry.layer.facts.iter().find(|(other, _, _)| *other == address);
        if let (Some((_, _, said)), Some(_)) = (said, entry.body.get(key)) {
            let why = format!("{key} of the same entry is the same value");
            let what = format!("{address} is said twice");
            let path = format!("{}.{address}", entry.path);
            report.add(said.at, &path, what, why, "leave one of them out");
        }
    }
}

fn number(node: &NodeId) -> u64 {
    let digits: String = node.as_str().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

pub(crate) type Images = BTreeMap<String, ImageValues>;
