//! Services as state of their node: started on demand, restarted when they break off, stopped by cfg.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use kraken::{
    Context, Event, Failure, Keeper, Kraken, KrakenError, Module, ModuleState, ModuleStatus,
    Options, Order, Service, Settings, Tasks, What,
};
use kraken_engine::Role;
use kraken_model::{Change, Document, Field, NodeId, Path, Registry, Schema};
use kraken_plan::{Context as Taker, ModuleSet, Mutation, Retry};
use kraken_store::Memory;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

const STATE: &str = "services.heating.state";
const REASON: &str = "services.heating.reason";

/// The least pause before a service that broke off is started again, for the first and the second time.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];

/// Heats a room while its service runs, and otherwise does not know how it is.
#[derive(Default)]
struct Heating {
    opened: Mutex<Vec<Instant>>,
    closed: AtomicUsize,
    /// How many more openings fail.
    fails: AtomicU32,
    /// Something goes wrong in its run.
    bang: Notify,
    /// It has enough.
    leaves: Notify,
    is_warm: Mutex<bool>,
    node: Option<NodeId>,
}

impl Heating {
    fn room(&self) -> Change {
        Change::set(
            Path::known("room"),
            if *self.is_warm.lock().unwrap() { "WARM" } else { "COLD" },
        )
    }

    fn openings(&self) -> usize {
        self.opened.lock().unwrap().len()
    }

    fn is_open(&self) -> bool {
        self.openings() > self.closed.load(Ordering::SeqCst)
    }
}

/// The module and the test look at the same heating.
struct Shared(Arc<Heating>);

#[async_trait]
impl Module for Shared {
    fn name(&self) -> &str {
        "heating"
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == "degrees"
    }

    fn service(&self) -> Option<&dyn Service> {
        Some(self)
    }

    async fn run(&self, context: Context) {
        tokio::select! {
            () = context.stop.cancelled() => {}
            () = self.0.leaves.notified() => {}
            () = self.0.bang.notified() => panic!("the boiler burst"),
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        assert!(self.0.is_open(), "{} while it does not run", order.mutation);
        *self.0.is_warm.lock().unwrap() =
            &*order.mutation == "heating.heat" || *self.0.is_warm.lock().unwrap();
        context.discover(&order.node, vec![self.0.room()]).await;
        Ok(())
    }
}

#[async_trait]
impl Service for Shared {
    fn node(&self) -> &NodeId {
        self.0.node.as_ref().unwrap()
    }

    async fn open(&self, _context: &Context) -> Result<Vec<Change>, Failure> {
        assert!(!self.0.is_open(), "opened twice");
        if self.0.fails.load(Ordering::SeqCst) > 0 {
            self.0.fails.fetch_sub(1, Ordering::SeqCst);
            return Err(Failure { reason: "no oil".to_owned(), permanent: false });
        }
        self.0.opened.lock().unwrap().push(Instant::now());
        Ok(vec![self.0.room(), Change::set(Path::known("degrees"), "19")])
    }

    async fn close(&self) {
        self.0.closed.store(self.0.openings(), Ordering::SeqCst);
    }
}

struct House {
    kraken: Kraken,
    tasks: Tasks,
    heating: Arc<Heating>,
}

fn node() -> NodeId {
    NodeId::new("house").unwrap()
}

fn declared(with_service: bool) -> (Arc<Registry>, Arc<ModuleSet>) {
    let retry =
        Retry { base: Duration::from_millis(20), cap: Duration::from_millis(50), limit: None };
    let service =
        kraken_plan::Service::new("heating", "whether the heating is looked after").retry(retry);
    let text = kraken_model::Kind::Text(kraken_model::Format::Any);
    let mut fields = service.fields();
    fields.push(Field::variable("room", &["UNKNOWN", "COLD", "WARM"], "how it is").unwrap());
    fields.push(Field::new("degrees", text, &[kraken_model::Side::Dsc], "how warm it is").unwrap());
    let registry = Registry::new(vec![Schema { name: "house".into(), fields }]).unwrap();
    let step = |name, from, to| {
        let step = Mutation::new("heating", name, Taker::Node).moves("room", from, to);
        step.requires(service.runs()).retry(retry)
    };
    let mut mutations = if with_service { service.mutations() } else { Vec::new() };
    mutations.push(step("discover", "UNKNOWN", "COLD").or_finds("WARM"));
    mutations.push(step("heat", "COLD", "WARM"));
    let set = ModuleSet::new(&registry, mutations);
    (Arc::new(registry), Arc::new(set.unwrap_or_default()))
}

impl House {
    async fn start(fails: u32) -> Self {
        let heating =
            Arc::new(Heating { fails: fails.into(), node: Some(node()), ..Heating::default() });
        let (kraken, tasks) = start(true, &heating).await.unwrap();
        Self { kraken, tasks, heating }
    }

    async fn want(&self, values: &[(&str, &str)]) {
        let mut cfg = Document::new();
        for (path, value) in values {
            cfg.set(Path::known(path), *value);
        }
        self.kraken.configure(vec![(node(), Some(cfg))], "test").await.unwrap();
    }

    fn text(&self, path: &str) -> Option<String> {
        self.kraken.views().get(&node())?.dsc.text(path).map(str::to_owned)
    }

    async fn until(&self, path: &str, value: Option<&str>) {
        let is_so = |dsc: &Document| dsc.text(path) == value;
        self.until_so(&format!("{path} = {value:?}"), is_so).await;
    }

    async fn until_restarts(&self, restarts: u64) {
        let wanted = i64::try_from(restarts).unwrap().into();
        let is_so = |dsc: &Document| dsc.get("services.heating.restarts") == Some(&wanted);
        self.until_so(&format!("{restarts} restarts"), is_so).await;
    }

    async fn until_so(&self, what: &str, is_so: impl Fn(&Document) -> bool) {
        let view = || self.kraken.views().get(&node()).unwrap_or_default();
        let mut subscription = self.kraken.views().subscribe();
        let seen = tokio::time::timeout(PATIENCE, async {
            while !is_so(&view().dsc) {
                subscription.changed().await;
            }
        });
        let last = || panic!("waited in vain for {what}: {:?}", view());
        seen.await.unwrap_or_else(|_| last());
    }

    /// Every event so far, once one that is wanted is among them.
    async fn events(&self, wanted: impl Fn(&What) -> bool) -> Vec<Event> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let events = self.kraken.events(0, 10_000, None).await.unwrap();
                if events.iter().any(|event| wanted(&event.entry.what)) {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        found.await.unwrap()
    }

    fn status(&self) -> ModuleStatus {
        self.kraken.hosted().into_iter().find(|module| module.name == "heating").unwrap()
    }

    async fn end(self) {
        self.kraken.stop();
        tokio::time::timeout(PATIENCE, self.tasks.ended()).await.unwrap();
    }
}

async fn start(with_service: bool, heating: &Arc<Heating>) -> Result<(Kraken, Tasks), KrakenError> {
    let (registry, modules) = declared(with_service);
    Kraken::start(Options {
        registry,
        modules,
        hosted: vec![Arc::new(Shared(Arc::clone(heating)))],
        keeper: Keeper::new(Box::new(Memory::default())),
        settings: Settings { role: Role::Node, ..Settings::default() },
    })
    .await
}

fn dispatched(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| match &event.entry.what {
        What::Dispatched { mutation, .. } => Some(mutation.to_string()),
        _ => None,
    };
    events.iter().filter_map(name).collect()
}

fn tells(what: &What, path: &str, text: &str) -> bool {
    let is_it = |change: &Change| {
        change.path.as_str() == path
            && change.value.as_ref().and_then(|value| value.as_text()) == Some(text)
    };
    matches!(what, What::Discovered { changes } if changes.iter().any(is_it))
}

fn is_converged(what: &What) -> bool {
    matches!(what, What::Converged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_started_when_a_goal_needs_it_and_not_before() {
    let house = House::start(0).await;
    house.want(&[]).await;
    let explained = house.kraken.explain(&node()).await.unwrap().to_string();
    assert!(!explained.contains("heating"), "{explained}");
    assert_eq!((house.heating.openings(), house.status().state), (0, ModuleState::Stopped));
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    assert_eq!(house.text(STATE).as_deref(), Some("RUNNING"));
    assert_eq!((house.heating.openings(), house.status().state), (1, ModuleState::Running));
    // What it found when it was opened came with its running: nobody had to ask for it.
    let steps = dispatched(&house.events(is_converged).await);
    assert_eq!(steps, ["service.discover-heating", "service.start-heating", "heating.heat"]);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_breaks_off_is_found_in_error_and_restarted_after_growing_pauses() {
    let house = House::start(0).await;
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    for (at, pause) in (1..).zip(PAUSES) {
        let before = Instant::now();
        house.heating.bang.notify_one();
        house.until_restarts(at).await;
        house.until("room", Some("WARM")).await;
        let opened = *house.heating.opened.lock().unwrap().last().unwrap();
        assert!(opened - before >= pause, "after {:?}", opened - before);
        let now = [STATE, REASON].map(|path| house.text(path));
        assert_eq!(now, [Some("RUNNING".to_owned()), None]);
        assert_eq!(house.status().restarts, at);
    }
    // One that merely ends was not asked to.
    house.heating.leaves.notify_one();
    house.until_restarts(3).await;
    let events = house.events(|what| tells(what, REASON, "it ended by itself")).await;
    let is_panic =
        |event: &&Event| tells(&event.entry.what, REASON, "it panicked: the boiler burst");
    assert_eq!(events.iter().filter(is_panic).count(), 2);
    let restarts =
        dispatched(&events).iter().filter(|step| *step == "service.restart-heating").count();
    assert!(restarts >= 2, "the planner restarts it");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_stopped_by_cfg_and_what_it_knew_is_forgotten_until_it_is_started_again() {
    let house = House::start(0).await;
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    house.until("degrees", Some("19")).await;
    house.want(&[(STATE, "STOPPED")]).await;
    house.until(STATE, Some("STOPPED")).await;
    house.until("degrees", None).await;
    assert_eq!((house.text("room"), house.heating.is_open()), (None, false));
    assert_eq!((house.status().state, house.status().restarts), (ModuleState::Stopped, 0));
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    assert_eq!(house.heating.openings(), 2);
    // The room had stayed warm: nothing was done to it.
    let events = house.events(|_| true).await;
    let heated = dispatched(&events).iter().filter(|step| *step == "heating.heat").count();
    assert_eq!(heated, 1);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_broke_off_and_is_not_wanted_stays_where_it_is() {
    let house = House::start(0).await;
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    house.want(&[]).await;
    house.heating.bang.notify_one();
    house.until(STATE, Some("ERROR")).await;
    house.want(&[(STATE, "STOPPED")]).await;
    house.until(STATE, Some("STOPPED")).await;
    assert_eq!((house.heating.openings(), house.heating.is_open()), (1, false));
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_opened_is_in_error_with_its_reason_and_tried_again() {
    let house = House::start(3).await;
    house.want(&[("room", "WARM")]).await;
    house.until("room", Some("WARM")).await;
    assert_eq!([STATE, REASON].map(|path| house.text(path)), [Some("RUNNING".to_owned()), None]);
    assert_eq!((house.heating.openings(), house.status().restarts), (1, 0));
    let events = house.events(is_converged).await;
    let so = |path, text| events.iter().any(|event| tells(&event.entry.what, path, text));
    assert!(so(STATE, "ERROR") && so(REASON, "no oil"));
    // However the first attempt ended, those to restart it failed, and were met like any failure.
    let failed = |event: &Event| match &event.entry.what {
        What::Failed { mutation, reason, .. } => {
            &**mutation == "service.restart-heating" && &**reason == "no oil"
        }
        _ => false,
    };
    assert_eq!(events.iter().filter(|event| failed(event)).count(), 2);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_no_mutation_could_start_is_refused() {
    let heating = Arc::new(Heating { node: Some(node()), ..Heating::default() });
    let refused = start(false, &heating).await.err().unwrap();
    assert!(matches!(&refused, KrakenError::NoService(name) if name == "heating"), "{refused}");
}
