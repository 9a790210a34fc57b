//! Moves the field by the clock, and carries between it and the engine.

use crate::chaos::{Chaos, Drawn};
use crate::fault::Target;
use crate::ledger::{Fault, Ledger, Strike};
use crate::module::NAMES;
use kraken::{Clock, Context, Failure, OnLog, Subscription, View};
use kraken_engine::DispatchId;
use kraken_model::{Millis, NodeId, NodeSet};
use kraken_sim::{Field, Ordered, ParentCounters, Said, Seen};
use layercake_schema::module;
use layercake_server::Pace;
use layercake_sim::Layercake;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How many events happen at the most before those who wait are heard.
const BATCH: usize = 1_000;

/// How many asks are taken at a time.
const ASKS: usize = 256;

/// The name under which faults stand that came by themselves.
const CHAOS: &str = "chaos";

/// The address of the rack in which a machine stands.
pub(crate) const RACK: &str = "location.rack";

/// What modules bring.
pub(crate) enum Ask {
    /// A module begins, and can tell from now on what is found out.
    Begin { module: &'static str, context: Box<Context> },
    /// An order.
    Order { order: Box<Ordered>, reply: oneshot::Sender<Result<(), Failure>> },
}

/// What the driver, the modules and the API have in common.
#[derive(Default)]
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    /// Orders that were dropped, as many as there are under way at the most.
    interrupts: Mutex<Vec<DispatchId>>,
    some: Notify,
    behind_ms: AtomicU64,
    sync: Mutex<ParentCounters>,
}

impl Shared {
    /// The faults, to be changed: what follows is carried out at once.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let changed = change(&mut self.ledger());
        self.some.notify_one();
        changed
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interrupt(&self, id: DispatchId) {
        self.interrupts.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        self.some.notify_one();
    }

    /// How far the machines are behind the clock, in their own time.
    pub(crate) fn behind(&self) -> Duration {
        Duration::from_millis(self.behind_ms.load(Ordering::Relaxed))
    }

    /// What the parent's side of sync has counted.
    pub(crate) fn sync_counters(&self) -> serde_json::Value {
        let counters = *self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(counters).unwrap_or_default()
    }
}

/// Whoever moves the field.
pub(crate) struct Driver {
    pub(crate) field: Field<Layercake>,
    pub(crate) pace: Pace,
    pub(crate) chaos: Option<Chaos>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    /// Takes what nodes print.
    pub(crate) on_log: OnLog,
    pub(crate) stop: CancellationToken,
}

/// A driver at work.
struct Drive {
    driver: Driver,
    clock: Clock,
    /// The same moment here and on the field.
    began: (Millis, Millis),
    /// When the next fault comes by itself.
    chaos_at: Option<Millis>,
    contexts: HashMap<&'static str, Context>,
    subscription: Option<Subscription>,
    waiting: HashMap<DispatchId, oneshot::Sender<Result<(), Failure>>>,
}

impl Driver {
    /// Moves the field until it is to stop.
    pub(crate) async fn run(self) {
        let clock = Clock::start();
        let began = (clock.now(), self.field.now());
        let mut drive = Drive {
            driver: self,
            clock,
            began,
            chaos_at: None,
            contexts: HashMap::new(),
            subscription: None,
            waiting: HashMap::new(),
        };
        drive.plan_chaos();
        drive.run().await;
    }
}

impl Drive {
    async fn run(&mut self) {
        let stop = self.driver.stop.clone();
        let shared = Arc::clone(&self.driver.shared);
        let mut asks = Vec::with_capacity(ASKS);
        loop {
            let now = self.clock.now();
            let is_caught_up = self.driver.field.advance(self.there(now), BATCH);
            self.tell_how_it_is(now);
            self.strike(now);
            self.tell().await;
            let wake = self.next().map(|at| self.clock.instant(at));
            // Every arm is cancel-safe: nothing is taken that is not handled.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.driver.asks.recv_many(&mut asks, ASKS) => {
                    // All modules are gone, and with them the server.
                    if asks.is_empty() {
                        return;
                    }
                    asks.drain(..).for_each(|ask| self.take(ask));
                }
                changed = changed(&mut self.subscription) => self.see(changed),
                () = shared.some.notified() => {}
                // A timer would take a millisecond, in which much happens on a large field.
                () = tokio::task::yield_now(), if !is_caught_up => {}
                () = sleep_until(wake), if is_caught_up => {}
            }
        }
    }

    /// What time it is on the field.
    fn there(&self, now: Millis) -> Millis {
        let (here, there) = self.began;
        there.plus(self.driver.pace.there(now.since(here)))
    }

    /// What time it is here when it is that time on the field.
    fn here(&self, at: Millis) -> Millis {
        let (here, there) = self.began;
        // A timer that fires a little early finds nothing to do and is set again for nothing.
        Millis(here.plus(self.driver.pace.here(at.since(there))).0 + 1)
    }

    /// When something is to be done next.
    fn next(&self) -> Option<Millis> {
        let happens = self.driver.field.next().map(|at| self.here(at));
        let ends = self.driver.shared.ledger().next();
        [happens, ends, self.chaos_at].into_iter().flatten().min()
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Begin { module, context } => {
                self.contexts.insert(module, *context);
                let sync = self.contexts.get(module::SYNC);
                // What is found out before is heard by nobody, so nobody looks before.
                if let Some(sync) = sync.filter(|_| self.contexts.len() == NAMES.len()) {
                    self.subscription.get_or_insert_with(|| sync.subscribe());
                }
            }
            Ask::Order { order, reply } => {
                // The order may be the first that is heard of its node.
                let changed = self.subscription.as_mut().map(Subscription::take);
                self.see(changed.unwrap_or_default());
                self.waiting.insert(order.id.clone(), reply);
                self.driver.field.order(*order);
            }
        }
    }

    fn see(&mut self, changed: Vec<(NodeId, Option<View>)>) {
        for (node, view) in changed {
            match view {
                Some(View { cfg, passing, dsc, held, permitted, .. }) => {
                    let cfg = passing.unwrap_or(cfg);
                    let seen = Seen { cfg, dsc, is_held: held, permitted };
                    self.driver.field.see(&node, seen);
                }
                None => self.driver.field.forget(&node),
            }
        }
    }

    /// Tells the engine what the field says.
    async fn tell(&mut self) {
        for said in self.driver.field.take_said() {
            match said {
                Said::Found { node, changes, by } => {
                    let Some(context) = self.contexts.get(by.as_ref()) else { continue };
                    tokio::select! {
                        () = context.discover(&node, changes) => {}
                        // Nobody listens any more.
                        () = self.driver.stop.cancelled() => return,
                    }
                }
                Said::Printed { node, stream, lines } => {
                    lines.iter().for_each(|line| (self.driver.on_log)(&node, &stream, line));
                }
                Said::Answer { id, result } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        // It may have been interrupted just now.
                        let _ = reply.send(result);
                    }
                }
            }
        }
    }

    /// Does what faults and dropped orders ask for.
    fn strike(&mut self, now: Millis) {
        let shared = Arc::clone(&self.driver.shared);
        let dropped = {
            let mut dropped = shared.interrupts.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dropped)
        };
        for id in dropped {
            self.waiting.remove(&id);
            self.driver.field.interrupt(&id);
        }
        if self.chaos_at.is_some_and(|at| at <= now) {
            self.come_by_itself(now);
            self.plan_chaos();
        }
        let strikes = {
            let mut ledger = shared.ledger();
            ledger.expire(now);
            ledger.take()
        };
        let field = &mut self.driver.field;
        for strike in strikes {
            match strike {
                Strike::Blow(node, blow, begins) => field.strike(&node, blow, begins),
                Strike::Cut(node, begins) => field.cut(&node, begins),
                Strike::Crash(node) => field.crash_agent(&node),
                Strike::Noise(noise) => field.noise(noise),
            }
        }
    }

    fn plan_chaos(&mut self) {
        let pace = self.driver.pace;
        let pause = self.driver.chaos.as_mut().map(Chaos::pause);
        self.chaos_at = pause.map(|pause| self.clock.now().plus(pace.here(pause)));
    }

    /// A fault comes by itself, if there is anything that it could hit.
    fn come_by_itself(&mut self, now: Millis) {
        let Some(context) = self.contexts.get(module::SYNC) else { return };
        let all = context.views().all();
        let Some(chaos) = self.driver.chaos.as_mut().filter(|_| !all.is_empty()) else { return };
        let drawn = chaos.draw(all.len());
        let until = Some(now.plus(self.driver.pace.here(drawn.lasts)));
        let Some((rack, nodes)) = hit(drawn, &all) else { return };
        let (kind, by) = (drawn.kind, CHAOS.into());
        let fault = Fault { id: 0, kind, rack, nodes, since: now, until, by };
        // When there are too many already, one less is no loss.
        let _ = self.driver.shared.change(|ledger| ledger.add(fault));
    }

    fn tell_how_it_is(&self, now: Millis) {
        let shared = &self.driver.shared;
        let behind = self.there(now).since(self.driver.field.now());
        let behind = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
        shared.behind_ms.store(behind, Ordering::Relaxed);
        let counters = self.driver.field.sync_counters();
        *shared.sync.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Which nodes a fault hits that came by itself, and in which rack.
fn hit(drawn: Drawn, all: &BTreeMap<NodeId, View>) -> Option<(Option<String>, NodeSet)> {
    match drawn.kind.target() {
        Target::All => Some((None, NodeSet::new())),
        Target::Nodes => {
            let nodes = all.keys().skip(drawn.first).take(drawn.count);
            Some((None, nodes.cloned().collect()))
        }
        Target::Rack => {
            let rack = all.values().nth(drawn.first)?.cfg.text(RACK)?;
            let nodes = all.iter().filter(|(_, view)| view.cfg.text(RACK) == Some(rack));
            Some((Some(rack.to_owned()), nodes.map(|(node, _)| node.clone()).collect()))
        }
    }
}

async fn changed(subscription: &mut Option<Subscription>) -> Vec<(NodeId, Option<View>)> {
    match subscription {
        Some(subscription) => subscription.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
