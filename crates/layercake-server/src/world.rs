//! The world behind a server: where its machines are, and the modules that look after them.
//!
//! There is [`crate::Hardware`], which is what a server is for; whoever has other machines to offer,
//! such as simulated ones, implements [`World`]. Everything before it is the same: engine, planner,
//! journal, store, API.

use crate::api::Selection;
use async_trait::async_trait;
use axum::Router;
use kraken::{IdentityError, Keeper, Module, OnLog, SyncError, ToldCfg};
use kraken_model::{Document, NodeId, Registry};
use kraken_plan::Mutation;
use kraken_store::StoreError;
use layercake_boot::StartError;
use layercake_boot::hosts::BootFileError;
use layercake_config::Cluster;
use layercake_image::ImageStore;
use layercake_power::Console;
use layercake_seed::ValueError;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What has machines.
#[async_trait]
pub trait World: Send + Sync + 'static {
    /// Starts everything that the machines of a cluster need. Done once, with the first cluster file.
    ///
    /// # Errors
    /// With what stands in the way, and what to do about it.
    async fn start(&self, setup: Setup<'_>) -> Result<Box<dyn Machines>, WorldError>;

    /// How fast time passes for the machines.
    fn pace(&self) -> Pace {
        Pace::REAL
    }

    /// Whether an image that a cluster file names is made up when the store does not have it: where
    /// machines do not really run it, its name is all that matters.
    fn makes_up_images(&self) -> bool {
        false
    }

    /// What the API has besides, for this world alone.
    fn routes(&self, _nodes: Selection) -> Router {
        Router::new()
    }
}

/// The machines of a cluster, looked after.
#[async_trait]
pub trait Machines: Send + Sync {
    /// The modules that do it: power, boot and sync.
    fn hosted(&self) -> Vec<Arc<dyn Module>>;

    /// What was counted since the start.
    fn counters(&self) -> Counters;

    /// The console of a machine, from the cfg of its node.
    ///
    /// # Errors
    /// With why there is none, for a person.
    async fn console(&self, node: &NodeId, cfg: &Document) -> Result<Console, String>;

    /// Ends what runs here, after the application has ended. Machines and nodes go on.
    async fn shutdown(&self);
}

/// What is needed to start.
pub struct Setup<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What may stand in a document.
    pub registry: Arc<Registry>,
    /// Where everything durable goes.
    pub keeper: Keeper,
    /// The images.
    pub images: ImageStore,
    /// What a node is told to be.
    pub told: ToldCfg,
    /// Takes what nodes print.
    pub on_log: OnLog,
}

/// What was counted, as people and programs are told.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By the boot service.
    pub boot: serde_json::Value,
    /// By the image service.
    pub images: serde_json::Value,
    /// By the sync driver.
    pub sync: serde_json::Value,
    /// What last had to be refused or reported.
    pub news: serde_json::Value,
}

/// What machines need cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// What is kept cannot be read or written.
    #[error("cannot read or write what is kept")]
    Store(#[from] StoreError),
    /// The key by which nodes know this parent cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nodes cannot join.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Machines cannot boot.
    #[error(transparent)]
    Boot(#[from] StartError),
    /// Layer 0 is not there.
    #[error("cannot read Layer 0; make it with `layercake minos build`")]
    Minos(#[from] BootFileError),
    /// An address does not fit.
    #[error("an address of the cluster file cannot be used")]
    Address(#[from] ValueError),
    /// QEMU machines have no place.
    #[error("cannot run QEMU machines")]
    Qemu(#[source] io::Error),
    /// Something of another world.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

/// How fast time passes for machines, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace(f64);

/// How much time a step has at the least, however fast time passes: what the server itself does, such
/// as writing its journal, does not become faster.
const LEAST: Duration = Duration::from_secs(3);

impl Pace {
    /// As everywhere.
    pub const REAL: Self = Self(1.0);

    /// The fastest: above it, what the server itself takes is longer than what a machine takes.
    pub const FASTEST: f64 = 600.0;

    /// So many times as fast; none when it is not between 0.1 and [`Pace::FASTEST`].
    #[must_use]
    pub fn times(speed: f64) -> Option<Self> {
        (0.1..=Self::FASTEST).contains(&speed).then_some(Self(speed))
    }

    /// How many times as fast.
    #[must_use]
    pub fn speed(self) -> f64 {
        self.0
    }

    /// How long something is here that takes so long there.
    #[must_use]
    pub fn here(self, there: Duration) -> Duration {
        there.div_f64(self.0)
    }

    /// How long something is there that takes so long here.
    #[must_use]
    pub fn there(self, here: Duration) -> Duration {
        here.mul_f64(self.0)
    }

    /// The same, with as much time at the least as steps have here.
    pub(crate) fn patient(self, there: Duration) -> Duration {
        self.here(there).max(LEAST.min(there))
    }

    /// A mutation of the machines, as the engine has to plan with it.
    pub(crate) fn apply(self, mutation: &mut Mutation) {
        if self == Self::REAL {
            return;
        }
        mutation.cost = self.here(mutation.cost);
        mutation.timeout = self.here(mutation.timeout).max(LEAST);
        mutation.retry.base = self.here(mutation.retry.base);
        mutation.retry.cap = self.here(mutation.retry.cap);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use layercake_schema::{Timing, mutations};

    #[test]
    fn a_minute_a_second_is_heeded_by_every_step_and_leaves_the_server_its_time() {
        let pace = Pace::times(60.0).unwrap();
        assert_eq!(pace.here(Duration::from_secs(60)), Duration::from_secs(1));
        assert_eq!(pace.there(Duration::from_secs(1)), Duration::from_secs(60));
        let (before, mut after) = (mutations(&Timing::default()), mutations(&Timing::default()));
        after.iter_mut().for_each(|mutation| pace.apply(mutation));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(after.cost, pace.here(before.cost));
            assert!(after.timeout >= LEAST && after.timeout <= before.timeout, "{}", after.name);
            assert!(after.cost < after.timeout && after.retry.cap < before.retry.cap);
        }
    }

    #[test]
    fn a_pace_that_cannot_be_kept_is_none() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY, 601.0] {
            assert_eq!(Pace::times(speed), None, "{speed}");
        }
    }
}
