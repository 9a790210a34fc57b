//! Policies: from any state, the next mutation and the cost to go.

use crate::costs::Costs;
use crate::group::{Group, Known};
use crate::set::{Facts, Goal, ModuleSet, MutationId, State};
use crate::word::StateMap;
use std::sync::Arc;
use std::time::Duration;

/// How many answers a policy keeps ready. Nodes that share a policy are in few different states.
const MAX_ANSWERS: usize = 1 << 16;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The goal is reached.
    Done,
    /// Take this mutation.
    Take {
        /// Which.
        mutation: MutationId,
        /// The expected cost from here to the goal, with this mutation.
        cost_to_go: Duration,
        /// The state that is counted on after it: the expected one, unless only another outcome of
        /// the mutation leads to the goal.
        after: State,
    },
    /// The goal cannot be reached from here.
    NoWay,
    /// The search was given up after [`MAX_VISITED`](crate::MAX_VISITED) states.
    TooLarge,
}

/// For one goal, one set of facts and one set of costs: the next mutation from any state.
///
/// States are looked at as they are asked for, and what one search finds out is kept: along the
/// way it found, the cost to go of every state is known.
#[derive(Clone, Debug)]
pub struct Policy {
    set: Arc<ModuleSet>,
    goal: Goal,
    facts: Facts,
    /// Those that the goal speaks of.
    groups: Vec<Group>,
    answers: StateMap<Step>,
}

impl Policy {
    /// A policy, with nothing looked at yet.
    #[must_use]
    pub fn new(set: &Arc<ModuleSet>, goal: Goal, facts: Facts, costs: &Costs) -> Self {
        let groups = (0..set.groups.len())
            .filter_map(|index| Group::new(set, index, goal, facts, costs))
            .collect();
        Self { set: Arc::clone(set), goal, facts, groups, answers: StateMap::default() }
    }

    /// What to do next in a state; what cannot be known in it is taken for unknown
    /// ([`ModuleSet::forget`]). Groups are worked on in the order of their variables; one without a
    /// way does not keep the others from theirs, and its costs are not counted.
    pub fn next(&mut self, state: State) -> Step {
        if let Some(step) = self.answers.get(&state) {
            return *step;
        }
        let step = self.decide(self.set.forget(state, self.facts));
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.clear();
        }
        self.answers.insert(state, step);
        step
    }

    fn decide(&mut self, state: State) -> Step {
        if self.set.fulfils(state, self.goal) {
            return Step::Done;
        }
        let (mut first, mut total, mut stuck) = (None, 0_u64, None);
        for group in &mut self.groups {
            match group.look_up(&self.set, self.facts, state) {
                Known::Done => {}
                Known::Next(by, cost) => {
                    first = first.or(Some(by));
                    total = total.saturating_add(cost);
                }
                Known::NoWay => stuck = Some(Step::NoWay),
                Known::TooLarge => stuck = stuck.or(Some(Step::TooLarge)),
            }
        }
        match first {
            Some(by) => Step::Take {
                mutation: by.id,
                cost_to_go: Duration::from_micros(total),
                after: self.set.outcome(by.to, state, self.facts),
            },
            None => stuck.unwrap_or(Step::NoWay),
        }
    }

    /// The mutations from a state to the goal, as far as there is a way.
    pub fn path(&mut self, state: State) -> Vec<MutationId> {
        self.walk(state).0
    }

    /// The mutations from a state to the goal, and where they end. Every one of them brings the goal
    /// nearer, so there is an end.
    pub(crate) fn walk(&mut self, mut state: State) -> (Vec<MutationId>, State) {
        let mut path = Vec::new();
        while let Step::Take { mutation, after, .. } = self.next(state) {
            path.push(mutation);
            state = after;
        }
        (path, self.set.forget(state, self.facts))
    }

    /// How many states all searches have looked at so far: what the policy has cost.
    #[must_use]
    pub fn visited(&self) -> usize {
        self.groups.iter().map(Group::visited).sum()
    }
}
