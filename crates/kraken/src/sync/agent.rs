//! The node's side: an application with only itself as node, in touch with its parent.

use super::link::{BURST, DATAGRAM_ROOM, JOIN_WITHIN};
use super::{random, stream};
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::module::{Context, Module, Order};
use crate::runtime::{Kraken, KrakenError, Options, Tasks};
use crate::tls::{KeyPin, client_config};
use crate::turn::CfgChange;
use async_trait::async_trait;
use kraken_engine::{Failure, Role, Settings, without_permissions};
use kraken_model::{Change, Document, NodeId, Patch, Path, Registry};
use kraken_plan::ModuleSet;
use kraken_store::{Bounds, Memory};
use kraken_sync::{
    Child, ChildInput, ChildOutput, JOIN_VERSION, JoinReply, JoinRequest, KeyRole, Proof,
    Revisions, Secret, SessionKeys, Welcome,
};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// The first pause after a join that failed; it doubles with every further one.
const RETRY: Duration = Duration::from_millis(500);

/// The longest pause between two joins.
pub(super) const RETRY_CAP: Duration = Duration::from_secs(15);

/// How long a node that left waits for its power to go before it comes back.
const REST: Duration = Duration::from_secs(60);

/// How much a node remembers of what happened on it: it lies in memory, and the parent has a journal.
const JOURNAL: Bounds =
    Bounds { records: 10_000, bytes: 4 << 20, age: Duration::from_secs(86_400) };

/// A line that something on the node printed.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// What printed it.
    pub stream: Arc<str>,
    /// The line, without its end.
    pub line: String,
}

/// What an agent needs to know.
pub struct AgentOptions {
    /// The node.
    pub node: NodeId,
    /// This boot of it.
    pub boot_id: String,
    /// Where to join, in order of preference.
    pub parents: Vec<SocketAddr>,
    /// The key by which the parent is known.
    pub pin: KeyPin,
    /// The token of this boot.
    pub token: Secret,
    /// Where the secret is kept with which the same boot joins again; in memory only, as it is
    /// worth nothing after the boot.
    pub resume: PathBuf,
    /// What may stand in a document.
    pub registry: Arc<Registry>,
    /// What the modules can do, here and on the parent: both plan with the same.
    pub modules: Arc<ModuleSet>,
    /// The modules that run here.
    pub hosted: Vec<Arc<dyn Module>>,
    /// What is known of a node that has joined.
    pub joined: Vec<Change>,
    /// What is known of a node that has left.
    pub left: Vec<Change>,
    /// Which values this node speaks of to its parent.
    pub node_owns: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    /// Where in its cfg the parent says which disruptive step this node may take
    /// ([`permitted`](crate::permitted)); `None`: it takes them as it sees fit.
    pub permitted_under: Option<Path>,
    /// What is printed on this node.
    pub logs: mpsc::Receiver<LogLine>,
}

/// An agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The engine cannot start.
    #[error(transparent)]
    Kraken(#[from] KrakenError),
    /// TLS cannot be had.
    #[error("cannot speak TLS")]
    Tls(#[source] rustls::Error),
}

/// Why a join did not succeed; the next one may.
#[derive(Debug, thiserror::Error)]
enum JoinFailure {
    #[error("cannot reach {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("{0} took too long")]
    TooSlow(SocketAddr),
    #[error("the parent's key is not the one that the boot named, or TLS failed")]
    Tls(#[source] io::Error),
    #[error(transparent)]
    Stream(#[from] stream::StreamError),
    #[error("the parent says: {0}")]
    Refused(String),
    #[error("cannot open a socket")]
    Socket(#[source] io::Error),
}

/// A node's agent: keeps it in touch with its parent, and as its cfg says even when the parent is
/// away.
pub struct Agent {
    kraken: Kraken,
    tasks: Tasks,
    node: NodeId,
    caller: Arc<Caller>,
    joined: Vec<Change>,
    left: Vec<Change>,
    owns: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    permitted_under: Option<Path>,
    logs: mpsc::Receiver<LogLine>,
    leave: mpsc::Receiver<()>,
    clock: Clock,
    child: Child,
    outputs: Vec<ChildOutput>,
}

/// Who calls the parent.
struct Caller {
    node: NodeId,
    boot_id: String,
    parents: Vec<SocketAddr>,
    connector: TlsConnector,
    token: Secret,
    resume: PathBuf,
}

/// A parent that let us in.
struct Joined {
    socket: UdpSocket,
    keys: SessionKeys,
    welcome: Welcome,
}

enum Link {
    Joining(JoinHandle<Joined>),
    Linked(UdpSocket),
    Resting(tokio::time::Instant),
}

/// What the link brought.
enum News {
    Joined(Box<Joined>),
    Datagrams,
    Rested,
}

/// The sync module of a node: `sync.leave` is done when the parent knows.
struct SyncNode {
    leave: mpsc::Sender<()>,
}

#[async_trait]
impl Module for SyncNode {
    fn name(&self) -> &str {
        super::MODULE
    }

    async fn take(&self, order: &Order, _context: &Context) -> Result<(), Failure> {
        match order.mutation.as_ref() {
            "sync.leave" | "sync.abandon" => {
                // One wish to leave is enough.
                let _ = self.leave.try_send(());
                Ok(())
            }
            other => {
                let reason = format!("the sync module of a node does not know {other}");
                Err(Failure { reason, permanent: true })
            }
        }
    }
}

impl Agent {
    /// Starts the engine of this node; [`Agent::run`] then joins.
    ///
    /// # Errors
    /// When TLS cannot be had.
    pub async fn start(options: AgentOptions) -> Result<Self, AgentError> {
        let connector = TlsConnector::from(client_config(options.pin).map_err(AgentError::Tls)?);
        let (leave_sender, leave) = mpsc::channel(1);
        let mut hosted = options.hosted;
        hosted.push(Arc::new(SyncNode { leave: leave_sender }));
        let (kraken, tasks) = Kraken::start(Options {
            registry: options.registry,
            modules: options.modules,
            hosted,
            // Everything here can be had again: cfg from the parent, dsc by looking.
            keeper: Keeper::new(Box::new(Memory::default())).bounded(JOURNAL),
            settings: Settings {
                role: Role::Node,
                permitted_under: options.permitted_under.clone(),
                ..Settings::default()
            },
        })
        .await?;
        let caller = Caller {
            node: options.node.clone(),
            boot_id: options.boot_id,
            parents: options.parents,
            connector,
            token: options.token,
            resume: options.resume,
        };
        Ok(Self {
            kraken,
            tasks,
            node: options.node,
            caller: Arc::new(caller),
            joined: options.joined,
            left: options.left,
            owns: options.node_owns,
            permitted_under: options.permitted_under,
            logs: options.logs,
            leave,
            clock: Clock::start(),
            child: Child::new(u64::from_le_bytes(random())),
            outputs: Vec::new(),
        })
    }

    /// The engine of this node, for those that report what they find.
    #[must_use]
    pub fn kraken(&self) -> &Kraken {
        &self.kraken
    }

    /// Keeps in touch until `stop`; then says good-bye, as far as the parent listens.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut subscription = self.kraken.views().subscribe();
        let mut link = self.call(Revisions::default());
        let mut ending = false;
        loop {
            let wake = self.child.next_deadline().map(|at| self.clock.instant(at));
            // Every arm is cancel-safe: nothing is taken that is not handled.
            tokio::select! {
                news = link.news() => match news {
                    News::Joined(joined) => link = self.joined(*joined).await,
                    News::Datagrams => self.receive(&link),
                    News::Rested => link = self.call(self.child.held()),
                },
                changed = subscription.changed() => {
                    for (_, view) in changed {
                        let document = self.said(&view.unwrap_or_default().dsc);
                        self.step(ChildInput::Dsc { document });
                    }
                }
                Some(line) = self.logs.recv() => {
                    self.step(ChildInput::Log { stream: &line.stream, line: &line.line });
                }
                Some(()) = self.leave.recv() => self.step(ChildInput::Leave),
                () = stop.cancelled(), if !ending => {
                    ending = true;
                    if !self.child.is_joined() {
                        break;
                    }
                    self.step(ChildInput::Leave);
                }
                () = crate::turn::sleep_until(wake) => self.step(ChildInput::Tick),
            }
            if let Some(next) = self.carry_out(&link).await {
                if ending {
                    break;
                }
                link = next;
            }
        }
        self.kraken.stop();
        let Self { kraken, tasks, .. } = self;
        drop(kraken);
        tasks.ended().await;
    }

    /// What this node says of itself: not what it was told by its parent.
    fn said(&self, dsc: &Document) -> Document {
        let mut said = Document::new();
        for (path, value) in dsc.iter().filter(|(path, _)| (self.owns)(path)) {
            said.set(path.clone(), value.clone());
        }
        said
    }

    fn step(&mut self, input: ChildInput<'_>) {
        self.child.step(self.clock.now(), input, &mut self.outputs);
    }

    fn receive(&mut self, link: &Link) {
        let Link::Linked(socket) = link else { return };
        let mut room = [0; DATAGRAM_ROOM];
        for _ in 0..BURST {
            // An error is an ICMP message of something that was sent: silence is judged otherwise.
            let Ok(length) = socket.try_recv(&mut room) else { return };
            self.child.step(
                self.clock.now(),
                ChildInput::Datagram { bytes: &mut room[..length] },
                &mut self.outputs,
            );
        }
    }

    fn call(&self, held: Revisions) -> Link {
        Link::Joining(tokio::spawn(Arc::clone(&self.caller).until_joined(held)))
    }

    async fn joined(&mut self, joined: Joined) -> Link {
        let Joined { socket, keys, welcome } = joined;
        self.child.joined(self.clock.now(), keys, &welcome, &mut self.outputs);
        self.configure(Patch::Replace(welcome.cfg), "parent").await;
        // Told at once with what makes it known, so that nobody has to ask for it.
        let mut joined = self.joined.clone();
        joined.extend(self.kraken.services(&self.node));
        self.report(joined).await;
        Link::Linked(socket)
    }

    async fn configure(&self, patch: Patch, by: &str) {
        let change = CfgChange::of(vec![(self.node.clone(), patch)]);
        if let Err(error) = self.kraken.change(change, by).await {
            tracing::error!(%error, "what the parent wants cannot be taken");
        }
    }

    /// Out of touch with its parent, a node takes no disruptive step that it was permitted before: that may be
    /// taken back meanwhile. What it has begun it ends.
    async fn lapse(&self) {
        if let Some(under) = &self.permitted_under {
            self.configure(without_permissions(under), "agent").await;
        }
    }

    async fn report(&self, changes: Vec<Change>) {
        if let Err(error) = self.kraken.discover(&self.node, changes, "agent").await {
            tracing::error!(%error, "cannot report");
        }
    }

    /// Does what the session wants; gives the next link when this one is over.
    async fn carry_out(&mut self, link: &Link) -> Option<Link> {
        let mut next = None;
        for output in std::mem::take(&mut self.outputs) {
            match output {
                ChildOutput::Send { bytes } => {
                    if let Link::Linked(socket) = link {
                        // What cannot be sent now is lost, and repaired like whatever is lost.
                        let _ = socket.try_send(&bytes);
                    }
                }
                ChildOutput::Cfg { document, .. } => {
                    self.configure(Patch::Replace(document), "parent").await;
                }
                over @ (ChildOutput::ParentSilent { .. } | ChildOutput::KeysSpent) => {
                    tracing::warn!(?over, "the session is over; joining again");
                    self.lapse().await;
                    next = Some(self.call(self.child.held()));
                }
                ChildOutput::DscTooLarge { bytes } => {
                    tracing::error!(bytes, "there is too much to say of this node");
                }
                ChildOutput::Left { acknowledged } => {
                    tracing::info!(acknowledged, "left");
                    self.lapse().await;
                    self.report(self.left.clone()).await;
                    next = Some(Link::Resting(tokio::time::Instant::now() + REST));
                }
            }
        }
        next
    }
}

impl Link {
    /// Waits for what the link brings. Cancel-safe: a join goes on in its own task.
    async fn news(&mut self) -> News {
        match self {
            Self::Joining(task) => match task.await {
                Ok(joined) => News::Joined(Box::new(joined)),
                Err(error) => {
                    tracing::error!(%error, "joining broke off");
                    News::Rested
                }
            },
            Self::Linked(socket) => match socket.readable().await {
                Ok(()) => News::Datagrams,
                Err(_) => std::future::pending().await,
            },
            Self::Resting(until) => {
                tokio::time::sleep_until(*until).await;
                News::Rested
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Self::Joining(task) = self {
            task.abort();
        }
    }
}

impl Caller {
    /// Calls one parent after the other, for ever, until one lets us in.
    async fn until_joined(self: Arc<Self>, held: Revisions) -> Joined {
        let mut pause = RETRY;
        loop {
            for parent in &self.parents {
                for proof in self.proofs() {
                    let kind = if matches!(proof, Proof::Token(_)) { "token" } else { "resume" };
                    match self.join(*parent, proof, held).await {
                        Ok(joined) => return joined,
                        Err(error) => {
                            let source = std::error::Error::source(&error);
                            let source = source.map(ToString::to_string);
                            tracing::warn!(%parent, kind, %error, source, "cannot join");
                        }
                    }
                }
            }
            // Half fixed, half random: a thousand nodes must not come back in step.
            let share = f64::from(u16::from_le_bytes(random())) / f64::from(u16::MAX);
            tokio::time::sleep(pause.mul_f64(0.5 + share / 2.0)).await;
            pause = (pause * 2).min(RETRY_CAP);
        }
    }

    /// What can be shown: the secret of this boot, when it has joined before, else its token.
    fn proofs(&self) -> Vec<Proof> {
        let kept = std::fs::read_to_string(&self.resume).ok();
        let resume = kept.and_then(|text| Secret::from_hex(text.trim()).ok());
        match resume {
            Some(secret) => vec![Proof::Resume(secret)],
            None => vec![Proof::Token(self.token.clone())],
        }
    }

    async fn join(
        &self,
        parent: SocketAddr,
        proof: Proof,
        held: Revisions,
    ) -> Result<Joined, JoinFailure> {
        let joining = self.ask(parent, proof, held);
        let (secret, welcome) = tokio::time::timeout(JOIN_WITHIN, joining)
            .await
            .map_err(|_| JoinFailure::TooSlow(parent))??;
        self.keep(&welcome.resume).map_err(JoinFailure::Socket)?;
        let any: SocketAddr = match parent {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(JoinFailure::Socket)?;
        socket.connect(parent).await.map_err(JoinFailure::Socket)?;
        let keys = SessionKeys::derive(&secret, KeyRole::Child);
        Ok(Joined { socket, keys, welcome })
    }

    async fn ask(
        &self,
        parent: SocketAddr,
        proof: Proof,
        held: Revisions,
    ) -> Result<([u8; 32], Welcome), JoinFailure> {
        let stream =
            TcpStream::connect(parent).await.map_err(|e| JoinFailure::Connect(parent, e))?;
        // The key is pinned; the name only has to be one.
        let name = ServerName::from(parent.ip());
        let connecting = self.connector.connect(name, stream);
        let mut tls = connecting.await.map_err(JoinFailure::Tls)?;
        let (node, boot_id) = (self.node.clone(), self.boot_id.clone());
        let request = JoinRequest { version: JOIN_VERSION, node, boot_id, proof, held };
        stream::send(&mut tls, request.encode()).await?;
        let reply = stream::read_reply(&mut tls).await?;
        let secret = stream::secret(tls.get_ref().1)?;
        // Whether the parent hears that we are content makes no difference.
        let _ = tls.shutdown().await;
        match reply {
            JoinReply::Welcome(welcome) => Ok((secret, *welcome)),
            JoinReply::Refused { reason } => Err(JoinFailure::Refused(reason)),
        }
    }

    /// Keeps the secret for the next join: written beside, then moved, so that there is always a
    /// whole one.
    fn keep(&self, secret: &Secret) -> io::Result<()> {
        use std::io::Write;
        let beside = self.resume.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(secret.to_hex().as_bytes())?;
        std::fs::rename(beside, &self.resume)
    }
}
