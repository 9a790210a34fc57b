//! Why: the way ahead, or what stands in it.

use crate::costs::Costs;
use crate::mutation::Context;
use crate::obstacles::Hurdles;
use crate::policy::{Policy, Step};
use crate::set::{Facts, Goal, ModuleSet, MutationId, State, Variable};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The way from a state to a goal, or what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Explanation {
    /// The goal is reached.
    Done,
    /// There is a way.
    Way {
        /// Its steps, in order.
        steps: Vec<WayStep>,
    },
    /// There is none to all of the goal. A policy still goes as far as it can.
    NoWay {
        /// The fewest guards that stand in the way, with the mutations that they stand in the way of,
        /// and mutations that were given up; if these were otherwise, there would be a way. What
        /// mutations can change by themselves is named only when nothing else explains it. Empty: no
        /// mutation leads there, or so many guards are in the way that the search was given up.
        blocked_by: Vec<Obstacle>,
        /// What of the goal is not reached yet.
        missing: Vec<String>,
    },
    /// Nobody knows: the search was given up (see [`MAX_VISITED`](crate::MAX_VISITED)).
    TooLarge {
        /// What of the goal is not reached yet.
        missing: Vec<String>,
    },
}

/// One step of a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WayStep {
    /// The mutation.
    pub mutation: Arc<str>,
    /// Who takes it.
    pub by: Context,
    /// What it changes, for a person.
    pub effects: Vec<String>,
    /// How long it is expected to take, in milliseconds.
    pub expected_ms: u64,
}

/// What stands in the way of a mutation: a guard, or that it was given up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Obstacle {
    /// The mutation that is not possible.
    pub mutation: Arc<str>,
    /// The guard, for a person: `busy = BUSY`. Empty when the mutation was given up.
    pub guard: String,
    /// Whether the guard must not hold, and does.
    pub excluded: bool,
    /// Whether the mutation was given up ([`Costs::block`]) rather than kept back by a guard.
    pub given_up: bool,
}

/// Explains what a policy says of a state.
#[must_use]
pub fn explain(
    set: &Arc<ModuleSet>,
    goal: Goal,
    facts: Facts,
    costs: &Costs,
    state: State,
) -> Explanation {
    let mut policy = Policy::new(set, goal, facts, costs);
    let (path, end) = policy.walk(state);
    if set.fulfils(end, goal) {
        let steps: Vec<WayStep> = path.into_iter().map(|id| step(set, id)).collect();
        return if steps.is_empty() { Explanation::Done } else { Explanation::Way { steps } };
    }
    let state = set.forget(state, facts);
    let missing = |v: &&Variable| (end.0 ^ goal.0.value) & goal.0.mask & v.mask != 0;
    let missing = set.variables().iter().filter(missing);
    let missing = missing
        .map(|v| format!("{}: {} -> {}", v.path, v.value(state), v.value(State(goal.0.value))))
        .collect();
    if policy.next(end) == Step::TooLarge {
        return Explanation::TooLarge { missing };
    }
    let blocked_by = Hurdles { set, goal, facts, costs, state }.obstacles(end);
    Explanation::NoWay { blocked_by, missing }
}

fn step(set: &ModuleSet, id: MutationId) -> WayStep {
    let mutation = set.mutation(id);
    WayStep {
        mutation: Arc::clone(&mutation.name),
        by: mutation.context,
        effects: mutation.effects.iter().map(ToString::to_string).collect(),
        expected_ms: u64::try_from(mutation.cost.as_millis()).unwrap_or(u64::MAX),
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.given_up {
            return write!(f, "{} was given up", self.mutation);
        }
        let verb = if self.excluded { "is not possible while" } else { "needs" };
        write!(f, "{} {verb} {}", self.mutation, self.guard)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("is as it should be"),
            Self::Way { steps } => {
                let steps: Vec<String> = steps
                    .iter()
                    .map(|s| format!("{} ({:.0} s)", s.mutation, s.expected_ms as f64 / 1000.0))
                    .collect();
                write!(f, "{}", steps.join(", then "))
            }
            Self::NoWay { blocked_by, missing } if blocked_by.is_empty() => {
                write!(f, "no mutation leads from here to {}", missing.join(", "))
            }
            Self::TooLarge { missing } => {
                let missing = missing.join(", ");
                write!(f, "too many variables are tied together to find a way to {missing}")
            }
            Self::NoWay { blocked_by, missing } => {
                let guards: Vec<String> = blocked_by.iter().map(ToString::to_string).collect();
                write!(f, "there is no way to {}: {}", missing.join(", "), guards.join("; "))
            }
        }
    }
}

/// How long a way is expected to take.
#[must_use]
pub fn expected(steps: &[WayStep]) -> Duration {
    Duration::from_millis(steps.iter().map(|step| step.expected_ms).sum())
}
