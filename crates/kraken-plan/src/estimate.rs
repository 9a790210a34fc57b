//! What a way costs at least: the sum over a few small views of a group.
//!
//! A *view* looks at some variables only (a pattern database). In it all states are listed, moves need
//! only those guards that it sees, and whatever can be forgotten may be forgotten at any time, free of
//! charge: every way of the group is a way of the view, so the cheapest of the view is never dearer.
//! Each move is paid for in one view only and free in the others, so views may be added up. Nothing
//! of this depends on the start; it is worked out once per policy.

use crate::group::Move;
use crate::set::{Bits, Facts, ModuleSet, State};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No way leads from there.
const NEVER: u64 = u64::MAX;

/// The views of a group, one for each variable of its goal.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    views: Vec<View>,
}

/// Some variables, and the cost to go of all their states.
#[derive(Clone, Debug)]
struct View {
    fields: Vec<Field>,
    mask: u128,
    costs: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    shift: u32,
    mask: u128,
    values: usize,
    /// How far its values are apart in the table.
    stride: usize,
}

impl Estimate {
    /// Views with the variable of the goal, and with those that guards tie to it as long as a table
    /// stays within `size` states.
    pub(crate) fn new(
        set: &ModuleSet,
        facts: Facts,
        goal: Bits,
        moves: &[Move],
        size: usize,
    ) -> Self {
        let wanted = set.variables.iter().enumerate().filter(|(_, v)| v.mask & goal.mask != 0);
        let wanted: Vec<usize> = wanted.map(|(at, _)| at).collect();
        let mut views: Vec<View> =
            wanted.iter().map(|at| View::around(set, *at, moves, size)).collect();
        let payer = |step: &Move| {
            let moved = step.to.mask;
            let own = wanted.iter().position(|at| set.variables[*at].mask & moved != 0);
            own.or_else(|| views.iter().position(|view| view.mask & moved != 0))
        };
        let payers: Vec<Option<usize>> = moves.iter().map(payer).collect();
        for (at, view) in views.iter_mut().enumerate() {
            let price = |step: usize| if payers[step] == Some(at) { moves[step].price } else { 0 };
            view.work_out(set, facts, goal, moves, price);
        }
        Self { views }
    }

    /// What the way from a state costs at least; nothing: there is none.
    pub(crate) fn at_least(&self, state: State) -> Option<u64> {
        self.views.iter().try_fold(0_u64, |sum, view| {
            let cost = view.costs[view.index(state)];
            (cost != NEVER).then(|| sum.saturating_add(cost))
        })
    }
}

impl View {
    fn around(set: &ModuleSet, variable: usize, moves: &[Move], size: usize) -> Self {
        let (mut chosen, mut states) = (vec![variable], set.variables[variable].values.len());
        let mut mask = set.variables[variable].mask;
        let mut at = 0;
        while at < chosen.len() {
            let moved = set.variables[chosen[at]].mask;
            let steps = moves.iter().map(|by| set.step(by.id));
            let steps = steps.filter(|step| step.moved() & moved != 0);
            let tied = steps.fold(0, |tied, step| tied | step.from.mask | step.reads());
            for (other, candidate) in set.variables.iter().enumerate() {
                let more = states.saturating_mul(candidate.values.len());
                if candidate.mask & tied & !mask != 0 && more <= size {
                    states = more;
                    mask |= candidate.mask;
                    chosen.push(other);
                }
            }
            at += 1;
        }
        let mut stride = 1;
        let field = |at: usize| {
            let (variable, before) = (&set.variables[at], stride);
            stride *= variable.values.len();
            let (shift, values) = (variable.shift, variable.values.len());
            Field { shift, mask: variable.mask, values, stride: before }
        };
        let fields = chosen.into_iter().map(field).collect();
        Self { fields, mask, costs: vec![NEVER; states] }
    }

    fn index(&self, state: State) -> usize {
        let place = |field: &Field| {
            let value = ((state.0 & field.mask) >> field.shift) as usize;
            value.min(field.values - 1) * field.stride
        };
        self.fields.iter().map(place).sum()
    }

    fn state(&self, index: usize) -> State {
        let bits = |field: &Field| ((index / field.stride % field.values) as u128) << field.shift;
        State(self.fields.iter().fold(0, |word, field| word | bits(field)))
    }

    /// Counts the costs back from the goal (Dijkstra).
    fn work_out(
        &mut self,
        set: &ModuleSet,
        facts: Facts,
        goal: Bits,
        moves: &[Move],
        price: impl Fn(usize) -> u64,
    ) {
        let goal = Bits { mask: goal.mask & self.mask, value: goal.value & self.mask };
        let mut back: Vec<Vec<(usize, u64)>> = vec![Vec::new(); self.costs.len()];
        let mut open = BinaryHeap::new();
        for index in 0..self.costs.len() {
            let seen = Bits { mask: self.mask, value: self.state(index).0 };
            for variable in set.variables.iter().filter(|v| v.is_forgettable()) {
                if seen.value & variable.mask != 0 {
                    back[self.index(State(seen.value & !variable.mask))].push((index, 0));
                }
            }
            // What is not settled lies between a move and the forgetting that follows: nothing
            // begins or ends there.
            if !set.may_be_settled(seen, facts) {
                continue;
            }
            if goal.holds(State(seen.value)) {
                self.costs[index] = 0;
                open.push(Reverse((0, index)));
            }
            for (at, candidate) in moves.iter().enumerate() {
                let step = set.step(candidate.id);
                let fits = (step.from.value ^ seen.value) & step.from.mask & self.mask == 0;
                let to = candidate.to;
                if fits && to.mask & self.mask != 0 && step.guards_may_hold(seen, facts) {
                    let after = seen.value & !to.mask | to.value & self.mask;
                    back[self.index(State(after))].push((index, price(at)));
                }
            }
        }
        while let Some(Reverse((cost, index))) = open.pop() {
            if cost > self.costs[index] {
                continue;
            }
            for (before, price) in &back[index] {
                let whole = cost.saturating_add(*price);
                if whole < self.costs[*before] {
                    self.costs[*before] = whole;
                    open.push(Reverse((whole, *before)));
                }
            }
        }
    }
}
