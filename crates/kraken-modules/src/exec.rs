//! A module whose steps are commands.

use crate::draft::{Declared, Discover};
use crate::endings::Endings;
use crate::polling::Polling;
use crate::step::Step;
use crate::tail::Tail;
use crate::{answer, environment};
use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order, View, chain};
use kraken_model::{Document, NodeId, Path, Registry};
use kraken_process::{Pipe, Run};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many commands of one module look at once.
const LOOKS_AT_ONCE: usize = 8;

/// How many commands of one module take steps at once; the others wait, on their own time.
const STEPS_AT_ONCE: usize = 64;

/// The most that a command may write to each of its outputs when it takes a step, in bytes.
const STEP_OUTPUT_BYTES: usize = 256 * 1024;

/// The most that a command may write when it looks at one node, and when it looks at all.
const LOOK_OUTPUT_BYTES: (usize, usize) = (64 * 1024, 16 << 20);

/// Between two looks at all nodes there is at least this much time, whoever asks.
const MIN_GAP: Duration = Duration::from_millis(200);

/// The module of one file.
pub(crate) struct ExecModule {
    declared: Arc<Declared>,
    registry: Arc<Registry>,
    steps: Semaphore,
    endings: Endings,
}

/// What the command of a step prints. The journal has it however that ends: when it hung and was given up, what it
/// said before is all that there is.
struct Printed<'a> {
    order: &'a Order,
    context: &'a Context,
    tail: Tail,
}

impl Drop for Printed<'_> {
    fn drop(&mut self) {
        if let Some((lines, left_out)) = std::mem::take(&mut self.tail).finish() {
            self.context.printed(self.order, lines, left_out);
        }
    }
}

impl ExecModule {
    pub(crate) fn new(declared: Arc<Declared>, registry: Arc<Registry>) -> Self {
        let steps = Semaphore::new(STEPS_AT_ONCE);
        Self { declared, registry, steps, endings: Endings::default() }
    }

    fn step(&self, mutation: &str) -> Option<&Step> {
        self.declared.steps.iter().find(|step| *step.mutation.name == *mutation)
    }

    async fn carry_out(&self, step: &Step, order: &Order, context: &Context) -> Result<(), String> {
        let Some(program) = &step.program else { return Ok(()) };
        let _place = self.steps.acquire().await.map_err(|error| error.to_string())?;
        let (module, node) = (&self.declared.name, &order.node);
        let run = program
            .run(step.mutation.timeout)
            .output_bytes(STEP_OUTPUT_BYTES)
            .env("KRAKEN_MODULE", module)
            .env("KRAKEN_NODE", node.as_str())
            .env("KRAKEN_MUTATION", &*order.mutation)
            .env("KRAKEN_ATTEMPT", order.id.to_string());
        let run = environment::with_documents(run, &order.cfg, &order.dsc)?;
        let mut printed = Printed { order, context, tail: Tail::default() };
        let tell = |pipe, line: &str| {
            printed.tail.add(line);
            match pipe {
                Pipe::Out => tracing::info!(module, %node, step = %order.mutation, "{line}"),
                Pipe::Err => tracing::warn!(module, %node, step = %order.mutation, "{line}"),
            }
        };
        run.follow(tell).await.map(drop).map_err(|error| chain(&error))
    }

    /// Looks at one node and reports it.
    async fn look(
        &self,
        discover: &Discover,
        node: &NodeId,
        (cfg, dsc): (&Document, &Document),
        context: &Context,
    ) -> Result<(), String> {
        let began = Instant::now();
        let run = self.looking(discover, LOOK_OUTPUT_BYTES.0).env("KRAKEN_NODE", node.as_str());
        let run = environment::with_documents(run, cfg, dsc)?;
        let text = run.output().await.map_err(|error| chain(&error))?;
        let found = answer::of_node(&text, &self.registry)?;
        // Somebody looks again who began after the step.
        if !self.endings.is_outdated(node, began) {
            context.discover(node, found).await;
        }
        Ok(())
    }

    /// Looks at all nodes and reports them. What is said of a node that is not there is refused and counted like
    /// anything else that is not taken: it may be that all names are written in another way.
    async fn sweep(&self, discover: &Discover, context: &Context) -> Result<(), String> {
        let began = Instant::now();
        let run = self.looking(discover, LOOK_OUTPUT_BYTES.1);
        let text = run.output().await.map_err(|error| chain(&error))?;
        for (node, changes) in answer::of_all(&text, &self.registry)? {
            let view = context.views().get(&node);
            let is_looked_at = view.is_none_or(|view| self.looks_at(discover, &view));
            if is_looked_at && !self.endings.is_outdated(&node, began) {
                context.discover(&node, changes).await;
            }
        }
        Ok(())
    }

    fn looking(&self, discover: &Discover, output_bytes: usize) -> Run {
        let run = discover.program.run(discover.timeout).output_bytes(output_bytes);
        run.env("KRAKEN_MODULE", &self.declared.name)
    }

    fn looks_at(&self, discover: &Discover, view: &View) -> bool {
        let mut guards = discover.requires.iter();
        guards.all(|guard| guard.holds_in(&self.registry, &view.cfg, &view.dsc))
    }

    /// Looks at all nodes, every now and then and when somebody wants to know.
    async fn keep_sweeping(&self, discover: &Discover, context: &Context) {
        let mut failures: u32 = 0;
        loop {
            let result = tokio::select! {
                // Its command is killed: what it would have said is not waited for.
                () = context.stop.cancelled() => return,
                result = self.sweep(discover, context) => result,
            };
            failures = if result.is_ok() { 0 } else { (failures + 1).min(4) };
            self.tell(result, context);
            tokio::time::sleep(MIN_GAP).await;
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = self.endings.hurried() => drop(self.endings.take_hurried()),
                () = tokio::time::sleep(discover.every * 2_u32.pow(failures)) => {}
            }
        }
    }

    /// Looks at one node after the other, a few at once.
    async fn keep_polling(self: Arc<Self>, discover: Arc<Discover>, context: Context) {
        let mut polling = Polling::new(discover.every);
        let mut subscription = context.subscribe();
        let mut looks: JoinSet<(NodeId, bool)> = JoinSet::new();
        loop {
            let has_room = looks.len() < LOOKS_AT_ONCE;
            let next = polling.next().filter(|_| has_room);
            tokio::select! {
                () = context.stop.cancelled() => return,
                // Nothing is lost when this is cancelled: what it would return stays marked.
                changed = subscription.changed() => {
                    for (node, view) in changed {
                        match view {
                            Some(_) => polling.see(Instant::now(), &node),
                            None => {
                                polling.forget(&node);
                                self.endings.forget(&node);
                            }
                        }
                    }
                }
                () = self.endings.hurried() => {
                    for node in self.endings.take_hurried() {
                        polling.hurry(Instant::now(), &node);
                    }
                }
                Some(Ok((node, found))) = looks.join_next() => {
                    polling.looked(Instant::now(), &node, found);
                }
                () = until(next) => {
                    if let Some(node) = polling.take(Instant::now()) {
                        let (this, discover) = (Arc::clone(&self), Arc::clone(&discover));
                        let context = context.clone();
                        looks.spawn(async move {
                            let found = this.look_in_turn(&discover, &node, &context).await;
                            (node, found)
                        });
                    }
                }
            }
        }
    }

    /// Whether the node could be looked at; one that need not be counts as if it could.
    async fn look_in_turn(&self, discover: &Discover, node: &NodeId, context: &Context) -> bool {
        let view = context.views().get(node);
        let Some(view) = view.filter(|view| self.looks_at(discover, view)) else { return true };
        let result = self.look(discover, node, (&view.cfg, &view.dsc), context).await;
        let found = result.is_ok();
        self.tell(result.map_err(|why| format!("{node}: {why}")), context);
        found
    }

    fn tell(&self, result: Result<(), String>, context: &Context) {
        match (result, context.health()) {
            (Err(why), Some(health)) => health.cannot_look(&why),
            (Ok(()), Some(health)) => health.looked(),
            (_, None) => {}
        }
    }
}

/// The module as it is hosted: shared with the tasks that look.
pub(crate) struct Exec(pub(crate) Arc<ExecModule>);

#[async_trait]
impl Module for Exec {
    fn name(&self) -> &str {
        &self.0.declared.name
    }

    fn kind(&self) -> &'static str {
        "exec"
    }

    fn discovers(&self, path: &Path) -> bool {
        self.0.declared.discovers(path)
    }

    async fn run(&self, context: Context) {
        match &self.0.declared.discover {
            None => context.stop.cancelled().await,
            Some(discover) if discover.of_all => self.0.keep_sweeping(discover, &context).await,
            Some(discover) => {
                let this = Arc::clone(&self.0);
                this.keep_polling(Arc::new(discover.clone()), context).await;
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let this = &self.0;
        let Some(step) = this.step(&order.mutation) else {
            let reason = format!("the module {} does not know {}", self.name(), order.mutation);
            return Err(Failure { reason, permanent: true });
        };
        let fail = |reason| Failure { reason, permanent: false };
        let mut attempt = this.endings.begin(&order.node);
        this.carry_out(step, order, context).await.map_err(fail)?;
        attempt.acted();
        // A command that succeeded proves nothing: it is looked at.
        let Some(discover) = this.declared.discover.as_ref().filter(|look| !look.of_all) else {
            return Ok(());
        };
        let dsc = context.views().get(&order.node).map(|view| view.dsc);
        let documents = (&order.cfg, dsc.as_ref().unwrap_or(&order.dsc));
        this.look(discover, &order.node, documents, context).await.map_err(fail)?;
        attempt.seen();
        Ok(())
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
