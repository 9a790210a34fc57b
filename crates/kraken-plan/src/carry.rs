//! From one module set to another that has most of it: what is known of the groups that are the same.

use crate::costs::Costs;
use crate::mutation::Mutation;
use crate::set::{Bits, Facts, Goal, ModuleSet, MutationId, State, Variable};
use std::sync::Arc;

/// What things of one set are in another, where they are the same there.
pub(crate) struct Carry<'a> {
    old: &'a ModuleSet,
    new: &'a ModuleSet,
    mutations: Vec<Option<MutationId>>,
    /// The places of the same variables, one for each old one.
    variables: Vec<Option<&'a Variable>>,
    facts: Vec<Option<u32>>,
}

impl<'a> Carry<'a> {
    pub(crate) fn new(old: &'a ModuleSet, new: &'a ModuleSet) -> Self {
        let same = |(_, mutation): (_, &Arc<Mutation>)| {
            let id = new.mutation_named(&mutation.name)?;
            (new.mutation(id) == mutation).then_some(id)
        };
        let mut carry = Self {
            old,
            new,
            mutations: old.mutations().map(same).collect(),
            variables: Vec::new(),
            facts: Vec::new(),
        };
        carry.variables = old.variables.iter().map(|variable| carry.same(variable)).collect();
        let place = |guard| (0..).zip(&new.facts).find(|(_, other)| *other == guard);
        carry.facts = old.facts.iter().map(|guard| Some(place(guard)?.0)).collect();
        carry
    }

    /// The same variable: its values are the same, and so are the ways to discover it.
    fn same(&self, variable: &Variable) -> Option<&'a Variable> {
        let other = self.new.variable(variable.path.as_str())?;
        let ways = self.mutations(&variable.discovered_by)?;
        (other.values == variable.values && other.discovered_by == ways).then_some(other)
    }

    pub(crate) fn mutation(&self, id: MutationId) -> Option<MutationId> {
        self.mutations[usize::from(id.0)]
    }

    fn mutations(&self, ids: &[MutationId]) -> Option<Vec<MutationId>> {
        ids.iter().map(|id| self.mutation(*id)).collect()
    }

    /// Bits of variables; nothing when one of these is another one now.
    pub(crate) fn bits(&self, bits: Bits) -> Option<Bits> {
        let mut moved = Bits::default();
        let variables = self.old.variables.iter().zip(&self.variables);
        for (variable, other) in variables.filter(|(v, _)| v.mask & bits.mask != 0) {
            let other = (*other)?;
            let place = |bits: u128| ((bits & variable.mask) >> variable.shift) << other.shift;
            moved.mask |= place(bits.mask);
            moved.value |= place(bits.value);
        }
        Some(moved)
    }

    /// What variables are in another state's bits.
    pub(crate) fn state(&self, mask: u128, state: State) -> Option<State> {
        Some(State(self.bits(Bits { mask, value: state.0 })?.value))
    }

    pub(crate) fn mask(&self, mask: u128) -> Option<u128> {
        Some(self.bits(Bits { mask, value: 0 })?.mask)
    }

    pub(crate) fn goal(&self, goal: Goal) -> Option<Goal> {
        self.bits(goal.0).map(Goal)
    }

    pub(crate) fn facts(&self, facts: Facts) -> Option<Facts> {
        let set = (0_u32..).zip(&self.facts).filter(|(bit, _)| facts.0 & (1 << bit) != 0);
        let bits = set.map(|(_, place)| place.map(|bit| 1 << bit));
        bits.sum::<Option<u64>>().map(Facts)
    }

    pub(crate) fn costs(&self, costs: &Costs) -> Option<Costs> {
        costs.renumbered(|id| self.mutation(id))
    }

    /// The same group: of the same variables, moved by the same mutations in the same order.
    pub(crate) fn group(&self, index: usize) -> Option<usize> {
        let steps = self.mutations(&self.old.groups[index])?;
        let own = self.mask(self.old.own_mask(index))?;
        self.mask(self.old.group_mask(index))?;
        self.facts(Facts(self.old.group_facts(index)))?;
        let mut groups = 0..self.new.groups.len();
        groups.find(|g| self.new.groups[*g] == steps && self.new.own_mask(*g) == own)
    }
}
