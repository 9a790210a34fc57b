//! Modules that crash, hang, flood and lie, beside one that works.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use kraken::{
    Context, Failure, Keeper, Kraken, Module, ModuleState, ModuleStatus, Options, Order, Settings,
    Tasks, What,
};
use kraken_model::{Change, Document, Field, Kind, NodeId, Path, Registry, Schema, Side};
use kraken_plan::{Context as Taker, ModuleSet, Mutation, Retry};
use kraken_store::Memory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A module that switches lamps, as it should.
struct Lamp;

#[async_trait]
impl Module for Lamp {
    fn name(&self) -> &str {
        "lamp"
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        context.discover(&order.node, vec![Change::set(Path::known("lamp"), "ON")]).await;
        Ok(())
    }
}

/// How the other module misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Vice {
    Crash,
    Hang,
    Flood,
    Lie,
}

/// A module that locks doors, and has a vice.
struct Rogue {
    vice: Vice,
    runs: AtomicU32,
}

/// How often it crashes before it comes to its senses.
const CRASHES: u32 = 2;

#[async_trait]
impl Module for Rogue {
    fn name(&self) -> &str {
        "door"
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == "knocks"
    }

    async fn run(&self, context: Context) {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        match self.vice {
            Vice::Crash => {
                assert!(run >= CRASHES, "the hinges broke");
                for node in context.views().all().keys() {
                    context.discover(node, vec![Change::set(Path::known("knocks"), 1)]).await;
                }
                context.stop.cancelled().await;
            }
            // Not even the end of the application ends it.
            Vice::Hang => std::future::pending().await,
            Vice::Flood => {
                let door = node("a");
                for knocks in 0.. {
                    let changes = vec![Change::set(Path::known("knocks"), knocks % 2)];
                    tokio::select! {
                        () = context.discover(&door, changes) => {}
                        () = context.stop.cancelled() => return,
                    }
                }
            }
            Vice::Lie => {
                let lies = [
                    ("a", "lamp", "ON"),
                    ("a", "nothing", "of the kind"),
                    ("a", "door", "AJAR"),
                    ("nobody", "door", "LOCKED"),
                ];
                for (name, path, value) in lies {
                    let changes = vec![Change::set(Path::known(path), value)];
                    context.discover(&node(name), changes).await;
                }
                context.stop.cancelled().await;
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        if self.vice == Vice::Hang {
            return std::future::pending().await;
        }
        context.discover(&order.node, vec![Change::set(Path::known("door"), "LOCKED")]).await;
        Ok(())
    }
}

async fn start(vice: Vice) -> (Kraken, Tasks) {
    let fields = vec![
        Field::variable("lamp", &["UNKNOWN", "OFF", "ON"], "whether it is lit").unwrap(),
        Field::variable("door", &["UNKNOWN", "LOCKED"], "whether it is locked").unwrap(),
        Field::new("knocks", Kind::Int { min: 0, max: 9 }, &[Side::Dsc], "at the door").unwrap(),
    ];
    let registry = Registry::new(vec![Schema { name: "house".into(), fields }]).unwrap();
    let retry =
        Retry { base: Duration::from_millis(20), cap: Duration::from_millis(50), limit: None };
    let step = |module, to: &str| {
        Mutation::new(module, "look", Taker::Child)
            .moves(module, "UNKNOWN", to)
            .timeout(Duration::from_millis(300))
            .retry(retry)
    };
    let set = vec![step("lamp", "ON"), step("door", "LOCKED")];
    let modules = ModuleSet::new(&registry, set).unwrap();
    let rogue = Rogue { vice, runs: AtomicU32::new(0) };
    // Configured before the modules begin, so that the rogue finds its nodes.
    let mut store = Memory::default();
    let writes = [("a", "door"), ("b", "lamp")].map(|(name, variable)| {
        let doc = Some(cfg(variable, if variable == "door" { "LOCKED" } else { "ON" }));
        kraken_store::CfgWrite { node: node(name), doc }
    });
    let all = kraken_store::Commit { cfg: &writes, ..Default::default() };
    kraken_store::Store::commit(&mut store, &all).unwrap();
    Kraken::start(Options {
        registry: Arc::new(registry),
        modules: Arc::new(modules),
        hosted: vec![Arc::new(Lamp), Arc::new(rogue)],
        keeper: Keeper::new(Box::new(store)),
        settings: Settings::default(),
    })
    .await
    .unwrap()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn cfg(variable: &str, value: &str) -> Document {
    let mut cfg = Document::new();
    cfg.set(Path::known(variable), value);
    cfg
}

fn door(kraken: &Kraken) -> ModuleStatus {
    kraken.hosted().into_iter().find(|module| module.name == "door").unwrap()
}

async fn until(kraken: &Kraken, what: &str, so: impl Fn(&Kraken) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so(kraken) {
        assert!(Instant::now() < deadline, "{what}: {:?}", kraken.hosted());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is(kraken: &Kraken, name: &str, path: &str, value: &str) -> bool {
    kraken.views().get(&node(name)).is_some_and(|view| view.dsc.text(path) == Some(value))
}

/// What the journal tells of the module, once it tells so much.
async fn told(kraken: &Kraken, entries: usize) -> Vec<What> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = kraken.latest_events(1_000).await.unwrap();
        let is_told = |what: &What| what.name().starts_with("module_");
        let doors = events.into_iter().map(|event| event.entry).filter(|e| is_told(&e.what));
        let told: Vec<What> =
            doors.inspect(|e| assert_eq!(&*e.by, "door")).map(|e| e.what).collect();
        if told.len() >= entries {
            return told;
        }
        assert!(Instant::now() < deadline, "the journal tells {told:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The module that works goes on working, for nodes that come later too.
async fn works(kraken: &Kraken) {
    until(kraken, "b is not lit", |kraken| is(kraken, "b", "lamp", "ON")).await;
    kraken.configure(vec![(node("late"), Some(cfg("lamp", "ON")))], "test").await.unwrap();
    until(kraken, "late is not lit", |kraken| is(kraken, "late", "lamp", "ON")).await;
}

async fn end(kraken: Kraken, tasks: Tasks) {
    kraken.stop();
    tokio::time::timeout(PATIENCE, tasks.ended()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_crashes_is_started_again_until_it_runs() {
    let (kraken, tasks) = start(Vice::Crash).await;
    works(&kraken).await;
    until(&kraken, "it was given up", |kraken| door(kraken).state == ModuleState::Running).await;
    let knocked = |kraken: &Kraken| {
        let view = kraken.views().get(&node("a")).unwrap();
        view.dsc.get("knocks").is_some()
    };
    until(&kraken, "it does not watch", knocked).await;
    let status = door(&kraken);
    assert_eq!(status.restarts, u64::from(CRASHES));
    assert!(status.last_error.unwrap().contains("the hinges broke"));
    let crashes = (1..=u64::from(CRASHES)).flat_map(|restarts| {
        let reason = "it panicked: the hinges broke".into();
        [What::ModuleEnded { reason, restarts }, What::ModuleRuns]
    });
    let crashes: Vec<What> = crashes.collect();
    assert_eq!(told(&kraken, crashes.len()).await, crashes);
    // Its steps are taken all the same.
    until(&kraken, "a is not locked", |kraken| is(kraken, "a", "door", "LOCKED")).await;
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_hangs_costs_its_own_attempts_and_does_not_hold_up_the_end() {
    let (kraken, tasks) = start(Vice::Hang).await;
    works(&kraken).await;
    let text = || async { kraken.explain(&node("a")).await.unwrap().to_string() };
    let deadline = Instant::now() + PATIENCE;
    while !text().await.contains("not discovered in time") {
        assert!(Instant::now() < deadline, "{}", text().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_floods_leaves_room_for_the_others() {
    let (kraken, tasks) = start(Vice::Flood).await;
    until(&kraken, "it does not flood", |kraken| door(kraken).discoveries > 10_000).await;
    works(&kraken).await;
    until(&kraken, "a is not locked", |kraken| is(kraken, "a", "door", "LOCKED")).await;
    // It does not push what the others did out of the journal, and that it would have is said once.
    until(&kraken, "nothing is held back", |kraken| door(kraken).held_back > 100_000).await;
    assert!(door(&kraken).floods);
    let events = kraken.events(0, 100_000, None).await.unwrap();
    let knocks = events.iter().filter(|event| &*event.entry.by == "door");
    let (told, knocks): (Vec<_>, Vec<_>) =
        knocks.partition(|event| event.entry.what.name().starts_with("module_"));
    // What is known lags behind what was said: some changes do not look like any, and are not counted.
    assert!(knocks.len() < 10_000, "{} entries", knocks.len());
    let floods = What::ModuleFloods { example: node("a"), path: Path::known("knocks") };
    assert_eq!(
        told.into_iter().map(|event| event.entry.what.clone()).collect::<Vec<_>>(),
        [floods]
    );
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_never_declared_is_refused_and_counted() {
    let (kraken, tasks) = start(Vice::Lie).await;
    until(&kraken, "lies were taken", |kraken| door(kraken).refused == 4).await;
    works(&kraken).await;
    assert!(!is(&kraken, "a", "lamp", "ON") && !is(&kraken, "a", "door", "AJAR"));
    assert!(!kraken.views().contains(&node("nobody")));
    // The first one, and each time twice as many.
    let refused = told(&kraken, 3).await.into_iter().map(|what| match what {
        What::ModuleRefused { refused, reason } => (refused, reason.to_string()),
        other => panic!("{other:?}"),
    });
    let refused: Vec<(u64, String)> = refused.collect();
    assert_eq!(refused.iter().map(|(refused, _)| *refused).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(refused[0].1, "lamp is not its own to discover");
    assert_eq!(refused[1].1, "nothing is not its own to discover");
    until(&kraken, "a is not locked", |kraken| is(kraken, "a", "door", "LOCKED")).await;
    let lamp = kraken.hosted().into_iter().find(|module| module.name == "lamp").unwrap();
    assert_eq!((lamp.refused, lamp.restarts), (0, 0));
    end(kraken, tasks).await;
}
