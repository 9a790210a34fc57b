//! Whoever turns the engine: brings it what happened, and carries out what it says.

mod configure;
mod departed;

use crate::clock::Clock;
use crate::departed::Departed;
use crate::equipment::Equipment;
use crate::health::News;
use crate::host::{Hosted, panic_text};
use crate::journal::{HAND_OVER, Journal, WRITTEN_WITHIN};
use crate::keeper::Keeper;
use crate::lessons;
use crate::marks::{self, KeptMarks};
use crate::module::{Context, Discovery, Order, Said};
use crate::past::Moment;
use crate::runtime::KrakenError;
use crate::views::{Subscription, View};
pub use configure::{CfgChange, Configured, Reconfigured};
use kraken_engine::{
    Command, DispatchId, Engine, Entry, Explanation, Failure, Input, Lesson, Limit, Outlook,
    Output, Summary, What,
};
use kraken_model::{Millis, NodeId};
use kraken_plan::{ModuleSet, Mutation};
use kraken_store::{Store, StoreError, ValueWrite};
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

/// What is asked of the engine from outside.
pub(crate) enum Request {
    Configure {
        change: CfgChange,
        by: Arc<str>,
        reply: oneshot::Sender<Result<Configured, KrakenError>>,
    },
    Command {
        commands: Vec<Command>,
        by: Arc<str>,
        reply: oneshot::Sender<Result<(), KrakenError>>,
    },
    /// Whether every entry so far is written.
    Written {
        reply: oneshot::Sender<()>,
    },
    Discover {
        discovery: Discovery,
        /// Told when it is in the journal.
        reply: oneshot::Sender<()>,
    },
    Explain {
        node: NodeId,
        reply: oneshot::Sender<Option<Explanation>>,
    },
    Limits {
        limits: Vec<Limit>,
        by: Arc<str>,
        reply: oneshot::Sender<()>,
    },
    Outlook {
        reply: oneshot::Sender<(Outlook, u64)>,
    },
    Summary {
        reply: oneshot::Sender<Summary>,
    },
    /// Other modules count from now on.
    Equip {
        equipment: Equipment,
        by: Arc<str>,
        reply: oneshot::Sender<()>,
    },
}

/// How many inputs are taken in a row before requests, time and the end have their turn.
const BURST: usize = 256;

/// How often, at most, discovered documents are checkpointed: how far back a start has to read.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How often it is kept what steps were found to take: what a crash can cost.
const LESSONS_EVERY: Duration = Duration::from_secs(60);

/// The modules that run here, by their names, and who takes which mutation, by its number.
type Crew = (HashMap<Arc<str>, Arc<Hosted>>, Vec<Option<Arc<Hosted>>>);

fn crew(hosted: &[Hosted], modules: &ModuleSet) -> Crew {
    let named = |h: &Hosted| (Arc::from(h.module.name()), Arc::new(h.clone()));
    let hosted: HashMap<Arc<str>, Arc<Hosted>> = hosted.iter().map(named).collect();
    let taker = |(_, mutation): (_, &Arc<Mutation>)| hosted.get(&mutation.module).cloned();
    let takers = modules.mutations().map(taker).collect();
    (hosted, takers)
}

/// A module's attempt that came to its end.
type Ended = (DispatchId, Result<(), Failure>);

/// An attempt that is under way.
struct Running {
    id: DispatchId,
    module: Arc<str>,
    handle: AbortHandle,
}

/// The engine and everything that its outputs touch.
pub(crate) struct Engineer {
    engine: Engine,
    clock: Clock,
    keeper: Keeper,
    journal: Journal,
    hosted: HashMap<Arc<str>, Arc<Hosted>>,
    /// Who takes which mutation, by its number.
    takers: Vec<Option<Arc<Hosted>>>,
    modules: Arc<ModuleSet>,
    context: Context,
    attempts: JoinSet<Ended>,
    running: FxHashMap<NodeId, Running>,
    marks: KeptMarks,
    departed: Departed,
    /// Of which nodes (`None`: of all) operators have said something in this step.
    marked: Vec<Option<NodeId>>,
    /// What of that has ended in this step and is to be removed from what is kept.
    ended: Vec<ValueWrite>,
    /// How many commits of cfg there were.
    pub(crate) revision: u64,
    outputs: Vec<Output>,
    /// The journal says already what is configured in this step.
    is_journalled: bool,
    /// Entries on their way into the journal. Handed over when there is nothing else to do, or enough
    /// of them.
    entries: Vec<Entry>,
    /// What steps were found to take, as it is kept.
    lessons: Vec<Lesson>,
    /// Of which nodes something else is known than at the last checkpoint.
    known: Subscription,
    /// Something has happened since the last checkpoint.
    has_news: bool,
}

impl Engineer {
    pub(crate) fn new(
        engine: Engine,
        clock: Clock,
        keeper: Keeper,
        journal: Journal,
        hosted: &[Hosted],
        context: Context,
        modules: Arc<ModuleSet>,
    ) -> Self {
        let known = context.views.subscribe();
        let (hosted, takers) = crew(hosted, &modules);
        Self {
            engine,
            clock,
            keeper,
            journal,
            hosted,
            takers,
            modules,
            context,
            attempts: JoinSet::new(),
            running: FxHashMap::default(),
            marks: KeptMarks::default(),
            departed: Departed::default(),
            marked: Vec::new(),
            ended: Vec::new(),
            revision: 0,
            outputs: Vec::new(),
            is_journalled: false,
            entries: Vec::new(),
            lessons: Vec::new(),
            known,
            has_news: false,
        }
    }

    /// Turns the engine until the application ends. What modules are doing then is dropped.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut discoveries: mpsc::Receiver<Said>,
        mut news: mpsc::Receiver<News>,
    ) {
        let stop = self.context.stop.clone();
        let mut lessons = tokio::time::interval(LESSONS_EVERY);
        let mut checkpoints = tokio::time::interval(CHECKPOINT_EVERY);
        checkpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.engine.next_deadline().map(|at| self.clock.instant(at));
            // Every arm is cancel-safe: nothing is taken out of a queue before it is handled.
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.checkpoint().await;
                    return self.keep_lessons().await;
                }
                () = self.journal.snapshot_wanted() => { self.snapshot(self.clock.now(), false).await; None }
                _ = lessons.tick() => { self.keep_lessons().await; self.forget_departed().await; None }
                _ = checkpoints.tick(), if self.has_news => { self.checkpoint().await; None }
                Some(done) = self.attempts.join_next_with_id() => self.finished(done),
                Some(request) = requests.recv() => {
                    // What was asked after the end was not asked in time, even if it came in this very moment.
                    if !stop.is_cancelled() {
                        self.request(request).await;
                    }
                    None
                }
                Some(News { by, node, what }) = news.recv() => { self.tell(node, what, by); None }
                Some(said) = discoveries.recv() => Some(said.into()),
                () = std::future::ready(()), if !self.entries.is_empty() => {
                    self.hand_over().await;
                    None
                }
                () = sleep_until(wake) => Some(Input::Tick),
            };
            if let Some(input) = input {
                self.step(input).await;
                self.go_on(&mut discoveries).await;
            }
        }
    }

    /// Takes what else has arrived by now: where there was one there are often many, and each turn
    /// of the loop costs as much as a step.
    async fn go_on(&mut self, discoveries: &mut mpsc::Receiver<Said>) {
        for _ in 0..BURST {
            let input = match self.attempts.try_join_next_with_id() {
                Some(done) => self.finished(done),
                None => match discoveries.try_recv() {
                    Ok(said) => Some(said.into()),
                    Err(_) => return,
                },
            };
            if let Some(input) = input {
                self.step(input).await;
            }
        }
    }

    /// Goes over to other modules. Everybody looks at every node again: what a node is told may be another
    /// thing although nothing of it has changed.
    async fn equip(&mut self, equipment: Equipment, by: Arc<str>) {
        let Equipment { registry, modules, hosted } = equipment;
        let before = std::mem::take(&mut self.hosted);
        (self.hosted, self.takers) = crew(&hosted, &modules);
        self.modules = Arc::clone(&modules);
        self.step(Input::Modules { set: modules, registry, by }).await;
        // Whoever has a step in hand and is no longer there will not say what became of it.
        let module_of = |hosted: &HashMap<Arc<str>, Arc<Hosted>>, name: &str| {
            hosted.get(name).map(|hosted| Arc::as_ptr(&hosted.module).cast::<()>())
        };
        let is_left = |running: &&Running| {
            module_of(&before, &running.module) != module_of(&self.hosted, &running.module)
        };
        let left: Vec<DispatchId> =
            self.running.values().filter(is_left).map(|running| running.id.clone()).collect();
        for id in left {
            self.running.remove(&id.node).inspect(|running| running.handle.abort());
            let reason = "its module was replaced by another".into();
            self.step(Input::Abandoned { id, reason }).await;
        }
        self.show_all();
    }

    /// Takes up what steps were found to take before the start.
    pub(crate) async fn recall(&mut self) -> Result<(), StoreError> {
        self.lessons = self.keeper.with(lessons::kept).await?;
        self.step(Input::Recall(self.lessons.clone())).await;
        Ok(())
    }

    async fn keep_lessons(&mut self) {
        let learned = self.engine.lessons();
        if learned != self.lessons {
            lessons::keep(&self.keeper, &learned).await;
            self.lessons = learned;
        }
    }

    /// Hands the journal what has happened so far.
    async fn hand_over(&mut self) {
        if !self.entries.is_empty() {
            self.has_news = true;
            self.journal.append(std::mem::take(&mut self.entries)).await;
        }
    }

    /// Has it kept what is known of every node now.
    async fn checkpoint(&mut self) {
        self.hand_over().await;
        self.has_news = false;
        let known = |(node, view): (NodeId, Option<View>)| (node, view.map(|view| view.dsc));
        self.journal.checkpoint(self.known.take().into_iter().map(known).collect()).await;
    }

    /// One step of the engine, and everything that follows from it.
    pub(crate) async fn step(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.engine.step(self.clock.now(), input, &mut outputs);
        let mut shown = None;
        for output in outputs.drain(..) {
            self.carry_out(output, &mut shown).await;
        }
        self.outputs = outputs;
        self.show_marked();
        let ended = std::mem::take(&mut self.ended);
        self.forget_marks(ended).await;
        if self.entries.len() >= HAND_OVER {
            self.hand_over().await;
        }
    }

    /// Carries out one output of a step; `shown` is the node that was shown last in that step.
    async fn carry_out(&mut self, output: Output, shown: &mut Option<NodeId>) {
        match output {
            Output::Dispatch(order) => self.dispatch(order),
            Output::Interrupt { id, reason, .. } => {
                tracing::debug!(node = %id.node, reason, "interrupted");
                self.running.remove(&id.node).inspect(|running| running.handle.abort());
            }
            Output::Journal(entry) => {
                tracing::debug!(?entry);
                if entry.what.is_of_marks() {
                    self.marked.push(entry.node.clone());
                }
                self.ended.extend(self.marks.ended(&entry));
                let is_of_cfg = matches!(entry.what, What::Configured { .. } | What::Removed);
                if !(is_of_cfg && self.is_journalled) {
                    self.entries.push(entry);
                }
            }
            // What is shown of a node is how it is after the whole step: once is enough.
            Output::Changed { node, .. } | Output::Permitted { node } => {
                if shown.as_ref() != Some(&node) {
                    self.show(&node);
                    *shown = Some(node);
                }
            }
            Output::Refused { node, by, reasons } => {
                let health = self.hosted.get(&by).and_then(|hosted| hosted.context.health());
                for reason in reasons {
                    match health {
                        Some(health) => health.refuse(&format!("{node}: {reason}")),
                        None => {
                            tracing::warn!(%node, %by, %reason, "refused what was said to be discovered");
                        }
                    }
                }
            }
        }
    }

    /// Has it written down what everything is. Between two steps, so that it is what comes of all
    /// entries before and of none after.
    async fn snapshot(&mut self, at: Millis, is_start: bool) {
        self.hand_over().await;
        let (nodes, freeze) = (self.context.views.all(), self.context.views.freeze());
        self.journal.snapshot(Moment { at, is_start, nodes, freeze }).await;
    }

    /// What was kept is in place: from here on it is acted upon, and journalled.
    pub(crate) async fn begin(&mut self, at: Millis, epoch: u64) {
        self.snapshot(at, true).await;
        let (what, by) = (What::Started { epoch }, "start".into());
        self.entries.push(Entry { at, node: None, what, by, cause: None });
        self.step(Input::Tick).await;
    }

    /// Tells the journal of something that the engine has no part in.
    fn tell(&mut self, node: Option<NodeId>, what: What, by: Arc<str>) {
        self.entries.push(Entry { at: self.clock.now(), node, what, by, cause: None });
    }

    fn show(&self, node: &NodeId) {
        let view = self.engine.node(node);
        let view = view.map(|v| View {
            cfg: v.cfg.clone(),
            passing: v.marks.restart.as_ref().map(|_| v.wanted.clone()),
            dsc: v.dsc.clone(),
            held: v.marks.hold.is_some(),
            marks: (!v.marks.is_empty()).then(|| Arc::new(v.marks.clone())),
            permitted: v.permitted.cloned(),
        });
        self.context.views.put(node, view);
    }

    fn show_all(&self) {
        let all: Vec<NodeId> = self.engine.nodes().map(|n| n.id.clone()).collect();
        all.iter().for_each(|node| self.show(node));
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Configure { change, by, reply } => {
                let result = self.change(change, by).await;
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
            Request::Command { commands, by, reply } => {
                let result = self.command(commands, by).await;
                let _ = reply.send(result);
            }
            Request::Written { reply } => {
                self.hand_over().await;
                self.journal.tell_written(reply).await;
            }
            Request::Discover { discovery, reply } => {
                let Discovery { node, changes, by } = discovery;
                self.step(Input::Discover { node, changes, by }).await;
                self.hand_over().await;
                self.journal.tell_written(reply).await;
            }
            Request::Explain { node, reply } => {
                let _ = reply.send(self.engine.explain(&node, self.clock.now()));
            }
            Request::Limits { limits, by, reply } => {
                if self.engine.limits() != limits {
                    self.tell(None, told_limits(&limits), by);
                }
                self.step(Input::Limits(limits)).await;
                let _ = reply.send(());
            }
            Request::Outlook { reply } => {
                let _ = reply.send((self.engine.outlook(), self.revision));
            }
            Request::Summary { reply } => {
                let _ = reply.send(self.engine.summary());
            }
            Request::Equip { equipment, by, reply } => {
                self.equip(equipment, by).await;
                let _ = reply.send(());
            }
        }
    }

    /// Shows everything that operators have said something of.
    fn show_marked(&mut self) {
        for node in std::mem::take(&mut self.marked) {
            match node {
                Some(node) => self.show(&node),
                None => self.context.views.set_freeze(self.engine.summary().freeze),
            }
        }
    }

    /// What an operator says is still so when the application is started again.
    async fn command(&mut self, commands: Vec<Command>, by: Arc<str>) -> Result<(), KrakenError> {
        let mut left = &commands[..];
        while !left.is_empty() {
            let (now, later) = left.split_at(marks::apart(left));
            let writes = self.marks.writes(now, &by, self.clock.now());
            if !writes.is_empty() {
                let keep = move |store: &mut dyn Store| store.put_all(&writes);
                self.keeper.with(keep).await.map_err(KrakenError::Keep)?;
            }
            for command in now {
                self.step(Input::Command { command: command.clone(), by: Arc::clone(&by) }).await;
            }
            left = later;
        }
        Ok(())
    }

    /// What has ended by itself is not made again at the next start. If that cannot be written,
    /// it ends once more then: no reason to stop now.
    async fn forget_marks(&mut self, ended: Vec<ValueWrite>) {
        if ended.is_empty() {
            return;
        }
        // That a node is in use stands in two places: in its mark, and in what was discovered. If the mark
        // went first, after a crash in between the node would be in use for good and nobody would end it.
        if marks::ends_use(&ended) && !self.is_written().await {
            tracing::error!("the journal is far behind: a use ends once more at the next start");
            return;
        }
        let forget = move |store: &mut dyn Store| {
            store.flush()?;
            store.put_all(&ended)
        };
        if let Err(error) = self.keeper.with(forget).await {
            tracing::error!(%error, "cannot remove what an operator said from what is kept");
        }
    }

    /// Has the journal write what has happened so far. Whether it did, soon enough.
    async fn is_written(&mut self) -> bool {
        self.hand_over().await;
        let (reply, written) = oneshot::channel();
        self.journal.tell_written(reply).await;
        matches!(tokio::time::timeout(WRITTEN_WITHIN, written).await, Ok(Ok(())))
    }

    /// Says again what operators said before the start.
    pub(crate) async fn mark_again(&mut self) -> Result<(), StoreError> {
        let kept = self.keeper.with(marks::kept).await?;
        for (command, by) in self.marks.again(kept) {
            // Nothing is journalled before the start, so nothing tells that this was said.
            self.marked.push(command.node().cloned());
            self.step(Input::Command { command, by }).await;
        }
        Ok(())
    }

    fn dispatch(&mut self, order: kraken_engine::Order) {
        let mutation = self.modules.mutation(order.mutation);
        let id = order.id.clone();
        let taker = self.takers.get(usize::from(order.mutation.0)).cloned().flatten();
        let (name, module) = (Arc::clone(&mutation.name), Arc::clone(&mutation.module));
        let wanted = Arc::clone(&module);
        let attempt = async move {
            let id = order.id.clone();
            let Some(taker) = taker else {
                let reason = format!("module {wanted} does not run here");
                return (id, Err(Failure { reason, permanent: true }));
            };
            let order = Order {
                id: order.id,
                mutation: name,
                node: order.node,
                cfg: order.cfg,
                dsc: order.dsc,
                deadline: order.deadline,
            };
            let result = taker.module.take(&order, &taker.context).await;
            (id, result)
        };
        let handle = self.attempts.spawn(attempt);
        let running = Running { id, module, handle };
        if let Some(old) = self.running.insert(running.id.node.clone(), running) {
            old.handle.abort();
        }
    }

    /// What a module's ended attempt means to the engine; nothing when it was interrupted.
    fn finished(&mut self, done: Result<(tokio::task::Id, Ended), JoinError>) -> Option<Input> {
        let (id, result) = match done {
            Ok((_, done)) => done,
            Err(error) if error.is_panic() => {
                let task = error.id();
                let running = self.running.values().find(|r| r.handle.id() == task)?;
                let reason = format!("the module panicked: {}", panic_text(error));
                let hosted = self.hosted.get(&running.module);
                if let Some(health) = hosted.and_then(|hosted| hosted.context.health()) {
                    health.trouble(&format!("{}: {reason}", running.id.node));
                }
                (running.id.clone(), Err(Failure { reason, permanent: false }))
            }
            Err(_) => return None,
        };
        if let Place::Occupied(running) = self.running.entry(id.node.clone())
            && running.get().id == id
        {
            running.remove();
        }
        Some(Input::Finished { id, result })
    }
}

/// What the journal says of limits that hold from now on.
fn told_limits(limits: &[Limit]) -> What {
    What::Limits { limits: limits.iter().map(|limit| limit.to_string().into()).collect() }
}

pub(crate) async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
