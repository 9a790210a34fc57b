//! Sockets for TFTP: one for requests, and one of its own for every transfer.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::UdpSocket,
    sync::Notify,
    task::{self, AbortHandle, JoinSet},
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
    /// The transfers under way.
    active: HashMap<task::Id, Active>,
}

/// A transfer under way, as the port of requests knows it.
struct Active {
    peer: SocketAddrV4,
    task: AbortHandle,
    started: Instant,
    shared: Arc<Shared>,
    /// Its peer has sent another request since.
    superseded: bool,
}

/// What a transfer and the port of requests tell each other.
#[derive(Default)]
struct Shared {
    /// The peer has sent another request.
    superseded: Notify,
    /// The peer has acknowledged something.
    answered: AtomicBool,
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
    let mut transfers: JoinSet<()> = JoinSet::new();
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
            Some(ended) = transfers.join_next_with_id() => match ended {
                Ok((id, ())) => { server.active.remove(&id); }
                Err(error) => {
                    if !error.is_cancelled() {
                        tracing::error!(%error, "a TFTP transfer broke off");
                    }
                    server.active.remove(&error.id());
                }
            },
        }
    }
}

impl Server {
    async fn on_request(&mut self, bytes: &[u8], peer: SocketAddrV4, transfers: &mut JoinSet<()>) {
        self.reporter.add(|c| &c.tftp_requests, 1);
        match self.admit(bytes, peer) {
            Ok((request, served)) => {
                let (config, reporter) = (self.config.clone(), self.reporter.clone());
                let shared = Arc::<Shared>::default();
                let shares = shared.clone();
                let work = Work { peer, request, served, shared: shares };
                let task = transfers.spawn(async move {
                    if let Err(error) = transfer(&config, work, &reporter).await {
                        tracing::warn!(%peer, %error, "TFTP transfer failed");
                    }
                });
                let started = Instant::now();
                let active = Active { peer, started, shared, superseded: false, task };
                self.active.insert(active.task.id(), active);
            }
            Err(refusal) => {
                let Refusal { code, reason, event } = refusal;
                // The reply may be lost or unwanted; the client asks again or goes away.
                let _ = self.socket.send_to(&packet::error(code, &reason), peer).await;
                if let Some(event) = event {
                    self.reporter.report(Instant::now(), event);
                }
            }
        }
    }

    fn admit(
        &mut self,
        bytes: &[u8],
        peer: SocketAddrV4,
    ) -> Result<(ReadRequest, Served), Refusal> {
        let refuse = |code, reason| Refusal::new(*peer.ip(), code, reason);
        let request = ReadRequest::parse(bytes).map_err(|e| refuse(e.code(), e.to_string()))?;
        let path = normalize(&request.filename)
            .map_err(|e| refuse(ErrorCode::AccessViolation, e.to_string()))?;
        self.supersede(peer);
        if !self.has_room_for(*peer.ip()) {
            let reason = "too many transfers at a time; try again";
            return Err(refuse(ErrorCode::Full, reason.to_owned()));
        }
        let served = self.files.lookup(*peer.ip(), &path).map_err(|not| match not {
            NotServed::NotFound(reason) => refuse(ErrorCode::NotFound, reason),
            NotServed::Denied(reason) => refuse(ErrorCode::AccessViolation, reason),
            NotServed::Stuck(reason, event) => {
                Refusal { code: ErrorCode::AccessViolation, reason, event: Some(event) }
            }
            NotServed::Optional => {
                let reason = not.to_string();
                Refusal { code: ErrorCode::NotFound, reason, event: None }
            }
        })?;
        Ok((request, served))
    }

    /// A client that asks again from the same port does not wait for what it asked before.
    fn supersede(&mut self, peer: SocketAddrV4) {
        for active in self.active.values_mut().filter(|active| active.peer == peer) {
            if active.superseded {
                active.task.abort();
            } else {
                active.superseded = true;
                active.shared.superseded.notify_one();
            }
        }
    }

    /// Whether there is room for one more transfer to this client. Where its places are taken, one that
    /// it never answered goes: firmware that asks for the size of a file, or gives a request up, does not
    /// always say so, and comes back from another port.
    fn has_room_for(&mut self, client: Ipv4Addr) -> bool {
        let own = |active: &&Active| *active.peer.ip() == client && !active.superseded;
        if self.active.values().filter(own).count() >= MAX_TRANSFERS_PER_CLIENT {
            let unanswered = |active: &&Active| !active.shared.answered.load(Ordering::Relaxed);
            let oldest =
                self.active.values().filter(own).filter(unanswered).min_by_key(|a| a.started);
            let Some(id) = oldest.map(|oldest| oldest.task.id()) else { return false };
            if let Some(oldest) = self.active.remove(&id) {
                oldest.task.abort();
            }
        }
        self.active.len() < MAX_TRANSFERS
    }
}

/// A request that is not served.
struct Refusal {
    code: ErrorCode,
    reason: String,
    /// What is told of it, if anything is.
    event: Option<BootEvent>,
}

impl Refusal {
    fn new(client: Ipv4Addr, code: ErrorCode, reason: String) -> Self {
        let (service, source) = (Service::Tftp, IpAddr::V4(client));
        let event = BootEvent::Refused { service, node: None, source, reason: reason.clone() };
        Self { code, reason, event: Some(event) }
    }
}

/// What one transfer is to do.
struct Work {
    peer: SocketAddrV4,
    request: ReadRequest,
    served: Served,
    shared: Arc<Shared>,
}

/// The largest block that reaches the peer unfragmented, as far as the kernel knows the path.
fn max_block_bytes(socket: &UdpSocket, configured: u16) -> u16 {
    let of_path = rustix::net::sockopt::ip_mtu(socket)
        .ok()
        .and_then(|mtu| u16::try_from(mtu.saturating_sub(HEADER_BYTES)).ok());
    of_path.unwrap_or(configured).min(configured).max(super::DEFAULT_BLOCK_BYTES)
}

async fn transfer(config: &TftpConfig, work: Work, reporter: &Reporter) -> io::Result<()> {
    let Work { peer, request, served, shared } = work;
    // Connected: the kernel drops what others send to this port (RFC 1350 section 4, wrong TID).
    let socket = socket::connect_udp(config.address, config.iface.as_ref(), peer)?;
    let limits = Limits {
        max_block_bytes: max_block_bytes(&socket, config.max_block_bytes),
        retransmit_after: config.retransmit_after,
    };
    let Served { bytes, event, what } = served;
    let len = bytes.len();
    let mut out = Vec::new();
    let mut transfer = Transfer::start(Instant::now(), &request, bytes, limits, &mut out);
    let ended = run(&socket, &mut transfer, out, &shared, reporter).await?;
    reporter.add(|c| &c.tftp_retransmits, transfer.retransmits());
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
        Ended::TimedOut => {
            reporter.add(|c| &c.tftp_timed_out, 1);
            let got = transfer.acknowledged_bytes();
            if let Some((host, name)) = what.filter(|_| got > 0) {
                let reason = format!("it fell silent after {got} of {len} bytes of {name} by TFTP");
                reporter.report(Instant::now(), BootEvent::stuck(&host, Service::Tftp, reason));
            }
        }
        Ended::Superseded => reporter.add(|c| &c.tftp_superseded, 1),
    }
    Ok(())
}

async fn run(
    socket: &UdpSocket,
    transfer: &mut Transfer,
    mut out: Vec<Vec<u8>>,
    shared: &Shared,
    reporter: &Reporter,
) -> io::Result<Ended> {
    let mut buffer = [0; PEER_DATAGRAM_BYTES];
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
        // Both arms are cancel-safe: what one would have returned it returns the next time.
        let received = tokio::select! {
            received = tokio::time::timeout_at(deadline, socket.recv(&mut buffer)) => received,
            () = shared.superseded.notified() => {
                transfer.supersede();
                continue;
            }
        };
        let step = match received {
            Ok(Ok(len)) => transfer.on_datagram(Instant::now(), &buffer[..len], &mut out),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(Ended::TimedOut);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => transfer.on_timeout(Instant::now(), &mut out),
        };
        if let Step::Ended(ended) = step {
            return Ok(ended);
        }
        shared.answered.store(transfer.is_answered(), Ordering::Relaxed);
    }
}
