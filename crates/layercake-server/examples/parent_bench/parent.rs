//! The parent: engine, views, sync and store as they ship, with modules that do at once what they
//! are asked for.

use crate::nodes;
use crate::obedient::Obedient;
use kraken::{
    Identity, Keeper, Kraken, Module, Options, Settings, SyncOptions, SyncParent, Tasks, What,
};
use kraken_model::{Change, NodeId, Path, Registry};
use kraken_plan::ModuleSet;
use kraken_store::Embedded;
use layercake_schema::{Timing, node_owns, run_state};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long the engine waits for all nodes to join: all of them join at once, and none hangs.
const JOIN: Duration = Duration::from_secs(3_600);

/// A running parent.
pub(crate) struct Site {
    kraken: Kraken,
    sync: Arc<SyncParent>,
    tasks: Tasks,
    resident: u64,
    _dir: tempfile::TempDir,
}

/// Memory of this process that is really there, in bytes (proc(5), statm: the second field, in
/// pages of 4 KiB).
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn sync_options(hello: Duration) -> SyncOptions {
    let silent = Timing::default().silent;
    SyncOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        hello,
        silent,
        return_within: SyncOptions::time_to_return(hello, silent),
        node_owns: Arc::new(node_owns),
        disproved: Vec::new(),
        told: Arc::new(|view| view.cfg.clone()),
        on_log: Arc::new(|_, _, _| {}),
    }
}

impl Site {
    /// A parent with so many nodes, whose machines have power and are about to join.
    pub(crate) async fn start(count: usize, hello: Duration) -> Self {
        let registry = Arc::new(Registry::new(layercake_schema::schemas()).unwrap());
        let timing = Timing { join: JOIN, ..Timing::default() };
        let mutations = layercake_schema::mutations(&timing);
        let modules = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path().join("kraken.redb")).unwrap();
        let keeper = Keeper::new(Box::new(store));
        let identity = Identity::generate().unwrap();
        let options = sync_options(hello);
        let sync = SyncParent::bind(options, &identity, keeper.clone()).await.unwrap();
        let mut hosted: Vec<Arc<dyn Module>> = vec![sync.clone()];
        for name in ["power", "boot"] {
            hosted.push(Arc::new(Obedient(name, Arc::clone(&modules))));
        }
        let (kraken, tasks) = Kraken::start(Options {
            registry,
            modules,
            hosted,
            keeper,
            settings: Settings::default(),
        })
        .await
        .unwrap();
        let resident = resident();
        let site = Self { kraken, sync, tasks, resident, _dir: dir };
        for first in (0..count).step_by(1_000) {
            let some = first..count.min(first + 1_000);
            let writes = some.map(|n| (nodes::name(n), Some(nodes::cfg(n)))).collect();
            site.kraken.configure(writes, "bench").await.unwrap();
        }
        site.until_all(count, run_state::INIT).await;
        site
    }

    /// How much memory has grown since there were no nodes, in bytes.
    pub(crate) fn grown(&self) -> u64 {
        resident().saturating_sub(self.resident)
    }

    /// What every node is told at its boot, a line each, behind a line about the parent.
    pub(crate) async fn invitations(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", self.sync.address(), self.sync.pin())];
        for node in self.kraken.views().all().into_keys() {
            let (boot_id, token) = self.sync.mint(&node).await.unwrap();
            lines.push(format!("{node} {boot_id} {}", token.to_hex()));
        }
        lines
    }

    async fn until_all(&self, count: usize, state: &str) {
        let is_so = |node: &NodeId| {
            let view = self.kraken.views().get(node).unwrap();
            view.dsc.text(run_state::PATH) == Some(state)
        };
        let mut changes = self.kraken.views().subscribe();
        let mut there = BTreeSet::new();
        while there.len() < count {
            for (node, _) in changes.changed().await {
                if is_so(&node) {
                    there.insert(node);
                }
            }
        }
    }

    /// Waits until all nodes are in touch and their images known.
    pub(crate) async fn until_in_touch(&self, count: usize) {
        self.until_all(count, run_state::SYNC).await;
    }

    pub(crate) fn counters(&self) -> serde_json::Value {
        self.sync.counters()
    }

    /// How many hellos were handled: the counters are as of the last second.
    pub(crate) async fn hellos(&self) -> u64 {
        let counted = || self.counters()["hellos"].as_u64().unwrap_or(0);
        let mut last = counted();
        loop {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            if counted() == last {
                return last;
            }
            last = counted();
        }
    }

    /// Remembers every node that is declared dead from now on; told when asked.
    pub(crate) fn watch_deaths(&self) -> impl Future<Output = BTreeSet<NodeId>> + use<> {
        let mut events = self.kraken.watch();
        let (stop, mut stopped) = oneshot::channel::<()>();
        let is_death = |change: &Change| {
            *change == Change::set(Path::known(run_state::PATH), run_state::ERROR)
        };
        let watch: JoinHandle<BTreeSet<NodeId>> = tokio::spawn(async move {
            let mut dead = BTreeSet::new();
            loop {
                tokio::select! {
                    biased;
                    // Whoever falls behind would not know: then there is no result.
                    event = events.recv() => {
                        let entry = &event.unwrap().entry;
                        if let What::Discovered { changes } = &entry.what
                            && changes.iter().any(is_death)
                        {
                            dead.extend(entry.node.clone());
                        }
                    }
                    _ = &mut stopped => return dead,
                }
            }
        });
        async move {
            drop(stop);
            watch.await.unwrap()
        }
    }

    pub(crate) async fn end(self) {
        self.kraken.stop();
        self.tasks.ended().await;
    }
}
