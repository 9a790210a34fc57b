//! The simulated world, as a server starts and ends it.

use crate::api::{self, Desk};
use crate::chaos::Chaos;
use crate::driver::{Driver, Shared};
use crate::module::{NAMES, SimModule};
use async_trait::async_trait;
use axum::Router;
use kraken::{Module, View};
use kraken_model::{Document, NodeId};
use kraken_sim::Field;
use layercake_server::api::Selection;
use layercake_server::{Console, Counters, Machines, Pace, Setup, World, WorldError};
use layercake_sim::Layercake;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many asks wait for the field before those who bring them wait too.
const QUEUE: usize = 1024;

/// Simulated machines, as many as the cluster file names.
pub struct Simulation {
    seed: u64,
    pace: Pace,
    chaos_per_hour: f64,
    shared: Arc<Shared>,
}

impl Simulation {
    /// Machines that do what a seed says, at a pace; and so many faults that come by themselves in an
    /// hour of theirs, on average.
    #[must_use]
    pub fn new(seed: u64, pace: Pace, chaos_per_hour: f64) -> Self {
        Self { seed, pace, chaos_per_hour, shared: Arc::default() }
    }
}

/// The machines while they run.
struct Running {
    modules: Vec<Arc<dyn Module>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl World for Simulation {
    async fn start(&self, setup: Setup<'_>) -> Result<Box<dyn Machines>, WorldError> {
        let (told, on_log) = (setup.told, setup.on_log);
        let told = move |cfg: Document, dsc: &Document, held: bool| {
            told(&View { cfg, dsc: dsc.clone(), held, ..View::default() })
        };
        let (seed, pace) = (self.seed, self.pace);
        let timing = setup.cluster.settings.timing.clone();
        let chaos = Chaos::new(seed, self.chaos_per_hour);
        let (sender, asks) = mpsc::channel(QUEUE);
        let (shared, stop) = (Arc::clone(&self.shared), CancellationToken::new());
        let module = |name| -> Arc<dyn Module> {
            let (asks, shared) = (sender.clone(), Arc::clone(&self.shared));
            Arc::new(SimModule { name, asks, shared })
        };
        let modules = NAMES.map(module).into();
        let stopped = stop.clone();
        let other = |error: std::io::Error| WorldError::Other(error.into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(other)?;
        // A thread of its own: thousands of machines keep one busy, and nobody else has to wait.
        let drive = move || {
            let field = Field::new(Layercake::served(&timing, Arc::new(told)), seed);
            let driver = Driver { field, pace, chaos, shared, asks, on_log, stop: stopped };
            runtime.block_on(driver.run());
        };
        let thread = std::thread::Builder::new().name("machines".to_owned()).spawn(drive);
        let thread = Mutex::new(Some(thread.map_err(other)?));
        Ok(Box::new(Running { modules, shared: Arc::clone(&self.shared), stop, thread }))
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn makes_up_images(&self) -> bool {
        true
    }

    fn routes(&self, nodes: Selection) -> Router {
        let (seed, pace, chaos_per_hour) = (self.seed, self.pace, self.chaos_per_hour);
        api::router(Desk { nodes, shared: Arc::clone(&self.shared), seed, pace, chaos_per_hour })
    }
}

#[async_trait]
impl Machines for Running {
    fn hosted(&self) -> Vec<Arc<dyn Module>> {
        self.modules.clone()
    }

    fn counters(&self) -> Counters {
        let nothing = || serde_json::json!({});
        Counters {
            boot: nothing(),
            images: nothing(),
            sync: self.shared.sync_counters(),
            news: serde_json::json!([]),
        }
    }

    async fn console(&self, node: &NodeId, _cfg: &Document) -> Result<Console, String> {
        Err(format!("the machine of {node} is simulated and has none"))
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the simulation broke off");
        }
    }
}
