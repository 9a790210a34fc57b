//! Spares booting machines the wait for an IPv6 router.
//!
//! iPXE configures IPv4 and IPv6 and goes on only when both have ended. On a network without IPv6
//! router it repeats its solicitation for 16 seconds, with a DHCP lease in its hands: most of the time
//! between power-on and kernel. The answer given here (RFC 4861 section 4.2) says "I am here, and I am
//! no router": lifetime 0, no prefix, no DHCPv6. It ends the wait and configures nothing.
//!
//! It goes by unicast to known machines that are expected to boot, and to nobody else: the site's IPv6
//! stays the site's.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::watch};

use crate::{
    events::Reporter,
    hosts::{BootPlan, Hosts, MacAddr},
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Receivers drop what has crossed a router (RFC 4861 section 6.1.2).
const HOP_LIMIT: u32 = 255;
/// A solicitation has 8 bytes and a few options; the rest of a packet is not read.
const MAX_SOLICITATION_BYTES: usize = 128;

/// A failed receive is a sign of trouble with the device; do not spin on it.
const RECEIVE_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The advertisement of a router that is none; the kernel fills in the checksum.
pub const NO_ROUTER: [u8; 16] = [ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The answer to an ICMPv6 packet, if it is the solicitation of a machine that is expected to boot.
pub fn handle(hosts: &Hosts, source: Ipv6Addr, bytes: &[u8]) -> Option<[u8; 16]> {
    let [ROUTER_SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = bytes else { return None };
    let host = hosts.by_mac(source_mac(options)?)?;
    let booting = matches!(host.plan, BootPlan::Armed { .. });
    (booting && source.is_unicast_link_local()).then_some(NO_ROUTER)
}

fn source_mac(mut options: &[u8]) -> Option<MacAddr> {
    loop {
        // Lengths count units of 8 bytes; zero would turn in circles (RFC 4861 section 4.6).
        let &[kind, units @ 1..=u8::MAX, ..] = options else { return None };
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        if let (SOURCE_LINK_LAYER_ADDRESS, Some(mac)) = (kind, option.first_chunk::<8>()) {
            let [_, _, mac @ ..] = *mac;
            return Some(MacAddr(mac));
        }
        options = rest;
    }
}

/// A socket for ICMPv6 on one device. Not every network has IPv6: without it, nothing is lost but
/// those seconds.
pub(crate) fn bind(iface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(iface.as_bytes()))?;
    socket.set_unicast_hops_v6(HOP_LIMIT)?;
    let index = rustix::net::netdevice::name_to_index(&socket, iface)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    // Not UDP, but datagrams with the peer's address: the calls are the same.
    UdpSocket::from_std(socket.into())
}

/// Serves until it is dropped.
pub(crate) async fn serve(
    socket: UdpSocket,
    iface: Arc<str>,
    hosts: watch::Receiver<Arc<Hosts>>,
    reporter: Reporter,
) {
    let mut buffer = [0; MAX_SOLICITATION_BYTES];
    loop {
        let (len, source) = match socket.recv_from(&mut buffer).await {
            Ok((len, SocketAddr::V6(source))) => (len, source),
            Ok((_, SocketAddr::V4(_))) => continue,
            Err(error) => {
                tracing::warn!(%iface, %error, "ICMPv6 socket cannot receive");
                tokio::time::sleep(RECEIVE_ERROR_PAUSE).await;
                continue;
            }
        };
        let table = hosts.borrow().clone();
        if let Some(answer) = handle(&table, *source.ip(), &buffer[..len]) {
            match socket.send_to(&answer, source).await {
                Ok(_) => reporter.add(|c| &c.router_solicitations_answered, 1),
                Err(error) => {
                    tracing::debug!(%iface, %source, %error, "no answer to a solicitation");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::hosts::tests::{armed, host, table};

    const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 11);

    fn solicitation(last: u8) -> Vec<u8> {
        [&[133, 0, 0, 0, 0, 0, 0, 0][..], &[1, 1, 0x52, 0x54, 0, 0, 0, last]].concat()
    }

    #[test]
    fn only_a_known_machine_that_boots_is_told_that_there_is_no_router() {
        let hosts = table([host(11, armed()), host(12, BootPlan::Idle)]);
        assert_eq!(handle(&hosts, SOURCE, &solicitation(11)), Some(NO_ROUTER));
        assert_eq!(handle(&hosts, SOURCE, &solicitation(12)), None);
        assert_eq!(handle(&hosts, SOURCE, &solicitation(13)), None);
        let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert_eq!(handle(&hosts, global, &solicitation(11)), None);
        assert_eq!(handle(&hosts, SOURCE, &solicitation(11)[..8]), None);
    }

    proptest! {
        #[test]
        fn any_options_are_read_or_ignored(options in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = source_mac(&options);
            let _ = source_mac(&[&[24, 0][..], &options].concat());
        }
    }
}
