//! The runtime with modules that misbehave and stores that refuse.
#![allow(clippy::unwrap_used)]

mod disk;
mod kept;
mod patches;

use async_trait::async_trait;
use disk::Disk;
use kraken::{
    CfgChange, Context, Event, Failure, Keeper, Kraken, KrakenError, Limit, Module, Options, Order,
    Scope, Settings, Tasks, What, chain,
};
use kraken_model::{Change, Document, Field, NodeId, Patch, Path, Registry, Schema};
use kraken_plan::{Context as Taker, ModuleSet, Mutation, Retry};
use kraken_store::{Memory, Store, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Panics for one node, hangs for another, refuses a third, and serves the rest.
struct Moody;

#[async_trait]
impl Module for Moody {
    fn name(&self) -> &str {
        "lamp"
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        match order.node.as_str() {
            "panics" => panic!("a mistake in the module"),
            "hangs" => std::future::pending().await,
            "fails" => Err(Failure { reason: "no bulb".to_owned(), permanent: false }),
            _ => {
                let on = Change::set(Path::known("lamp"), "ON");
                context.discover(&order.node, vec![on]).await;
                Ok(())
            }
        }
    }
}

async fn start(store: impl Store + 'static) -> (Kraken, Tasks) {
    let lamp = Field::variable("lamp", &["UNKNOWN", "OFF", "ON"], "whether it is lit").unwrap();
    let busy =
        Field::variable("busy", &["UNKNOWN", "FREE", "BUSY"], "whether it is read by").unwrap();
    let schema = Schema { name: "lamp".to_owned(), fields: vec![lamp, busy] };
    let registry = Registry::new(vec![schema]).unwrap();
    let retry =
        Retry { base: Duration::from_millis(20), cap: Duration::from_millis(50), limit: None };
    let on = Mutation::new("lamp", "on", Taker::Child)
        .moves("lamp", "UNKNOWN", "ON")
        .timeout(Duration::from_millis(500))
        .retry(retry);
    let modules = ModuleSet::new(&registry, vec![on]).unwrap();
    Kraken::start(Options {
        registry: Arc::new(registry),
        modules: Arc::new(modules),
        hosted: vec![Arc::new(Moody)],
        keeper: Keeper::new(Box::new(store)),
        settings: Settings::default(),
    })
    .await
    .unwrap()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn lit(name: &str) -> (NodeId, Option<Document>) {
    let mut cfg = Document::new();
    cfg.set(Path::known("lamp"), "ON");
    (node(name), Some(cfg))
}

async fn until_lit(kraken: &Kraken, name: &str) {
    let mut subscription = kraken.views().subscribe();
    let lit = || kraken.views().get(&node(name)).is_some_and(|v| v.dsc.text("lamp") == Some("ON"));
    let seen = tokio::time::timeout(PATIENCE, async {
        while !lit() {
            subscription.changed().await;
        }
    });
    seen.await.unwrap();
}

async fn event(kraken: &Kraken, name: &str, wanted: impl Fn(&What) -> bool) -> Event {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let events = kraken.events(1, 10_000, Some(node(name))).await.unwrap();
            if let Some(event) = events.into_iter().find(|event| wanted(&event.entry.what)) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_panics_hangs_or_fails_costs_its_own_node_only() {
    let (kraken, tasks) = start(Memory::default()).await;
    let names = ["panics", "hangs", "fails", "works"];
    kraken.configure(names.map(lit).to_vec(), "test").await.unwrap();
    until_lit(&kraken, "works").await;
    let said = |text: &'static str| move |what: &What| matches!(what, What::Failed { reason, .. } if reason.contains(text));
    event(&kraken, "panics", said("a mistake in the module")).await;
    event(&kraken, "fails", said("no bulb")).await;
    event(&kraken, "hangs", |what| matches!(what, What::TimedOut { answered: false, .. })).await;
    kraken.configure(vec![lit("later")], "test").await.unwrap();
    until_lit(&kraken, "later").await;
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_with_the_reason_and_works_later() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    disk.fill(true);
    let refused = kraken.configure(vec![lit("works")], "test").await.unwrap_err();
    assert!(matches!(refused, KrakenError::Keep(StoreError::Full { .. })));
    let text = chain(&refused);
    assert!(text.contains("nothing was changed") && text.contains("no room left"), "{text}");
    assert!(kraken.views().is_empty());
    disk.fill(false);
    kraken.configure(vec![lit("works")], "test").await.unwrap();
    until_lit(&kraken, "works").await;
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_the_disk_was_full_is_in_the_journal_afterwards() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("fails")], "test").await.unwrap();
    event(&kraken, "fails", |what| matches!(what, What::Failed { .. })).await;
    disk.fill(true);
    let failures = |events: &[Event]| {
        events
            .iter()
            .filter_map(|e| match e.entry.what {
                What::Failed { failures, .. } => Some(failures),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let text = || async { kraken.explain(&node("fails")).await.unwrap().to_string() };
    let before = text().await;
    let failed_on = tokio::time::timeout(PATIENCE, async {
        while text().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    failed_on.await.unwrap();
    disk.fill(false);
    event(&kraken, "fails", |what| matches!(what, What::Failed { failures: 4.., .. })).await;
    let all = kraken.events(1, 10_000, Some(node("fails"))).await.unwrap();
    let counted = failures(&all);
    let whole: Vec<u32> = (1..=counted.len() as u32).collect();
    assert_eq!(counted, whole, "some were lost");
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_numbered_without_gaps_and_watched_as_they_are_read() {
    let (kraken, tasks) = start(Memory::default()).await;
    let mut watched = kraken.watch();
    kraken.configure(vec![lit("a"), lit("b")], "test").await.unwrap();
    let mut seen = Vec::new();
    let both = tokio::time::timeout(PATIENCE, async {
        let mut converged = 0;
        while converged < 2 {
            let event = watched.recv().await.unwrap();
            converged += usize::from(matches!(event.entry.what, What::Converged));
            seen.push(event);
        }
    });
    both.await.unwrap();
    let numbers: Vec<u64> = seen.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (numbers[0]..numbers[0] + numbers.len() as u64).collect::<Vec<_>>());
    let read = kraken.events(numbers[1], numbers.len() - 1, None).await.unwrap();
    let read: Vec<_> = read.into_iter().map(|event| (event.seq, event.entry)).collect();
    let expected: Vec<_> = seen[1..].iter().map(|e| (e.seq, e.entry.clone())).collect();
    assert_eq!(read, expected);
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_ends_soon_whoever_still_holds_it() {
    let (kraken, tasks) = start(Memory::default()).await;
    kraken.configure(vec![lit("hangs"), lit("works")], "test").await.unwrap();
    until_lit(&kraken, "works").await;
    let (other, events) = (kraken.clone(), kraken.watch());
    let asked = Instant::now();
    kraken.stop();
    tokio::time::timeout(Duration::from_secs(5), tasks.ended()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let late = other.configure(vec![lit("late")], "test").await;
    assert!(matches!(late, Err(KrakenError::Ended)), "{late:?}");
    drop(events);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_is_configured_only_while_nothing_else_was() {
    let (kraken, tasks) = start(Memory::default()).await;
    let first = kraken.configure(vec![lit("hangs")], "test").await.unwrap();
    let (outlook, revision) = kraken.outlook().await.unwrap();
    assert_eq!(revision, first);
    let cfg = [lit("hangs"), lit("works")].map(|(node, cfg)| (node, cfg.unwrap()));
    let plan = outlook.plan(&cfg.into(), &[]);
    let planned: Vec<_> = plan.nodes.iter().map(|n| (n.node.as_str(), &n.steps[..])).collect();
    assert_eq!(planned, [("works", &["lamp.on".into()][..])]);
    assert_eq!(kraken.views().len(), 1, "planning changed something");
    kraken.configure(vec![lit("other")], "test").await.unwrap();
    let at = |revision| CfgChange {
        at: Some(revision),
        ..CfgChange::of(vec![(node("works"), Patch::Replace(lit("works").1.unwrap()))])
    };
    let late = kraken.change(at(revision), "test").await.unwrap_err();
    assert!(matches!(late, KrakenError::Moved { planned, now } if planned + 1 == now), "{late}");
    assert!(kraken.views().get(&node("works")).is_none());
    kraken.change(at(revision + 1), "test").await.unwrap();
    until_lit(&kraken, "works").await;
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_while_it_runs() {
    let (kraken, tasks) = start(Memory::default()).await;
    let one = vec![Limit::at_most(1, Scope::All)];
    kraken.limit(one.clone(), "anna").await.unwrap();
    kraken.limit(one, "anna").await.unwrap();
    kraken.configure(vec![lit("hangs"), lit("works")], "test").await.unwrap();
    let text = kraken.explain(&node("works")).await.unwrap().to_string();
    assert!(text.contains("waits for a limit on all steps: 1 of 1 under way"), "{text}");
    kraken.limit(Vec::new(), "bert").await.unwrap();
    until_lit(&kraken, "works").await;
    let events = kraken.latest_events(100).await.unwrap();
    let told = events.into_iter().filter_map(|event| match event.entry.what {
        What::Limits { limits } => Some((event.entry.by, limits)),
        _ => None,
    });
    let one = vec!["all steps: 1 at a time".into()];
    assert_eq!(told.collect::<Vec<_>>(), [("anna".into(), one), ("bert".into(), Vec::new())]);
    kraken.stop();
    tasks.ended().await;
}
