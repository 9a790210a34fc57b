//! Policies: from any state, the next mutation and the cost to go.

use crate::costs::Costs;
use crate::group::{Group, Known};
use crate::set::{Facts, Goal, ModuleSet, MutationId, State};
use rustc_hash::FxHashMap;
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
    /// Those that the goal speaks of.
    groups: Vec<Group>,
    answers: Answers,
}

/// What a policy said of the states that it was asked about, and how it comes to say so.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    set: Arc<ModuleSet>,
    goal: Goal,
    facts: Facts,
    steps: FxHashMap<State, Step>,
}

impl Policy {
    /// A policy, with nothing looked at yet.
    #[must_use]
    pub fn new(set: &Arc<ModuleSet>, goal: Goal, facts: Facts, costs: &Costs) -> Self {
        let groups = set.groups_of(goal).into_iter();
        let groups = groups.map(|index| Group::new(set, index, goal, facts, costs)).collect();
        Self { groups, answers: Answers::new(set, goal, facts) }
    }

    /// What to do next in a state; what cannot be known in it is taken for unknown
    /// ([`ModuleSet::forget`]). Groups are worked on in the order of their variables; one without a
    /// way does not keep the others from theirs, and its costs are not counted.
    pub fn next(&mut self, state: State) -> Step {
        let groups = &mut self.groups;
        self.answers.next(state, |nth, set, facts, state| {
            Some(groups.get_mut(nth)?.look_up(set, facts, state))
        })
    }

    /// The mutations from a state to the goal, as far as there is a way.
    pub fn path(&mut self, state: State) -> Vec<MutationId> {
        self.walk(state).0
    }

    /// The mutations from a state to the goal, and where they end.
    pub(crate) fn walk(&mut self, state: State) -> (Vec<MutationId>, State) {
        let (path, end) = walk(state, |state| self.next(state));
        (path, self.answers.set.forget(end, self.answers.facts))
    }

    /// How many states all searches have looked at so far: what the policy has cost.
    #[must_use]
    pub fn visited(&self) -> usize {
        self.groups.iter().map(Group::visited).sum()
    }
}

/// The mutations from a state to where a policy ends, and that end. Every one of them brings the goal
/// nearer, so there is an end.
pub(crate) fn walk(
    mut state: State,
    mut next: impl FnMut(State) -> Step,
) -> (Vec<MutationId>, State) {
    let mut path = Vec::new();
    while let Step::Take { mutation, after, .. } = next(state) {
        path.push(mutation);
        state = after;
    }
    (path, state)
}

impl Answers {
    pub(crate) fn new(set: &Arc<ModuleSet>, goal: Goal, facts: Facts) -> Self {
        Self { set: Arc::clone(set), goal, facts, steps: FxHashMap::default() }
    }

    /// The next step from a state. `look_up` asks the n-th group of the goal; there is nothing beyond the
    /// last.
    #[inline]
    pub(crate) fn next(
        &mut self,
        state: State,
        look_up: impl FnMut(usize, &ModuleSet, Facts, State) -> Option<Known>,
    ) -> Step {
        if let Some(step) = self.steps.get(&state) {
            return *step;
        }
        let step = self.decide(self.set.forget(state, self.facts), look_up);
        if self.steps.len() >= MAX_ANSWERS {
            self.steps.clear();
        }
        self.steps.insert(state, step);
        step
    }

    /// What else could be done in a state while its next step has to wait: the first steps of the other groups, which
    /// neither need it nor stand in its way.
    pub(crate) fn others(
        &self,
        state: State,
        mut look_up: impl FnMut(usize, &ModuleSet, Facts, State) -> Option<Known>,
    ) -> Vec<MutationId> {
        let state = self.set.forget(state, self.facts);
        let groups = (0..).map_while(|nth| look_up(nth, &self.set, self.facts, state));
        let moves = groups.filter_map(|known| match known {
            Known::Next(by, _) => Some(by.id),
            Known::Done | Known::NoWay | Known::TooLarge => None,
        });
        moves.skip(1).collect()
    }

    /// The steps of a group that lead on from a state as well as the one that is known.
    pub(crate) fn as_good(&self, state: State, group: &mut Group) -> Vec<MutationId> {
        group.as_good(&self.set, self.facts, self.set.forget(state, self.facts))
    }

    fn decide(
        &self,
        state: State,
        mut look_up: impl FnMut(usize, &ModuleSet, Facts, State) -> Option<Known>,
    ) -> Step {
        if self.set.fulfils(state, self.goal) {
            return Step::Done;
        }
        let (mut first, mut total, mut stuck) = (None, 0_u64, None);
        for known in (0..).map_while(|nth| look_up(nth, &self.set, self.facts, state)) {
            match known {
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
}
