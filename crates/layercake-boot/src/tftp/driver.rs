//! Sockets for TFTP: one for requests, and one of its own for every transfer.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    task::{self, JoinSet},
};

use super::{
    Ended, ErrorCode, Files, Limits, NotServed, ReadRequest, Served, Step, Transfer, normalize,
    packet,
};
use crate::{
    events::{BootEvent, Reporter, Service},
    socket,
};

/// Transfers at a time. A script is one round trip, so this is far above a thousand nodes at once.
pub const MAX_TRANSFERS: usize = 512;
/// Transfers at a time to one machine.
pub const MAX_TRANSFERS_PER_CLIENT: usize = 4;
/// Headers of IPv4, UDP and TFTP, which a frame holds besides the block.
const HEADER_BYTES: u32 = 20 + 8 + 4;
/// Acknowledgements are 4 bytes, error messages short; the rest of a datagram is not read.
const PEER_DATAGRAM_BYTES: usize = 128;
/// A failed receive is a sign of trouble with the device; do not spin on it.
const RECEIVE_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct TftpConfig {
    /// The address that transfers are sent from.
    pub address: Ipv4Addr,
    /// The device, where only one is to be served.
    pub iface: Option<Arc<str>>,
    /// The first wait for an answer.
    pub retransmit_after: Duration,
    /// The largest block, whatever the client and the path allow.
    pub max_block_bytes: u16,
}

struct Server {
    socket: UdpSocket,
    config: Arc<TftpConfig>,
    files: Arc<dyn Files>,
    reporter: Reporter,
    /// The transfers under way. A client that repeats its request is already being answered.
    active: HashMap<SocketAddrV4, task::Id>,
}

/// Serves until it is dropped; transfers under way are dropped with it.
pub(crate) async fn serve(
    socket: UdpSocket,
    config: TftpConfig,
    files: Arc<dyn Files>,
    reporter: Reporter,
) {
    let mut server =
        Server { socket, config: config.into(), files, reporter, active: HashMap::new() };
    let mut transfers: JoinSet<SocketAddrV4> = JoinSet::new();
    let mut buffer = [0; packet::MAX_REQUEST_BYTES + 1];
    loop {
        // Both arms are cancel-safe: a datagram or an end that was not taken stays where it is.
        tokio::select! {
            received = server.socket.recv_from(&mut buffer) => match received {
                Ok((len, SocketAddr::V4(peer))) => {
                    server.on_request(&buffer[..len], peer, &mut transfers).await;
                }
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) => {
                    tracing::warn!(%error, "TFTP socket cannot receive");
                    tokio::time::sleep(RECEIVE_ERROR_PAUSE).await;
                }
            },
            Some(ended) = transfers.join_next() => match ended {
                Ok(peer) => { server.active.remove(&peer); }
                Err(error) => {
                    tracing::error!(%error, "a TFTP transfer broke off");
                    server.active.retain(|_, task| *task != error.id());
                }
            },
        }
    }
}

impl Server {
    async fn on_request(
        &mut self,
        bytes: &[u8],
        peer: SocketAddrV4,
        transfers: &mut JoinSet<SocketAddrV4>,
    ) {
        self.reporter.add(|c| &c.tftp_requests, 1);
        if self.active.contains_key(&peer) {
            return;
        }
        match self.admit(bytes, peer) {
            Ok((request, served)) => {
                let (config, reporter) = (self.config.clone(), self.reporter.clone());
                let task = transfers.spawn(async move {
                    if let Err(error) = transfer(&config, peer, request, served, &reporter).await {
                        tracing::warn!(%peer, %error, "TFTP transfer failed");
                    }
                    peer
                });
                self.active.insert(peer, task.id());
            }
            Err((code, reason)) => {
                // The reply may be lost or unwanted; the client asks again or goes away.
                let _ = self.socket.send_to(&packet::error(code, &reason), peer).await;
                let source = IpAddr::V4(*peer.ip());
                let refused = BootEvent::Refused { service: Service::Tftp, source, reason };
                self.reporter.report(Instant::now(), refused);
            }
        }
    }

    fn admit(
        &self,
        bytes: &[u8],
        peer: SocketAddrV4,
    ) -> Result<(ReadRequest, Served), (ErrorCode, String)> {
        let request = ReadRequest::parse(bytes).map_err(|e| (e.code(), e.to_string()))?;
        let path = normalize(&request.filename)
            .map_err(|e| (ErrorCode::AccessViolation, e.to_string()))?;
        let of_client = self.active.keys().filter(|active| active.ip() == peer.ip()).count();
        if self.active.len() >= MAX_TRANSFERS || of_client >= MAX_TRANSFERS_PER_CLIENT {
            return Err((ErrorCode::Full, "too many transfers at a time; try again".into()));
        }
        let served = self.files.lookup(*peer.ip(), &path).map_err(|not| match not {
            NotServed::NotFound(reason) => (ErrorCode::NotFound, reason),
            NotServed::Denied(reason) => (ErrorCode::AccessViolation, reason),
        })?;
        Ok((request, served))
    }
}

/// The largest block that reaches the peer unfragmented, as far as the kernel knows the path.
fn max_block_bytes(socket: &UdpSocket, configured: u16) -> u16 {
    let of_path = rustix::net::sockopt::ip_mtu(socket)
        .ok()
        .and_then(|mtu| u16::try_from(mtu.saturating_sub(HEADER_BYTES)).ok());
    of_path.unwrap_or(configured).min(configured).max(super::DEFAULT_BLOCK_BYTES)
}

async fn transfer(
    config: &TftpConfig,
    peer: SocketAddrV4,
    request: ReadRequest,
    served: Served,
    reporter: &Reporter,
) -> io::Result<()> {
    // Connected: the kernel drops what others send to this port (RFC 1350 section 4, wrong TID).
    let socket = socket::connect_udp(config.address, config.iface.as_ref(), peer)?;
    let limits = Limits {
        max_block_bytes: max_block_bytes(&socket, config.max_block_bytes),
        retransmit_after: config.retransmit_after,
    };
    let Served { bytes, event } = served;
    let (ended, retransmits) = run(&socket, &request, bytes, limits, reporter).await?;
    reporter.add(|c| &c.tftp_retransmits, retransmits);
    match ended {
        Ended::Complete => {
            reporter.add(|c| &c.tftp_completed, 1);
            if let Some(event) = event {
                reporter.report(Instant::now(), event);
            }
        }
        Ended::Abandoned(code) => {
            reporter.add(|c| &c.tftp_abandoned, 1);
            tracing::debug!(%peer, code, "TFTP peer gave up");
        }
        Ended::TimedOut => reporter.add(|c| &c.tftp_timed_out, 1),
    }
    Ok(())
}

async fn run(
    socket: &UdpSocket,
    request: &ReadRequest,
    file: Bytes,
    limits: Limits,
    reporter: &Reporter,
) -> io::Result<(Ended, u64)> {
    let mut out = Vec::new();
    let mut buffer = [0; PEER_DATAGRAM_BYTES];
    let mut transfer = Transfer::start(Instant::now(), request, file, limits, &mut out);
    loop {
        for packet in out.drain(..) {
            reporter.add(|c| &c.tftp_bytes, packet.len().saturating_sub(4) as u64);
            // The peer's port is closed: it has what it wanted, or died. The timeout tells.
            match socket.send(&packet).await {
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                    return Err(error);
                }
                _ => {}
            }
        }
        let deadline = tokio::time::Instant::from_std(transfer.deadline());
        let step = match tokio::time::timeout_at(deadline, socket.recv(&mut buffer)).await {
            Ok(Ok(len)) => transfer.on_datagram(Instant::now(), &buffer[..len], &mut out),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok((Ended::TimedOut, transfer.retransmits()));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => transfer.on_timeout(Instant::now(), &mut out),
        };
        if let Step::Ended(ended) = step {
            return Ok((ended, transfer.retransmits()));
        }
    }
}
