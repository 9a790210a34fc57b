//! What a node's cfg says of its boot: its host, and the interfaces of its seed.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use kraken_model::{Document, NodeId, Value};
use layercake_seed::{Cidr, SeedInterface};

use crate::{
    Arch, BootPlan, Host, MacAddr,
    hosts::{MAX_DNS_SERVERS, is_node_name},
};

/// How long an address is leased, in seconds. Addresses are fixed, so this only bounds how long a
/// machine that left the cluster keeps its own.
const LEASE_SECONDS: u32 = 3600;

/// The architecture that a node should have.
pub(crate) fn arch(cfg: &Document) -> Option<Arch> {
    cfg.text("arch").and_then(Arch::from_word)
}

/// A domain as DHCP and resolvers take it, without the dot of the root; nothing for what is none.
fn domain(cfg: &Document, interface: &str) -> Option<String> {
    let domain = cfg.text(&format!("net.{interface}.domain"))?;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    layercake_seed::is_host_name(domain).then(|| domain.to_owned())
}

/// The interfaces of a node that it does not boot from.
fn others(cfg: &Document, boot: &str) -> Vec<(Arc<str>, MacAddr)> {
    let names = cfg.names("net").into_iter().filter(|name| *name != boot);
    let mac = |name: &str| cfg.text(&format!("net.{name}.mac"))?.parse().ok();
    names.filter_map(|name| Some((name.into(), mac(name)?))).collect()
}

/// What the seed says of one interface; nothing for one without address.
pub(crate) fn interface(cfg: &Document, name: &str) -> Option<Result<SeedInterface, String>> {
    let fact = |key: &str| cfg.get(&format!("net.{name}.{key}"));
    let (mac, address) = (fact("mac")?.as_text()?, fact("address")?.as_text()?);
    let wrong = |what: &str| format!("net.{name}.{what} cannot be used");
    let made = || {
        let address: Cidr = address.parse().map_err(|_| wrong("address"))?;
        let gateway = fact("gateway").and_then(Value::as_text).map(str::parse::<IpAddr>);
        Ok(SeedInterface {
            mac: mac.parse().map_err(|_| wrong("mac"))?,
            address,
            gateway: gateway.transpose().map_err(|_| wrong("gateway"))?,
            dns: servers(fact("dns")).map(IpAddr::V4).collect(),
            domain: domain(cfg, name),
            mtu: fact("mtu").and_then(Value::as_int).and_then(|mtu| u32::try_from(mtu).ok()),
        })
    };
    Some(made())
}

fn servers(list: Option<&Value>) -> impl Iterator<Item = Ipv4Addr> {
    let list = list.and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(|server| server.as_text()?.parse().ok())
}

/// The host that the boot service answers for a node; nothing for a node that does not boot here.
pub(crate) fn host(
    node: &NodeId,
    cfg: &Document,
    plan: BootPlan,
    layer0: Option<Arch>,
) -> Result<Option<Host>, String> {
    let name = cfg.text("boot.interface").unwrap_or("boot");
    let fact = |key: &str| cfg.get(&format!("net.{name}.{key}"));
    let text = |key: &str| fact(key).and_then(Value::as_text);
    let (Some(mac), Some(address)) = (text("mac"), text("address")) else { return Ok(None) };
    let cidr: Cidr = address.parse().map_err(|_| format!("{address} is not an address"))?;
    let IpAddr::V4(address) = cidr.ip() else { return Err("DHCP needs an IPv4 address".into()) };
    debug_assert!(is_node_name(node.as_str()), "every node id is a node name");
    Ok(Some(Host {
        node: node.as_str().into(),
        mac: mac.parse().map_err(|_| format!("{mac} is not a MAC address"))?,
        address,
        prefix: cidr.prefix(),
        gateway: text("gateway").and_then(|gateway| gateway.parse().ok()),
        dns: servers(fact("dns")).take(MAX_DNS_SERVERS).collect(),
        domain: domain(cfg, name).map(Into::into),
        arch: arch(cfg).or(layer0),
        others: others(cfg, name),
        hostname: node.as_str().into(),
        lease_secs: LEASE_SECONDS,
        plan,
    }))
}
