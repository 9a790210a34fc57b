//! How an engine behaves.

use crate::{FoundRunning, InUse, Silence};
use kraken_model::{NodeSet, Path};
use kraken_plan::Restart;
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
    /// What makes a node count as available.
    pub availability: Availability,
    /// When many nodes lose what they had at once.
    pub storm: Storm,
    /// What is done about one that falls silent; `None`: it is brought back like any other, again and again.
    pub silence: Option<Silence>,
    /// What is done about machines that are found running; `None`: they are taken for ours.
    pub found_running: Option<FoundRunning>,
    /// How many steps may be under way at a time.
    pub limits: Vec<Limit>,
    /// The facts by which kinds of hardware are told apart: what steps take is learned for each.
    pub kinds: Vec<Path>,
    /// How it is said that a node is in use.
    pub in_use: InUse,
    /// For the engine of a node that has a parent: where in its cfg the parent says which disruptive steps it
    /// may take ([`permitted`](crate::permitted)). `None`: nobody has to be asked.
    pub permitted_under: Option<Path>,
    /// What a restart wants of a node. `None`: nobody can ask for one.
    pub restart: Option<Restart>,
}

/// What makes a node count as available, for limits on how many may not be.
#[derive(Clone, Debug, Default)]
pub struct Availability {
    /// Variables that have to be as its cfg wants them.
    pub wanted: Vec<Path>,
    /// Values that are as good, whatever cfg wants of their variable: an image that is to be changed runs
    /// until then.
    pub as_good: Vec<(Path, Arc<str>)>,
}

/// Whose steps an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A parent: the steps that parents take for their children.
    Parent,
    /// A node: the steps that it takes for itself.
    Node,
}

/// The guard against one fault that makes a whole cluster, or all of a rack, reboot.
///
/// A storm is judged for all nodes together and, apart, for every failure domain: the nodes with the same
/// value of a fact in `per`. It begins when within `window` more than `share_percent` of the nodes, and at
/// least `min` of them, lost the value that their cfg wants of `variable`; only nodes that are wanted to
/// have one count. Of a domain that is too small for `min`, more than half are enough, but never fewer
/// than three. While it lasts every disruptive step on its nodes is held, until enough of them have the
/// value again or an operator thaws. Losses that the engine's own steps bring about do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// The variable that is watched.
    pub variable: Path,
    /// How close together the losses are.
    pub window: Duration,
    /// The share of the nodes above which it is a storm, in percent.
    pub share_percent: u32,
    /// The number of nodes below which it never is, but for small domains.
    pub min: usize,
    /// How long a node that lost the value is left alone, to see whether others follow: a storm has
    /// to be seen before its first victim is switched off.
    pub settle: Duration,
    /// The facts of cfg whose values name failure domains, such as `location.rack`.
    pub per: Vec<Path>,
    /// How long a node that lost the value is left alone while others of a domain of its have lost it too
    /// and it is known to have power: a fault between them and us is likelier than in each of them.
    pub patience: Duration,
    /// The value that says that a node has power; `None`: every node counts as if it had.
    pub powered: Option<(Path, Arc<str>)>,
}

/// How many steps may be under way at a time, how close together they may begin, and how many nodes
/// may be unavailable before another one is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which steps it is about.
    pub of: Scope,
    /// Which nodes it is about; `None`: all of them.
    pub nodes: Option<Arc<Group>>,
    /// Counted apart for every value of this fact of cfg, such as `location.rack`. Nodes without
    /// the fact are not limited.
    pub per: Option<Path>,
    /// So many may be under way at a time.
    pub in_flight: Option<u32>,
    /// So much time lies between the beginnings of two of them, at least.
    pub spacing: Duration,
    /// So many of its nodes may be unavailable: not as cfg wants them in
    /// [`Settings::availability`], for whatever reason, out of use by what a module declares
    /// ([`Field::unavailable`](kraken_model::Field::unavailable)), or with one of these steps under way or ended
    /// before its effects were seen. A step
    /// for a node that is unavailable anyway takes nothing away and does not wait for this.
    pub unavailable: Option<Share>,
}

/// Some of the nodes, under a name that people know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Its nodes.
    pub nodes: NodeSet,
}

/// A part of a number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many; one at least.
    Count(u32),
    /// So many of a hundred, rounded down, but one at least: a small group must get on too.
    Percent(u32),
}

/// Which steps are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// The disruptive ones.
    Disruptive,
    /// Those of one module.
    Module(Arc<str>),
    /// One mutation.
    Mutation(Arc<str>),
    /// Several mutations, counted together.
    AnyOf(Vec<Arc<str>>),
}

impl Settings {
    /// What an engine does unless told otherwise: `run_state` is watched for storms, it and
    /// `phys_state` must be fresh for anything disruptive, and it and `image_state` make a node
    /// available. No limits.
    #[must_use]
    pub fn new(epoch: u64, role: Role) -> Self {
        Self {
            epoch,
            role,
            seed: epoch,
            fresh: vec![Path::known("run_state"), Path::known("phys_state")],
            availability: Availability {
                wanted: vec![Path::known("run_state"), Path::known("image_state")],
                as_good: Vec::new(),
            },
            storm: Storm::default(),
            silence: None,
            found_running: None,
            limits: Vec::new(),
            kinds: Vec::new(),
            in_use: InUse::default(),
            permitted_under: None,
            restart: None,
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
            per: Vec::new(),
            patience: Duration::from_secs(300),
            powered: None,
        }
    }
}

impl Limit {
    /// A limit on these steps that does not limit anything yet.
    #[must_use]
    pub fn on(of: Scope) -> Self {
        let spacing = Duration::ZERO;
        Self { of, nodes: None, per: None, in_flight: None, spacing, unavailable: None }
    }

    /// At most so many of these steps at a time.
    #[must_use]
    pub fn at_most(in_flight: u32, of: Scope) -> Self {
        Self { in_flight: Some(in_flight), ..Self::on(of) }
    }

    /// At least so much time between the beginnings of two of these steps.
    #[must_use]
    pub fn spaced(spacing: Duration, of: Scope) -> Self {
        Self { spacing, ..Self::on(of) }
    }

    /// None of these steps while it would make more nodes than that unavailable.
    #[must_use]
    pub fn unavailable(share: Share, of: Scope) -> Self {
        Self { unavailable: Some(share), ..Self::on(of) }
    }

    /// Counted apart for every value of a fact of cfg.
    #[must_use]
    pub fn per(mut self, fact: Path) -> Self {
        self.per = Some(fact);
        self
    }

    /// Only for these nodes.
    #[must_use]
    pub fn within(mut self, nodes: Arc<Group>) -> Self {
        self.nodes = Some(nodes);
        self
    }
}

impl Share {
    /// How many of a number of nodes: one at least.
    #[must_use]
    pub fn of(self, nodes: u32) -> u32 {
        let part = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from(u64::from(nodes) * u64::from(percent) / 100).unwrap_or(u32::MAX)
            }
        };
        part.max(1)
    }
}
