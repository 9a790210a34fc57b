//! The network that machines boot from.

use kraken_yaml::{Node, Report};
use layercake_types::{
    DomainName, InterfaceAddress, SYNC_PORT, check_interface_name, check_name_server,
};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

/// The port on which images and boot files are served unless the file says otherwise.
pub const DEFAULT_HTTP_PORT: NonZeroU16 = NonZeroU16::new(8080).unwrap();

/// The lengths that the prefix of the network may have, in bits.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

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

impl Network {
    /// The network by itself.
    #[must_use]
    pub(crate) fn itself(&self) -> Option<layercake_types::Network> {
        layercake_types::Network::of(self.subnet, self.prefix).ok()
    }
}

const PATH: &str = "network.boot";

/// Reads the section. What is wrong with it is reported; the network comes out as far as it is known, for
/// a file that counts already.
pub(crate) fn network(root: &Node, report: &mut Report) -> Option<Network> {
    const KEYS: &[&str] =
        &["subnet", "gateway", "interface", "server", "http_port", "domain", "dns"];
    let said = root.get("network");
    let Some(section) = said.filter(|section| !section.is_null()) else {
        let (why, hint) =
            ("machines need a network to boot from", "add network: boot: {subnet: …}");
        let at = said.map_or(root.at, |section| section.at);
        report.add(at, "network", "network is missing", why, hint);
        return None;
    };
    report.known(section, "network", &["boot"]);
    let said = section.get("boot");
    let Some(boot) = said.filter(|boot| !boot.is_null()) else {
        if matches!(section.data, kraken_yaml::Data::Map(_)) {
            let at = said.map_or(section.at, |boot| boot.at);
            report.add(at, PATH, "network.boot is missing", "machines boot from it", "");
        }
        return None;
    };
    report.known(boot, PATH, KEYS);
    if !matches!(boot.data, kraken_yaml::Data::Map(_)) {
        return None;
    }
    for key in ["subnet", "interface", "server"] {
        if boot.get(key).is_none() {
            let what = format!("{PATH}.{key} is missing");
            report.add(boot.at, &format!("{PATH}.{key}"), what, "it has no default", "");
        }
    }
    let subnet = subnet(boot, report);
    let address = "an IPv4 address";
    let mut gateway: Option<Ipv4Addr> = report.value(boot, PATH, "gateway", address);
    let server: Option<Ipv4Addr> = report.value(boot, PATH, "server", address);
    if let Some(subnet) = subnet {
        for (key, ip) in [("server", server), ("gateway", gateway)] {
            if let Some(ip) = ip
                && let Err(why) = subnet.check_host(ip)
            {
                refuse(boot, key, format!("{ip} cannot be the {key}"), &why, report);
            }
        }
        // Nodes are told of none that is wrong, so that it is wrong only here.
        gateway = gateway.filter(|ip| subnet.check_host(*ip).is_ok());
    }
    let interface: Option<String> =
        report.value(boot, PATH, "interface", "the name of an interface");
    if let Some(name) = &interface
        && let Err(why) = check_interface_name(name)
    {
        refuse(
            boot,
            "interface",
            format!("{name:?} is not the name of an interface"),
            &why,
            report,
        );
    }
    let domain: Option<String> = report.value(boot, PATH, "domain", "a domain");
    let domain = domain.and_then(|text| match text.parse::<DomainName>() {
        Ok(domain) => Some(domain.to_string()),
        Err(why) => {
            refuse(boot, "domain", format!("{text:?} cannot be the domain"), &why, report);
            None
        }
    });
    let (http_port, dns) = (http_port(boot, report), dns(boot, report));
    let (subnet, interface, server) = (subnet?, interface?, server?);
    let (subnet, prefix) = (subnet.first(), subnet.prefix());
    Some(Network { subnet, prefix, gateway, interface, server, http_port, domain, dns })
}

/// Says that a value of the section cannot be used, at its place.
fn refuse(boot: &Node, key: &str, what: String, why: &dyn std::fmt::Display, report: &mut Report) {
    let at = boot.get(key).map_or(boot.at, |node| node.at);
    report.add(at, &format!("{PATH}.{key}"), what, why.to_string(), "");
}

fn subnet(boot: &Node, report: &mut Report) -> Option<layercake_types::Network> {
    let text: Option<String> = report.value(boot, PATH, "subnet", "a network such as 10.77.0.0/24");
    let text = text?;
    let parsed = text.split_once('/').and_then(|(a, p)| Some((a.parse().ok()?, p.parse().ok()?)));
    let good = parsed.and_then(|(first, prefix): (Ipv4Addr, u8)| {
        let network = layercake_types::Network::of(first, prefix).ok()?;
        (PREFIXES.contains(&prefix) && network.first() == first).then_some(network)
    });
    let Some(network) = good else {
        let why =
            "it must be the first address of a network and 8 to 30 bits, such as 10.77.0.0/24";
        refuse(boot, "subnet", format!("{text:?} is not a network"), &why, report);
        return None;
    };
    // Of a network of loopback or multicast addresses not even the second is a machine's.
    let second = Ipv4Addr::from_bits(network.first().to_bits() + 1);
    if let Err(why) = InterfaceAddress::new(second, network.prefix()) {
        refuse(
            boot,
            "subnet",
            format!("no machine can have an address in {network}"),
            &why,
            report,
        );
    }
    Some(network)
}

fn http_port(boot: &Node, report: &mut Report) -> NonZeroU16 {
    let port: Option<NonZeroU16> = report.value(boot, PATH, "http_port", "a port, 1 to 65535");
    if port.is_some_and(|port| port.get() == SYNC_PORT) {
        let why = "it is the port on which nodes join";
        refuse(boot, "http_port", format!("{SYNC_PORT} cannot be the port"), &why, report);
    }
    port.unwrap_or(DEFAULT_HTTP_PORT)
}

fn dns(boot: &Node, report: &mut Report) -> Vec<Ipv4Addr> {
    let Some(node) = boot.get("dns") else { return Vec::new() };
    let path = format!("{PATH}.dns");
    let list = report.list(node, &path, "write dns: [10.77.0.2]");
    if list.len() > layercake_types::MAX_DNS {
        let what = format!("{path} has {} name servers", list.len());
        let why = format!("a node is told {} at most", layercake_types::MAX_DNS);
        report.add(node.at, &path, what, why, "");
    }
    let mut servers = Vec::new();
    for member in list {
        let Some(text) = report.text(member, &path, "an IPv4 address") else { continue };
        let checked = text.parse::<Ipv4Addr>().map_err(|_| "it must be an IPv4 address".to_owned());
        let checked = checked.and_then(|ip| match check_name_server(ip) {
            Ok(()) => Ok(ip),
            Err(why) => Err(why.to_string()),
        });
        match checked {
            Ok(ip) => servers.push(ip),
            Err(why) => {
                report.add(member.at, &path, format!("{text:?} cannot be a name server"), why, "");
            }
        }
    }
    servers
}
