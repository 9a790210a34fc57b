//! The search for the cheapest way within one group of variables.
//!
//! A* from the state that is asked about, forwards. The [estimate](crate::estimate) never says too
//! much, and never sinks by more than a step costs, so the way found is the cheapest and no state is
//! looked at twice. It matters most where variables hang on a hub (many services, one power
//! switch): without it every order in which they can be moved is tried, that is their product.

use crate::estimate::Estimate;
use crate::group::{Known, Move};
use crate::set::{Bits, Facts, ModuleSet, State};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::Entry;

/// How a state was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// The cost from the start.
    pub(crate) spent: u64,
    /// From where, and by which move; nothing for the start.
    pub(crate) from: Option<(State, Move)>,
    looked_at: bool,
}

pub(crate) enum Outcome {
    /// The cheapest way leads to this state, from where the rest is known.
    Way {
        found: FxHashMap<State, Found>,
        end: State,
        whole: u64,
    },
    /// None of these states leads to the goal.
    NoWay(FxHashMap<State, Found>),
    GaveUp,
}

/// One question, with everything that is needed to answer it.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) set: &'a ModuleSet,
    pub(crate) facts: Facts,
    /// The bits that matter.
    pub(crate) mask: u128,
    pub(crate) goal: Bits,
    pub(crate) moves: &'a [Move],
    /// What earlier searches found out.
    pub(crate) known: &'a FxHashMap<State, Known>,
    pub(crate) estimate: &'a Estimate,
}

/// States that were found, by what a way through them costs at least; of equally cheap ones the one
/// furthest along, then the one found first, which follows the order of declaration.
type Open = BinaryHeap<Reverse<(u64, Reverse<u64>, u64, State)>>;

struct Search<'a> {
    question: Question<'a>,
    found: FxHashMap<State, Found>,
    open: Open,
    /// How many were put into `open`.
    order: u64,
}

impl Question<'_> {
    /// The answer for a start, and how many states were looked at for it, `limit` at most.
    pub(crate) fn answer(self, start: State, limit: usize) -> (Outcome, usize) {
        let (found, open) = (FxHashMap::default(), BinaryHeap::new());
        let mut search = Search { question: self, found, open, order: 0 };
        search.find(start, 0, None);
        search.run(limit)
    }
}

impl Search<'_> {
    fn run(mut self, limit: usize) -> (Outcome, usize) {
        let mut best: Option<(u64, State)> = None;
        let mut visited = 0;
        while let Some(Reverse((at_least, _, _, state))) = self.open.pop() {
            if best.is_some_and(|(least, _)| least <= at_least) {
                break;
            }
            let Some(found) = self.found.get_mut(&state).filter(|found| !found.looked_at) else {
                continue;
            };
            found.looked_at = true;
            let spent = found.spent;
            if visited == limit {
                return (Outcome::GaveUp, visited);
            }
            visited += 1;
            let rest = match self.question.known.get(&state) {
                _ if self.question.goal.holds(state) => Some(0),
                Some(Known::Next(_, rest)) => Some(*rest),
                Some(Known::NoWay) => continue,
                // An earlier search gave up there; this one may still get through.
                Some(Known::Done | Known::TooLarge) | None => None,
            };
            match rest {
                Some(rest) if best.is_none_or(|(least, _)| spent + rest < least) => {
                    best = Some((spent + rest, state));
                }
                Some(_) => {}
                None => self.expand(state, spent),
            }
        }
        match best {
            Some((whole, end)) => (Outcome::Way { found: self.found, end, whole }, visited),
            None => (Outcome::NoWay(self.found), visited),
        }
    }

    fn expand(&mut self, state: State, spent: u64) {
        let Question { set, facts, mask, moves, .. } = self.question;
        for by in moves.iter().filter(|by| set.applies(by.id, state, facts)) {
            let after = State(set.outcome(by.to, state, facts).0 & mask);
            self.find(after, spent.saturating_add(by.price), Some((state, *by)));
        }
    }

    fn find(&mut self, state: State, spent: u64, from: Option<(State, Move)>) {
        let found = Found { spent, from, looked_at: false };
        match self.found.entry(state) {
            Entry::Occupied(known) if known.get().spent <= spent => return,
            Entry::Occupied(mut known) => drop(known.insert(found)),
            Entry::Vacant(new) => drop(new.insert(found)),
        }
        if let Some(rest) = self.question.estimate.at_least(state) {
            self.order += 1;
            let at_least = spent.saturating_add(rest);
            self.open.push(Reverse((at_least, Reverse(spent), self.order, state)));
        }
    }
}
