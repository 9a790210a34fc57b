//! A parent and nodes in one process, over loopback.

use async_trait::async_trait;
use kraken::{
    Agent, AgentOptions, Context, Event, Failure, Identity, Keeper, KeyPin, Kraken, Module,
    Options, Order, Service, Settings, SyncOptions, SyncParent, Tasks, View, What,
};
use kraken_model::{Change, Document, Field, Kind, NodeId, Path, Registry, Schema, Side};
use kraken_plan::{Context as Taker, Effect, Guard, ModuleSet, Mutation};
use kraken_sync::Secret;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn declared() -> (Arc<Registry>, Arc<ModuleSet>) {
    let variable = |path: &str, values: &[&str]| Field::variable(path, values, "a state").unwrap();
    let mut fields = vec![
        variable("phys_state", &["PHYS_UNKNOWN", "POWER_OFF", "POWER_ON", "PHYS_HANG"]),
        variable("run_state", &["UNKNOWN", "INIT", "SYNC", "ERROR"]),
        variable("app_state", &["UNKNOWN", "IDLE", "ACTIVE"]),
        variable("busy", &["UNKNOWN", "FREE", "BUSY"]),
        Field::new("stalls", Kind::Bool, &[Side::Cfg], "whether its parent stands still").unwrap(),
        Field::new("permitted.*", Kind::Bool, &[Side::Cfg], "what it may").unwrap(),
        Field::new("door", Kind::Bool, &[Side::Cfg, Side::Dsc], "whether it is open").unwrap(),
    ];
    let service = kraken_plan::Service::new("app", "whether the application is looked after");
    let service = service.requires(Guard::is("run_state", "SYNC"));
    fields.extend(service.fields());
    let registry = Registry::new(vec![Schema { name: "test".to_owned(), fields }]).unwrap();
    let step = |module: &str, name: &str, context| {
        Mutation::new(module, name, context).timeout(Duration::from_secs(20))
    };
    let mut modules = vec![
        step("power", "on", Taker::Child).moves("phys_state", "PHYS_UNKNOWN", "POWER_ON"),
        step("power", "boot", Taker::Child).moves("run_state", "UNKNOWN", "INIT"),
        step("sync", "join", Taker::Child).moves("run_state", "INIT", "SYNC"),
        step("sync", "leave", Taker::Node).moves("run_state", "SYNC", "INIT"),
        step("app", "look", Taker::Node)
            .moves("app_state", "UNKNOWN", "IDLE")
            .requires(service.runs()),
        step("app", "start", Taker::Node)
            .moves("app_state", "IDLE", "ACTIVE")
            .requires(service.runs()),
    ];
    modules.extend(service.mutations());
    let modules = ModuleSet::new(&registry, modules).unwrap();
    (Arc::new(registry), Arc::new(modules))
}

pub(crate) fn set(path: &str, value: &str) -> Change {
    Change::set(Path::known(path), value)
}

/// A module whose every step does at once what it says.
struct Obedient(&'static str);

#[async_trait]
impl Module for Obedient {
    fn name(&self) -> &str {
        self.0
    }

    /// Looks at the power of every machine that was known at the start.
    async fn run(&self, context: Context) {
        for (node, view) in context.views().all() {
            if self.0 == "power" && view.dsc.text("phys_state").is_some() {
                context.discover(&node, vec![set("phys_state", "POWER_ON")]).await;
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let change = match order.mutation.as_ref() {
            "power.on" => set("phys_state", "POWER_ON"),
            "power.boot" => set("run_state", "INIT"),
            "app.look" => set("app_state", "IDLE"),
            _ => set("app_state", "ACTIVE"),
        };
        context.discover(&order.node, vec![change]).await;
        Ok(())
    }
}

/// The application on a node: a service.
struct App(NodeId);

#[async_trait]
impl Module for App {
    fn name(&self) -> &str {
        "app"
    }

    fn service(&self) -> Option<&dyn Service> {
        Some(self)
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        Obedient("app").take(order, context).await
    }
}

#[async_trait]
impl Service for App {
    fn node(&self) -> &NodeId {
        &self.0
    }
}

pub(crate) struct Site {
    pub(crate) kraken: Kraken,
    pub(crate) sync: Arc<SyncParent>,
    tasks: Tasks,
}

/// Longer than a node of this site waits for an answer, and than a parent waits for a node.
const STALL: Duration = Duration::from_secs(5);

/// Told when the parent has stood still and goes on.
pub(crate) static STALLED: tokio::sync::Notify = tokio::sync::Notify::const_new();

fn options(address: SocketAddr) -> SyncOptions {
    SyncOptions {
        address,
        hello: Duration::from_millis(50),
        silent: Duration::from_millis(500),
        return_within: Duration::from_secs(2),
        disproved: vec![Effect {
            variable: Path::known("phys_state"),
            from: "PHYS_HANG".into(),
            to: "POWER_ON".into(),
            or: Vec::new(),
        }],
        node_owns: Arc::new(|path| path.is_under("app_state") || path.is_under("services")),
        // Nobody starts the application on a node that should have an open door and has not.
        told: Arc::new(|view| {
            let mut cfg = view.cfg.clone();
            if cfg.get("stalls").is_some() {
                // To stand still is what this is about.
                #[allow(clippy::disallowed_methods)]
                std::thread::sleep(STALL);
                STALLED.notify_one();
            }
            if cfg.get("door").is_some() && view.dsc.get("door") != cfg.get("door") {
                cfg.remove("app_state");
            }
            cfg
        }),
        on_log: Arc::new(|_, _, _| {}),
    }
}

/// The port of a parent that has ended may be held by the kernel for a moment.
async fn bind(address: SocketAddr, identity: &Identity, keeper: &Keeper) -> Arc<SyncParent> {
    let bound = tokio::time::timeout(PATIENCE, async {
        loop {
            match SyncParent::bind(options(address), identity, keeper.clone()).await {
                Ok(bound) => return bound,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    bound.await.unwrap()
}

impl Site {
    pub(crate) async fn start(address: SocketAddr, identity: &Identity, keeper: Keeper) -> Self {
        let sync = bind(address, identity, &keeper).await;
        let (registry, modules) = declared();
        let (kraken, tasks) = Kraken::start(Options {
            registry,
            modules,
            hosted: vec![Arc::new(Obedient("power")), sync.clone()],
            keeper,
            settings: Settings::default(),
        })
        .await
        .unwrap();
        Self { kraken, sync, tasks }
    }

    /// One on a free port that forgets everything.
    pub(crate) async fn fresh() -> Self {
        let keeper = Keeper::new(Box::new(kraken_store::Memory::default()));
        Self::start("127.0.0.1:0".parse().unwrap(), &Identity::generate().unwrap(), keeper).await
    }

    pub(crate) async fn end(self) {
        self.kraken.stop();
        self.tasks.ended().await;
    }

    /// Wants a node to run the application, and waits until it is expected to join.
    pub(crate) async fn boot(&self, name: &str) -> (String, Secret) {
        let mut cfg = Document::new();
        for (path, value) in
            [("phys_state", "POWER_ON"), ("run_state", "SYNC"), ("app_state", "ACTIVE")]
        {
            cfg.set(Path::known(path), value);
        }
        self.kraken.configure(vec![(node(name), Some(cfg))], "test").await.unwrap();
        self.until(name, |view| view.dsc.text("run_state") == Some("INIT")).await;
        self.sync.mint(&node(name)).await.unwrap()
    }

    pub(crate) fn state(&self, name: &str, path: &str) -> Option<String> {
        self.kraken.views().get(&node(name))?.dsc.text(path).map(str::to_owned)
    }

    pub(crate) async fn until(&self, name: &str, so: impl Fn(&View) -> bool) {
        let mut subscription = self.kraken.views().subscribe();
        let seen = tokio::time::timeout(PATIENCE, async {
            while !self.kraken.views().get(&node(name)).is_some_and(|view| so(&view)) {
                subscription.changed().await;
            }
        });
        let last = || panic!("{name}: {:?}", self.kraken.views().get(&node(name)));
        seen.await.unwrap_or_else(|_| last());
    }

    pub(crate) async fn until_state(&self, name: &str, path: &str, value: &str) {
        self.until(name, |view| view.dsc.text(path) == Some(value)).await;
    }

    /// Waits until something was counted so often.
    pub(crate) async fn counted(&self, pointer: &str, least: u64) {
        let count = || self.sync.counters().pointer(pointer).and_then(|v| v.as_u64()).unwrap_or(0);
        let counted = tokio::time::timeout(PATIENCE, async {
            while count() < least {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        counted.await.unwrap_or_else(|_| panic!("{pointer}: {}", self.sync.counters()));
    }

    /// Waits for an event from number `from` on, and gives all that were read until then.
    pub(crate) async fn event(&self, from: u64, wanted: impl Fn(&What) -> bool) -> Vec<Event> {
        event(&self.kraken, from, wanted).await
    }
}

/// Waits for an event of either side, and gives all that were read until then.
pub(crate) async fn event(
    kraken: &Kraken,
    from: u64,
    wanted: impl Fn(&What) -> bool,
) -> Vec<Event> {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let events = kraken.events(from, 10_000, None).await.unwrap();
            if events.iter().any(|event| wanted(&event.entry.what)) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap()
}

impl Site {
    /// Waits until a node is as wanted and all of that is written; the number of the next event.
    pub(crate) async fn converged(&self, name: &str) -> u64 {
        self.until_state(name, "app_state", "ACTIVE").await;
        let events = self.event(1, |what| matches!(what, What::Converged)).await;
        events.last().map_or(0, |event| event.seq + 1)
    }
}

/// What a node is told at its boot.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) name: &'static str,
    pub(crate) parent: SocketAddr,
    pub(crate) pin: KeyPin,
    pub(crate) boot: (String, Secret),
}

/// A node: its agent, and the directory in which it keeps its secret.
pub(crate) struct Machine {
    pub(crate) kraken: Kraken,
    pub(crate) stop: CancellationToken,
    pub(crate) agent: JoinHandle<()>,
    pub(crate) dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) async fn start(told: Told) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (registry, modules) = declared();
        let (_, logs) = tokio::sync::mpsc::channel(1);
        let agent = Agent::start(AgentOptions {
            permitted_under: Some(Path::known("permitted")),
            node: node(told.name),
            boot_id: told.boot.0,
            parents: vec![told.parent],
            pin: told.pin,
            token: told.boot.1,
            resume: dir.path().join("resume"),
            registry,
            modules,
            hosted: vec![Arc::new(App(node(told.name)))],
            joined: vec![set("run_state", "SYNC"), set("phys_state", "POWER_ON")],
            left: vec![set("run_state", "INIT")],
            // A node that speaks of everything: what it may is the parent's to know.
            node_owns: Arc::new(|_| true),
            logs,
        })
        .await
        .unwrap();
        let (kraken, stop) = (agent.kraken().clone(), CancellationToken::new());
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self { kraken, stop, agent, dir }
    }

    /// Waits until it is given this cfg.
    pub(crate) async fn until_cfg(&self, cfg: &Document) {
        let mut subscription = self.kraken.views().subscribe();
        let given = tokio::time::timeout(PATIENCE, async {
            while self.kraken.views().all().values().all(|view| view.cfg != *cfg) {
                subscription.changed().await;
            }
        });
        given.await.unwrap();
    }

    /// The machine loses its power: no good-bye.
    pub(crate) async fn vanish(self) {
        self.agent.abort();
        let _ = self.agent.await;
        self.kraken.stop();
    }
}
