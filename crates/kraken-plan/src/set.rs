//! A module set: every mutation of an application, compiled to masks over one word.

use crate::mutation::{Guard, Mutation};
use kraken_model::{Document, Path};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All variables of a node, packed: each has a field of bits that holds the index of its value.
/// All zeros: everything is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State(pub u128);

/// Which of the facts that guards ask for hold, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facts(pub u64);

/// What cfg says of the variables; the others are "don't care".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Goal(pub(crate) Bits);

/// A mutation of a module set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MutationId(pub u16);

/// A variable of a module set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarId(pub u16);

/// A mask and a value over a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bits {
    pub(crate) mask: u128,
    pub(crate) value: u128,
}

impl Goal {
    /// What it says of some variables.
    pub(crate) fn within(self, mask: u128) -> Self {
        Self(Bits { mask: self.0.mask & mask, value: self.0.value & mask })
    }
}

impl Bits {
    pub(crate) fn holds(self, state: State) -> bool {
        state.0 & self.mask == self.value
    }

    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let both = self.mask & other.mask;
        (self.value & both == other.value & both)
            .then_some(Self { mask: self.mask | other.mask, value: self.value | other.value })
    }
}

/// What a discovered value is to planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A variable.
    Variable(VarId),
    /// A fact that guards look at.
    Fact,
}

/// One variable, and where its bits are.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its address.
    pub path: Path,
    /// Its values, of which the first means *unknown*.
    pub values: Arc<[Arc<str>]>,
    pub(crate) shift: u32,
    pub(crate) mask: u128,
    /// The values with which a node is out of use, a bit for each by its index.
    pub(crate) unavailable: u128,
    /// The mutations that discover it; empty: it is told from outside, and always knowable.
    pub discovered_by: Vec<MutationId>,
    /// Variables of different groups are tied by no mutation that moves them.
    pub(crate) group: usize,
}

/// One guard, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) guard: Guard,
    /// Whether it must not hold.
    pub(crate) excluded: bool,
    pub(crate) test: Compiled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Compiled {
    /// The state matches.
    Bits(Bits),
    /// The state does not match.
    NotBits(Bits),
    /// The state matches one of some values.
    OneOf(Among),
    /// The fact with this number holds.
    Fact(u32),
}

/// Some values of one variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Among {
    pub(crate) mask: u128,
    pub(crate) shift: u32,
    /// A bit for each value, by its index.
    pub(crate) values: u128,
}

impl Among {
    pub(crate) fn holds(self, state: State) -> bool {
        self.has((state.0 & self.mask) >> self.shift)
    }

    pub(crate) fn has(self, index: u128) -> bool {
        u32::try_from(index).is_ok_and(|i| self.values.checked_shr(i).is_some_and(|v| v & 1 == 1))
    }
}

impl Condition {
    /// The bits that it looks at.
    pub(crate) fn reads(&self) -> u128 {
        match self.test {
            Compiled::Bits(bits) | Compiled::NotBits(bits) => bits.mask,
            Compiled::OneOf(among) => among.mask,
            Compiled::Fact(_) => 0,
        }
    }

    /// Whether the guard is fulfilled: holds, or does not where it is excluded.
    pub(crate) fn met(&self, state: State, facts: Facts) -> bool {
        let holds = match self.test {
            Compiled::Bits(bits) => bits.holds(state),
            Compiled::NotBits(bits) => !bits.holds(state),
            Compiled::OneOf(among) => among.holds(state),
            Compiled::Fact(bit) => facts.0 >> bit & 1 == 1,
        };
        holds != self.excluded
    }
}

/// One mutation, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) mutation: Arc<Mutation>,
    pub(crate) from: Bits,
    /// What may be found after it: what is expected first. All speak of the same variables.
    pub(crate) outcomes: Vec<Bits>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) group: usize,
}

impl Step {
    /// The bits that it moves.
    pub(crate) fn moved(&self) -> u128 {
        self.from.mask
    }

    /// The bits that its guards look at.
    pub(crate) fn reads(&self) -> u128 {
        self.conditions.iter().fold(0, |mask, condition| mask | condition.reads())
    }

    /// Whether its guards hold as far as the bits that are seen tell.
    pub(crate) fn guards_may_hold(&self, seen: Bits, facts: Facts) -> bool {
        let state = State(seen.value);
        self.conditions.iter().all(|c| c.reads() & !seen.mask != 0 || c.met(state, facts))
    }

    pub(crate) fn guards_hold(&self, state: State, facts: Facts) -> bool {
        self.conditions.iter().all(|condition| condition.met(state, facts))
    }

    pub(crate) fn applies(&self, state: State, facts: Facts) -> bool {
        self.from.holds(state) && self.guards_hold(state, facts)
    }
}

/// Every mutation of an application, compiled.
#[derive(Clone, Debug, Default)]
pub struct ModuleSet {
    pub(crate) variables: Vec<Variable>,
    pub(crate) by_path: BTreeMap<Path, VarId>,
    pub(crate) steps: Vec<Step>,
    pub(crate) by_name: BTreeMap<Arc<str>, MutationId>,
    pub(crate) facts: Vec<Guard>,
    /// What a discovered value at an address is to planning.
    pub(crate) watched: FxHashMap<Path, Watched>,
    /// Steps of every group, in the order of declaration.
    pub(crate) groups: Vec<Vec<MutationId>>,
}

impl ModuleSet {
    /// The state that a discovered document says; values that are no value of their variable
    /// count as unknown.
    #[must_use]
    pub fn state(&self, dsc: &Document) -> State {
        let of = |variable: &Variable| {
            let value = dsc.text(variable.path.as_str())?;
            Some(variable.bits(value)?.value)
        };
        State(self.variables.iter().filter_map(of).fold(0, |word, bits| word | bits))
    }

    /// Which facts of a node hold.
    #[must_use]
    pub fn facts(&self, cfg: &Document, dsc: &Document) -> Facts {
        let bits = self.facts.iter().enumerate();
        Facts(bits.fold(0, |word, (bit, guard)| word | u64::from(guard.holds(cfg, dsc)) << bit))
    }

    /// What cfg says of the variables. A variable that is configured to be unknown is "don't
    /// care".
    #[must_use]
    pub fn goal(&self, cfg: &Document) -> Goal {
        let mut goal = Bits::default();
        for variable in &self.variables {
            let value = cfg.text(variable.path.as_str()).and_then(|value| variable.bits(value));
            if let Some(bits) = value.filter(|bits| bits.value != 0) {
                goal.mask |= bits.mask;
                goal.value |= bits.value;
            }
        }
        Goal(goal)
    }

    /// Whether a state fulfils a goal.
    #[must_use]
    pub fn fulfils(&self, state: State, goal: Goal) -> bool {
        goal.0.holds(state)
    }

    /// Whether a node in a state is out of use by what a module declares ([`Field::unavailable`]), and is
    /// not meant to be.
    ///
    /// [`Field::unavailable`]: kraken_model::Field::unavailable
    #[must_use]
    pub fn is_out_of_use(&self, state: State, goal: Goal) -> bool {
        self.variables.iter().any(|variable| {
            let is_meant = goal.0.mask & variable.mask != 0
                && goal.0.value & variable.mask == state.0 & variable.mask;
            variable.out_of_use().holds(state) && !is_meant
        })
    }

    /// Whether a mutation takes a node that is in use out of it: from a value that is known to one with which
    /// a node is out of use.
    pub(crate) fn takes_out_of_use(&self, mutation: &Mutation) -> bool {
        mutation.effects.iter().any(|effect| {
            let Some(variable) = self.variable(effect.variable.as_str()) else { return false };
            let is_out = |value: &str| {
                let bits = variable.bits(value);
                bits.is_some_and(|bits| variable.out_of_use().holds(State(bits.value)))
            };
            let is_known = effect.from != variable.values[0];
            let mut outcomes = std::iter::once(&effect.to).chain(&effect.or);
            is_known && !is_out(&effect.from) && outcomes.any(|value| is_out(value))
        })
    }

    /// A state in which one variable is as a goal wants it.
    #[must_use]
    pub fn as_wanted(&self, state: State, goal: Goal, variable: &Variable) -> State {
        State(state.0 & !variable.mask | goal.0.value & variable.mask)
    }

    /// Sets to unknown what cannot be known in a state, until nothing more changes. A variable
    /// can be known only while the guards of some mutation that discovers it hold.
    #[must_use]
    pub fn forget(&self, mut state: State, facts: Facts) -> State {
        loop {
            let before = state;
            for variable in &self.variables {
                if state.0 & variable.mask == 0 || !variable.is_forgettable() {
                    continue;
                }
                let knowable = variable
                    .discovered_by
                    .iter()
                    .any(|id| self.steps[usize::from(id.0)].guards_hold(state, facts));
                if !knowable {
                    state.0 &= !variable.mask;
                }
            }
            if state == before {
                return state;
            }
        }
    }

    /// Whether a discovered value at this address decides what is planned, and as what.
    #[must_use]
    #[inline]
    pub fn watched(&self, path: &str) -> Option<Watched> {
        self.watched.get(path).copied()
    }

    /// The variable of a number.
    #[must_use]
    pub fn variable_at(&self, id: VarId) -> &Variable {
        &self.variables[usize::from(id.0)]
    }

    /// A state in which one variable is different; a value that is none of its values, or no value, makes it
    /// unknown.
    #[must_use]
    pub fn with(&self, state: State, id: VarId, value: Option<&str>) -> State {
        let variable = self.variable_at(id);
        let bits = value.and_then(|value| variable.bits(value)).map_or(0, |bits| bits.value);
        State(state.0 & !variable.mask | bits)
    }

    /// A mutation.
    #[must_use]
    pub fn mutation(&self, id: MutationId) -> &Arc<Mutation> {
        &self.steps[usize::from(id.0)].mutation
    }

    /// The mutation of a name.
    #[must_use]
    pub fn mutation_named(&self, name: &str) -> Option<MutationId> {
        self.by_name.get(name).copied()
    }

    /// All mutations, in the order of declaration.
    pub fn mutations(&self) -> impl Iterator<Item = (MutationId, &Arc<Mutation>)> {
        (0..).map(MutationId).zip(self.steps.iter().map(|step| &step.mutation))
    }

    /// All variables, in the order of their addresses.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The variable at an address.
    #[must_use]
    pub fn variable(&self, path: &str) -> Option<&Variable> {
        self.by_path.get(path).map(|id| &self.variables[usize::from(id.0)])
    }

    /// Whether a mutation can be taken in a state.
    #[must_use]
    pub fn applies(&self, id: MutationId, state: State, facts: Facts) -> bool {
        self.steps[usize::from(id.0)].applies(state, facts)
    }

    /// The state that is expected after a mutation.
    #[must_use]
    pub fn after(&self, id: MutationId, state: State, facts: Facts) -> State {
        let expected = self.step(id).outcomes.first().copied();
        expected.map_or(state, |expected| self.outcome(expected, state, facts))
    }

    /// The state after a mutation had one of its outcomes.
    pub(crate) fn outcome(&self, to: Bits, state: State, facts: Facts) -> State {
        self.forget(State(state.0 & !to.mask | to.value), facts)
    }

    /// Whether the effects of a mutation are there: one of its outcomes.
    #[must_use]
    pub fn done(&self, id: MutationId, state: State) -> bool {
        self.step(id).outcomes.iter().any(|to| to.holds(state))
    }

    /// Whether a mutation that is under way can still come to its end: its guards hold, and each
    /// variable that it moves is where it began or where it may go.
    #[must_use]
    pub fn may_still_come(&self, id: MutationId, state: State, facts: Facts) -> bool {
        let step = self.step(id);
        let moved = self.variables.iter().map(|v| v.mask).filter(|mask| mask & step.moved() != 0);
        let mut ends = moved.map(|mask| {
            let is = |bits: &Bits| (bits.value ^ state.0) & mask == 0;
            is(&step.from) || step.outcomes.iter().any(is)
        });
        step.guards_hold(state, facts) && ends.all(|possible| possible)
    }

    /// The bits, as in [`State`], that are in doubt when an attempt at a mutation ended unseen: those that
    /// it moves, if its module looks again. From one that does not, nothing would ever lift the doubt.
    #[must_use]
    pub fn doubted_after(&self, id: MutationId) -> u128 {
        let step = self.step(id);
        if step.mutation.looks_after { step.moved() } else { 0 }
    }

    /// The bits of those variables that are known in a state.
    #[must_use]
    pub fn known(&self, state: State) -> u128 {
        let known = self.variables.iter().filter(|variable| state.0 & variable.mask != 0);
        known.fold(0, |mask, variable| mask | variable.mask)
    }

    /// The bits, as in [`State`], that any attempt could leave in doubt.
    #[must_use]
    pub fn ever_doubted(&self) -> u128 {
        self.mutations().fold(0, |mask, (id, _)| mask | self.doubted_after(id))
    }

    /// The bits, as in [`State`], that decide whether a mutation can be taken.
    #[must_use]
    pub fn relied_on(&self, id: MutationId) -> u128 {
        let step = self.step(id);
        step.moved() | step.reads()
    }

    /// The bits of one group of variables.
    pub(crate) fn own_mask(&self, group: usize) -> u128 {
        let of_group = self.variables.iter().filter(|v| v.group == group);
        of_group.fold(0, |mask, variable| mask | variable.mask)
    }

    /// The bits of one group of variables, and of those that its mutations only look at.
    pub(crate) fn group_mask(&self, group: usize) -> u128 {
        let steps = self.groups[group].iter().map(|id| self.step(*id));
        steps.fold(self.own_mask(group), |mask, step| mask | step.reads())
    }

    /// The facts that the mutations of one group look at, one bit each.
    pub(crate) fn group_facts(&self, group: usize) -> u64 {
        let steps = self.groups[group].iter().map(|id| self.step(*id));
        steps.flat_map(|step| &step.conditions).fold(0, |facts, condition| match condition.test {
            Compiled::Fact(bit) => facts | 1 << bit,
            _ => facts,
        })
    }

    /// The groups that a goal speaks of, in order.
    pub(crate) fn groups_of(&self, goal: Goal) -> Vec<usize> {
        let spoken = self.variables.iter().filter(|v| v.mask & goal.0.mask != 0);
        let mut groups: Vec<usize> = spoken.map(|v| v.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The facts that matter on the way to a goal, one bit each.
    pub(crate) fn facts_for(&self, goal: Goal) -> u64 {
        self.groups_of(goal).into_iter().fold(0, |facts, group| facts | self.group_facts(group))
    }

    pub(crate) fn step(&self, id: MutationId) -> &Step {
        &self.steps[usize::from(id.0)]
    }

    /// Whether a state that holds these bits, and anything elsewhere, can be one in which nothing
    /// is left to forget. Every state that is planned with is settled, so what is not can be ruled
    /// out by looking at a part of it.
    pub(crate) fn may_be_settled(&self, seen: Bits, facts: Facts) -> bool {
        self.variables.iter().filter(|v| v.is_forgettable()).all(|variable| {
            let known = seen.mask & seen.value & variable.mask != 0;
            let mut discovering = variable.discovered_by.iter().map(|id| self.step(*id));
            !known || discovering.any(|step| step.guards_may_hold(seen, facts))
        })
    }

    /// The same set without some of its guards.
    pub(crate) fn relaxed(&self, lifted: impl Fn(MutationId, &Condition) -> bool) -> Self {
        let mut set = self.clone();
        for (id, step) in (0..).map(MutationId).zip(&mut set.steps) {
            step.conditions.retain(|condition| !lifted(id, condition));
        }
        set
    }
}

impl Variable {
    /// Its bits, as in [`State`].
    #[must_use]
    pub fn mask(&self) -> u128 {
        self.mask
    }

    /// Whether it becomes unknown when nobody could discover it any more.
    #[must_use]
    pub fn is_forgettable(&self) -> bool {
        !self.discovered_by.is_empty()
    }

    /// The name of the value that a state gives it.
    #[must_use]
    pub fn value(&self, state: State) -> &Arc<str> {
        &self.values[self.index(state)]
    }

    /// The index of the value that a state gives it; bits that no value has mean unknown.
    pub(crate) fn index(&self, state: State) -> usize {
        let index = usize::try_from((state.0 & self.mask) >> self.shift);
        index.ok().filter(|index| *index < self.values.len()).unwrap_or(0)
    }

    /// The values with which a node is out of use.
    fn out_of_use(&self) -> Among {
        Among { mask: self.mask, shift: self.shift, values: self.unavailable }
    }

    pub(crate) fn bits(&self, value: &str) -> Option<Bits> {
        let index = self.values.iter().position(|v| v.as_ref() == value)?;
        Some(Bits { mask: self.mask, value: (index as u128) << self.shift })
    }
}
