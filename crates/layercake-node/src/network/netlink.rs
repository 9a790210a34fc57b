//! As much of rtnetlink(7) as it takes to configure an interface: one small module instead of a
//! library that would be a tenth of the whole binary.
//!
//! Numbers are from linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use layercake_seed::{Cidr, Mac};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const RTMGRP_LINK: u32 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Kinds of link that carry the address of the device below them.
const STACKED_KINDS: [&[u8]; 6] = [b"vlan", b"bridge", b"bond", b"macvlan", b"macvtap", b"team"];
const HEADER_BYTES: usize = 16;
/// The kernel's datagrams of a dump are at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;

/// One network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) is_up: bool,
    pub(super) has_carrier: bool,
    pub(super) is_stacked: bool,
}

/// A request under construction.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// struct rtattr: length and type, the value, padded to four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// struct ifinfomsg.
fn link_message(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

fn up_request(index: u32, mtu: Option<u32>) -> Request {
    let request = Request::new(RTM_NEWLINK, NLM_F_ACK, &link_message(index, IFF_UP, IFF_UP));
    match mtu {
        Some(mtu) => request.attribute(IFLA_MTU, &mtu.to_ne_bytes()),
        None => request,
    }
}

fn address_request(index: u32, address: Cidr) -> Request {
    let ip = address.ip();
    // The parent gave this address to this machine alone: no need to wait for duplicates.
    let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let [a, b, c, d] = index.to_ne_bytes();
    let fixed = [family(ip), address.prefix(), flags, 0, a, b, c, d];
    let value = octets(ip);
    Request::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &fixed)
        .attribute(IFA_LOCAL, &value)
        .attribute(IFA_ADDRESS, &value)
}

fn route_request(index: u32, gateway: IpAddr) -> Request {
    // struct rtmsg; a destination of length 0 is the default route.
    let fixed =
        [family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
    Request::new(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &fixed)
        .attribute(RTA_GATEWAY, &octets(gateway))
        .attribute(RTA_OIF, &index.to_ne_bytes())
}

/// A conversation with the kernel, one request at a time.
pub(super) struct Route {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Route {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: open_socket(0)?, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        let request = Request::new(RTM_GETLINK, NLM_F_DUMP, &link_message(0, 0, 0));
        self.ask(request, |body| links.extend(parse_link(body)))?;
        Ok(links)
    }

    pub(super) fn set_up(&mut self, index: u32, mtu: Option<u32>) -> io::Result<()> {
        self.ask(up_request(index, mtu), |_| {})
    }

    pub(super) fn add_address(&mut self, index: u32, address: Cidr) -> io::Result<()> {
        self.ask(address_request(index, address), |_| {})
    }

    pub(super) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        self.ask(route_request(index, gateway), |_| {})
    }

    /// Sends a request and hands every link of the answer to `on_link`.
    fn ask(&mut self, request: Request, mut on_link: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.socket, &request.finish(self.sequence), SendFlags::empty())?;
        loop {
            let (received, _) =
                rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            for (kind, sequence, body) in messages(&self.buffer[..received]) {
                match kind {
                    // Left over from a request that was given up.
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledgement(body),
                    RTM_NEWLINK => on_link(body),
                    _ => {}
                }
            }
        }
    }
}

/// Tells when links come, go or change.
pub(super) struct LinkEvents {
    socket: OwnedFd,
}

impl LinkEvents {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: open_socket(RTMGRP_LINK)? })
    }

    /// Waits for a change, at most for `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<()> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // What changed is looked up, not read; events that were lost (ENOBUFS) do no harm.
        let mut buffer = [0; 4096];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_socket(groups: u32) -> io::Result<OwnedFd> {
    // The default protocol of this family is NETLINK_ROUTE, number 0.
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn acknowledgement(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// The messages of a datagram: kind, sequence number and what follows the header.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let length = u32::from_ne_bytes(*header.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let body = datagram.get(HEADER_BYTES..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// The attributes of a message or of a nest of them.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; 4] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let fixed: &[u8; 16] = body.first_chunk()?;
    let flags = u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    let mut link = Link {
        index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        name: String::new(),
        mac: None,
        is_up: flags & IFF_UP != 0,
        has_carrier: flags & IFF_LOWER_UP != 0,
        is_stacked: false,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
            IFLA_IFNAME => link.name = text(value),
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.is_stacked = kind.is_some_and(|(_, kind)| {
                    STACKED_KINDS.contains(&kind.strip_suffix(b"\0").unwrap_or(kind))
                });
            }
            _ => {}
        }
    }
    Some(link)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_what_the_kernel_reads() {
        let bytes = address_request(3, "10.7.0.11/24".parse().unwrap()).finish(9);
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found.len(), 1);
        let (kind, sequence, body) = found[0];
        assert_eq!((kind, sequence), (RTM_NEWADDR, 9));
        assert_eq!(body[..8], [AF_INET, 24, 0, 0, 3, 0, 0, 0]);
        let values: Vec<_> = attributes(&body[8..]).collect();
        assert_eq!(values, [(IFA_LOCAL, &[10, 7, 0, 11][..]), (IFA_ADDRESS, &[10, 7, 0, 11][..])]);
    }

    #[test]
    fn the_loopback_link_is_found() {
        let links = Route::open().unwrap().links().unwrap();
        assert!(links.iter().any(|link| link.name == "lo" && link.index == 1));
    }

    #[test]
    fn a_refusal_names_the_kernels_reason() {
        let error = Route::open().unwrap().set_up(u32::MAX / 4, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(data in proptest::collection::vec(any::<u8>(), 0..128)) {
            for (_, _, body) in messages(&data) {
                let _ = parse_link(body);
            }
            let _ = parse_link(&data);
        }
    }
}
