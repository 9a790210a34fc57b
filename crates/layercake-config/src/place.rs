//! The place of a node in the network, and the place in the file of everything that is said of it.

use crate::build::Entry;
use crate::images::ImageValues;
use crate::machine::Layer;
use crate::network::Network;
use crate::template::{Variables, is_template, render, spread};
use kraken_model::{Document, NodeId, Registry, Value, counted};
use kraken_yaml::{Data, Pos, Report};
use layercake_types::{Claims, Duplicate, InterfaceAddress, MacAddress, Refusal, boot_interface};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The longest value that is shown as a whole, in characters.
const SHOWN: usize = 60;

/// The values of an entry for its nodes, in order, or one template for all of them.
pub(crate) enum Column {
    None,
    Template(String, Pos),
    List(Vec<Placed>),
}

/// A text, and where it stands.
pub(crate) type Placed = (String, Pos);

/// The layers of a node, from the one that counts least, and its own columns.
pub(crate) struct Sources<'a> {
    pub(crate) entry: &'a Entry<'a>,
    pub(crate) layers: &'a [&'a Layer],
    pub(crate) images: &'a BTreeMap<String, ImageValues>,
    pub(crate) mac: Option<Placed>,
    pub(crate) address: Option<Placed>,
}

impl Sources<'_> {
    /// The place that says a value of the node's cfg, or the nearest to one that nobody says.
    fn at(&self, address: &str, cfg: &Document) -> Pos {
        let interface = format!("net.{}", boot_interface(cfg));
        let column = match address.strip_prefix(&interface) {
            Some(".mac") => self.mac.as_ref(),
            Some(_) => self.address.as_ref(),
            None => None,
        };
        let image = address.strip_prefix("images.").and_then(|rest| rest.split('.').next());
        let image = image.and_then(|name| self.images.get(name));
        let said = |within: &str| {
            let facts = self.layers.iter().rev().flat_map(|layer| layer.facts.iter().rev());
            let mut facts = facts.map(|(other, _, node)| (other.as_str(), node.at));
            facts.find(|(other, _)| is_under(other, within)).map(|(_, at)| at)
        };
        // Of a value that is missing, the ones beside it, and those above.
        let mut above = address.rsplit_once('.').map(|(above, _)| above);
        column
            .map(|(_, at)| *at)
            .or_else(|| said(address))
            .or_else(|| image.map(|image| image.at(address)))
            .or_else(|| {
                std::iter::from_fn(|| {
                    let this = above?;
                    above = this.rsplit_once('.').map(|(above, _)| above);
                    Some(this)
                })
                .find_map(said)
            })
            .unwrap_or(self.entry.at)
    }
}

fn is_under(address: &str, above: &str) -> bool {
    address.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A value as it is shown in a report.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reports a value that a module could not use.
pub(crate) fn refuse(refusal: &Refusal, cfg: &Document, at: Pos, report: &mut Report) {
    let Refusal { address, why, hint } = refusal;
    let what = match cfg.get(address) {
        Some(value) => format!("{address} cannot be {}", shown(value)),
        None => format!("{address} cannot be left out"),
    };
    report.add(at, address, what, why, *hint);
}

pub(crate) fn column(entry: &Entry<'_>, key: &str, radix: u32, report: &mut Report) -> Column {
    let Some(node) = entry.body.get(key) else { return Column::None };
    let path = format!("{}.{key}", entry.path);
    let list: Vec<Placed> = match &node.data {
        Data::List(list) => {
            let texts =
                list.iter().map(|n| Some((report.text(n, &path, "text")?.to_owned(), n.at)));
            match texts.collect::<Option<_>>() {
                Some(list) => list,
                None => return Column::None,
            }
        }
        _ => {
            let Some(text) = report.text(node, &path, "text, a range or a list") else {
                return Column::None;
            };
            if is_template(text) {
                return Column::Template(text.to_owned(), node.at);
            }
            match spread(text, radix) {
                Ok(list) => list.into_iter().map(|text| (text, node.at)).collect(),
                Err(why) => {
                    report.add(node.at, &path, format!("{key} cannot be read"), why, "");
                    return Column::None;
                }
            }
        }
    };
    if list.len() != entry.names.len() {
        let nodes = counted(entry.names.len(), "node");
        let what = format!("{} of {key} for {nodes}", counted(list.len(), "value"));
        let hint = "make both ranges equally long";
        report.add(node.at, &path, what, "each node needs one of its own", hint);
        return Column::None;
    }
    Column::List(list)
}

pub(crate) fn pick(
    column: &Column,
    variables: &Variables<'_>,
    key: &str,
    entry: &Entry<'_>,
    report: &mut Report,
) -> Option<Placed> {
    match column {
        Column::None => None,
        Column::List(list) => list.get(variables.index).cloned(),
        Column::Template(text, at) => match render(text, variables) {
            Ok(text) => Some((text, *at)),
            Err(why) => {
                let path = format!("{}.{key}", entry.path);
                report.add(*at, &path, format!("{key} cannot be made"), why, "mend the template");
                None
            }
        },
    }
}

/// Gives a node its place in the network. What is said of the interface itself counts more than what holds
/// for the network.
pub(crate) fn plug(
    cfg: &mut Document,
    node: &NodeId,
    sources: &Sources<'_>,
    network: Option<&Network>,
    registry: &Registry,
    report: &mut Report,
) {
    let net = format!("net.{}", boot_interface(cfg));
    let mut put = |key: &str, value: Value, at: Pos, report: &mut Report| {
        crate::machine::put(cfg, &format!("{net}.{key}"), value, at, registry, report);
    };
    if let Some((mac, at)) = &sources.mac {
        put("mac", canonical_mac(mac).into(), *at, report);
    }
    let (Some((text, at)), Some(network)) = (&sources.address, network) else { return };
    let Ok(ip) = text.parse::<Ipv4Addr>() else {
        let what = format!("{text} cannot be the address of {node}");
        let path = format!("{}.address", sources.entry.path);
        report.add(*at, &path, what, "it is not an IPv4 address", "");
        return;
    };
    put("address", format!("{text}/{}", network.prefix).into(), *at, report);
    // No default leads out of another network than its own.
    let is_near = network.itself().is_some_and(|subnet| subnet.contains(ip));
    let gateway = network.gateway.filter(|gateway| is_near && *gateway != ip);
    let defaults = [
        ("gateway", gateway.map(|gateway| gateway.to_string().into())),
        ("domain", network.domain.as_deref().map(Into::into)),
        (
            "dns",
            Some(&network.dns).filter(|dns| !dns.is_empty()).map(|dns| {
                dns.iter().map(|server| server.to_string().into()).collect::<Vec<Value>>().into()
            }),
        ),
    ];
    for (key, value) in defaults {
        let address = format!("{net}.{key}");
        if let (Some(value), None) = (value, cfg.get(&address)) {
            crate::machine::put(cfg, &address, value, *at, registry, report);
        }
    }
}

/// A hardware address as it is kept; what is none stays as it is, for the schema to refuse.
pub(crate) fn canonical_mac(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    match text.parse::<MacAddress>() {
        Ok(mac) => mac.to_string(),
        Err(_) => lower,
    }
}

/// Reports everything of a node's cfg that a module could not use, by itself or beside the other nodes.
pub(crate) fn check(
    node: &NodeId,
    cfg: &Document,
    sources: &Sources<'_>,
    network: Option<&Network>,
    claims: &mut Claims,
    report: &mut Report,
) {
    for refusal in layercake_types::refusals(node, cfg) {
        let at = sources.at(&refusal.address, cfg);
        match refusal.address.strip_suffix(".address").and_then(|_| cfg.text(&refusal.address)) {
            Some(text) => unfit(node, text, &refusal.address, &refusal.why, at, report),
            None => refuse(&refusal, cfg, at, report),
        }
    }
    for name in cfg.names("net") {
        let address = format!("net.{name}.address");
        let Some(text) = cfg.text(&address) else { continue };
        let (Ok(parsed), Some(network)) = (text.parse(), network) else { continue };
        let is_boot = name == boot_interface(cfg);
        let has_gateway = cfg.get(&format!("net.{name}.gateway")).is_some();
        if let Some(why) = beside(parsed, network, is_boot, has_gateway) {
            unfit(node, text, &address, &why, sources.at(&address, cfg), report);
        }
    }
    for Duplicate { what, value, refusal, .. } in claims.claim(node, cfg) {
        let at = sources.at(&refusal.address, cfg);
        let shown = format!("duplicate {what} {value} for {node}");
        report.add(at, &refusal.address, shown, refusal.why, refusal.hint);
    }
}

fn unfit(node: &NodeId, text: &str, address: &str, why: &str, at: Pos, report: &mut Report) {
    let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
    report.add(at, address, format!("{ip} cannot be the address of {node}"), why, "");
}

/// The reason why an address does not go with the network that machines boot from.
fn beside(
    address: InterfaceAddress,
    network: &Network,
    is_boot: bool,
    has_gateway: bool,
) -> Option<String> {
    let (ip, subnet) = (address.ip(), network.itself()?);
    if ip == network.server {
        return Some("it is the server's".to_owned());
    }
    if Some(ip) == network.gateway {
        return Some("it is the gateway's".to_owned());
    }
    if !is_boot {
        return None;
    }
    let (own, bits) = (address.network(), subnet.prefix());
    if !subnet.contains(ip) {
        // Behind a relay, the server is reached through a gateway.
        let is_reachable = has_gateway && !own.contains(subnet.first());
        return (!is_reachable).then(|| format!("it is not in {subnet}"));
    }
    (own != subnet).then(|| {
        format!(
            "its prefix has {} bits, and that of the network, {subnet}, {bits}",
            address.prefix()
        )
    })
}
