//! Whoever turns the engine: brings it what happened, and carries out what it says.

use crate::clock::Clock;
use crate::journal::Journal;
use crate::keeper::Keeper;
use crate::module::{Context, Discovery, Module, Order};
use crate::runtime::KrakenError;
use crate::views::View;
use kraken_engine::{Command, DispatchId, Engine, Explanation, Failure, Input, Output};
use kraken_model::{Document, NodeId};
use kraken_plan::ModuleSet;
use kraken_store::{CfgWrite, Store, StoreError};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};

/// Where in the store the nodes are that an operator holds.
const HELD: &str = "held";

/// Where in the store a freeze is.
const FROZEN: &str = "frozen";

/// The key of a freeze there.
const ALL: &str = "all";

/// What is asked of the engine from outside.
pub(crate) enum Request {
    Configure {
        writes: Vec<(NodeId, Option<Document>)>,
        by: Arc<str>,
        reply: oneshot::Sender<Result<u64, KrakenError>>,
    },
    Command {
        command: Command,
        by: Arc<str>,
        reply: oneshot::Sender<Result<(), KrakenError>>,
    },
    Discover {
        discovery: Discovery,
        reply: oneshot::Sender<Result<(), KrakenError>>,
    },
    Explain {
        node: NodeId,
        reply: oneshot::Sender<Option<Explanation>>,
    },
}

/// A module's attempt that came to its end.
type Ended = (DispatchId, Result<(), Failure>);

/// The engine and everything that its outputs touch.
pub(crate) struct Engineer {
    engine: Engine,
    clock: Clock,
    keeper: Keeper,
    journal: Journal,
    hosted: HashMap<Arc<str>, (Arc<dyn Module>, Context)>,
    modules: Arc<ModuleSet>,
    context: Context,
    attempts: JoinSet<Ended>,
    running: HashMap<NodeId, (DispatchId, AbortHandle)>,
    frozen: bool,
    outputs: Vec<Output>,
}

impl Engineer {
    pub(crate) fn new(
        engine: Engine,
        clock: Clock,
        keeper: Keeper,
        journal: Journal,
        hosted: Vec<Arc<dyn Module>>,
        context: Context,
        modules: Arc<ModuleSet>,
    ) -> Self {
        let hosted = hosted
            .into_iter()
            .map(|m| (Arc::from(m.name()), (Arc::clone(&m), context.named(m.name()))))
            .collect();
        Self {
            engine,
            clock,
            keeper,
            journal,
            hosted,
            modules,
            context,
            attempts: JoinSet::new(),
            running: HashMap::new(),
            frozen: false,
            outputs: Vec::new(),
        }
    }

    /// Turns the engine until the application ends. What modules are doing then is dropped.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut discoveries: mpsc::Receiver<Discovery>,
    ) {
        let stop = self.context.stop.clone();
        loop {
            let wake = self.engine.next_deadline().map(|at| self.clock.instant(at));
            // Every arm is cancel-safe: nothing is taken out of a queue before it is handled.
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = self.attempts.join_next_with_id() => self.finished(done),
                Some(request) = requests.recv() => { self.request(request).await; None }
                Some(found) = discoveries.recv() => {
                    Some(Input::Discover { node: found.node, changes: found.changes, by: found.by })
                }
                () = sleep_until(wake) => Some(Input::Tick),
            };
            if let Some(input) = input {
                self.step(input).await;
            }
        }
    }

    /// One step of the engine, and everything that follows from it.
    pub(crate) async fn step(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.engine.step(self.clock.now(), input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(output).await;
        }
        self.outputs = outputs;
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dispatch(order) => self.dispatch(order),
            Output::Interrupt { id, reason, .. } => {
                tracing::debug!(node = %id.node, reason, "interrupted");
                self.running.remove(&id.node).inspect(|(_, handle)| handle.abort());
            }
            Output::Journal(entry) => {
                tracing::debug!(?entry);
                self.journal.append(entry).await;
            }
            Output::Changed { node, .. } => self.show(&node),
            Output::Refused { node, by, reasons } => {
                for reason in reasons {
                    tracing::warn!(%node, %by, %reason, "refused what was said to be discovered");
                }
            }
        }
    }

    fn show(&self, node: &NodeId) {
        let view = self.engine.node(node);
        let view = view.map(|v| View {
            cfg: v.cfg.clone(),
            dsc: v.dsc.clone(),
            held: self.frozen || v.held_by.is_some(),
        });
        self.context.views.put(node, view);
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Configure { writes, by, reply } => {
                let result = self.configure(writes, by).await;
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
            Request::Command { command, by, reply } => {
                let result = self.command(command, by).await;
                let _ = reply.send(result);
            }
            Request::Discover { discovery, reply } => {
                let result = self.discover_kept(discovery).await;
                let _ = reply.send(result);
            }
            Request::Explain { node, reply } => {
                let _ = reply.send(self.engine.explain(&node, self.clock.now()));
            }
        }
    }

    /// What an operator holds stays held when the application is started again.
    async fn command(&mut self, command: Command, by: Arc<str>) -> Result<(), KrakenError> {
        let (kept, value) = (command.clone(), by.to_string());
        let keep = move |store: &mut dyn Store| match kept {
            Command::Hold { node } => store.put(HELD, node.as_str(), value.as_bytes()),
            Command::Release { node } => store.delete(HELD, node.as_str()).map(drop),
            Command::Freeze => store.put(FROZEN, ALL, value.as_bytes()),
            Command::Thaw => store.delete(FROZEN, ALL).map(drop),
            Command::Retry { .. } => Ok(()),
        };
        self.keeper.with(keep).await.map_err(KrakenError::Keep)?;
        self.command_kept(command, by).await;
        Ok(())
    }

    async fn command_kept(&mut self, command: Command, by: Arc<str>) {
        let concerned = match &command {
            Command::Hold { node } | Command::Release { node } | Command::Retry { node } => {
                vec![node.clone()]
            }
            Command::Freeze | Command::Thaw => self.engine.nodes().map(|n| n.id.clone()).collect(),
        };
        self.frozen = match command {
            Command::Freeze => true,
            Command::Thaw => false,
            _ => self.frozen,
        };
        self.step(Input::Command { command, by }).await;
        for node in concerned {
            self.show(&node);
        }
    }

    /// Holds what was held before the start.
    pub(crate) async fn hold_again(&mut self) -> Result<(), StoreError> {
        let held = |store: &mut dyn Store| Ok((store.list(HELD)?, store.list(FROZEN)?));
        let (held, frozen) = self.keeper.with(held).await?;
        for (node, by) in held {
            let by = String::from_utf8_lossy(&by).into();
            match NodeId::new(&node) {
                Ok(node) => self.command_kept(Command::Hold { node }, by).await,
                Err(error) => tracing::warn!(%error, "a hold cannot be read"),
            }
        }
        for (_, by) in frozen {
            self.command_kept(Command::Freeze, String::from_utf8_lossy(&by).into()).await;
        }
        Ok(())
    }

    /// What a person says is kept before it is acknowledged, unlike what modules find out, which
    /// they find again.
    async fn discover_kept(&mut self, discovery: Discovery) -> Result<(), KrakenError> {
        let Discovery { node, changes, by } = discovery;
        self.step(Input::Discover { node: node.clone(), changes, by }).await;
        let Some(dsc) = self.engine.node(&node).map(|view| view.dsc.clone()) else { return Ok(()) };
        let keep = move |store: &mut dyn Store| store.checkpoint(&[(node, Some(dsc))]);
        self.keeper.with(keep).await.map_err(KrakenError::Keep)
    }

    /// Durable first, then acted upon: a crash in between repeats the acting, never forgets it.
    async fn configure(
        &mut self,
        writes: Vec<(NodeId, Option<Document>)>,
        by: Arc<str>,
    ) -> Result<u64, KrakenError> {
        let kept: Vec<CfgWrite> = writes
            .iter()
            .map(|(node, doc)| CfgWrite { node: node.clone(), doc: doc.clone() })
            .collect();
        let revision = self
            .keeper
            .with(move |store| store.commit(&kept, &[]))
            .await
            .map_err(KrakenError::Keep)?;
        for (node, cfg) in writes {
            self.step(Input::Configure { node, cfg, by: Arc::clone(&by) }).await;
        }
        Ok(revision)
    }

    fn dispatch(&mut self, order: kraken_engine::Order) {
        let mutation = self.modules.mutation(order.mutation);
        let id = order.id.clone();
        let hosted = self.hosted.get(&mutation.module).cloned();
        let reason = format!("module {} does not run here", mutation.module);
        let name = Arc::clone(&mutation.name);
        let attempt = async move {
            let id = order.id.clone();
            let Some((module, context)) = hosted else {
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
            let result = module.take(&order, &context).await;
            (id, result)
        };
        let handle = self.attempts.spawn(attempt);
        if let Some((_, old)) = self.running.insert(id.node.clone(), (id, handle)) {
            old.abort();
        }
    }

    /// What a module's ended attempt means to the engine; nothing when it was interrupted.
    fn finished(&mut self, done: Result<(tokio::task::Id, Ended), JoinError>) -> Option<Input> {
        let (id, result) = match done {
            Ok((_, done)) => done,
            Err(error) if error.is_panic() => {
                let task = error.id();
                let (id, _) = self.running.values().find(|(_, h)| h.id() == task)?.clone();
                let reason = format!("the module panicked: {}", panic_text(error));
                (id, Err(Failure { reason, permanent: false }))
            }
            Err(_) => return None,
        };
        if self.running.get(&id.node).is_some_and(|(running, _)| *running == id) {
            self.running.remove(&id.node);
        }
        Some(Input::Finished { id, result })
    }
}

fn panic_text(error: JoinError) -> String {
    let panic = AssertUnwindSafe(error.into_panic());
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a word".to_owned(),
    }
}

pub(crate) async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
