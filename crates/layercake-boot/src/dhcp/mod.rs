//! DHCP (RFC 2131, 2132) for machines with fixed addresses, as a pure function.
//!
//! A host has one address for ever, so the server keeps no leases: a restart loses nothing, and two
//! servers with one table agree. What an answer may be is decided by [`handle`]; [`driver`] owns the
//! socket.

pub mod driver;
mod firmware;
mod reply;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

pub(crate) use firmware::processor_of;
pub use firmware::{FIRMWARE, Firmware, Transport, firmware};
use reply::ReplyKind;
pub use wire::{Client, MAX_DATAGRAM_BYTES, Malformed, MessageType, RelayAgent, Request};

use crate::{
    events::{BootEvent, Service},
    hosts::{BootFile, BootPlan, Host, Hosts},
};

/// The port of servers and relays.
pub const SERVER_PORT: u16 = 67;
/// The port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Boot programs by file name (`undionly.kpxe`, `snponly.efi`, ...).
pub type BootPrograms = BTreeMap<String, BootFile>;

/// What the server says of itself.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its address in the machines' network: server identifier, next server, host of all URLs.
    pub address: Ipv4Addr,
    /// The port of TFTP, 69 as a rule.
    pub tftp_port: u16,
    /// The port of HTTP.
    pub http_port: u16,
    /// The boot programs there are. A firmware whose programs are all missing gets an address only.
    pub programs: Arc<BootPrograms>,
}

impl ServerConfig {
    /// The address that this client takes for ours: a relay may stand in for us (RFC 5107).
    fn identifier(&self, request: &Request<'_>) -> Ipv4Addr {
        request.relay.server_id_override.unwrap_or(self.address)
    }
}

/// A datagram that reached the server's port.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// Where it was heard.
    pub iface: &'a Arc<str>,
    /// Who sent it; 0.0.0.0 as long as the client has no address.
    pub source: SocketAddrV4,
    /// What was sent.
    pub bytes: &'a [u8],
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// To whom: the client, everybody on the network, or the relay.
    pub dest: SocketAddrV4,
    /// What.
    pub bytes: Vec<u8>,
}

/// Answers one datagram. Pure: the same table, config and datagram give the same answer.
pub fn handle(
    hosts: &Hosts,
    config: &ServerConfig,
    incoming: &Incoming<'_>,
) -> (Option<Reply>, Vec<BootEvent>) {
    let refused = |reason: String| {
        let source = IpAddr::V4(*incoming.source.ip());
        let (service, node) = (Service::Dhcp, None);
        (None, vec![BootEvent::Refused { service, node, source, reason }])
    };
    let request = match Request::parse(incoming.bytes) {
        Ok(request) => request,
        Err(malformed) => return refused(malformed.to_string()),
    };
    let Some(host) = hosts.by_mac(request.mac) else {
        if let Some((host, interface)) = hosts.by_other_mac(request.mac)
            && request.is_of_firmware()
        {
            let reason = format!(
                "its firmware asks on its interface {interface} ({}), and it boots from another \
                 ({}): correct `boot.interface`, its cabling, or the order in its firmware",
                request.mac, host.mac
            );
            return (None, vec![BootEvent::stuck(host, Service::Dhcp, reason)]);
        }
        let unknown = BootEvent::UnknownMachine {
            mac: request.mac,
            facts: request.machine_facts(),
            iface: incoming.iface.clone(),
        };
        return (None, vec![unknown]);
    };
    let here = network_of(&request, host, config, *incoming.source.ip());
    if !host.shares_network_with(here) {
        let reason = format!(
            "it asked in the network of {here}, but its address is {}/{}; check its cabling or its \
             address",
            host.address, host.prefix
        );
        return (None, vec![BootEvent::stuck(host, Service::Dhcp, reason)]);
    }
    let exchange = Exchange { host, config, request: &request, source: incoming.source };
    if matches!(host.plan, BootPlan::Found | BootPlan::Soon) && request.is_of_firmware() {
        let asks = BootEvent::FirmwareAsks { node: host.node.clone(), mac: host.mac };
        return (None, vec![asks]);
    }
    match request.kind {
        MessageType::Discover => exchange.discover(),
        MessageType::Request => exchange.request(),
        MessageType::Decline => exchange.decline(),
        MessageType::Release => exchange.release(),
        MessageType::Inform if request.ciaddr == host.address => {
            exchange.answer(ReplyKind::Inform, exchange.acked())
        }
        MessageType::Inform => refused(format!(
            "{} says it has {}, but its address is {}",
            host.node, request.ciaddr, host.address
        )),
    }
}

/// An address in the network where the client sits: the one that its relay says, or the relay's own;
/// without a relay, ours. A client that has its address already may be behind a router and ask us
/// directly (RFC 2131 section 4.3.2, RENEWING).
fn network_of(
    request: &Request<'_>,
    host: &Host,
    config: &ServerConfig,
    source: Ipv4Addr,
) -> Ipv4Addr {
    let relay = Some(request.giaddr).filter(|relay| !relay.is_unspecified());
    let direct = Some(source).filter(|s| *s == request.ciaddr && *s == host.address);
    request.relay.link_selection.or(relay).or(direct).unwrap_or(config.address)
}

/// A known client in the right network, and what it asked.
struct Exchange<'a> {
    host: &'a Host,
    config: &'a ServerConfig,
    request: &'a Request<'a>,
    source: SocketAddrV4,
}

impl Exchange<'_> {
    fn discover(&self) -> (Option<Reply>, Vec<BootEvent>) {
        let Host { node, mac, .. } = self.host;
        let offer = BootEvent::DhcpOffer { node: node.clone(), mac: *mac };
        self.answer(ReplyKind::Offer, offer)
    }

    /// RFC 2131 section 4.3.2: which fields are set tells what state the client is in.
    fn request(&self) -> (Option<Reply>, Vec<BootEvent>) {
        let request = self.request;
        let wanted = match (request.server_id, request.requested) {
            // SELECTING another server.
            (Some(_), _) if !self.addressed_to_us() => return (None, Vec::new()),
            // SELECTING us; INIT-REBOOT.
            (_, Some(address)) => address,
            // RENEWING, REBINDING.
            (_, None) => request.ciaddr,
        };
        if wanted == self.host.address {
            return self.answer(ReplyKind::Ack, self.acked());
        }
        let Host { node, mac, .. } = self.host;
        let nak = BootEvent::DhcpNak { node: node.clone(), mac: *mac, wanted };
        self.answer(ReplyKind::Nak, nak)
    }

    fn decline(&self) -> (Option<Reply>, Vec<BootEvent>) {
        let Host { node, mac, address, .. } = self.host;
        let ours = self.request.requested == Some(*address) && self.addressed_to_us();
        let in_use = BootEvent::AddressInUse { node: node.clone(), mac: *mac, address: *address };
        (None, if ours { vec![in_use] } else { Vec::new() })
    }

    fn release(&self) -> (Option<Reply>, Vec<BootEvent>) {
        let Host { node, mac, address, .. } = self.host;
        let ours = self.request.ciaddr == *address && self.addressed_to_us();
        let released = BootEvent::DhcpRelease { node: node.clone(), mac: *mac };
        (None, if ours { vec![released] } else { Vec::new() })
    }

    fn addressed_to_us(&self) -> bool {
        let ours = [self.config.address, self.config.identifier(self.request)];
        self.request.server_id.is_none_or(|server| ours.contains(&server))
    }

    fn acked(&self) -> BootEvent {
        BootEvent::DhcpAck { node: self.host.node.clone(), mac: self.host.mac }
    }

    fn answer(&self, kind: ReplyKind, event: BootEvent) -> (Option<Reply>, Vec<BootEvent>) {
        let mut events = vec![event];
        let client = self.request.client();
        let arch = match client {
            Client::Other => None,
            // A PXE client that does not say what it is, is a BIOS (RFC 4578 came later than PXE 2.1).
            Client::Firmware(_) => Some(self.firmware().unwrap_or(0)),
            Client::Ipxe => self.firmware(),
        };
        if let Some(arch) = arch {
            let (node, mac) = (self.host.node.clone(), self.host.mac);
            let is_ipxe = client == Client::Ipxe;
            events.push(BootEvent::FirmwareSeen { node, mac, arch, is_ipxe });
        }
        let boot = match (kind, &self.host.plan) {
            (ReplyKind::Nak, _) | (_, BootPlan::Idle | BootPlan::Found | BootPlan::Soon) => None,
            (_, BootPlan::Armed { .. }) => self.boot_file(client, arch).unwrap_or_else(|reason| {
                events.push(BootEvent::stuck(self.host, Service::Dhcp, reason));
                None
            }),
        };
        match reply::encode(self.host, self.config, self.request, kind, boot.as_ref()) {
            Ok(bytes) => (Some(Reply { dest: self.destination(kind), bytes }), events),
            Err(error) => {
                let reason = format!("its DHCP answer cannot be made: {error}");
                (None, vec![BootEvent::stuck(self.host, Service::Dhcp, reason)])
            }
        }
    }

    /// The number of the client's firmware: of those that it names the first that is known.
    fn firmware(&self) -> Option<u16> {
        let named = self.request.architectures();
        named.iter().find(|arch| firmware(**arch).is_some()).or(named.first()).copied()
    }

    /// What the client boots next; nothing for a client that did not ask as firmware does.
    fn boot_file(&self, client: Client, arch: Option<u16>) -> Result<Option<BootFilename>, String> {
        let ServerConfig { address, tftp_port, http_port, programs } = self.config;
        if let Some(arch) = arch {
            self.host.fits(arch)?;
        }
        let transport = match client {
            Client::Other => return Ok(None),
            Client::Ipxe => {
                let port = if *tftp_port == 69 { String::new() } else { format!(":{tftp_port}") };
                let path = crate::tftp::script_path(&self.host.node);
                return Ok(Some(BootFilename::Tftp(format!("tftp://{address}{port}/{path}"))));
            }
            Client::Firmware(transport) => transport,
        };
        let arch = arch.unwrap_or(0);
        let row = firmware(arch).filter(|row| !row.programs.is_empty()).ok_or_else(|| {
            let name = firmware_name(arch);
            format!("it has {name} firmware, for which there is no boot program")
        })?;
        let program =
            row.programs.iter().find(|p| programs.contains_key(**p)).ok_or_else(|| {
                format!(
                    "its firmware ({}) needs {}, which is not among the boot programs; {}",
                    row.name,
                    row.programs.join(" or "),
                    crate::programs::REMEDY,
                )
            })?;
        Ok(Some(match transport {
            Transport::Tftp => BootFilename::Tftp((*program).to_owned()),
            Transport::Http => {
                BootFilename::Http(format!("http://{address}:{http_port}/boot-program/{program}"))
            }
        }))
    }

    /// RFC 2131 section 4.1. A client without an address is always answered by broadcast: whether it
    /// asked for it or not, it hears that, and no packet socket is needed.
    fn destination(&self, kind: ReplyKind) -> SocketAddrV4 {
        if !self.request.giaddr.is_unspecified() {
            let of_its_own = self.request.relay.answers_to_source_port;
            let port = if of_its_own { self.source.port() } else { SERVER_PORT };
            return SocketAddrV4::new(self.request.giaddr, port);
        }
        let has_address = self.request.ciaddr == self.host.address;
        let dest = match kind {
            ReplyKind::Ack | ReplyKind::Inform if has_address => self.host.address,
            _ => Ipv4Addr::BROADCAST,
        };
        SocketAddrV4::new(dest, CLIENT_PORT)
    }
}

/// The boot file as the reply names it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BootFilename {
    /// A path on the next server, or a TFTP URL for iPXE.
    Tftp(String),
    /// A URL for UEFI HTTP boot.
    Http(String),
}

impl BootFilename {
    fn name(&self) -> &str {
        let (Self::Tftp(name) | Self::Http(name)) = self;
        name
    }

    fn transport(&self) -> Transport {
        match self {
            Self::Tftp(_) => Transport::Tftp,
            Self::Http(_) => Transport::Http,
        }
    }
}

/// The name of a kind of firmware, for people.
pub(crate) fn firmware_name(arch: u16) -> String {
    match firmware(arch) {
        Some(row) => row.name.to_owned(),
        None => format!("architecture {arch}"),
    }
}

/// Feeds bytes from nowhere through [`handle`]: the entry for fuzzing. The MAC of the datagram is
/// known, so that everything behind the look-up is reached as well.
pub fn fuzz_handle(data: &[u8]) {
    let mut mac = [2; 6];
    if let Some(bytes) = data.get(28..34) {
        mac.copy_from_slice(bytes);
    }
    let host = Host {
        node: "n1".into(),
        mac: crate::MacAddr(mac),
        address: Ipv4Addr::new(10, 77, 0, 11),
        prefix: 24,
        gateway: None,
        dns: Vec::new(),
        domain: None,
        arch: None,
        others: Vec::new(),
        hostname: "n1".into(),
        lease_secs: 60,
        plan: BootPlan::Armed {
            boot_id: "b".into(),
            kernel: BootFile::from("k"),
            initramfs: BootFile::from("i"),
            seed: "s".into(),
            cmdline: "".into(),
        },
    };
    let hosts = Hosts::new([Arc::new(host)]).unwrap_or_default();
    let config = ServerConfig {
        address: Ipv4Addr::new(10, 77, 0, 1),
        tftp_port: 69,
        http_port: 80,
        programs: Arc::default(),
    };
    let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
    let iface: Arc<str> = "br0".into();
    handle(&hosts, &config, &Incoming { iface: &iface, source, bytes: data });
}
