//! What an application can do, and who does it: replaced as a whole while it runs.

use crate::host::Hosted;
use crate::module::{Context, Module};
use kraken_model::Registry;
use kraken_plan::ModuleSet;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::task::TaskTracker;

/// What may stand in a document, what modules can do, and those that run here.
#[derive(Clone)]
pub(crate) struct Equipment {
    pub(crate) registry: Arc<Registry>,
    pub(crate) modules: Arc<ModuleSet>,
    pub(crate) hosted: Arc<[Hosted]>,
}

/// The present equipment, for everybody who asks.
#[derive(Clone)]
pub(crate) struct Present {
    now: Arc<RwLock<Equipment>>,
    /// One who replaces it after the other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// The modules that run.
    tracker: TaskTracker,
    context: Context,
}

impl Equipment {
    /// The same with other modules: those that are among the present ones go on. Services stay.
    pub(crate) fn with(
        &self,
        registry: Arc<Registry>,
        modules: Arc<ModuleSet>,
        wanted: Vec<Arc<dyn Module>>,
        context: &Context,
    ) -> Self {
        let services = self.hosted.iter().filter(|one| one.is_service()).cloned();
        let host = |module: Arc<dyn Module>| {
            let present = self.hosted.iter().find(|one| Arc::ptr_eq(&one.module, &module));
            present.cloned().unwrap_or_else(|| Hosted::new(module, &modules, context))
        };
        let hosted = services.chain(wanted.into_iter().map(host)).collect();
        Self { registry, modules, hosted }
    }

    /// What runs here and not with another equipment.
    pub(crate) fn missing_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Hosted> {
        let is_there =
            |one: &Hosted| other.hosted.iter().any(|o| Arc::ptr_eq(&o.module, &one.module));
        self.hosted.iter().filter(move |one| !is_there(one))
    }
}

impl Present {
    pub(crate) fn new(equipment: Equipment, context: Context) -> Self {
        let (now, turn) = (Arc::new(RwLock::new(equipment)), Arc::default());
        Self { now, turn, tracker: TaskTracker::new(), context }
    }

    pub(crate) fn get(&self) -> Equipment {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, equipment: Equipment) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = equipment;
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Has a module run until it or the application is stopped.
    pub(crate) fn run(&self, hosted: &Hosted) {
        self.tracker.spawn(hosted.clone().keep_running());
    }

    /// Waits until all modules have ended, after the application was stopped.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
