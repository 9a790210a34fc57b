//! Hosting modules: what each of them may say, and its being started again when it broke off. Those
//! that are services are started and stopped by the planner instead.

use crate::flood::{Flood, Judged, Told};
use crate::health::{Health, ModuleState, ModuleStatus, Pauses};
use crate::module::{Context, Module};
use crate::views::{View, Views};
use kraken_model::{Change, NodeId, Path};
use kraken_plan::ModuleSet;
use kraken_plan::service::SERVICE;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How many discoveries of one module wait for the engine before the module waits too: a part of
/// the queue, so that one that floods leaves room for the others.
const PLACES: usize = 256;

/// How long a module may take to end when the application does.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A module that runs here, and what it sees of the application.
#[derive(Clone)]
pub(crate) struct Hosted {
    pub(crate) module: Arc<dyn Module>,
    pub(crate) context: Context,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// What belongs to one module, wherever it speaks.
pub(crate) struct Desk {
    pub(crate) health: Arc<Health>,
    pub(crate) places: Arc<Semaphore>,
    flood: Mutex<Flood>,
    moves: BTreeSet<Path>,
    module: Arc<dyn Module>,
}

impl Desk {
    /// Whether a value at this address is its to discover.
    pub(crate) fn may_discover(&self, path: &Path) -> bool {
        self.moves.contains(path) || self.module.discovers(path)
    }

    fn flood(&self) -> MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out of what is said of a node what is held back while the module floods; whether a flood
    /// begins with it. `None`: there is no such node.
    pub(crate) fn contain(
        &self,
        views: &Views,
        node: &NodeId,
        changes: &mut Vec<Change>,
    ) -> Option<bool> {
        let judge = |view: &View, nodes| {
            let is_new = |c: &Change| view.dsc.get(c.path.as_str()) != c.value.as_ref();
            self.flood().judge(Instant::now(), nodes, Told { node, changes, is_new: &is_new })
        };
        let Judged { begins, replaced } = views.look(node, judge)?;
        self.health.held_back(replaced);
        if let Some(path) = &begins {
            self.health.floods(node, path);
        }
        Some(begins.is_some())
    }
}

impl Hosted {
    pub(crate) fn new(module: Arc<dyn Module>, set: &ModuleSet, context: &Context) -> Self {
        let name = module.name();
        let own = set.mutations().filter(|(_, mutation)| *mutation.module == *name);
        let moves = own.flat_map(|(_, m)| m.effects.iter().map(|e| e.variable.clone())).collect();
        let desk = Desk {
            health: Health::new(name, module.kind(), context.news.clone(), context.clock),
            places: Arc::new(Semaphore::new(PLACES)),
            flood: Mutex::default(),
            moves,
            module: Arc::clone(&module),
        };
        // It can be stopped alone.
        let context = Context { stop: context.stop.child_token(), ..context.at(name, desk) };
        Self { module, context, ended: CancellationToken::new() }
    }

    /// Whether the planner is in charge of its running.
    pub(crate) fn is_service(&self) -> bool {
        self.module.service().is_some() || self.module.name() == SERVICE
    }

    /// Stops it, and waits until it has ended: another one of its name may follow.
    pub(crate) async fn stop(&self) {
        self.context.stop.cancel();
        self.ended.cancelled().await;
    }

    pub(crate) fn status(&self) -> Option<ModuleStatus> {
        self.context.health().map(Health::status)
    }

    /// Runs the module until the application ends; one that panics is started again after a pause.
    /// What it does not say meanwhile is all that is lost: its steps are still taken.
    pub(crate) async fn keep_running(self) {
        let _ended = self.ended.clone().drop_guard();
        let Some(health) = self.context.health() else { return };
        let stop = self.context.stop.clone();
        let mut pauses = Pauses::default();
        loop {
            let began = Instant::now();
            let (module, context) = (Arc::clone(&self.module), self.context.clone());
            let mut running = JoinSet::new();
            health.running();
            running.spawn(async move { module.run(context).await });
            let too_late = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                () = too_late => {
                    tracing::warn!(module = self.module.name(), "did not end; it is dropped");
                    return;
                }
            };
            let Some(Err(error)) = ended else {
                if matches!(health.status().state, ModuleState::Running | ModuleState::Blind) {
                    health.idle();
                }
                return;
            };
            health.broke_off(&format!("it panicked: {}", panic_text(error)));
            tokio::select! {
                () = tokio::time::sleep(pauses.after(began.elapsed())) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// Takes, interval by interval, what is held back of a module that floods, until it does no longer.
pub(crate) async fn keep_releasing(context: Context) {
    let Some(desk) = &context.desk else { return };
    loop {
        let Some(due) = desk.flood().due() else { return };
        let is_last = tokio::select! {
            () = context.stop.cancelled() => true,
            () = tokio::time::sleep_until(due.into()) => false,
        };
        let released = desk.flood().release(Instant::now(), context.views.len(), is_last);
        for (node, changes) in released.said {
            context.pass_on(&node, changes).await;
        }
        if let Some((lasted, replaced)) = released.over {
            desk.health.calmed(lasted, replaced);
            return;
        }
    }
}

/// What a task said when it panicked.
pub(crate) fn panic_text(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic().map(AssertUnwindSafe) else {
        return "it was cancelled".to_owned();
    };
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a word".to_owned(),
    }
}
