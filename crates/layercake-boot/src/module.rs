//! The boot module: arms machines that are to boot, and tells the engine how far they have come.

use crate::{
    Arch, BootEvent, BootFile, BootPlan, Host, Hosts, Seed as SeedArchive,
    cfg::{arch, host, interface},
    progress::{self, Progress},
};
use async_trait::async_trait;
use kraken::{Context, Failure, Keeper, Module, Order, View};
use kraken_model::{Change, Document, Millis, NodeId, Path};
use layercake_schema::{boot_state, phys_state, run_state};
use layercake_seed::{
    ImageBase, JoinToken, KeyFingerprint, SEED_PATH, SEED_VERSION, Seed, SeedParent,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, watch};

/// Where in the store the boots are that are under way.
const NAMESPACE: &str = "boot";

/// How long the token of a boot is good for whoever is about to begin that boot: it is valid for an hour.
const TOKEN_GOOD_FOR: Duration = Duration::from_secs(1800);

/// How many of the latest refusals and unknown machines are remembered for people to see.
const NEWS: usize = 100;

/// Makes the tokens with which booting nodes join.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// A token for the next boot of a node. Whatever an earlier boot of it had is then worthless
    /// as soon as this one is used.
    async fn mint(&self, node: &NodeId) -> Result<Ticket, String>;

    /// Makes worthless what the node's unfinished boot had.
    async fn withdraw(&self, node: &NodeId);
}

/// What one boot of one node joins with.
#[derive(Debug)]
pub struct Ticket {
    /// The boot.
    pub boot_id: String,
    /// Its token, valid once.
    pub token: JoinToken,
}

/// What all machines of a cluster boot.
#[derive(Clone, Debug)]
pub struct Material {
    /// The cluster's name.
    pub cluster: String,
    /// The kernel of Layer 0.
    pub kernel: BootFile,
    /// Its initramfs.
    pub initramfs: BootFile,
    /// Where nodes join, in order of preference.
    pub parents: Vec<SeedParent>,
    /// The key by which they know the parent.
    pub parent_key: KeyFingerprint,
    /// Below which URL images lie.
    pub image_base: ImageBase,
}

/// A boot that is under way. It is kept, so that a restart of the server does not lose it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Armed {
    boot_id: String,
    seed: Seed,
}

impl Armed {
    /// Whether its machine may still be on its way, and its token is good for that.
    fn is_recent(&self) -> bool {
        let now = kraken::Clock::start().now();
        self.seed.time_unix_ms.is_none_or(|made| now.since(Millis(made)) < TOKEN_GOOD_FOR)
    }
}

/// A host as the boot service knows it, and what it was made from.
struct Served {
    cfg: Document,
    boot_id: Option<String>,
    unarmed: Unarmed,
    /// What is served; nothing for a node that boots from no network, or why it cannot be.
    host: Result<Option<Arc<Host>>, String>,
}

/// What the firmware of a machine is told that is not expected to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unarmed {
    /// There is nothing to boot.
    Idle,
    /// Nothing yet: the machine was found running, and is expected as soon as its firmware asks.
    Found,
    /// Nothing yet: it is expected as soon as its power is seen. Firmware is quicker than some controllers, asks
    /// a few times within a minute, and never again once it was told that there is nothing.
    Soon,
}

impl Unarmed {
    fn of(View { cfg, dsc, held, .. }: &View) -> Self {
        let wanted = cfg.text(phys_state::PATH) == Some(phys_state::POWER_ON) && !held;
        let runs = dsc.text(run_state::PATH) == Some(run_state::SYNC);
        match (wanted, is_found(dsc)) {
            (true, true) => Self::Found,
            (true, false) if !runs => Self::Soon,
            _ => Self::Idle,
        }
    }

    fn plan(self) -> BootPlan {
        match self {
            Self::Idle => BootPlan::Idle,
            Self::Found => BootPlan::Found,
            Self::Soon => BootPlan::Soon,
        }
    }
}

/// Brings machines that have power into Layer 0.
pub struct BootModule {
    material: Material,
    tickets: Arc<dyn Tickets>,
    keeper: Keeper,
    hosts: watch::Sender<Arc<Hosts>>,
    events: tokio::sync::Mutex<mpsc::Receiver<BootEvent>>,
    armed: Mutex<BTreeMap<NodeId, Armed>>,
    /// Whether the boots that were kept have been read.
    restored: OnceCell<()>,
    served: Mutex<BTreeMap<NodeId, Served>>,
    /// The nodes that cannot be served beside the others, with the reason.
    refused: Mutex<BTreeMap<Arc<str>, String>>,
    progress: Mutex<Progress>,
    news: Mutex<VecDeque<String>>,
}

impl BootModule {
    /// A boot module that fills `hosts` for the boot service, and reads the service's `events`.
    #[must_use]
    pub fn new(
        material: Material,
        tickets: Arc<dyn Tickets>,
        keeper: Keeper,
        hosts: watch::Sender<Arc<Hosts>>,
        events: mpsc::Receiver<BootEvent>,
    ) -> Self {
        Self {
            material,
            tickets,
            keeper,
            hosts,
            events: tokio::sync::Mutex::new(events),
            armed: Mutex::default(),
            restored: OnceCell::new(),
            served: Mutex::default(),
            refused: Mutex::default(),
            progress: Mutex::default(),
            news: Mutex::default(),
        }
    }

    /// The latest refusals and unknown machines, oldest first.
    #[must_use]
    pub fn news(&self) -> Vec<String> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Remembers something for people to see, which was found before anybody booted.
    #[must_use]
    pub fn with_news(self, news: Vec<String>) -> Self {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        self
    }

    fn armed(&self, node: &NodeId) -> Option<Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// Arms a node: mints its token, makes its seed, and has the boot service answer it. A boot
    /// that is under way goes on as it is: the machine may have its seed already.
    async fn arm(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        self.check_arch(&order.cfg).map_err(|reason| Failure { reason, permanent: true })?;
        let done = self.make_ready(order, context).await;
        done.map_err(|reason| Failure { reason, permanent: false })
    }

    /// Layer 0 has to be for the node's processor.
    fn check_arch(&self, cfg: &Document) -> Result<(), String> {
        match (arch(cfg), Arch::of_kernel(self.material.kernel.bytes())) {
            (Some(node), Some(kernel)) if node != kernel => Err(format!(
                "Layer 0 is for {kernel}, and the node is {node}: correct `arch` in the cluster file, \
                 or run a server with a Layer 0 for {node} (`layercake minos build`)"
            )),
            _ => Ok(()),
        }
    }

    async fn make_ready(&self, order: &Order, context: &Context) -> Result<(), String> {
        self.restored.get_or_init(|| self.restore()).await;
        // One that was kept for a node that was away for long is worth nothing any more.
        if self.armed(&order.node).is_none_or(|armed| !armed.is_recent()) {
            let ticket = self.tickets.mint(&order.node).await?;
            let boot_id = ticket.boot_id.clone();
            let seed = self.seed(order, ticket)?;
            let armed = Armed { boot_id, seed };
            let bytes = serde_json::to_vec(&armed).map_err(|e| e.to_string())?;
            let key = order.node.to_string();
            let kept = self.keeper.with(move |store| store.put(NAMESPACE, &key, &bytes)).await;
            kept.map_err(|e| format!("cannot keep the boot: {e}"))?;
            let mut boots = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            boots.insert(order.node.clone(), armed);
        }
        self.publish([(order.node.clone(), Some((order.cfg.clone(), Unarmed::Soon)))]);
        if let Some(reason) = self.why_not_served(&order.node) {
            return Err(format!("the boot service cannot serve it: {reason}; correct its cfg"));
        }
        let state = Change::set(Path::known(boot_state::PATH), boot_state::WAIT);
        context.discover(&order.node, vec![state]).await;
        Ok(())
    }

    /// Forgets the boot of a node: it has joined, or lost its power.
    async fn disarm(&self, node: &NodeId) {
        let key = node.to_string();
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
        if let Err(error) = self.keeper.with(move |store| store.delete(NAMESPACE, &key)).await {
            // Kept too long it does no harm: the token is used or withdrawn.
            tracing::warn!(%node, %error, "cannot forget a boot that is over");
        }
    }

    /// Forgets the boots of nodes that there are not, and that nobody remembers.
    async fn forget_strangers(&self, context: &Context) {
        let views = context.views();
        let boots: Vec<NodeId> = {
            let boots = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            boots.keys().cloned().collect()
        };
        for node in boots.iter().filter(|n| !views.contains(n) && !views.may_return(n)) {
            self.disarm(node).await;
        }
    }

    async fn restore(&self) {
        let kept = self.keeper.with(|store| store.list(NAMESPACE)).await;
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read which boots were under way");
            Vec::new()
        });
        let mut boots = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, bytes) in kept {
            match (NodeId::new(&key), serde_json::from_slice(&bytes)) {
                (Ok(node), Ok(armed)) => drop(boots.insert(node, armed)),
                _ => tracing::warn!(key, "a boot that was under way cannot be read"),
            }
        }
    }

    fn seed(&self, order: &Order, ticket: Ticket) -> Result<Seed, String> {
        let cfg = &order.cfg;
        let interfaces: Result<Vec<_>, String> =
            cfg.names("net").into_iter().filter_map(|name| interface(cfg, name)).collect();
        Ok(Seed {
            version: SEED_VERSION,
            node: order.node.to_string(),
            cluster: self.material.cluster.clone(),
            boot_id: ticket.boot_id,
            interfaces: interfaces?,
            parents: self.material.parents.clone(),
            parent_key_sha256: self.material.parent_key,
            join_token: ticket.token,
            image_base: self.material.image_base.clone(),
            time_unix_ms: Some(kraken::Clock::start().now().0),
        })
    }

    /// Gives the boot service the hosts that are different now. What cannot be served is left out
    /// and said; the cluster file's own checks come before. With each cfg comes what its machine is told
    /// while it is not expected.
    fn publish(&self, nodes: impl IntoIterator<Item = (NodeId, Option<(Document, Unarmed)>)>) {
        let boots = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (node, cfg) in nodes {
            let Some((cfg, unarmed)) = cfg else {
                changed |= served.remove(&node).is_some();
                continue;
            };
            let armed = boots.get(&node);
            let boot_id = armed.map(|armed| armed.boot_id.clone());
            let is_same = |s: &Served| s.cfg == cfg && s.boot_id == boot_id && s.unarmed == unarmed;
            if served.get(&node).is_some_and(is_same) {
                continue;
            }
            let is_found = unarmed == Unarmed::Found;
            let armed = armed.filter(|armed| !is_found || armed.is_recent());
            let plan = armed.map_or_else(|| unarmed.plan(), |armed| self.plan(armed, &cfg));
            let host = host(&node, &cfg, plan, Arch::of_kernel(self.material.kernel.bytes()))
                .inspect_err(|reason| tracing::warn!(%node, reason, "cannot be served"));
            let host = host.map(|host| host.map(Arc::new));
            served.insert(node, Served { cfg, boot_id, unarmed, host });
            changed = true;
        }
        if !changed {
            return;
        }
        let all = served.values().filter_map(|served| served.host.clone().ok().flatten());
        let (hosts, bad) = Hosts::usable(all);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *refused);
        for (host, error) in bad {
            let reason = error.to_string();
            if before.get(&host.node) != Some(&reason) {
                tracing::error!(node = %host.node, reason, "left out: the others are served");
            }
            refused.insert(host.node.clone(), reason);
        }
        self.hosts.send_replace(Arc::new(hosts));
    }

    /// Why a node is not among those that are served, although it boots from the network.
    fn why_not_served(&self, node: &NodeId) -> Option<String> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let own = served.get(node).and_then(|served| served.host.as_ref().err().cloned());
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        own.or_else(|| refused.get(node.as_str()).cloned())
    }

    fn plan(&self, armed: &Armed, cfg: &Document) -> BootPlan {
        let archive = armed.seed.to_json().map_err(|e| e.to_string()).and_then(|json| {
            layercake_cpio::single_file(SEED_PATH, 0o600, &json).map_err(|e| e.to_string())
        });
        match archive {
            Ok(bytes) => BootPlan::Armed {
                boot_id: armed.boot_id.as_str().into(),
                kernel: self.material.kernel.clone(),
                initramfs: self.material.initramfs.clone(),
                seed: SeedArchive::from(bytes),
                cmdline: cfg.text("boot.cmdline").unwrap_or("console=ttyS0").into(),
            },
            Err(error) => {
                tracing::error!(node = armed.seed.node, error, "cannot make the seed");
                BootPlan::Idle
            }
        }
    }

    async fn changed(&self, changed: Vec<(NodeId, Option<View>)>, context: &Context) {
        let mut cfgs = Vec::new();
        for (node, view) in changed {
            let (cfg, dsc) = match view {
                Some(view) => {
                    let unarmed = Unarmed::of(&view);
                    (Some((view.cfg, unarmed)), view.dsc)
                }
                None => (None, Document::new()),
            };
            let has = |path, value| dsc.text(path) == Some(value);
            let joined = has(run_state::PATH, run_state::SYNC);
            let off = has(phys_state::PATH, phys_state::POWER_OFF);
            let changes = self.follow(|progress| match &cfg {
                None => {
                    progress.gone(&node);
                    Vec::new()
                }
                Some(_) if joined => progress.joined(&node, &dsc),
                Some((cfg, _)) if off => {
                    if cfg.text(phys_state::PATH) != Some(phys_state::POWER_ON) {
                        progress.ended(&node);
                    }
                    progress.lost_power(&node)
                }
                Some(_) => Vec::new(),
            });
            discover(context, &node, changes).await;
            if self.armed(&node).is_some() {
                if joined {
                    self.disarm(&node).await;
                } else if off || (cfg.is_none() && !context.views().may_return(&node)) {
                    self.disarm(&node).await;
                    self.tickets.withdraw(&node).await;
                }
            }
            cfgs.push((node, cfg));
        }
        self.publish(cfgs);
    }

    fn follow<T>(&self, what: impl FnOnce(&mut Progress) -> T) -> T {
        what(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn event(&self, event: BootEvent, context: &Context) {
        match event {
            BootEvent::SeedServed { node, boot_id } => {
                let Ok(node) = NodeId::new(&node) else { return };
                if self.armed(&node).is_none_or(|armed| *armed.boot_id != *boot_id.0) {
                    return;
                }
                // The kernel has all it needs: from here on the node is on its own way.
                // Whatever was found running there has ended.
                let is_found = context.views().get(&node).is_some_and(|v| is_found(&v.dsc));
                let on = Change::set(Path::known(phys_state::PATH), phys_state::POWER_ON);
                let mut changes: Vec<_> = is_found.then_some(on).into_iter().collect();
                changes.extend([
                    Change::set(Path::known(boot_state::PATH), boot_state::INIT),
                    Change::set(Path::known(run_state::PATH), run_state::INIT),
                ]);
                changes.extend(self.follow(|progress| progress.served(&node)));
                context.discover(&node, changes).await;
            }
            BootEvent::FirmwareAsks { node, .. } => {
                let Ok(node) = NodeId::new(&node) else { return };
                // What ran there has ended: the machine is as good as one that was switched on from here.
                if context.views().get(&node).is_some_and(|v| Unarmed::of(&v) == Unarmed::Found) {
                    let on = Change::set(Path::known(phys_state::PATH), phys_state::POWER_ON);
                    context.discover(&node, vec![on]).await;
                }
            }
            BootEvent::FirmwareSeen { node, arch, is_ipxe, .. } => {
                let Ok(node) = NodeId::new(&node) else { return };
                let changes = self.follow(|progress| progress.firmware(&node, arch, is_ipxe));
                discover(context, &node, changes).await;
            }
            BootEvent::CardSeen { node, bus_id } => {
                let Ok(node) = NodeId::new(&node) else { return };
                let changes = self.follow(|progress| progress.card(&node, &bus_id));
                discover(context, &node, changes).await;
            }
            BootEvent::UnknownMachine { mac, facts, iface } => {
                self.tell(format!("unknown machine {mac} on {iface}: {facts:?}"));
            }
            BootEvent::Refused { service, node: Some(node), reason, .. } => {
                self.tell(format!("{service:?}: {node} cannot boot: {reason}"));
                self.stuck(&node, reason, context).await;
            }
            BootEvent::Refused { service, source, reason, node: None } => {
                self.tell(format!("{service:?} refused {source}: {reason}"));
            }
            BootEvent::AddressInUse { node, address, .. } => {
                let reason = format!("it finds its address {address} in use by another machine");
                self.tell(format!("{node}: {reason}"));
                self.stuck(&node, reason, context).await;
            }
            _ => {}
        }
    }

    /// A node cannot boot. What happens to one that is not expected to is news, and no more.
    async fn stuck(&self, node: &str, reason: String, context: &Context) {
        let Ok(node) = NodeId::new(node) else { return };
        if self.armed(&node).is_some() {
            let changes = self.follow(|progress| progress.stuck(&node, reason));
            discover(context, &node, changes).await;
        }
    }

    fn tell(&self, news: String) {
        tracing::warn!("{news}");
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == NEWS {
            all.pop_front();
        }
        all.push_back(news);
    }
}

#[async_trait]
impl Module for BootModule {
    fn name(&self) -> &str {
        "boot"
    }

    /// That a machine that was found running runs nothing any more is seen here, and what keeps one from
    /// booting.
    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == phys_state::PATH || progress::FACTS.contains(&path.as_str())
    }

    async fn run(&self, context: Context) {
        self.restored.get_or_init(|| self.restore()).await;
        self.forget_strangers(&context).await;
        let mut subscription = context.subscribe();
        let mut events = self.events.lock().await;
        loop {
            // Both are cancel-safe: what one would have returned it returns the next time.
            tokio::select! {
                () = context.stop.cancelled() => return,
                changed = subscription.changed() => self.changed(changed, &context).await,
                Some(event) = events.recv() => self.event(event, &context).await,
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        match order.mutation.as_ref() {
            "boot.arm" => self.arm(order, context).await,
            // The machine comes by itself; that it did is seen from what it was served.
            "boot.serve" => Ok(()),
            other => {
                let reason = format!("the boot module does not know {other}");
                Err(Failure { reason, permanent: true })
            }
        }
    }
}

fn is_found(dsc: &Document) -> bool {
    dsc.text(phys_state::PATH) == Some(phys_state::PHYS_FOUND)
}

async fn discover(context: &Context, node: &NodeId, changes: Vec<Change>) {
    if !changes.is_empty() {
        context.discover(node, changes).await;
    }
}
