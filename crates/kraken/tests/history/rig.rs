//! A small application whose store lasts: lamps that a module switches on.

use async_trait::async_trait;
use kraken::{Context, Event, Failure, Keeper, Kraken, Module, Options, Order, Settings, Tasks};
use kraken_model::{Change, Document, Field, Format, Kind, NodeId, Path, Registry, Schema, Side};
use kraken_plan::{Context as Taker, Guard, ModuleSet, Mutation};
use kraken_store::{Bounds, Embedded};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Switches lamps on, at once.
struct Lamps;

#[async_trait]
impl Module for Lamps {
    fn name(&self) -> &str {
        "lamp"
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        context.discover(&order.node, vec![Change::set(Path::known("lamp"), "ON")]).await;
        Ok(())
    }
}

pub(crate) fn registry() -> Registry {
    let states = |path: &str, values: &[&str]| Field::variable(path, values, "a state").unwrap();
    let fields = vec![
        states("lamp", &["UNKNOWN", "OFF", "ON"]),
        states("busy", &["UNKNOWN", "FREE", "BUSY"]),
        Field::new("note.*", Kind::Text(Format::Any), &[Side::Cfg, Side::Dsc], "a note").unwrap(),
    ];
    Registry::new(vec![Schema { name: "lamp".to_owned(), fields }]).unwrap()
}

pub(crate) struct Application {
    pub(crate) kraken: Kraken,
    tasks: Tasks,
}

impl Application {
    pub(crate) async fn start(store: &std::path::Path) -> Self {
        Self::start_bounded(store, Bounds::default()).await
    }

    pub(crate) async fn start_bounded(store: &std::path::Path, bounds: Bounds) -> Self {
        let registry = registry();
        let on = |from: &str| {
            Mutation::new("lamp", &format!("from-{}", from.to_lowercase()), Taker::Child)
                .moves("lamp", from, "ON")
                .excludes(Guard::is("busy", "BUSY"))
        };
        let modules = ModuleSet::new(&registry, vec![on("UNKNOWN"), on("OFF")]).unwrap();
        let (kraken, tasks) = Kraken::start(Options {
            registry: Arc::new(registry),
            modules: Arc::new(modules),
            hosted: vec![Arc::new(Lamps)],
            keeper: Keeper::new(Box::new(Embedded::open(store).unwrap())).bounded(bounds),
            settings: Settings::default(),
        })
        .await
        .unwrap();
        Self { kraken, tasks }
    }

    pub(crate) async fn stop(self) {
        self.kraken.stop();
        self.tasks.ended().await;
    }

    /// Waits until the nodes are so that `wanted` holds.
    pub(crate) async fn until(&self, wanted: impl Fn(&Kraken) -> bool) {
        let mut subscription = self.kraken.views().subscribe();
        let seen = tokio::time::timeout(PATIENCE, async {
            while !wanted(&self.kraken) {
                subscription.changed().await;
            }
        });
        seen.await.unwrap();
    }

    /// The events of a node, once one of them is as `wanted`.
    pub(crate) async fn told(&self, name: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut watched = self.kraken.watch();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let events = self.kraken.events(1, 10_000, Some(node(name))).await.unwrap();
                if events.iter().any(&wanted) {
                    return events;
                }
                // Whether it was lagging or not: something has happened.
                let _ = watched.recv().await;
            }
        });
        found.await.unwrap()
    }
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn lit() -> Document {
    let mut cfg = Document::new();
    cfg.set(Path::known("lamp"), "ON");
    cfg
}
