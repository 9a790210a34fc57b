//! What the engine remembers of one node.

use crate::Marks;
use crate::backoff::Trouble;
use crate::domains::DomainSet;
use crate::experience::KindId;
use crate::gates::Place;
use crate::recovery::Recoveries;
use crate::timers::Alarm;
use kraken_model::{Document, Millis, NodeId};
use kraken_plan::{Facts, Goal, MutationId, PolicyId, State};

/// One node. There may be 100,000 of them: what only few have is boxed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// What is wanted of it now: its cfg, or what a restart wants until the node is off.
    pub(crate) cfg: Document,
    /// Its cfg, while it is restarted.
    pub(crate) base: Option<Box<Document>>,
    pub(crate) dsc: Document,
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) goal: Goal,
    /// Which kind of hardware it is.
    pub(crate) kind: KindId,
    /// Its policy; none after goal, facts or costs have changed.
    pub(crate) policy: PolicyId,
    /// The version of what was learned of its kind that the policy goes by.
    pub(crate) learned: u32,
    pub(crate) standing: Standing,
    /// Since when it stands so.
    pub(crate) since: Millis,
    /// Which of `Settings::fresh` are from before a restart, one bit each.
    pub(crate) stale: u32,
    /// The variables that an attempt may have moved unseen, as bits of the state: known, but not
    /// looked at since.
    pub(crate) doubt: u128,
    /// Of these those that a disruptive attempt may have moved: as long as nobody has looked, the node may be
    /// unavailable, whatever is known of it.
    pub(crate) shaken: u128,
    /// How many attempts there were.
    pub(crate) attempts: u32,
    pub(crate) running: Option<Box<Running>>,
    pub(crate) troubles: Option<Box<Troubles>>,
    /// The step that was done last.
    pub(crate) last: Option<LastDone>,
    /// Where it counts for limits on how many may be unavailable, if there are such.
    pub(crate) membership: Option<Box<Membership>>,
    /// Where it waits for a limit.
    pub(crate) place: Option<Place>,
    /// The failure domains that it is in.
    pub(crate) domains: DomainSet,
    /// Whether it counts there: its cfg wants what the storm guard watches.
    pub(crate) is_watched: bool,
    /// When it lost what the storm guard watches.
    pub(crate) lost_at: Option<Millis>,
    /// Until when it may still be heard, while its machine counts as found running.
    pub(crate) awaited_until: Option<Millis>,
    /// How often it was recovered, if it ever was.
    pub(crate) recoveries: Option<Box<Recoveries>>,
    /// An operator let it pass the storm hold.
    pub(crate) passes_storm: bool,
    /// What operators say of it.
    pub(crate) marks: Option<Box<Marks>>,
    pub(crate) alarm: Alarm,
}

/// The one attempt that is under way on a node.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) mutation: MutationId,
    pub(crate) attempt: u32,
    pub(crate) began: Millis,
    pub(crate) deadline: Millis,
    /// The module said that it is done. The discovery is still to come.
    pub(crate) answered: bool,
    /// Whether it was begun for a cfg that counts no more.
    pub(crate) outdated: Outdated,
    /// Whether it ends what may run on a node that is not heard.
    pub(crate) is_recovery: bool,
    /// The places it takes at limits.
    pub(crate) gates: Box<[u32]>,
}

/// Whether an attempt is for a cfg that counts no more. What it did may be right for that one only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outdated {
    /// The cfg has not changed since.
    #[default]
    No,
    /// It has, and what the step moves was not looked at since.
    Unseen,
    /// It has, and what the step moves was looked at since.
    Seen,
}

/// The step that was done last on a node, and whether that lasted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastDone {
    pub(crate) mutation: MutationId,
    pub(crate) at: Millis,
    /// How many times in a row it had to be done again soon.
    pub(crate) repeats: u32,
}

/// Where a node counts for limits on how many may be unavailable.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// What it has to be to count as available.
    pub(crate) goal: Goal,
    /// All that its cfg wants of it: who is meant to be out of use is not missed.
    pub(crate) wished: Goal,
    /// The gates among whose nodes it is.
    pub(crate) gates: Vec<u32>,
    /// The gates at which it counts as unavailable now.
    pub(crate) counted: Vec<u32>,
}

/// What failed on a node.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) list: Vec<Trouble>,
}

/// What a node is at, in short. Everything else is worked out when somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Loading,
    Converged,
    Running(MutationId),
    WaitsForNode(MutationId),
    WaitsForParent(MutationId),
    Happens(MutationId),
    Held(MutationId),
    Frozen(MutationId),
    Stale(MutationId),
    Doubtful(MutationId),
    Unpermitted(MutationId),
    Resting(MutationId),
    Storm(MutationId),
    Settling(MutationId),
    Unheard(MutationId),
    BackOff(MutationId),
    Queued(MutationId),
    NoWay,
    TooLarge,
    Quarantined,
    Awaited,
    FoundRunning,
    LeftRunning,
}

/// How many kinds of standing there are.
pub(crate) const STANDINGS: usize = NAMES.len();

/// Their names, in the order of [`Standing::kind`].
pub(crate) const NAMES: [&str; 23] = [
    "loading",
    "converged",
    "running",
    "waits_for_node",
    "waits_for_parent",
    "held",
    "frozen",
    "stale",
    "storm_hold",
    "settling",
    "back_off",
    "queued",
    "no_way",
    "too_large",
    "quarantined",
    "doubtful",
    "unpermitted",
    "resting",
    "happens",
    "awaited",
    "found_running",
    "left_running",
    "unheard",
];

impl Standing {
    /// Its number.
    pub(crate) fn kind(self) -> usize {
        match self {
            Self::Loading => 0,
            Self::Converged => 1,
            Self::Running(_) => 2,
            Self::WaitsForNode(_) => 3,
            Self::WaitsForParent(_) => 4,
            Self::Held(_) => 5,
            Self::Frozen(_) => 6,
            Self::Stale(_) => 7,
            Self::Storm(_) => 8,
            Self::Settling(_) => 9,
            Self::BackOff(_) => 10,
            Self::Queued(_) => 11,
            Self::NoWay => 12,
            Self::TooLarge => 13,
            Self::Quarantined => 14,
            Self::Doubtful(_) => 15,
            Self::Unpermitted(_) => 16,
            Self::Resting(_) => 17,
            Self::Happens(_) => 18,
            Self::Awaited => 19,
            Self::FoundRunning => 20,
            Self::LeftRunning => 21,
            Self::Unheard(_) => 22,
        }
    }

    /// The step that somebody is taking, as far as the engine knows.
    pub(crate) fn taken(self) -> Option<MutationId> {
        match self {
            Self::Running(id) | Self::WaitsForNode(id) | Self::WaitsForParent(id) => Some(id),
            _ => None,
        }
    }

    /// The same of a step that has another number now; when there is no such step any more, the node has to
    /// be looked at first.
    pub(crate) fn renumbered(self, number: impl Fn(MutationId) -> Option<MutationId>) -> Self {
        let with: fn(MutationId) -> Self = match self {
            Self::Running(_) => Self::Running,
            Self::WaitsForNode(_) => Self::WaitsForNode,
            Self::WaitsForParent(_) => Self::WaitsForParent,
            Self::Happens(_) => Self::Happens,
            Self::Held(_) => Self::Held,
            Self::Frozen(_) => Self::Frozen,
            Self::Stale(_) => Self::Stale,
            Self::Doubtful(_) => Self::Doubtful,
            Self::Unpermitted(_) => Self::Unpermitted,
            Self::Resting(_) => Self::Resting,
            Self::Storm(_) => Self::Storm,
            Self::Settling(_) => Self::Settling,
            Self::Unheard(_) => Self::Unheard,
            Self::BackOff(_) => Self::BackOff,
            Self::Queued(_) => Self::Queued,
            Self::Loading
            | Self::Converged
            | Self::NoWay
            | Self::TooLarge
            | Self::Quarantined
            | Self::Awaited
            | Self::FoundRunning
            | Self::LeftRunning => return self,
        };
        self.mutation().and_then(number).map_or(Self::Loading, with)
    }

    /// Whether the next step has to wait, and another one might not.
    pub(crate) fn waits(self) -> bool {
        !matches!(self, Self::Running(_) | Self::Held(_)) && self.mutation().is_some()
    }

    /// The step that is next, under way or waited for.
    pub(crate) fn mutation(self) -> Option<MutationId> {
        match self {
            Self::Running(id)
            | Self::WaitsForNode(id)
            | Self::WaitsForParent(id)
            | Self::Happens(id)
            | Self::Held(id)
            | Self::Frozen(id)
            | Self::Stale(id)
            | Self::Doubtful(id)
            | Self::Unpermitted(id)
            | Self::Resting(id)
            | Self::Storm(id)
            | Self::Settling(id)
            | Self::Unheard(id)
            | Self::BackOff(id)
            | Self::Queued(id) => Some(id),
            _ => None,
        }
    }
}

/// What is said of most nodes.
static NO_MARKS: Marks = Marks { hold: None, freeze: None, busy: None, restart: None };

impl Node {
    /// Its cfg, also while it is restarted.
    pub(crate) fn configured(&self) -> &Document {
        self.base.as_deref().unwrap_or(&self.cfg)
    }

    pub(crate) fn marks(&self) -> &Marks {
        self.marks.as_deref().unwrap_or(&NO_MARKS)
    }

    pub(crate) fn new(id: NodeId, attempts: u32, now: Millis) -> Self {
        Self {
            id,
            cfg: Document::new(),
            base: None,
            dsc: Document::new(),
            state: State::default(),
            facts: Facts::default(),
            goal: Goal::default(),
            kind: KindId::default(),
            policy: PolicyId::NONE,
            learned: 0,
            standing: Standing::Loading,
            since: now,
            stale: 0,
            doubt: 0,
            shaken: 0,
            attempts,
            running: None,
            troubles: None,
            last: None,
            membership: None,
            place: None,
            domains: DomainSet::default(),
            is_watched: false,
            lost_at: None,
            awaited_until: None,
            recoveries: None,
            passes_storm: false,
            marks: None,
            alarm: Alarm::default(),
        }
    }

    pub(crate) fn trouble(&self, mutation: MutationId) -> Option<&Trouble> {
        self.troubles.as_ref()?.list.iter().find(|trouble| trouble.mutation == mutation)
    }

    /// What failed and is given up.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.iter().flat_map(|t| &t.list).filter(|trouble| trouble.retry_at.is_none())
    }
}
