//! Writes replies, with dhcproto.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    error::EncodeError,
    v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::{
    BootFilename, ServerConfig, Transport,
    wire::{Request, code},
};
use crate::hosts::Host;

/// BOOTP relays and old clients drop what is shorter (RFC 1542 section 2.1).
const MIN_REPLY_BYTES: usize = 300;
/// Field `file` without the NUL that ends it.
const MAX_FILE_BYTES: usize = 127;
/// iPXE's own options (175) hold, among others, `no-pxedhcp` (176): do not wait for a proxyDHCP.
/// Without it the ROM waits seconds for an offer that never comes.
const IPXE_OPTIONS: (u8, [u8; 3]) = (code::IPXE, [176, 1, 1]);
/// PXE's own options (43) hold `PXE_DISCOVERY_CONTROL` (6) with bit 3: take the boot file of this
/// answer, and ask no boot server (PXE 2.1 section 2.2, table 2-1). Without it, firmware that is told the
/// class `PXEClient` looks for a boot server on port 4011.
const NO_BOOT_SERVER: [u8; 4] = [6, 1, 8, code::END];
/// What is left out, in this order, where an answer is longer than its client takes.
const EXPENDABLE: [OptionCode; 2] = [OptionCode::DomainName, OptionCode::DomainNameServer];

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    Offer,
    Ack,
    Nak,
    /// The acknowledgement of DHCPINFORM: no address, no times.
    Inform,
}

pub(super) fn encode(
    host: &Host,
    config: &ServerConfig,
    request: &Request<'_>,
    kind: ReplyKind,
    boot: Option<&BootFilename>,
) -> Result<Vec<u8>, EncodeError> {
    let nak = kind == ReplyKind::Nak;
    // A relay must broadcast a NAK: the client may have no valid address (RFC 2131 section 4.3.2).
    let relayed_nak = nak && !request.giaddr.is_unspecified();
    let flags = Flags::from(request.flags & 0x8000);
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(request.xid)
        .set_flags(if relayed_nak { flags.set_broadcast() } else { flags })
        .set_giaddr(request.giaddr)
        .set_chaddr(&request.mac.0)
        .set_ciaddr(match kind {
            // RFC 2131 section 4.3.1, table 3.
            ReplyKind::Offer | ReplyKind::Nak => Ipv4Addr::UNSPECIFIED,
            ReplyKind::Ack | ReplyKind::Inform => request.ciaddr,
        });
    let mut options = DhcpOptions::new();
    options.insert(DhcpOption::ServerIdentifier(config.identifier(request)));
    options.insert(DhcpOption::MessageType(match kind {
        ReplyKind::Offer => MessageType::Offer,
        ReplyKind::Ack | ReplyKind::Inform => MessageType::Ack,
        ReplyKind::Nak => MessageType::Nak,
    }));
    if nak {
        options.insert(DhcpOption::Message(format!("{} has {}", host.node, host.address)));
    } else {
        describe_network(&mut options, host);
        if kind != ReplyKind::Inform {
            message.set_yiaddr(host.address);
            set_lease(&mut options, host.lease_secs);
        }
        if let Some(boot) = boot {
            set_boot_file(&mut message, &mut options, config, request, boot);
        }
    }
    let mut expendable = EXPENDABLE.iter();
    loop {
        message.set_opts(options.clone());
        let mut bytes = message.to_vec()?;
        finish(&mut bytes, config, request, boot.filter(|_| !nak));
        if bytes.len() <= request.max_answer_bytes() {
            return Ok(bytes);
        }
        match expendable.next() {
            Some(code) => drop(options.remove(*code)),
            None => return Ok(bytes),
        }
    }
}

fn describe_network(options: &mut DhcpOptions, host: &Host) {
    options.insert(DhcpOption::SubnetMask(host.netmask()));
    options.insert(DhcpOption::BroadcastAddr(host.broadcast()));
    options.insert(DhcpOption::Hostname(host.hostname.to_string()));
    if let Some(gateway) = host.gateway {
        options.insert(DhcpOption::Router(vec![gateway]));
    }
    if !host.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(host.dns.clone()));
    }
    if let Some(domain) = &host.domain {
        options.insert(DhcpOption::DomainName(domain.to_string()));
    }
}

/// T1 and T2 as RFC 2131 section 4.4.5 has them.
fn set_lease(options: &mut DhcpOptions, lease_secs: u32) {
    options.insert(DhcpOption::AddressLeaseTime(lease_secs));
    options.insert(DhcpOption::Renewal(lease_secs / 2));
    options.insert(DhcpOption::Rebinding(lease_secs / 8 * 7));
}

fn set_boot_file(
    message: &mut Message,
    options: &mut DhcpOptions,
    config: &ServerConfig,
    request: &Request<'_>,
    boot: &BootFilename,
) {
    let (transport, filename) = (boot.transport(), boot.name());
    message.set_siaddr(config.address);
    if filename.len() <= MAX_FILE_BYTES {
        message.set_fname_str(filename);
    }
    // Firmware takes a boot file only from a server of its own class.
    options.insert(DhcpOption::ClassIdentifier(transport.class().as_bytes().to_vec()));
    if transport == Transport::Tftp {
        options.insert(DhcpOption::VendorExtensions(NO_BOOT_SERVER.to_vec()));
    }
    if request.is_ipxe() {
        let (code, value) = IPXE_OPTIONS;
        let code = OptionCode::Unknown(code);
        options.insert(DhcpOption::Unknown(UnknownOption::new(code, value.to_vec())));
    }
}

/// Adds what stands behind the options that dhcproto wrote: the boot file's name, and what the request
/// said that comes back as it was. Client identifier (RFC 6842) and machine UUID (PXE 2.1) are the
/// client's; option 82 is of relays and of switches on the way, also where these left `giaddr` zero, and
/// the last of all (RFC 3046 section 2.2).
fn finish(
    bytes: &mut Vec<u8>,
    config: &ServerConfig,
    request: &Request<'_>,
    boot: Option<&BootFilename>,
) {
    if bytes.last() == Some(&code::END) {
        bytes.pop();
    }
    if let Some(boot) = boot {
        for (code, text) in [
            (code::TFTP_SERVER, config.address.to_string()),
            (code::BOOT_FILE, boot.name().to_owned()),
        ] {
            push(bytes, code, text.as_bytes());
            // Some firmware reads the name to the next NUL, which no option has at its end.
            bytes.push(code::PAD);
        }
    }
    for echoed in [code::CLIENT_ID, code::CLIENT_UUID, code::RELAY_AGENT] {
        if let Some(value) = request.option(echoed) {
            push(bytes, echoed, &value);
        }
    }
    bytes.push(code::END);
    bytes.resize(bytes.len().max(MIN_REPLY_BYTES), code::PAD);
}

/// An option, in pieces where it is longer than one can be (RFC 3396).
fn push(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    for piece in value.chunks(usize::from(u8::MAX)) {
        bytes.push(code);
        bytes.push(piece.len() as u8);
        bytes.extend_from_slice(piece);
    }
}
