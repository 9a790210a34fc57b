//! The network interfaces of a node.

use crate::address::check_name_server;
use crate::{DomainName, InterfaceAddress, MacAddress, Refusal};
use kraken_model::{Document, Value};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The most network interfaces that a node is told to configure.
pub const MAX_INTERFACES: usize = 32;

/// The most name servers of one interface; resolvers look at three.
pub const MAX_DNS: usize = 8;

/// A network interface of a node, found by its hardware address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name under `net`.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub address: InterfaceAddress,
    /// The router to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// The domain that names without a dot are looked up in.
    pub domain: Option<DomainName>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
}

/// A value in its type; says what is wrong with one that does not fit.
pub(crate) fn read<T: FromStr<Err: fmt::Display>>(
    cfg: &Document,
    address: &str,
    found: &mut Vec<Refusal>,
) -> Option<T> {
    let value = cfg.get(address)?;
    let read = match value {
        Value::Text(text) => text.parse().map_err(|why: T::Err| why.to_string()),
        other => Err(format!("{} where text belongs", other.kind_name())),
    };
    read.map_err(|why| found.push(Refusal::new(address, why))).ok()
}

/// An interface of a node; nothing unless cfg says both its hardware address and its address.
///
/// # Errors
/// With everything of it that cannot be used.
pub fn interface(cfg: &Document, name: &str) -> Result<Option<Interface>, Vec<Refusal>> {
    let at = |key: &str| format!("net.{name}.{key}");
    let mut found = Vec::new();
    let mac = read(cfg, &at("mac"), &mut found);
    let address: Option<InterfaceAddress> = read(cfg, &at("address"), &mut found);
    let gateway: Option<Ipv4Addr> = read(cfg, &at("gateway"), &mut found);
    if let (Some(address), Some(gateway)) = (address, gateway)
        && let Err(why) = address.check_gateway(gateway)
    {
        found.push(Refusal::new(at("gateway"), why));
    }
    let dns = servers(cfg, &at("dns"), &mut found);
    let domain = read(cfg, &at("domain"), &mut found);
    let mtu = cfg.get(&at("mtu")).map(|mtu| mtu.as_int().and_then(|mtu| u32::try_from(mtu).ok()));
    // RFC 791: every link carries 68 bytes; 65535 is the most that an IPv4 header can say.
    if mtu.is_some_and(|mtu| mtu.is_none_or(|mtu| !(68..=65_535).contains(&mtu))) {
        found.push(Refusal::new(at("mtu"), "it must be between 68 and 65535 bytes"));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let Some((mac, address)) = mac.zip(address) else { return Ok(None) };
    let (name, mtu) = (name.to_owned(), mtu.flatten());
    Ok(Some(Interface { name, mac, address, gateway, dns, domain, mtu }))
}

fn servers(cfg: &Document, address: &str, found: &mut Vec<Refusal>) -> Vec<Ipv4Addr> {
    let Some(value) = cfg.get(address) else { return Vec::new() };
    let list = value.as_list().unwrap_or(std::slice::from_ref(value));
    if list.len() > MAX_DNS {
        found.push(Refusal::new(address, format!("it names more than {MAX_DNS} servers")));
    }
    let mut servers = Vec::new();
    for member in list {
        let server = member.as_text().and_then(|text| text.parse::<Ipv4Addr>().ok());
        let checked = server.ok_or_else(|| format!("{member} is not an IPv4 address"));
        let checked = checked.and_then(|server| {
            check_name_server(server).map_err(|why| format!("{server}: {why}"))?;
            Ok(server)
        });
        match checked {
            Ok(server) => servers.push(server),
            Err(why) => found.push(Refusal::new(address, why)),
        }
    }
    servers
}

/// The interfaces of a node, in the order of their names.
///
/// # Errors
/// With everything that cannot be used, by itself or beside the others.
pub fn interfaces(cfg: &Document) -> Result<Vec<Interface>, Vec<Refusal>> {
    let (mut all, mut found) = (Vec::<Interface>::new(), Vec::new());
    for name in cfg.names("net") {
        match interface(cfg, name) {
            Ok(Some(interface)) => {
                if let Some(other) = all.iter().find(|other| other.mac == interface.mac) {
                    let why = format!("net.{} has {} already", other.name, interface.mac);
                    found.push(Refusal::new(format!("net.{name}.mac"), why));
                }
                all.push(interface);
            }
            Ok(None) => {}
            Err(wrong) => found.extend(wrong),
        }
    }
    if all.len() > MAX_INTERFACES {
        let address = format!("net.{}.mac", all[MAX_INTERFACES].name);
        found
            .push(Refusal::new(address, format!("a node has {MAX_INTERFACES} interfaces at most")));
    }
    if found.is_empty() { Ok(all) } else { Err(found) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn found(net: serde_json::Value) -> Vec<String> {
        let cfg = Document::from_json(&json!({ "net": net })).unwrap();
        interfaces(&cfg).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    const MAC: &str = "52:54:00:00:00:01";

    #[test]
    fn an_interface_is_read_with_all_that_cfg_says_of_it() {
        let net = json!({"boot": {"mac": MAC, "address": "10.0.0.2/24", "gateway": "10.0.0.1",
                                  "dns": ["10.0.0.3"], "domain": "rep.example", "mtu": 9000}});
        let cfg = Document::from_json(&json!({ "net": net })).unwrap();
        let all = interfaces(&cfg).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].domain.as_ref().map(DomainName::as_str), Some("rep.example"));
        assert_eq!((all[0].mtu, all[0].dns.len()), (Some(9000), 1));
        assert_eq!(interface(&cfg, "data"), Ok(None));
        assert_eq!(found(json!({"boot": {"mac": MAC}})), [] as [&str; 0], "not to be configured");
    }

    #[test]
    fn each_value_that_cannot_be_used_is_refused_by_its_address() {
        for (key, value, why) in [
            ("mac", json!("01:00:5e:00:00:01"), "group"),
            ("mac", json!(5), "a number where text belongs"),
            ("address", json!("10.0.0.0/24"), "the network's own"),
            ("gateway", json!("10.0.1.1"), "not in 10.0.0.0/24"),
            ("dns", json!(["10.0.0.3", "224.0.0.1"]), "224.0.0.1: it is a multicast address"),
            ("dns", json!(vec!["10.0.0.3"; 9]), "more than 8"),
            ("domain", json!("~"), "not a domain"),
            ("mtu", json!(67), "between 68"),
        ] {
            let mut boot = json!({"mac": MAC, "address": "10.0.0.2/24"});
            boot[key] = value;
            let said = found(json!({ "boot": boot }));
            assert_eq!(said.len(), 1, "{key}: {said:?}");
            assert!(
                said[0].starts_with(&format!("net.boot.{key}: ")) && said[0].contains(why),
                "{said:?}"
            );
        }
    }

    #[test]
    fn two_interfaces_of_a_node_cannot_share_a_hardware_address() {
        let net = json!({"boot": {"mac": MAC, "address": "10.0.0.2/24"},
                         "data": {"mac": MAC, "address": "10.1.0.2/24"}});
        assert_eq!(found(net), [format!("net.data.mac: net.boot has {MAC} already")]);
    }
}
