//! What the engine does about a node, or why it does nothing: that is data too.

use crate::recovery::Unheard;
use crate::{Expected, LostWith, Mark, StormView, UnheardView};
use kraken_model::{Millis, NodeId, Path};
use kraken_plan::{Context, Obstacle};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What the engine does about a node, or why it does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Status {
    /// The engine has just started and reads what was kept.
    Loading,
    /// The node is as it should be.
    Converged,
    /// A step is under way.
    Running {
        /// The step.
        mutation: Arc<str>,
        /// Who takes it.
        module: Arc<str>,
        /// Which attempt on this node.
        attempt: u32,
        /// What has to be discovered for it to be done.
        waits_for: Vec<Want>,
        /// Until when.
        deadline: Millis,
        /// Whether the module says that it has done its part.
        answered: bool,
    },
    /// The next step is the node's own.
    WaitsForNode {
        /// The step.
        mutation: Arc<str>,
    },
    /// The next step is the parent's.
    WaitsForParent {
        /// The step.
        mutation: Arc<str>,
    },
    /// What comes next comes by itself.
    Happens {
        /// As what it is known.
        mutation: Arc<str>,
        /// What has to be discovered.
        waits_for: Vec<Want>,
    },
    /// An operator holds the node.
    Held {
        /// The step that would be next.
        mutation: Arc<str>,
        /// Who, why, and until when.
        #[serde(flatten)]
        mark: Mark,
    },
    /// An operator stopped everything disruptive.
    Frozen {
        /// The step that would be next.
        mutation: Arc<str>,
        /// Who, why, and until when.
        #[serde(flatten)]
        mark: Mark,
    },
    /// What is known is from before a restart, and the next step is disruptive.
    Stale {
        /// The step that would be next.
        mutation: Arc<str>,
        /// What has to be confirmed.
        waits_for: Vec<Path>,
    },
    /// An attempt ended before its effects were seen, and the next step is disruptive and relies on what
    /// that attempt may have changed.
    Doubtful {
        /// The step that would be next.
        mutation: Arc<str>,
        /// What has to be looked at again.
        waits_for: Vec<Path>,
    },
    /// The next step is disruptive, and the parent has not permitted it yet.
    Unpermitted {
        /// The step that would be next.
        mutation: Arc<str>,
    },
    /// Too many nodes were lost at once to believe that each of them is at fault.
    StormHold {
        /// The step that would be next.
        mutation: Arc<str>,
        /// The storm.
        #[serde(flatten)]
        storm: StormView,
    },
    /// The node was just lost: a moment to see whether others follow.
    Settling {
        /// The step that would be next.
        mutation: Arc<str>,
        /// How long.
        until: Millis,
        /// When it was lost.
        lost_at: Millis,
        /// Others that were lost with it, if that is why it gets so long.
        #[serde(skip_serializing_if = "Option::is_none")]
        with: Option<LostWith>,
    },
    /// The node is not heard, and it is not recovered, or not again, unless a person says so.
    Unheard {
        /// The step that would be next.
        mutation: Arc<str>,
        /// Why, and since when.
        #[serde(flatten)]
        silence: UnheardView,
    },
    /// The step has failed and is tried again later.
    BackOff {
        /// The step.
        mutation: Arc<str>,
        /// When.
        until: Millis,
        /// How many times in a row it failed.
        failures: u32,
        /// Why, the last time.
        reason: Arc<str>,
    },
    /// The step was done a moment ago, and did not last: it is taken again after a pause.
    Resting {
        /// The step.
        mutation: Arc<str>,
        /// When.
        until: Millis,
    },
    /// A limit is reached.
    Queued {
        /// The step.
        mutation: Arc<str>,
        /// What is limited.
        limit: String,
        /// How many are under way.
        in_flight: u32,
        /// How many may be; `None`: that is not what is limited.
        at_most: Option<u32>,
        /// How many nodes are unavailable, where that is what is limited.
        unavailable: Option<Unavailable>,
        /// Some of these.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        away: Vec<NodeId>,
        /// How many of these were given up: somebody has to see to them.
        given_up: usize,
        /// Not before then.
        not_before: Option<Millis>,
        /// How many wait there before this one.
        before: usize,
    },
    /// No way leads to where the node should be.
    NoWay {
        /// The fewest guards that stand in the way.
        blocked_by: Vec<Obstacle>,
        /// What is not reached.
        missing: Vec<String>,
    },
    /// The machine was found running: its node may still be heard.
    Awaited {
        /// Until when it is waited for.
        until: Millis,
    },
    /// The machine was found running and its node is not heard: a person has to say what is to be done.
    FoundRunning,
    /// The machine was found running and its node is not heard: it is left as it is, as cfg wants.
    LeftRunning,
    /// There are too many states to find a way.
    TooLarge,
    /// Every way was tried and given up, until the cfg changes or somebody says `retry`.
    Quarantined {
        /// What failed, and why.
        reason: String,
    },
}

impl Status {
    /// Whether it lasts until something happens that no clock tells of.
    pub(crate) fn has_no_end(&self) -> bool {
        matches!(
            self,
            Self::Held { .. }
                | Self::Frozen { .. }
                | Self::Stale { .. }
                | Self::Doubtful { .. }
                | Self::Unpermitted { .. }
                | Self::StormHold { .. }
                | Self::Unheard { .. }
                | Self::Queued { .. }
                | Self::NoWay { .. }
                | Self::FoundRunning
                | Self::LeftRunning
        )
    }

    /// What the next step waits for, in words, when it waits.
    pub(crate) fn waits(&self, now: Millis) -> Option<String> {
        let is_at_rest = matches!(self, Self::Loading | Self::Converged | Self::Running { .. });
        (!is_at_rest).then(|| Sentence { status: self, now }.to_string())
    }
}

/// How many nodes are unavailable, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// How many are.
    pub now: u32,
    /// Of how many.
    pub of: u32,
    /// How many may be before another one is made so.
    pub at_most: u32,
}

/// A variable and the value that is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The variable.
    pub variable: Path,
    /// What it should be.
    pub value: Arc<str>,
    /// What does as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<Arc<str>>,
    /// What it is.
    pub is: Arc<str>,
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.variable, self.value)?;
        self.or.iter().try_for_each(|value| write!(f, " or {value}"))?;
        write!(f, " (is {})", self.is)
    }
}

/// Things, separated by commas.
pub(crate) fn joined<T: fmt::Display>(things: &[T], separator: &str) -> String {
    let texts: Vec<String> = things.iter().map(ToString::to_string).collect();
    texts.join(separator)
}

/// A status as a sentence, with times seen from `now`.
pub(crate) struct Sentence<'a> {
    pub(crate) status: &'a Status,
    pub(crate) now: Millis,
}

/// How long from `now` to `then`.
pub(crate) struct In {
    pub(crate) now: Millis,
    pub(crate) then: Millis,
}

/// How long from `since` to `now`.
pub(crate) struct For {
    pub(crate) since: Millis,
    pub(crate) now: Millis,
}

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.now.since(self.since);
        match passed.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds}.{} s", passed.subsec_millis() / 100),
            seconds @ 120..7200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h", seconds / 3600),
        }
    }
}

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.then.since(self.now);
        match left.as_secs() {
            0 if left.is_zero() => f.write_str("now"),
            seconds @ 0..120 => write!(f, "in {}.{} s", seconds, left.subsec_millis() / 100),
            seconds => write!(f, "in {} min", seconds / 60),
        }
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |then| In { now: self.now, then };
        match self.status {
            Status::Loading => f.write_str("the engine is starting"),
            Status::Converged => f.write_str("is as it should be"),
            Status::Running { mutation, module, attempt, waits_for, deadline, answered } => {
                let said = if *answered { ", which says that it is done" } else { "" };
                write!(
                    f,
                    "{mutation} is under way (attempt {attempt}, module {module}{said}); waits for {}; gives up {}",
                    joined(waits_for, ", "),
                    within(*deadline)
                )
            }
            Status::WaitsForNode { mutation } => {
                write!(f, "waits for the node itself to take {mutation}")
            }
            Status::WaitsForParent { mutation } => {
                write!(f, "waits for its parent to take {mutation}")
            }
            Status::Happens { mutation, waits_for } => {
                let waits_for = joined(waits_for, ", ");
                write!(f, "waits for {waits_for}, which comes by itself ({mutation})")
            }
            Status::Held { mutation, mark } => {
                write!(f, "is held by {mark}; {mutation} would be next: release it to go on")
            }
            Status::Frozen { mutation, mark } => {
                write!(
                    f,
                    "what is disruptive is frozen by {mark}, and {mutation} is: thaw to go on"
                )
            }
            Status::Stale { mutation, waits_for } => write!(
                f,
                "{} {} known from before the restart only; {mutation} is disruptive and waits until that is confirmed",
                joined(waits_for, " and "),
                if waits_for.len() == 1 { "is" } else { "are" }
            ),
            Status::Doubtful { mutation, waits_for } => write!(
                f,
                "{} may have been changed by an attempt that ended early; {mutation} is disruptive and waits until that was looked at",
                joined(waits_for, " and ")
            ),
            Status::Unpermitted { mutation } => {
                write!(f, "{mutation} is disruptive and waits for the parent's permission")
            }
            Status::StormHold { mutation, storm } => write!(
                f,
                "{storm}: {mutation} is held, as every disruptive step there; look for a common cause, then thaw or release"
            ),
            Status::Resting { mutation, until } => write!(
                f,
                "{mutation} was done and did not last; it is taken again {}",
                within(*until)
            ),
            Status::Settling { mutation, until, with: None, .. } => write!(
                f,
                "was just lost; {mutation} follows {}, unless others are lost too",
                within(*until)
            ),
            Status::Settling { mutation, until, lost_at, with: Some(with) } => write!(
                f,
                "was lost {} ago with {with}, and has power: most likely something between them and the server; \
                 {mutation} follows {}, unless it is back",
                For { since: *lost_at, now: self.now },
                within(*until)
            ),
            Status::Unheard { mutation, silence } => {
                write!(f, "{}", Unheard { view: silence, mutation, now: self.now })
            }
            Status::BackOff { mutation, until, failures, reason } => write!(
                f,
                "{mutation} failed{}: {reason}; it is tried again {}",
                Failed(*failures),
                within(*until)
            ),
            Status::Queued { .. } => self.queued(f),
            Status::NoWay { blocked_by, missing } if blocked_by.is_empty() => {
                write!(f, "nothing leads from here to {}", joined(missing, ", "))
            }
            Status::NoWay { blocked_by, missing } => write!(
                f,
                "there is no way to {}: {}",
                joined(missing, ", "),
                hurdles(blocked_by)
            ),
            Status::Awaited { until } => write!(
                f,
                "its machine was found running: nothing is done before its node had time to be heard, {}",
                within(*until)
            ),
            Status::FoundRunning => f.write_str(
                "its machine was found running, not switched on from here, and its node is not heard: \
                 whatever runs there is left alone until a person takes the machine over, or it is \
                 switched off or boots by itself",
            ),
            Status::LeftRunning => f.write_str(
                "its machine was found running, not switched on from here, and is left as it is, as its \
                 cfg says, until it is switched off or boots by itself, or a person takes it over",
            ),
            Status::TooLarge => f.write_str(
                "no way was found, since too many variables are tied together to look at all states",
            ),
            Status::Quarantined { reason } => {
                write!(f, "is given up: {reason}; mend that and retry, or change its cfg")
            }
        }
    }
}

impl Sentence<'_> {
    fn queued(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status::Queued {
            mutation,
            limit,
            in_flight,
            at_most,
            unavailable,
            away,
            given_up,
            not_before,
            before,
        } = self.status
        else {
            return Ok(());
        };
        write!(f, "{mutation} waits for a limit on {limit}: ")?;
        match (unavailable, at_most) {
            (Some(Unavailable { now, of, at_most }), _) => {
                write!(f, "{now} of {of} nodes are unavailable")?;
                let more = (*now as usize).saturating_sub(away.len());
                let names = joined(away, ", ");
                match (away.is_empty(), more) {
                    (true, _) => {}
                    (false, 0) => write!(f, " ({names})")?,
                    (false, more) => write!(f, " ({names} and {more} more)")?,
                }
                write!(f, " and at most {at_most} may be")?;
                if *given_up > 0 {
                    write!(f, "; {given_up} of them given up, which only a person ends")?;
                }
            }
            (None, Some(at_most)) => write!(f, "{in_flight} of {at_most} under way")?,
            (None, None) => write!(f, "{in_flight} under way")?,
        }
        match before {
            0 => f.write_str(", it is next")?,
            1 => f.write_str(", 1 waits before it")?,
            before => write!(f, ", {before} wait before it")?,
        }
        match not_before {
            Some(then) => write!(f, ", one may begin {}", In { now: self.now, then: *then }),
            None => Ok(()),
        }
    }
}

/// How often something failed in a row; once needs no words.
pub(crate) struct Failed(pub(crate) u32);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            times => write!(f, " {times} times in a row, the last time"),
        }
    }
}

/// What stands in the way, each guard once, with everything that it keeps from being done.
fn hurdles(obstacles: &[Obstacle]) -> String {
    let mut kinds: Vec<&Obstacle> = Vec::new();
    let same = |a: &Obstacle, b: &Obstacle| {
        (&a.guard, a.excluded, a.given_up) == (&b.guard, b.excluded, b.given_up)
    };
    for obstacle in obstacles {
        if !kinds.iter().any(|kind| same(kind, obstacle)) {
            kinds.push(obstacle);
        }
    }
    let words = kinds.into_iter().map(|kind| {
        let names: Vec<&str> =
            obstacles.iter().filter(|o| same(o, kind)).map(|o| o.mutation.as_ref()).collect();
        let (names, many) = (listed(&names), names.len() > 1);
        match (kind.given_up, kind.excluded) {
            (true, _) => format!("{names} {} given up", if many { "were" } else { "was" }),
            (_, true) => {
                let are = if many { "are" } else { "is" };
                format!("{names} {are} not possible while {}", kind.guard)
            }
            _ => format!("{names} {} {}", if many { "need" } else { "needs" }, kind.guard),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

/// What would have to be otherwise for there to be a way, if anything would do.
pub(crate) fn opening(obstacles: &[Obstacle]) -> Option<String> {
    let mut changes: Vec<String> = Vec::new();
    for Obstacle { mutation, guard, excluded, given_up } in obstacles {
        let change = match (given_up, excluded) {
            (true, _) => format!("{mutation} is tried again"),
            (_, true) => format!("{guard} ends"),
            _ => format!("{guard} holds"),
        };
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    (!changes.is_empty()).then(|| listed(&changes))
}

/// Things, separated by commas, and the last by a word.
fn listed(things: &[&str]) -> String {
    match things {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Context::Node => "the node itself",
            Context::Child => "its parent",
            Context::Any => "whoever is first",
            Context::Itself => "itself",
        };
        let disruptive = if self.disruptive { ", disruptive" } else { "" };
        write!(f, "{} by {by} ({}{disruptive})", self.mutation, joined(&self.effects, ", "))
    }
}
