//! From the tree of the file to a cluster.

use crate::limits::{Names, limits};
use crate::machine::{Layer, document, put};
use crate::sections::{self, ImageLookup, Network, Settings, inside, mask};
use crate::template::{Variables, is_template, render, spread};
use kraken_model::{Document, NodeId, NodeLookup, NodeSet, Registry, Side};
use kraken_model::{counted, nearest, suggest};
use kraken_yaml::{Data, Diagnostic, Node, Pos, Report};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

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
struct Entry<'a> {
    path: String,
    at: Pos,
    names: Vec<NodeId>,
    body: &'a Node,
    layer: Layer,
}

/// Who has what must be had once only.
#[derive(Default)]
struct Taken {
    names: HashMap<String, Pos>,
    values: HashMap<String, NodeId>,
}

/// Reads a cluster file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn parse(file: &str, text: &str, context: &Context<'_>) -> Result<Cluster, Vec<Diagnostic>> {
    let mut report = Report::new(file);
    let cluster =
        kraken_yaml::read(text, &mut report).and_then(|root| build(&root, context, &mut report));
    let found = report.finish();
    cluster.filter(|_| found.is_empty()).ok_or(found)
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
    let name: Option<NodeId> = report.value(
        root,
        "the file",
        "cluster",
        "a name of lower-case letters, digits and hyphens",
    );
    if root.get("cluster").is_none() {
        report.add(
            root.at,
            "cluster",
            "cluster is missing",
            "a cluster has a name",
            "add cluster: NAME",
        );
    }
    let network = sections::network(root, report);
    let images = sections::images(root, context.images, report);
    let timing = sections::timing(root, report);
    let journal = crate::journal::journal(root, report);
    let removed = crate::removed::removed(root, report);
    let registry = context.registry;
    let storm = crate::storm::storm(root, registry, &timing, report);
    let empty = Layer::default();
    let defaults =
        root.get("defaults").map(|n| Layer::read(n, "defaults", &[], registry, &images, report));
    let mut taken = Taken::default();
    let mut entries = Vec::new();
    for (key, at, body) in root.get("nodes").map(Node::entries).unwrap_or_default() {
        let path = format!("nodes.{key}");
        let layer = Layer::read(body, &path, &["mac", "address"], registry, &images, report);
        match NodeSet::expand(key) {
            Ok(names) => entries.push(Entry { path, at: *at, names, body, layer }),
            Err(error) => report.add(
                *at,
                &path,
                format!("{key:?} is not a set of nodes"),
                error.to_string(),
                "",
            ),
        }
    }
    if root.get("nodes").is_none() {
        report.add(root.at, "nodes", "nodes is missing", "a cluster has nodes", "");
    }
    for entry in &entries {
        for name in &entry.names {
            if let Some(first) = taken.names.insert(name.to_string(), entry.at) {
                let why = format!("it stands in line {} already", first.line);
                report.add(
                    entry.at,
                    &entry.path,
                    format!("duplicate node {name}"),
                    why,
                    "put what is common into a group",
                );
            }
        }
    }
    let all: NodeSet = entries.iter().flat_map(|e| e.names.iter().cloned()).collect();
    let (groups, layers) = groups(root, &all, registry, &images, report);
    let mut nodes = BTreeMap::new();
    for entry in &entries {
        let macs = column(entry, "mac", 16, report);
        let addresses = column(entry, "address", 10, report);
        for (index, node) in entry.names.iter().enumerate() {
            let member = |(name, _): &&(String, Layer)| {
                groups.get(name).is_some_and(|set| set.contains(node))
            };
            let mine: Vec<&(String, Layer)> = layers.iter().filter(member).collect();
            let variables = Variables {
                node: node.as_str(),
                index,
                number: number(node),
                groups: mine.iter().map(|(name, _)| name.as_str()).collect(),
            };
            let mut stack = vec![defaults.as_ref().unwrap_or(&empty)];
            stack.extend(mine.iter().map(|(_, layer)| layer));
            stack.push(&entry.layer);
            let mut doc = document(&stack, &images, registry, &variables, report);
            let mac = pick(&macs, &variables, "mac", entry, report);
            let address = pick(&addresses, &variables, "address", entry, report);
            plug(&mut doc, node, (mac, address), network.as_ref(), &mut taken, context, report);
            nodes.insert(node.clone(), doc);
        }
    }
    let names = Names { groups: &groups, nodes: &nodes, registry, steps: context.steps };
    let limits = limits(root, &names, report);
    let settings = Settings { network: network?, limits, storm, timing, journal, removed };
    Some(Cluster { name: name?.to_string(), settings, nodes, groups })
}

fn number(node: &NodeId) -> u64 {
    let digits: String = node.as_str().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

type Images = BTreeMap<String, (Pos, sections::ImageValues)>;

fn groups(
    root: &Node,
    all: &NodeSet,
    registry: &Registry,
    images: &Images,
    report: &mut Report,
) -> (BTreeMap<String, NodeSet>, Vec<(String, Layer)>) {
    let mut groups: BTreeMap<String, NodeSet> = BTreeMap::new();
    let mut layers = Vec::new();
    for (name, at, body) in root.get("groups").map(Node::entries).unwrap_or_default() {
        // One that cannot be read is a name all the same: whoever refers to it is not wrong as well.
        let path = format!("groups.{name}");
        let layer = Layer::read(body, &path, &["nodes"], registry, images, report);
        layers.push((name.clone(), layer));
        let Some(node) = body.get("nodes") else {
            report.add(*at, &path, format!("{path}.nodes is missing"), "a group has nodes", "");
            groups.insert(name.clone(), NodeSet::new());
            continue;
        };
        let Some(text) = node.text() else {
            let what = format!("{path}.nodes is not text");
            let why = "a group's nodes are one node set";
            report.add(node.at, &path, what, why, "write nodes: \"n[1-3],n7\"");
            groups.insert(name.clone(), NodeSet::new());
            continue;
        };
        let file = File { all, groups: &groups, root };
        match NodeSet::parse(text, &file) {
            Ok(set) => {
                groups.insert(name.clone(), set);
            }
            Err(error) => {
                let why = error.to_string();
                report.add(node.at, &path, format!("{text:?} is not a set of nodes"), why, "");
                groups.insert(name.clone(), NodeSet::new());
            }
        }
    }
    (groups, layers)
}

/// A cluster file as far as it is read when a group refers to it.
struct File<'a> {
    all: &'a NodeSet,
    groups: &'a BTreeMap<String, NodeSet>,
    root: &'a Node,
}

impl NodeLookup for File<'_> {
    fn contains(&self, node: &NodeId) -> bool {
        self.all.contains(node)
    }

    fn all(&self) -> Option<NodeSet> {
        Some(self.all.clone())
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        if let Some(group) = self.groups.get(name) {
            return Ok(group.clone());
        }
        if self.root.get("groups").is_some_and(|groups| groups.get(name).is_some()) {
            let hint = "put it before the groups that refer to it";
            return Err(format!("the group @{name} is this one, or stands further down: {hint}"));
        }
        let known = self.groups.keys().map(String::as_str);
        Err(match nearest(name, known.clone()) {
            Some(near) => format!("no such group: @{name} (did you mean @{near}?)"),
            None => format!("no such group: @{name}; {}", suggest(name, known)),
        })
    }

    fn select(&self, _: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        Err(format!("{path}={value} cannot stand here: a group has the nodes that it names"))
    }
}

/// The values of an entry for its nodes, in order, or one template for all of them.
enum Column {
    None,
    Template(String, Pos),
    List(Vec<(String, Pos)>),
}

fn column(entry: &Entry<'_>, key: &str, radix: u32, report: &mut Report) -> Column {
    let Some(node) = entry.body.get(key) else { return Column::None };
    let list = match &node.data {
        Data::Scalar(text, _) if is_template(text) => {
            return Column::Template(text.clone(), node.at);
        }
        Data::Scalar(text, _) => {
            spread(text, radix).map(|l| l.into_iter().map(|t| (t, node.at)).collect())
        }
        Data::List(list) => {
            Ok(list.iter().map(|n| (n.text().unwrap_or_default().to_owned(), n.at)).collect())
        }
        Data::Map(_) => Err("text, a range or a list belongs here".to_owned()),
    };
    let path = format!("{}.{key}", entry.path);
    let list: Vec<(String, Pos)> = match list {
        Ok(list) => list,
        Err(why) => {
            report.add(node.at, &path, format!("{key} cannot be read"), why, "");
            return Column::None;
        }
    };
    if list.len() != entry.names.len() {
        let nodes = counted(entry.names.len(), "node");
        let what = format!("{} of {key} for {nodes}", counted(list.len(), "value"));
        report.add(
            node.at,
            &path,
            what,
            "each node needs one of its own",
            "make both ranges equally long",
        );
        return Column::None;
    }
    Column::List(list)
}

fn pick(
    column: &Column,
    variables: &Variables<'_>,
    key: &str,
    entry: &Entry<'_>,
    report: &mut Report,
) -> Option<(String, Pos)> {
    match column {
        Column::None => None,
        Column::List(list) => list.get(variables.index).cloned(),
        Column::Template(text, at) => match render(text, variables) {
            Ok(text) => Some((text, *at)),
            Err(why) => {
                report.add(
                    *at,
                    &format!("{}.{key}", entry.path),
                    format!("{key} cannot be made"),
                    why,
                    "mend the template",
                );
                None
            }
        },
    }
}

/// A text, and where it stands.
type Placed = (String, Pos);

/// Gives a node its place in the network.
fn plug(
    doc: &mut Document,
    node: &NodeId,
    (mac, address): (Option<Placed>, Option<Placed>),
    network: Option<&Network>,
    taken: &mut Taken,
    context: &Context<'_>,
    report: &mut Report,
) {
    let net = format!("net.{}", doc.text("boot.interface").unwrap_or("boot"));
    let mut once = |value: &str, what: &str, at: Pos, report: &mut Report| {
        if let Some(other) = taken.values.insert(value.to_owned(), node.clone()) {
            let why = format!("{other} has it already");
            report.add(
                at,
                &format!("{node}.{what}"),
                format!("duplicate {what} {value} for {node}"),
                why,
                "",
            );
        }
    };
    if let Some((mac, at)) = mac {
        let mac = mac.to_ascii_lowercase();
        once(&mac, "MAC", at, report);
        put(doc, &format!("{net}.mac"), mac.into(), at, context.registry, report);
    }
    let (Some((text, at)), Some(network)) = (address, network) else { return };
    let refused = match text.parse::<Ipv4Addr>() {
        Ok(address) => unfit(address, network),
        Err(_) => Some("it is not an IPv4 address".to_owned()),
    };
    if let Some(why) = refused {
        report.add(
            at,
            &format!("{node}.address"),
            format!("{text} cannot be the address of {node}"),
            why,
            "",
        );
        return;
    }
    once(&text, "address", at, report);
    let registry = context.registry;
    put(
        doc,
        &format!("{net}.address"),
        format!("{text}/{}", network.prefix).into(),
        at,
        registry,
        report,
    );
    if let Some(gateway) = network.gateway {
        put(doc, &format!("{net}.gateway"), gateway.to_string().into(), at, registry, report);
    }
    if !network.dns.is_empty() {
        let dns: Vec<_> = network.dns.iter().map(|a| a.to_string().into()).collect();
        put(doc, &format!("{net}.dns"), dns.into(), at, registry, report);
    }
    if let Some(domain) = &network.domain {
        put(doc, &format!("{net}.domain"), domain.as_str().into(), at, registry, report);
    }
}

/// Why a machine cannot have an address.
fn unfit(address: Ipv4Addr, network: &Network) -> Option<String> {
    let (net, prefix) = (network.subnet, network.prefix);
    if !inside(net, prefix, address) {
        Some(format!("it is not in {net}/{prefix}"))
    } else if address == net {
        Some("it is the network's own".to_owned())
    } else if address.to_bits() == net.to_bits() | !mask(prefix) {
        Some("it is the broadcast address".to_owned())
    } else if address == network.server {
        Some("it is the server's".to_owned())
    } else if Some(address) == network.gateway {
        Some("it is the gateway's".to_owned())
    } else {
        None
    }
}
