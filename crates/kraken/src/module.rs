//! What a module is.

use crate::views::{Subscription, Views};
use async_trait::async_trait;
use kraken_engine::{DispatchId, Failure};
use kraken_model::{Change, Document, Millis, NodeId};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A part of an application that knows how to find out and change something about nodes.
///
/// What it can do is declared beforehand, as schemas and mutations; this is how it does it. All of
/// it must be idempotent: a step may be asked for again, and a node may already be where it should.
#[async_trait]
pub trait Module: Send + Sync + 'static {
    /// The name under which its mutations are declared.
    fn name(&self) -> &str;

    /// Watches the world for as long as the application runs, and reports what it finds through
    /// `context`. Ends when `context.stop` is cancelled.
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
    pub(crate) discoveries: mpsc::Sender<Discovery>,
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
    /// The same, speaking under another name.
    pub(crate) fn named(&self, by: &str) -> Self {
        Self { by: by.into(), ..self.clone() }
    }

    /// Reports what was found out about a node. Waits while the engine is busy, so a module cannot
    /// flood it; does nothing once the application has ended.
    pub async fn discover(&self, node: &NodeId, changes: Vec<Change>) {
        let discovery = Discovery { node: node.clone(), changes, by: self.by.clone() };
        if self.discoveries.send(discovery).await.is_err() {
            tracing::debug!(module = %self.by, %node, "discovery after the end");
        }
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
