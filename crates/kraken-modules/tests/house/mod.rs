//! A house with a lamp and a door, to see whether the one suffers from the other.
#![allow(dead_code)]

use kraken::{Entry, Keeper, Kraken, ModuleStatus, Options, Settings, Tasks};
use kraken_model::{Document, NodeId, Path, Registry};
use kraken_modules::Modules;
use kraken_plan::ModuleSet;
use kraken_store::Memory;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const LAMP: &str = "module: lamp
variables: { lamp: { values: [UNKNOWN, ON] } }
discover: { shell: 'if [ $KRAKEN_NODE = b ]; then echo lamp=ON; fi', every: 200ms }
mutations: { light: { moves: { lamp: [UNKNOWN, ON] }, shell: 'exit 0' } }
";

/// An application with two modules: a lamp that works, and whatever a test makes of the door.
pub(crate) struct House {
    pub(crate) kraken: Kraken,
    pub(crate) tasks: Tasks,
    pub(crate) dir: tempfile::TempDir,
}

impl House {
    pub(crate) async fn open(door: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lamp.yaml"), LAMP).unwrap();
        std::fs::write(dir.path().join("door.yaml"), door).unwrap();
        let modules = Modules::read(dir.path(), &[], &[]).unwrap();
        let registry = Arc::new(Registry::new(modules.schemas()).unwrap());
        let mut mutations = Vec::new();
        modules.extend(&mut mutations);
        let set = ModuleSet::new(&registry, mutations).unwrap();
        let (kraken, tasks) = Kraken::start(Options {
            hosted: modules.hosted(&registry, dir.path()),
            registry,
            modules: Arc::new(set),
            keeper: Keeper::new(Box::new(Memory::default())),
            settings: Settings::default(),
        })
        .await
        .unwrap();
        let writes = [("a", "door", "SHUT"), ("b", "lamp", "ON")].map(|(name, path, value)| {
            let mut cfg = Document::new();
            cfg.set(Path::known(path), value);
            (node(name), Some(cfg))
        });
        kraken.configure(writes.to_vec(), "test").await.unwrap();
        Self { kraken, tasks, dir }
    }

    pub(crate) fn status(&self, name: &str) -> ModuleStatus {
        self.kraken.hosted().into_iter().find(|module| module.name == name).unwrap()
    }

    pub(crate) fn is(&self, name: &str, path: &str, value: &str) -> bool {
        let view = self.kraken.views().get(&node(name));
        view.is_some_and(|view| view.dsc.text(path) == Some(value))
    }

    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.kraken.hosted());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn until_explained(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.kraken.explain(&node("a")).await.unwrap().to_string();
            if text.contains(words) {
                return;
            }
            assert!(Instant::now() < deadline, "{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The module beside it works on, and everything ends when it should.
    /// The first entry of the journal of such a kind, once there is one.
    #[allow(dead_code)]
    pub(crate) async fn until_told(&self, kind: &str) -> Entry {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.kraken.latest_events(1_000).await.unwrap();
            let told = events.into_iter().map(|e| e.entry).find(|e| e.what.name() == kind);
            if let Some(entry) = told {
                return entry;
            }
            assert!(Instant::now() < deadline, "nothing {kind}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn close(self) {
        self.until("b is not lit", |house| house.is("b", "lamp", "ON")).await;
        let lamp = self.status("lamp");
        assert_eq!((lamp.refused, lamp.last_error), (0, None));
        self.kraken.stop();
        tokio::time::timeout(PATIENCE, self.tasks.ended()).await.unwrap();
    }
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}
