//! The sections that speak of the cluster as a whole.

use crate::journal::Journal;
use crate::limits::Limits;
use crate::removed::Removed;
use crate::storm::Storm;
use kraken_yaml::{Data, Node, Pos, Report};
use layercake_schema::{Contradiction, Timing, format_duration, parse_duration};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;

/// The port on which images and boot files are served unless the file says otherwise.
pub const DEFAULT_HTTP_PORT: NonZeroU16 = NonZeroU16::new(8080).unwrap();

/// What is known of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:` and its digits.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// `plain` or `systemd`.
    pub kind: String,
    /// What it starts, unless the file says otherwise.
    pub command: Vec<String>,
    /// Its environment, to which the file adds.
    pub env: BTreeMap<String, String>,
    /// What its programs are built for, as far as the store knows.
    pub arch: Option<String>,
}

/// Where images are looked up.
pub trait ImageLookup {
    /// The image of a name such as `web:1`, or of a digest.
    ///
    /// # Errors
    /// With the reason, for a person, when it cannot be used.
    fn find(&self, reference: &str) -> Result<ImageFacts, String>;
}

/// The machines' network, as the server takes part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address of the network.
    pub subnet: Ipv4Addr,
    /// How many bits of an address name the network.
    pub prefix: u8,
    /// The router to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The server's interface.
    pub interface: String,
    /// The server's address.
    pub server: Ipv4Addr,
    /// The port on which images and boot files are served. It stays the same for as long as nodes
    /// run that were told of it at their boot.
    pub http_port: NonZeroU16,
    /// The domain of the machines.
    pub domain: Option<String>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
}

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

pub(crate) fn network(root: &Node, report: &mut Report) -> Option<Network> {
    const KEYS: &[&str] =
        &["subnet", "gateway", "interface", "server", "http_port", "domain", "dns"];
    let Some(section) = root.get("network") else {
        let why = "machines need a network to boot from";
        report.add(root.at, "network", "network is missing", why, "add network: boot: {subnet: …}");
        return None;
    };
    report.known(section, "network", &["boot"]);
    let path = "network.boot";
    let Some(boot) = section.get("boot") else {
        report.add(section.at, path, "network.boot is missing", "machines boot from it", "");
        return None;
    };
    report.known(boot, path, KEYS);
    for key in ["subnet", "interface", "server"] {
        if boot.get(key).is_none() {
            let what = format!("{path}.{key} is missing");
            report.add(boot.at, &format!("{path}.{key}"), what, "it has no default", "");
        }
    }
    let text: Option<String> = report.value(boot, path, "subnet", "a network such as 10.77.0.0/24");
    let subnet = text.and_then(|text| {
        let parsed =
            text.split_once('/').and_then(|(a, p)| Some((a.parse().ok()?, p.parse().ok()?)));
        let good = parsed
            .filter(|(a, p): &(Ipv4Addr, u8)| (8..=30).contains(p) && a.to_bits() & !mask(*p) == 0);
        if good.is_none() {
            let at = boot.get("subnet").map_or(boot.at, |n| n.at);
            let why =
                "it must be the first address of a network and 8 to 30 bits, such as 10.77.0.0/24";
            report.add(at, "network.boot.subnet", format!("{text:?} is not a network"), why, "");
        }
        good
    });
    let address = "an IPv4 address";
    let gateway = report.value(boot, path, "gateway", address);
    let server = report.value(boot, path, "server", address);
    if let (Some((net, prefix)), Some(server)) = (subnet, server)
        && !inside(net, prefix, server)
    {
        let at = boot.get("server").map_or(boot.at, |n| n.at);
        let why = format!("it is not in {net}/{prefix}");
        report.add(at, "network.boot.server", format!("{server} cannot be the server"), why, "");
    }
    let interface = report.value(boot, path, "interface", "the name of an interface");
    let http_port = report.value(boot, path, "http_port", "a port, 1 to 65535");
    let http_port = http_port.unwrap_or(DEFAULT_HTTP_PORT);
    let domain = report.value(boot, path, "domain", "a domain");
    let mut dns = Vec::new();
    if let Some(Node { data: Data::List(list), .. }) = boot.get("dns") {
        for node in list {
            match node.text().and_then(|t| t.parse().ok()) {
                Some(address) => dns.push(address),
                None => report.add(
                    node.at,
                    "network.boot.dns",
                    "not a name server",
                    "it must be an IPv4 address",
                    "",
                ),
            }
        }
    }
    let (subnet, prefix) = subnet?;
    Some(Network {
        subnet,
        prefix,
        gateway,
        interface: interface?,
        server: server?,
        http_port,
        domain,
        dns,
    })
}

pub(crate) fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

pub(crate) fn inside(net: Ipv4Addr, prefix: u8, address: Ipv4Addr) -> bool {
    (net.to_bits() ^ address.to_bits()) & mask(prefix) == 0
}

pub(crate) fn duration(node: &Node, path: &str, report: &mut Report) -> Option<Duration> {
    let text = node.text().unwrap_or_default();
    parse_duration(text)
        .map_err(|error| {
            report.add(node.at, path, format!("{path} cannot be read"), error.to_string(), "");
        })
        .ok()
}

pub(crate) fn timing(root: &Node, report: &mut Report) -> Timing {
    let mut timing = Timing::default();
    for (key, at, node) in root.get("timing").map(Node::entries).unwrap_or_default() {
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

/// What the nodes that run an image are told of it: addresses below `images.<name>`.
pub(crate) type ImageValues = Vec<(String, kraken_model::Value)>;

pub(crate) fn images(
    root: &Node,
    lookup: &dyn ImageLookup,
    report: &mut Report,
) -> BTreeMap<String, (Pos, ImageValues)> {
    let mut images = BTreeMap::new();
    for (name, at, node) in root.get("images").map(Node::entries).unwrap_or_default() {
        let path = format!("images.{name}");
        if kraken_model::NodeId::new(name).is_err() {
            let why = "it must be lower-case letters, digits and hyphens";
            report.add(*at, &path, format!("{name:?} cannot name an image"), why, "");
            continue;
        }
        report.known(node, &path, &["image", "command", "env", "systemd"]);
        let Some(reference) = node.get("image") else {
            report.add(
                *at,
                &path,
                format!("{path}.image is missing"),
                "it says which image of the store is meant",
                "",
            );
            continue;
        };
        // An image that is not there is still a name: its users are not wrong as well.
        let text = reference.text().unwrap_or_default();
        let mut values = ImageValues::new();
        match lookup.find(text) {
            Ok(facts) => image(&path, node, text, facts, &mut values, report),
            Err(why) => {
                // What else is wrong with the section is said too.
                let command = vec!["unknown".to_owned()];
                let (digest, kind, env) = (String::new(), "plain".to_owned(), BTreeMap::new());
                let unknown = ImageFacts { digest, size: 0, kind, command, env, arch: None };
                image(&path, node, text, unknown, &mut ImageValues::new(), report);
                let hint = "`layercake image list` shows what there is";
                report.add(
                    reference.at,
                    &format!("{path}.image"),
                    format!("image {text:?} cannot be used"),
                    why,
                    hint,
                );
            }
        }
        images.insert(name.clone(), (*at, values));
    }
    images
}

fn image(
    path: &str,
    node: &Node,
    reference: &str,
    facts: ImageFacts,
    values: &mut ImageValues,
    report: &mut Report,
) {
    let systemd: Option<bool> = report.value(node, path, "systemd", "true or false");
    let kind = systemd.map_or(facts.kind, |yes| if yes { "systemd" } else { "plain" }.to_owned());
    let mut command = facts.command;
    if let Some(given) = node.get("command") {
        match &given.data {
            Data::List(list) => {
                command = list.iter().filter_map(|n| n.text().map(str::to_owned)).collect();
            }
            _ => report.add(
                given.at,
                &format!("{path}.command"),
                "command is not a list",
                "program and arguments are one member each",
                "write [/bin/httpd, -f]",
            ),
        }
    }
    if kind == "plain" && command.is_empty() {
        report.add(
            node.at,
            &format!("{path}.command"),
            "command is missing",
            "a plain image has nothing to start without one",
            "add command: [/bin/…]",
        );
    }
    let mut env = facts.env;
    for (key, _, value) in node.get("env").map(Node::entries).unwrap_or_default() {
        env.insert(key.clone(), value.text().unwrap_or_default().to_owned());
    }
    let mut put =
        |key: &str, value: kraken_model::Value| values.push((format!("{path}.{key}"), value));
    put("reference", reference.into());
    put("digest", facts.digest.into());
    put("size", i64::try_from(facts.size).unwrap_or(i64::MAX).into());
    if let Some(arch) = facts.arch {
        put("arch", arch.into());
    }
    let systemd = kind == "systemd";
    put("kind", kind.into());
    if !systemd {
        put("command", command.into_iter().map(Into::into).collect::<Vec<_>>().into());
    }
    for (key, value) in env {
        put(&format!("env.{key}"), value.into());
    }
}
