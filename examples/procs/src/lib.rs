//! Keeps a set of processes as declared: a whole Kraken application in one module.
//!
//! A *node* is a process here. Its cfg says which command it should run and whether it should run
//! at all; its dsc says whether it does. Two mutations, `START` and `STOP`, and one that finds out.
//! There is no loop that restarts what has ended: that a process has ended is a discovery, and the
//! engine knows the way from there.

use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order};
use kraken_model::{
    Change, Document, Field, Format, Kind, NodeId, Path, Registry, Schema, Side, Value,
};
use kraken_plan::{Context as Taker, Guard, ModuleSet, Mutation};
use std::collections::HashMap;
use std::error::Error;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Whether the process runs.
pub const PROCESS: &str = "process";

/// The program and its arguments.
pub const COMMAND: &str = "command";

/// The process id, as long as it runs.
pub const PID: &str = "pid";

/// How its process ended the last time.
pub const ENDED: &str = "ended";

/// What may stand in a document of this application.
///
/// # Errors
/// Never, as long as the addresses below are addresses.
pub fn schema() -> Result<Schema, Box<dyn Error>> {
    let text = Kind::Text(Format::Any);
    Ok(Schema {
        name: "procs".to_owned(),
        fields: vec![
            Field::variable(PROCESS, &["UNKNOWN", "STOPPED", "RUNNING"], "the process")?,
            Field::new(COMMAND, Kind::List(Box::new(text)), &[Side::Cfg], "program, arguments")?,
            Field::new(PID, Kind::Int { min: 1, max: i64::MAX }, &[Side::Dsc], "process id")?,
            Field::new(ENDED, Kind::Text(Format::Any), &[Side::Dsc], "how it ended the last time")?,
        ],
    })
}

/// What the module can do.
#[must_use]
pub fn mutations() -> Vec<Mutation> {
    let step = |name, from, to| {
        let mutation = Mutation::new("procs", name, Taker::Child).moves(PROCESS, from, to);
        mutation.requires(Guard::configured(COMMAND)).timeout(Duration::from_secs(5))
    };
    vec![
        step("look", "UNKNOWN", "STOPPED"),
        step("start", "STOPPED", "RUNNING"),
        step("stop", "RUNNING", "STOPPED").disruptive(),
    ]
}

/// Schema and mutations, ready to start an application with.
///
/// # Errors
/// When they do not fit each other.
pub fn declared() -> Result<(Arc<Registry>, Arc<ModuleSet>), Box<dyn Error>> {
    let registry = Registry::new(vec![schema()?])?;
    let modules =
        ModuleSet::new(&registry, mutations()).map_err(|problems| format!("{problems:?}"))?;
    Ok((Arc::new(registry), Arc::new(modules)))
}

/// A cfg: run this command.
#[must_use]
pub fn running(command: &[&str]) -> Document {
    let mut cfg = Document::new();
    cfg.set(Path::known(PROCESS), "RUNNING");
    let command: Vec<Value> = command.iter().map(|word| Value::from(*word)).collect();
    cfg.set(Path::known(COMMAND), command);
    cfg
}

/// Starts, watches and stops processes.
#[derive(Default)]
pub struct Procs {
    running: Mutex<HashMap<NodeId, Running>>,
}

/// A process that was started and has not been seen to end.
struct Running {
    pid: u32,
    /// Sending, or dropping, kills it.
    stop: Option<oneshot::Sender<()>>,
}

impl Procs {
    fn start(self: &Arc<Self>, order: &Order, context: &Context) -> Result<u32, String> {
        let command = order.cfg.get(COMMAND).and_then(Value::as_list).unwrap_or_default();
        let words: Vec<&str> = command.iter().filter_map(Value::as_text).collect();
        let (program, arguments) = words.split_first().ok_or("the command is empty")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let pid = child.id().ok_or("it ended at once")?;
        let (stop, stopped) = oneshot::channel();
        let running = Running { pid, stop: Some(stop) };
        self.lock().insert(order.node.clone(), running);
        let watch = Arc::clone(self).watch(order.node.clone(), child, stopped, context.clone());
        tokio::spawn(watch);
        Ok(pid)
    }

    /// Kills the process of a node. That it has ended is told by whoever watches it; `false` when
    /// there is nobody, because none runs.
    fn stop(&self, node: &NodeId) -> bool {
        let mut running = self.lock();
        let found = running.get_mut(node);
        found.map(|running| drop(running.stop.take())).is_some()
    }

    /// Waits for the end of a process, whoever brings it about, and tells, unless another one has
    /// taken its place.
    async fn watch(
        self: Arc<Self>,
        node: NodeId,
        mut child: Child,
        stop: oneshot::Receiver<()>,
        context: Context,
    ) {
        let pid = child.id();
        let status = tokio::select! {
            status = child.wait() => status,
            _ = stop => match child.kill().await {
                Ok(()) => child.wait().await,
                Err(error) => Err(error),
            },
        };
        {
            let mut running = self.lock();
            if running.get(&node).map(|running| running.pid) != pid {
                return;
            }
            running.remove(&node);
        }
        let ended = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut changes = stopped();
        changes.push(Change::set(Path::known(ENDED), ended));
        context.discover(&node, changes).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopped() -> Vec<Change> {
    vec![Change::set(Path::known(PROCESS), "STOPPED"), Change::remove(Path::known(PID))]
}

/// The module, shared with the tasks that watch its processes.
pub struct ProcsModule(pub Arc<Procs>);

#[async_trait]
impl Module for ProcsModule {
    fn name(&self) -> &str {
        "procs"
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == PID || path.as_str() == ENDED
    }

    async fn run(&self, context: Context) {
        // Processes end with the application: what was known to run before this start does not.
        for (node, view) in context.views().all() {
            if view.dsc.text(PROCESS) == Some("RUNNING") && !self.0.lock().contains_key(&node) {
                context.discover(&node, stopped()).await;
            }
        }
        let mut subscription = context.subscribe();
        loop {
            let changed = tokio::select! {
                // Nothing is lost when this is cancelled: what it would return stays marked.
                changed = subscription.changed() => changed,
                () = context.stop.cancelled() => return,
            };
            // A node that was taken away is no longer planned for: nobody else stops its process.
            for (node, _) in changed.iter().filter(|(_, view)| view.is_none()) {
                self.0.stop(node);
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let fail = |reason| Failure { reason, permanent: false };
        match order.mutation.as_ref() {
            // What runs is known to whoever watches it, so what is not known does not run.
            "procs.look" => context.discover(&order.node, stopped()).await,
            "procs.start" => {
                let pid = self.0.start(order, context).map_err(fail)?;
                let changes = vec![
                    Change::set(Path::known(PROCESS), "RUNNING"),
                    Change::set(Path::known(PID), i64::from(pid)),
                ];
                context.discover(&order.node, changes).await;
            }
            "procs.stop" => {
                if !self.0.stop(&order.node) {
                    context.discover(&order.node, stopped()).await;
                }
            }
            other => return Err(fail(format!("the procs module does not know {other}"))),
        }
        Ok(())
    }
}
