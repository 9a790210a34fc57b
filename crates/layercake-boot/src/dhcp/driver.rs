//! Moves datagrams between the DHCP port of one device and [`handle`].

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, sync::watch};

use super::{Incoming, MAX_DATAGRAM_BYTES, ServerConfig, handle};
use crate::{
    events::{BootEvent, Reporter},
    firmwares::Firmwares,
    hosts::Hosts,
};

/// A failed receive is a sign of trouble with the device; do not spin on it.
const RECEIVE_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Where what was heard goes.
pub(crate) struct Heard {
    pub(crate) reporter: Reporter,
    pub(crate) firmwares: Firmwares,
}

/// Serves until it is dropped. It holds no state, so that is safe at any point.
pub(crate) async fn serve(
    socket: UdpSocket,
    iface: Arc<str>,
    config: ServerConfig,
    hosts: watch::Receiver<Arc<Hosts>>,
    heard: Heard,
) {
    let Heard { reporter, firmwares } = heard;
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    loop {
        let (len, source) = match socket.recv_from(&mut buffer).await {
            Ok((len, SocketAddr::V4(source))) => (len, source),
            Ok((_, SocketAddr::V6(_))) => continue,
            Err(error) => {
                tracing::warn!(%iface, %error, "DHCP socket cannot receive");
                tokio::time::sleep(RECEIVE_ERROR_PAUSE).await;
                continue;
            }
        };
        reporter.add(|c| &c.dhcp_received, 1);
        let table = hosts.borrow().clone();
        let incoming = Incoming { iface: &iface, source, bytes: &buffer[..len] };
        let (reply, events) = handle(&table, &config, &incoming);
        // Before the reply, which the client answers by fetching what it was told of.
        for event in &events {
            if let BootEvent::FirmwareSeen { node, arch, .. } = event {
                firmwares.note(node, *arch);
            }
        }
        // The reply before the events: these are told when the client can know of it.
        if let Some(reply) = reply {
            send(&socket, &iface, &reply.bytes, reply.dest).await;
        }
        for event in events {
            reporter.report(Instant::now(), event);
        }
    }
}

/// A reply that cannot be sent is lost, as any datagram may be: the client asks again.
async fn send(socket: &UdpSocket, iface: &str, bytes: &[u8], dest: SocketAddrV4) {
    if let Err(error) = socket.send_to(bytes, dest).await {
        tracing::warn!(iface, %dest, %error, "DHCP reply not sent");
    }
}
