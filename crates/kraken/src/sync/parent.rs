//! The parent's side: the sessions of all nodes, and what their comings and goings mean.

use super::datagrams::{Arrivals, Departures, make_room};
use super::listener::{Admission, Doorman};
use super::random;
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::module::{Context, Module, Order};
use crate::tls::{Identity, IdentityError, KeyPin};
use crate::views::View;
use async_trait::async_trait;
use kraken_engine::Failure;
use kraken_model::{Change, Document, Millis, NodeId, Path};
use kraken_plan::Effect;
use kraken_store::StoreError;
use kraken_sync::{Parent, ParentInput, ParentOutput, ParentSettings, Secret, Silence, TokenBook};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// How often it is looked whether nodes that the engine lost track of are heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a token may wait for its machine: longer than any firmware takes.
const TOKEN_VALID: Duration = Duration::from_secs(3600);

/// How much longer than the least a neighbour's silence may be, on a path that loses a lot.
const PATIENCE: u64 = 8;

/// After how many hellos without an answer, at the least, a node joins again.
const REJOIN_AFTER_HELLOS: u32 = 5;

/// After how many, on a path that loses a lot.
const MOST_HELLOS: u32 = 12;

/// The address of what is known of a node's Layer 0.
const RUN_STATE: &str = "run_state";

/// Takes a line that a node printed: node, stream, line.
pub type OnLog = Arc<dyn Fn(&NodeId, &str, &str) + Send + Sync>;

/// What a node is told to be, from what is wanted and known of it: what its own program understands,
/// and what only the parent can tell it. A node that is held or in use is told too, so that it says what is
/// different on it: what it then may not do has to be in what it is told.
pub type ToldCfg = Arc<dyn Fn(&View) -> Document + Send + Sync>;

/// How a parent is in touch with its nodes.
#[derive(Clone)]
pub struct SyncOptions {
    /// Where nodes join (TCP) and are heard (UDP).
    pub address: SocketAddr,
    /// How often nodes say hello.
    pub hello: Duration,
    /// After which silence, at the least, a node counts as silent.
    pub silent: Duration,
    /// How long after a start nodes that were in touch before may take to come back: those that
    /// have not by then count as silent. See [`SyncOptions::time_to_return`].
    pub return_within: Duration,
    /// Which values a node may speak of. Anything else that it says is not taken.
    pub node_owns: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    /// What was concluded from a node's silence and is disproved when it is heard for the first
    /// time: that it hangs, for one. Each from what to what.
    pub disproved: Vec<Effect>,
    /// What a node is told to be. Asked again whenever something is known anew of it.
    pub told: ToldCfg,
    /// Takes what nodes print: node, stream, line.
    pub on_log: OnLog,
}

impl SyncOptions {
    /// How long nodes may take to come back to a parent that was started again: to notice its
    /// silence, to make the longest pause between two attempts to join, and to join.
    #[must_use]
    pub fn time_to_return(hello: Duration, silent: Duration) -> Duration {
        let patience = silent.max(hello * MOST_HELLOS);
        patience + super::agent::RETRY_CAP + super::link::JOIN_WITHIN * 2
    }
}

/// Nodes cannot join.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A port cannot be had.
    #[error("cannot listen on {address} for nodes; is another server running?")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The parent's key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Tokens cannot be kept.
    #[error("cannot keep the tokens of nodes")]
    Keep(#[source] StoreError),
}

/// The sync module of a parent: `sync.join` is done when a node is heard.
pub struct SyncParent {
    options: SyncOptions,
    pin: KeyPin,
    socket: UdpSocket,
    doorman: Arc<Doorman>,
    admissions: tokio::sync::Mutex<mpsc::Receiver<Admission>>,
    counters: Mutex<serde_json::Value>,
    clock: Clock,
}

impl SyncParent {
    /// Opens the ports and reads the tokens that were kept.
    ///
    /// # Errors
    /// When a port cannot be had or the tokens cannot be read.
    pub async fn bind(
        options: SyncOptions,
        identity: &Identity,
        keeper: Keeper,
    ) -> Result<Arc<Self>, SyncError> {
        let clock = Clock::start();
        let (sender, admissions) = mpsc::channel(64);
        let doorman = Doorman::open(options.address, identity, keeper, sender, clock).await?;
        // The same port, where the system chose it.
        let address = doorman.address();
        let socket =
            UdpSocket::bind(address).await.map_err(|source| SyncError::Bind { address, source })?;
        make_room(&socket);
        Ok(Arc::new(Self {
            options,
            pin: identity.pin()?,
            socket,
            doorman,
            admissions: tokio::sync::Mutex::new(admissions),
            counters: Mutex::default(),
            clock,
        }))
    }

    /// Where nodes join and are heard.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.doorman.address()
    }

    /// The pin by which nodes know this parent.
    #[must_use]
    pub fn pin(&self) -> KeyPin {
        self.pin
    }

    /// What was counted: datagrams, joins, refusals.
    #[must_use]
    pub fn counters(&self) -> serde_json::Value {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let serde_json::Value::Object(map) = &mut counters {
            map.insert("joins".to_owned(), self.doorman.counters());
        }
        counters
    }

    /// Makes the token for the next boot of a node, and expects that boot: its name and its token.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn mint(&self, node: &NodeId) -> Result<(String, Secret), SyncError> {
        let boot_id = hex::encode(random::<8>());
        let now = self.clock.now();
        let token = self
            .doorman
            .book(|book| {
                book.expect(node, &boot_id);
                book.mint(now, node, &boot_id, random(), TOKEN_VALID)
            })
            .await
            .map_err(SyncError::Keep)?;
        Ok((boot_id, token))
    }

    /// Lets nobody in any more who was let in as one of these nodes.
    async fn revoke(&self, nodes: &[NodeId]) {
        let revoke = |book: &mut TokenBook| nodes.iter().for_each(|node| book.revoke(node));
        if let Err(error) = self.doorman.book(revoke).await {
            tracing::warn!(?nodes, %error, "cannot keep that nodes were removed");
        }
    }

    /// Forgets the tokens of nodes that there are not, and that nobody remembers.
    async fn forget_strangers(&self, context: &Context) {
        let views = context.views();
        let is_strange = |node: &&NodeId| !views.contains(node) && !views.may_return(node);
        let list = |book: &mut TokenBook| book.nodes().filter(is_strange).cloned().collect();
        let strangers: Vec<NodeId> = self.doorman.book(list).await.unwrap_or_default();
        if !strangers.is_empty() {
            self.revoke(&strangers).await;
        }
    }

    /// Expects no boot of a node any more: its token lets nobody in.
    pub async fn withdraw(&self, node: &NodeId) {
        if let Err(error) = self.doorman.book(|book| book.unexpect(node)).await {
            tracing::warn!(%node, %error, "cannot keep that a token was withdrawn");
        }
    }
}

#[async_trait]
impl Module for SyncParent {
    fn name(&self) -> &str {
        super::MODULE
    }

    /// What nodes say of themselves comes through here, and what being heard disproves.
    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == RUN_STATE
            || (self.options.node_owns)(path)
            || self.options.disproved.iter().any(|effect| effect.variable == *path)
    }

    async fn run(&self, context: Context) {
        self.forget_strangers(&context).await;
        let mut desk = Desk::new(self, context.clone());
        let (views, stop) = (Arc::clone(&context.views), context.stop.clone());
        let door = Arc::clone(&self.doorman).serve(views, stop);
        tokio::join!(door, desk.serve());
    }

    async fn take(&self, order: &Order, _context: &Context) -> Result<(), Failure> {
        match order.mutation.as_ref() {
            // The node comes by itself; that it has come is heard.
            "sync.join" => Ok(()),
            other => {
                let reason = format!("the sync module of a parent does not know {other}");
                Err(Failure { reason, permanent: true })
            }
        }
    }
}

/// What a running parent knows of its nodes.
struct Desk<'a> {
    sync: &'a SyncParent,
    context: Context,
    parent: Parent,
    outputs: Vec<ParentOutput>,
    arrivals: Arrivals,
    departures: Departures,
    /// What every node last said of itself. When the engine forgets it, because the node was not
    /// heard for a while, it is told again: the node has no reason to repeat it.
    said: HashMap<NodeId, Document>,
    /// Of whom `said` is not yet in the memory of what is known of them.
    unshared: HashSet<NodeId>,
    /// Nodes with a session that the engine does not know to be in touch, and since when.
    unsure: HashMap<NodeId, Millis>,
    /// When nodes that were in touch before this start, and have not come back, count as silent.
    adopt_until: Option<Millis>,
}

impl<'a> Desk<'a> {
    fn new(sync: &'a SyncParent, context: Context) -> Self {
        let options = &sync.options;
        let silence = silence(options.silent);
        let hello_ms = u64::try_from(options.hello.as_millis()).unwrap_or(u64::MAX);
        let settings = ParentSettings { hello_ms, silence, ..ParentSettings::default() };
        Self {
            sync,
            context,
            parent: Parent::new(settings),
            outputs: Vec::new(),
            arrivals: Arrivals::new(),
            departures: Departures::default(),
            said: HashMap::new(),
            unshared: HashSet::new(),
            unsure: HashMap::new(),
            adopt_until: Some(sync.clock.now().plus(options.return_within)),
        }
    }

    async fn serve(&mut self) {
        let mut subscription = self.context.subscribe();
        let mut admissions = self.sync.admissions.lock().await;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let wake = self.parent.next_deadline().map(|at| self.sync.clock.instant(at));
            // Every arm is cancel-safe: nothing is taken that is not handled.
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                // While answers wait for room no further ones are made: what is not taken waits in
                // the kernel.
                ready = self.sync.socket.readable(), if self.departures.is_empty() => {
                    if ready.is_ok() {
                        self.receive();
                    }
                }
                // What follows in any case sends what waits.
                _ = self.sync.socket.writable(), if !self.departures.is_empty() => {}
                Some(admission) = admissions.recv() => self.admit(admission),
                changed = subscription.changed() => self.changed(changed).await,
                _ = look.tick() => self.look().await,
                () = crate::turn::sleep_until(wake) => self.step(ParentInput::Tick),
            }
            self.carry_out().await;
        }
    }

    fn step(&mut self, input: ParentInput<'_>) {
        self.parent.step(self.sync.clock.now(), input, &mut self.outputs);
    }

    /// Takes what has come, a batch at most.
    fn receive(&mut self) {
        let Self { sync, parent, arrivals, outputs, .. } = self;
        arrivals.take(&sync.socket);
        let now = sync.clock.now();
        for (from, bytes) in arrivals.each() {
            parent.step(now, ParentInput::Datagram { from, bytes }, outputs);
        }
    }

    fn admit(&mut self, admission: Admission) {
        let Admission { node, keys, resume, reply } = admission;
        // A new session says everything anew; what an earlier boot said is no longer so.
        self.said.remove(&node);
        let welcome = self.context.views().get(&node).map(|view| {
            let cfg = (self.sync.options.told)(&view);
            let mut welcome = self.parent.admit(self.sync.clock.now(), &node, keys, cfg, resume);
            // A node that joins once too often costs a handshake; one that is given up too early
            // costs its work. So the node is the first to lose patience.
            welcome.silence = silence(self.sync.options.hello * REJOIN_AFTER_HELLOS);
            welcome
        });
        // The node may have given up.
        let _ = reply.send(welcome);
    }

    async fn changed(&mut self, changed: Vec<(NodeId, Option<View>)>) {
        let now = self.sync.clock.now();
        for (node, view) in changed {
            let Some(view) = view else {
                self.said.remove(&node);
                self.unsure.remove(&node);
                self.unshared.remove(&node);
                self.step(ParentInput::Remove { node: node.clone() });
                // One that may come back joins again with what it has.
                if !self.context.views().may_return(&node) {
                    self.sync.revoke(&[node]).await;
                }
                continue;
            };
            if view.dsc.text(RUN_STATE) == Some("SYNC") {
                self.unsure.remove(&node);
            } else if self.parent.child(&node).is_some_and(|child| child.heard) {
                self.unsure.entry(node.clone()).or_insert(now);
            }
            if self.unshared.remove(&node)
                && let Some(said) = self.said.get_mut(&node)
            {
                said.share_values(&view.dsc);
            }
            let document = (self.sync.options.told)(&view);
            self.step(ParentInput::Cfg { node, document });
        }
    }

    /// Tells the engine of nodes that it lost track of and that were heard since; and, once, of
    /// those that were in touch before the start and did not come back.
    async fn look(&mut self) {
        let heard_since: Vec<NodeId> = self
            .unsure
            .iter()
            .filter(|(node, since)| {
                self.parent.child(node).is_some_and(|c| c.heard && c.last_heard > **since)
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in heard_since {
            self.unsure.remove(&node);
            // Also what was concluded before it was in the engine's sight is disproved.
            self.heard(&node).await;
        }
        let now = self.sync.clock.now();
        if self.adopt_until.is_some_and(|until| until <= now) {
            self.adopt_until = None;
            for (node, view) in self.context.views().all() {
                if self.parent.child(&node).is_some_and(|child| child.heard) {
                    continue;
                }
                // That the others are not in touch is known now, not only remembered.
                match view.dsc.text(RUN_STATE) {
                    Some("SYNC") => self.say(&node, vec![state("ERROR")]).await,
                    Some(other) => self.say(&node, vec![state(other)]).await,
                    None => {}
                }
            }
        }
        let counters = serde_json::to_value(self.parent.counters()).unwrap_or_default();
        *self.sync.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    async fn carry_out(&mut self) {
        let mut others = Vec::new();
        for output in self.outputs.drain(..) {
            match output {
                ParentOutput::Send { to, bytes } => self.departures.push(to, bytes),
                other => others.push(other),
            }
        }
        // Nobody waits for an answer until the engine has time.
        self.departures.send(&self.sync.socket);
        // That a node is heard comes first: what it says can be known only then.
        others.sort_by_key(|output| !matches!(output, ParentOutput::Heard { .. }));
        for output in others {
            self.carry_out_one(output).await;
        }
    }

    async fn carry_out_one(&mut self, output: ParentOutput) {
        match output {
            ParentOutput::Send { to, bytes } => self.departures.push(to, bytes),
            ParentOutput::Heard { node } => self.heard(&node).await,
            ParentOutput::Discovered { node, changes, whole } => {
                self.discovered(node, changes, whole).await;
            }
            ParentOutput::Silent { node, .. } => self.say(&node, vec![state("ERROR")]).await,
            ParentOutput::Left { node } => self.say(&node, vec![state("INIT")]).await,
            ParentOutput::Log { node, stream, lines } => {
                for line in lines {
                    (self.sync.options.on_log)(&node, &stream, &line);
                }
            }
            ParentOutput::LogLost { node, lines } => {
                let text = format!("{lines} lines were lost: the node printed faster than it sent");
                (self.sync.options.on_log)(&node, "log", &text);
            }
            ParentOutput::CfgTooLarge { node, bytes } => {
                tracing::error!(%node, bytes, "the cfg is too large for a node; it keeps its old one");
            }
            ParentOutput::Refused { from, why } => tracing::debug!(%from, %why, "datagram refused"),
        }
    }

    /// A node is heard for the first time, or again after its silence.
    async fn heard(&mut self, node: &NodeId) {
        let dsc = self.context.views().get(node).map(|view| view.dsc).unwrap_or_default();
        let disproved = self.sync.options.disproved.iter();
        let disproved =
            disproved.filter(|e| dsc.text(e.variable.as_str()) == Some(e.from.as_ref()));
        let changes = disproved.map(|e| Change::set(e.variable.clone(), Arc::clone(&e.to)));
        self.say(node, changes.collect()).await;
        self.in_touch(node).await;
    }

    async fn in_touch(&mut self, node: &NodeId) {
        let mut changes = vec![state("SYNC")];
        let said = self.said.get(node).map(Document::iter).into_iter().flatten();
        changes.extend(said.map(|(path, value)| Change::set(path.clone(), value.clone())));
        self.say(node, changes).await;
    }

    async fn discovered(&mut self, node: NodeId, changes: Vec<Change>, whole: bool) {
        let owns = &self.sync.options.node_owns;
        let mut taken: Vec<Change> = changes.into_iter().filter(|c| owns(&c.path)).collect();
        if whole {
            // What an earlier boot or agent said, and this one does not, is no longer so.
            let dsc = self.context.views().get(&node).map(|view| view.dsc).unwrap_or_default();
            let gone = dsc.iter().filter(|(path, _)| owns(path));
            let gone = gone.filter(|(path, _)| taken.iter().all(|c| c.path != **path));
            let gone: Vec<Change> = gone.map(|(path, _)| Change::remove(path.clone())).collect();
            self.said.remove(&node);
            taken.extend(gone);
        }
        self.said.entry(node.clone()).or_default().apply(&taken);
        self.unshared.insert(node.clone());
        self.say(&node, taken).await;
    }

    async fn say(&self, node: &NodeId, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.context.discover(node, changes).await;
        }
    }
}

fn state(value: &str) -> Change {
    Change::set(Path::known(RUN_STATE), value)
}

/// The bounds of silence, from the least that counts.
fn silence(least: Duration) -> Silence {
    let min_ms = u64::try_from(least.as_millis()).unwrap_or(u64::MAX / PATIENCE);
    Silence { min_ms, max_ms: min_ms.saturating_mul(PATIENCE) }
}
