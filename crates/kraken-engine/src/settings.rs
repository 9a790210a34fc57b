//! How an engine behaves.

use crate::InUse;
use kraken_model::Path;
use std::sync::Arc;
use std::time::Duration;

/// How an engine behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which run this is: a number that was never used before, from a durable counter.
    pub epoch: u64,
    /// Whose steps this engine takes.
    pub role: Role,
    /// Where the jitter of pauses comes from.
    pub seed: u64,
    /// Variables that must not be stale for a disruptive step.
    pub fresh: Vec<Path>,
    /// When many nodes lose what they had at once.
    pub storm: Storm,
    /// How many steps may be under way at a time.
    pub limits: Vec<Limit>,
    /// How it is said that a node is in use.
    pub in_use: InUse,
}

/// Whose steps an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A parent: the steps that parents take for their children.
    Parent,
    /// A node: the steps that it takes for itself.
    Node,
}

/// The guard against one fault that makes a whole cluster reboot.
///
/// When more than `share_percent` of all nodes, and at least `min`, lost the value that their cfg
/// wants of `variable` within `window`, every disruptive step is held until enough of them have it
/// again or an operator thaws. Losses that the engine's own steps bring about do not count.
#[derive(Clone, Debug)]
pub struct Storm {
    /// The variable that is watched.
    pub variable: Path,
    /// How close together the losses are.
    pub window: Duration,
    /// The share of the nodes above which it is a storm, in percent.
    pub share_percent: u32,
    /// The number of nodes below which it never is.
    pub min: usize,
    /// How long a node that lost the value is left alone, to see whether others follow: a storm has
    /// to be seen before its first victim is switched off.
    pub settle: Duration,
}

/// How many steps may be under way at a time, and how close together they may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which steps it is about.
    pub of: Scope,
    /// Counted apart for every value of this fact of cfg, such as `location.rack`. Nodes without
    /// the fact are not limited.
    pub per: Option<Path>,
    /// So many may be under way at a time.
    pub in_flight: Option<u32>,
    /// So much time lies between the beginnings of two of them, at least.
    pub spacing: Duration,
}

/// Which steps are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those of one module.
    Module(Arc<str>),
    /// One mutation.
    Mutation(Arc<str>),
}

impl Settings {
    /// What an engine does unless told otherwise: `run_state` is watched for storms, and it and
    /// `phys_state` must be fresh for anything disruptive. No limits.
    #[must_use]
    pub fn new(epoch: u64, role: Role) -> Self {
        Self {
            epoch,
            role,
            seed: epoch,
            fresh: vec![Path::known("run_state"), Path::known("phys_state")],
            storm: Storm::default(),
            limits: Vec::new(),
            in_use: InUse::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(0, Role::Parent)
    }
}

impl Default for Storm {
    fn default() -> Self {
        Self {
            variable: Path::known("run_state"),
            window: Duration::from_secs(60),
            share_percent: 20,
            min: 5,
            settle: Duration::from_secs(10),
        }
    }
}

impl Limit {
    /// At most so many of these steps at a time.
    #[must_use]
    pub fn at_most(in_flight: u32, of: Scope) -> Self {
        Self { of, per: None, in_flight: Some(in_flight), spacing: Duration::ZERO }
    }

    /// At least so much time between the beginnings of two of these steps.
    #[must_use]
    pub fn spaced(spacing: Duration, of: Scope) -> Self {
        Self { of, per: None, in_flight: None, spacing }
    }

    /// Counted apart for every value of a fact of cfg.
    #[must_use]
    pub fn per(mut self, fact: Path) -> Self {
        self.per = Some(fact);
        self
    }
}
