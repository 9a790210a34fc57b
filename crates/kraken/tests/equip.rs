//! Modules that come and go while the application runs.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use kraken::{
    Context, Failure, Keeper, Kraken, KrakenError, Module, ModuleState, Options, Order, Settings,
    Tasks, What,
};
use kraken_model::{Change, Document, Field, NodeId, Path, Registry, Schema};
use kraken_plan::{Context as Taker, Guard, ModuleSet, Mutation};
use kraken_store::Memory;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Switches the thing that it is called after on, and counts how often it was started and has ended. One that
/// hangs never answers.
struct Switch {
    name: &'static str,
    hangs: bool,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Switch {
    fn new(name: &'static str, hangs: bool) -> Arc<Self> {
        Arc::new(Self { name, hangs, begun: 0.into(), ended: 0.into() })
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Module for Switch {
    fn name(&self) -> &str {
        self.name
    }

    async fn run(&self, context: Context) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        context.stop.cancelled().await;
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let on = Change::set(Path::known(self.name), "ON");
        context.discover(&order.node, vec![on]).await;
        Ok(())
    }
}

/// What there is of these things; each but the first needs the first.
fn things(names: &[&str]) -> (Arc<Registry>, Arc<ModuleSet>) {
    let schema = |name: &&str| {
        let field = Field::variable(name, &["UNKNOWN", "OFF", "ON"], "whether it is on").unwrap();
        Schema { name: (*name).to_owned(), fields: vec![field] }
    };
    let registry = Registry::new(names.iter().map(schema).collect()).unwrap();
    let mutation = |name: &&str| {
        let on = Mutation::new(name, "on", Taker::Child).moves(name, "UNKNOWN", "ON");
        if name == &names[0] { on } else { on.requires(Guard::is(names[0], "ON")) }
    };
    let set = ModuleSet::new(&registry, names.iter().map(mutation).collect()).unwrap();
    (Arc::new(registry), Arc::new(set))
}

fn wanting(names: &[&str]) -> Document {
    let mut cfg = Document::new();
    for name in names {
        cfg.set(Path::known(name), "ON");
    }
    cfg
}

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

async fn start(lamp: Arc<Switch>) -> (Kraken, Tasks) {
    let (registry, modules) = things(&["lamp"]);
    let (keeper, settings) = (Keeper::new(Box::new(Memory::default())), Settings::default());
    let hosted: Vec<Arc<dyn Module>> = vec![lamp];
    Kraken::start(Options { registry, modules, hosted, keeper, settings }).await.unwrap()
}

async fn until(what: &str, kraken: &Kraken, is_so: impl Fn(&Document) -> bool) {
    let mut changes = kraken.views().subscribe();
    let wait = async {
        while !kraken.views().get(&node()).is_some_and(|view| is_so(&view.dsc)) {
            changes.changed().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "{what}: {:?}", kraken.views().get(&node()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_comes_and_goes_and_the_others_go_on() {
    let (lamp, fan) = (Switch::new("lamp", false), Switch::new("fan", false));
    let (kraken, tasks) = start(Arc::clone(&lamp)).await;
    kraken.configure(vec![(node(), Some(wanting(&["lamp"])))], "test").await.unwrap();
    until("lit", &kraken, |dsc| dsc.text("lamp") == Some("ON")).await;

    let refused = kraken.configure(vec![(node(), Some(wanting(&["fan"])))], "test").await;
    assert!(matches!(refused, Err(KrakenError::Invalid(_))), "nobody knows of fans yet");
    let (registry, modules) = things(&["lamp", "fan"]);
    kraken.equip(registry, modules, vec![lamp.clone(), fan.clone()], "test").await.unwrap();
    kraken.configure(vec![(node(), Some(wanting(&["lamp", "fan"])))], "test").await.unwrap();
    until("it blows", &kraken, |dsc| dsc.text("fan") == Some("ON")).await;
    assert_eq!((lamp.counts(), fan.counts()), ((1, 0), (1, 0)), "the lamp's goes on");

    let (registry, modules) = things(&["lamp"]);
    let all = || vec![lamp.clone() as Arc<dyn Module>];
    let (old, set) = (Arc::clone(&registry), Arc::clone(&modules));
    let refused = kraken.equip(old, set, all(), "test").await.unwrap_err();
    assert!(matches!(refused, KrakenError::Invalid(_)), "a fan is wanted: {refused}");
    assert_eq!((kraken.hosted().len(), fan.counts()), (2, (1, 0)), "nothing has changed");

    kraken.configure(vec![(node(), Some(wanting(&["lamp"])))], "test").await.unwrap();
    kraken.equip(registry, modules, all(), "test").await.unwrap();
    assert_eq!((lamp.counts(), fan.counts()), ((1, 0), (1, 1)), "it was stopped, and has ended");
    let view = kraken.views().get(&node()).unwrap();
    assert_eq!((view.dsc.text("lamp"), view.dsc.get("fan")), (Some("ON"), None));
    let states: Vec<_> = kraken.hosted().iter().map(|module| module.state).collect();
    assert_eq!(states, [ModuleState::Running]);
    let told = kraken.latest_events(100).await.unwrap();
    let told = told.iter().filter(|e| matches!(e.entry.what, What::Modules { .. })).count();
    assert_eq!(told, 2, "and nothing is told of what was refused");
    kraken.stop();
    tasks.ended().await;
    assert_eq!(lamp.counts(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_module_of_the_same_name_takes_over_what_the_first_never_ended() {
    let (stuck, lamp) = (Switch::new("lamp", true), Switch::new("lamp", false));
    let (kraken, tasks) = start(Arc::clone(&stuck)).await;
    kraken.configure(vec![(node(), Some(wanting(&["lamp"])))], "test").await.unwrap();
    let is_asked = async {
        loop {
            let events = kraken.latest_events(100).await.unwrap();
            if events.iter().any(|e| matches!(e.entry.what, What::Dispatched { .. })) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_asked).await.unwrap();
    let (registry, modules) = things(&["lamp"]);
    kraken.equip(registry, modules, vec![lamp.clone()], "test").await.unwrap();
    assert_eq!((stuck.counts(), lamp.counts().1), ((1, 1), 0));
    until("lit", &kraken, |dsc| dsc.text("lamp") == Some("ON")).await;
    let events = kraken.latest_events(100).await.unwrap();
    let became = events.iter().map(|event| event.entry.what.name());
    let became: Vec<_> = became.filter(|name| ["failed", "interrupted"].contains(name)).collect();
    assert_eq!(became, ["interrupted"], "the step is not to blame");
    kraken.stop();
    tasks.ended().await;
}
