//! Groups of variables that mutations tie together: what is known of their states, and when to search.

use crate::carry::Carry;
use crate::costs::Costs;
use crate::estimate::Estimate;
use crate::reach;
use crate::search::{Found, Outcome, Question};
use crate::set::{Bits, Facts, Goal, ModuleSet, MutationId, State};
use rustc_hash::FxHashMap;

/// How many states one search looks at before it gives up: a fraction of a second, and some tens of
/// megabytes. Six variables of six values tied together have 46,656 states in all.
pub const MAX_VISITED: usize = 1 << 18;

/// How many states are looked at with the cheap estimate before the good one is worked out.
const FEW: usize = 1024;

/// How many states the tables of the good estimate have, each.
const FINE: usize = 4096;

/// How many states a group remembers; beyond, it begins anew.
const MAX_KNOWN: usize = 2 * MAX_VISITED;

/// What an outcome costs that a mutation is not expected to have, in microseconds: an hour, so that
/// it is counted on only where nothing else leads to the goal.
const UNEXPECTED: u64 = 3_600_000_000;

/// What is known of a state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Done,
    /// The next move, and the cost to go with it.
    Next(Move, u64),
    NoWay,
    TooLarge,
}

/// A mutation with one of its outcomes, as a search sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) id: MutationId,
    pub(crate) to: Bits,
    /// In microseconds.
    pub(crate) price: u64,
}

/// One group of variables that mutations tie together, with what is known of its states.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The bits of its variables, and of those that its mutations look at.
    mask: u128,
    goal: Bits,
    /// The mutations that are not ruled out for good, by facts or costs, in the order of declaration.
    moves: Vec<Move>,
    known: FxHashMap<State, Known>,
    estimates: Option<Estimates>,
    visited: usize,
}

/// Worked out when first needed.
#[derive(Clone, Debug)]
struct Estimates {
    coarse: Estimate,
    fine: Option<Estimate>,
}

impl Group {
    /// The group of a number, with what the goal says of its variables.
    pub(crate) fn new(
        set: &ModuleSet,
        index: usize,
        goal: Goal,
        facts: Facts,
        costs: &Costs,
    ) -> Self {
        let mask = set.group_mask(index);
        let goal = goal.within(set.own_mask(index)).0;
        let possible = |id: MutationId| {
            let step = set.step(id);
            let price = costs.micros(id, step.mutation.cost)?;
            step.guards_may_hold(Bits::default(), facts).then(move || {
                let dearer = std::iter::once(0).chain(std::iter::repeat(UNEXPECTED));
                let outcomes = step.outcomes.iter().zip(dearer);
                outcomes.map(move |(to, more)| Move { id, to: *to, price: price + more })
            })
        };
        let moves = set.groups[index].iter().copied().filter_map(possible).flatten().collect();
        Self { mask, goal, moves, known: FxHashMap::default(), estimates: None, visited: 0 }
    }

    /// The same in another module set that has this group too.
    pub(crate) fn carried(self, carry: &Carry<'_>) -> Option<Self> {
        let step = |step: Move| {
            Some(Move { id: carry.mutation(step.id)?, to: carry.bits(step.to)?, ..step })
        };
        let known = |(state, known): (State, Known)| {
            let known = match known {
                Known::Next(next, cost) => Known::Next(step(next)?, cost),
                Known::Done | Known::NoWay | Known::TooLarge => known,
            };
            Some((carry.state(self.mask, state)?, known))
        };
        Some(Self {
            known: self.known.into_iter().map(known).collect::<Option<_>>()?,
            moves: self.moves.into_iter().map(step).collect::<Option<_>>()?,
            mask: carry.mask(self.mask)?,
            goal: carry.bits(self.goal)?,
            estimates: None,
            visited: self.visited,
        })
    }

    /// Whether a mutation is one of its own.
    pub(crate) fn moves_with(&self, id: MutationId) -> bool {
        self.moves.iter().any(|by| by.id == id)
    }

    pub(crate) fn visited(&self) -> usize {
        self.visited
    }

    /// What is known of a settled state, after a search if need be.
    pub(crate) fn look_up(&mut self, set: &ModuleSet, facts: Facts, state: State) -> Known {
        let start = State(state.0 & self.mask);
        if self.goal.holds(start) {
            return Known::Done;
        }
        if let Some(known) = self.known.get(&start) {
            return *known;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        match self.search(set, facts, start) {
            Outcome::Way { found, end, whole } => self.remember(&found, start, end, whole),
            Outcome::NoWay(found) => {
                self.known.extend(found.into_keys().map(|state| (state, Known::NoWay)));
                self.known.insert(start, Known::NoWay);
            }
            Outcome::GaveUp => drop(self.known.insert(start, Known::TooLarge)),
        }
        self.known.get(&start).copied().unwrap_or(Known::NoWay)
    }

    /// The other mutations with which ways begin that cost no more than the one that is known: where things can be
    /// done in any order, or in several ways. In the order of declaration.
    pub(crate) fn as_good(
        &mut self,
        set: &ModuleSet,
        facts: Facts,
        state: State,
    ) -> Vec<MutationId> {
        let Known::Next(first, cost) = self.look_up(set, facts, state) else { return Vec::new() };
        let begins =
            |by: &&Move| by.id != first.id && by.price <= cost && set.applies(by.id, state, facts);
        let mut moves: Vec<Move> = self.moves.iter().filter(begins).copied().collect();
        moves.retain(|by| {
            let rest = match self.look_up(set, facts, set.outcome(by.to, state, facts)) {
                Known::Done => 0,
                Known::Next(_, rest) => rest,
                Known::NoWay | Known::TooLarge => return false,
            };
            by.price.saturating_add(rest) == cost
        });
        moves.into_iter().map(|by| by.id).collect()
    }

    fn remember(&mut self, found: &FxHashMap<State, Found>, start: State, end: State, whole: u64) {
        let mut state = end;
        while state != start {
            let Some((before, by)) = found[&state].from else { break };
            self.known.insert(before, Known::Next(by, whole - found[&before].spent));
            state = before;
        }
    }

    fn search(&mut self, set: &ModuleSet, facts: Facts, start: State) -> Outcome {
        let contradictory = !set.may_be_settled(self.goal, facts);
        let moves = reach::possible(set, &self.moves, start, self.goal);
        let Some(moves) = moves.filter(|_| !contradictory) else {
            return Outcome::NoWay(FxHashMap::default());
        };
        let mut estimates = self.estimates.take().unwrap_or_else(|| Estimates {
            coarse: Estimate::new(set, facts, self.goal, &self.moves, 1),
            fine: None,
        });
        let (mask, goal, known) = (self.mask, self.goal, &self.known);
        let run = |estimate: &Estimate, limit| {
            let moves = &moves;
            Question { set, facts, mask, goal, moves, known, estimate }.answer(start, limit)
        };
        let (mut outcome, mut visited) = (Outcome::GaveUp, 0);
        if estimates.fine.is_none() {
            (outcome, visited) = run(&estimates.coarse, FEW);
        }
        if matches!(outcome, Outcome::GaveUp) {
            let new = || Estimate::new(set, facts, self.goal, &self.moves, FINE);
            let (again, more) = run(estimates.fine.get_or_insert_with(new), MAX_VISITED);
            (outcome, visited) = (again, visited + more);
        }
        self.estimates = Some(estimates);
        self.visited += visited;
        outcome
    }
}
