//! What a module is.

use crate::clock::Clock;
use crate::health::{Health, News};
use crate::host::{Desk, keep_releasing};
use crate::service::Service;
use crate::views::{Subscription, Views};
use async_trait::async_trait;
use kraken_engine::{DispatchId, Failure, Input, What};
use kraken_model::{Change, Document, Millis, NodeId, Path};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// A part of an application that knows how to find out and change something about nodes.
///
/// What it can do is declared beforehand, as schemas and mutations; this is how it does it. All of
/// it must be idempotent: a step may be asked for again, and a node may already be where it should.
#[async_trait]
pub trait Module: Send + Sync + 'static {
    /// The name under which its mutations are declared.
    fn name(&self) -> &str;

    /// How it is run, for people: the part behind it may be another process.
    fn kind(&self) -> &'static str {
        "in process"
    }

    /// Whether it discovers the value at an address, besides the variables that its mutations move:
    /// those are its own anyway. Whatever else it says is refused.
    fn discovers(&self, _path: &Path) -> bool {
        false
    }

    /// What it is as a service of a node, if it is one: then it runs only while the planner has it run.
    /// Any other runs for as long as the application does.
    fn service(&self) -> Option<&dyn Service> {
        None
    }

    /// Watches the world for as long as the application runs, and reports what it finds through
    /// `context`. Ends when `context.stop` is cancelled. One that panics is started again after a
    /// pause, so it begins by finding out how things are.
    async fn run(&self, context: Context) {
        context.stop.cancelled().await;
    }

    /// Takes one step for one node. `Ok` proves nothing: the step is done when its effects are
    /// discovered. The future is dropped when the step is interrupted or its time is over.
    ///
    /// # Errors
    /// With the reason, for a person, when the step failed.
    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure>;
}

/// One step that a module is asked to take.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which attempt this is; a later one for the same node replaces it.
    pub id: DispatchId,
    /// The name of the mutation.
    pub mutation: Arc<str>,
    /// The node.
    pub node: NodeId,
    /// What it should be.
    pub cfg: Document,
    /// What it is known to be.
    pub dsc: Document,
    /// When the attempt counts as failed.
    pub deadline: Millis,
}

/// What a module sees of the application it runs in.
#[derive(Clone)]
pub struct Context {
    /// Cancelled when the application ends.
    pub stop: CancellationToken,
    pub(crate) by: Arc<str>,
    pub(crate) views: Arc<Views>,
    pub(crate) discoveries: mpsc::Sender<Said>,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) clock: Clock,
    /// Of the module that speaks; none: the application itself does.
    pub(crate) desk: Option<Arc<Desk>>,
}

/// A discovery on its way to the engine, and its module's place in the queue.
pub(crate) struct Said {
    pub(crate) discovery: Discovery,
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

impl From<Said> for Input {
    /// Its place in the queue is free as soon as the engine has it.
    fn from(said: Said) -> Self {
        let Discovery { node, changes, by } = said.discovery;
        Self::Discover { node, changes, by }
    }
}

/// Something that was found out about a node.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The node.
    pub node: NodeId,
    /// What its discovered document now says.
    pub changes: Vec<Change>,
    /// Who found out.
    pub by: Arc<str>,
}

impl Context {
    /// The same, for a module.
    pub(crate) fn at(&self, name: &str, desk: Desk) -> Self {
        Self { by: name.into(), desk: Some(Arc::new(desk)), ..self.clone() }
    }

    /// How the module is: whoever stands between an application and another process tells it here.
    #[must_use]
    pub fn health(&self) -> Option<&Health> {
        self.desk.as_ref().map(|desk| desk.health.as_ref())
    }

    /// Has the journal keep what was printed while a step was taken: its last lines, and how many there were before
    /// them. While very much happens at once they may be left out: the log has them too.
    pub fn printed(&self, order: &Order, lines: Vec<Arc<str>>, left_out: u64) {
        let (mutation, attempt) = (Arc::clone(&order.mutation), order.id.attempt);
        let what = What::Printed { mutation, attempt, lines, left_out };
        let news = News { by: self.by.clone(), node: Some(order.node.clone()), what };
        if self.news.try_send(news).is_err() {
            tracing::debug!(module = %self.by, "what was printed is not in the journal");
        }
    }

    /// Reports what was found out about a node. Waits while the engine is busy, so a module cannot
    /// flood it; does nothing once the application has ended. What is not the module's to discover,
    /// or of a node that is not there, is refused and counted. While the module says far more often than
    /// others that something has changed, only the latest of each such value is taken, after a while.
    pub async fn discover(&self, node: &NodeId, changes: Vec<Change>) {
        self.discover_with(node, changes, Vec::new()).await;
    }

    /// The same, together with what the runtime itself says of the module.
    pub(crate) async fn discover_with(
        &self,
        node: &NodeId,
        mut changes: Vec<Change>,
        of_runtime: Vec<Change>,
    ) {
        if let Some(desk) = &self.desk {
            changes.retain(|change| {
                let may = desk.may_discover(&change.path);
                if !may {
                    desk.health.refuse(&format!("{} is not its own to discover", change.path));
                }
                may
            });
            if changes.is_empty() && of_runtime.is_empty() {
                return;
            }
            match desk.contain(&self.views, node, &mut changes) {
                None => return desk.health.refuse(&format!("there is no node {node}")),
                Some(true) => drop(tokio::spawn(keep_releasing(self.clone()))),
                Some(false) => {}
            }
            desk.health.taken();
        }
        changes.extend(of_runtime);
        if !changes.is_empty() || self.desk.is_none() {
            self.pass_on(node, changes).await;
        } else {
            // All of it is held back: whoever floods without ever waiting would stop everybody else.
            tokio::task::yield_now().await;
        }
    }

    /// Hands over what was found out, as soon as there is room.
    pub(crate) async fn pass_on(&self, node: &NodeId, changes: Vec<Change>) {
        let place = match &self.desk {
            Some(desk) => Arc::clone(&desk.places).acquire_owned().await.ok(),
            None => None,
        };
        let discovery = Discovery { node: node.clone(), changes, by: self.by.clone() };
        if self.discoveries.send(Said { discovery, _place: place }).await.is_err() {
            tracing::debug!(module = %self.by, %node, "discovery after the end");
        }
    }

    /// Whether a value at this address is the module's to discover.
    pub(crate) fn may_discover(&self, path: &Path) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.may_discover(path))
    }

    /// Everything that changes, beginning with every node that there is.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.views.subscribe()
    }

    /// All documents as they are now.
    #[must_use]
    pub fn views(&self) -> &Views {
        &self.views
    }
}
