//! Writes replies, with dhcproto.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    error::EncodeError,
    v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::{
    BootFilename, ServerConfig,
    wire::{Request, code},
};
use crate::hosts::Host;

/// BOOTP relays and old clients drop what is shorter (RFC 1542 section 2.1).
const MIN_REPLY_BYTES: usize = 300;
/// Field `file` without the NUL that ends it.
const MAX_FILE_BYTES: usize = 127;
/// iPXE's own options (175) hold, among others, `no-pxedhcp` (176): do not wait for a proxyDHCP.
/// Without it the ROM waits seconds for an offer that never comes.
const IPXE_OPTIONS: (u8, [u8; 3]) = (175, [176, 1, 1]);

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
        .set_ciaddr(if nak { Ipv4Addr::UNSPECIFIED } else { request.ciaddr });
    let mut options = DhcpOptions::new();
    options.insert(DhcpOption::ServerIdentifier(config.address));
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
    message.set_opts(options);
    let mut bytes = message.to_vec()?;
    echo(&mut bytes, request);
    bytes.resize(bytes.len().max(MIN_REPLY_BYTES), code::PAD);
    Ok(bytes)
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
    let (class, filename) = match boot {
        BootFilename::Tftp(name) => ("PXEClient", name),
        BootFilename::Http(url) => ("HTTPClient", url),
    };
    message.set_siaddr(config.address);
    if filename.len() <= MAX_FILE_BYTES {
        message.set_fname_str(filename);
    }
    options.insert(DhcpOption::BootfileName(filename.as_bytes().to_vec()));
    options.insert(DhcpOption::TFTPServerName(config.address.to_string().into_bytes()));
    // Firmware takes a boot file only from a server of its own class.
    options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    if request.is_ipxe() {
        let (code, value) = IPXE_OPTIONS;
        let code = OptionCode::Unknown(code);
        options.insert(DhcpOption::Unknown(UnknownOption::new(code, value.to_vec())));
    }
}

/// Client identifier (RFC 6842) and machine UUID (PXE 2.1) come back as sent; the relay's own option
/// as the last of all (RFC 3046 section 2.2).
fn echo(bytes: &mut Vec<u8>, request: &Request<'_>) {
    if bytes.last() == Some(&code::END) {
        bytes.pop();
    }
    for echoed in [code::CLIENT_ID, code::CLIENT_UUID, code::RELAY_AGENT] {
        let Some(value) = request.option(echoed) else { continue };
        let relayed = echoed != code::RELAY_AGENT || !request.giaddr.is_unspecified();
        if let Ok(len @ 1..) = u8::try_from(value.len())
            && relayed
        {
            bytes.push(echoed);
            bytes.push(len);
            bytes.extend_from_slice(&value);
        }
    }
    bytes.push(code::END);
}
