//! From declarations to masks: what [`ModuleSet::new`] does, and what it refuses.

use crate::mutation::{Context, Effect, Guard, Mutation, Test};
use crate::set::{
    Among, Bits, Compiled, Condition, ModuleSet, MutationId, Step, VarId, Variable, Watched,
};
use kraken_model::{Path, Registry, Side, Value};
use std::sync::Arc;

/// How many different guards on facts there can be: the bits of [`Facts`](crate::Facts).
const MAX_FACTS: usize = 64;

/// How many mutations there can be: far fewer than a [`MutationId`] can tell apart.
const MAX_MUTATIONS: usize = 1 << 15;

/// How many values a variable can have: a guard that names some has a bit for each.
const MAX_VALUES: usize = 128;

/// How many outcomes a mutation can have.
const MAX_OUTCOMES: usize = 64;

/// A declaration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two mutations have one name.
    #[error("two mutations are called {0}: give one of them another name")]
    Twice(Arc<str>),
    /// A mutation moves nothing.
    #[error("{0} moves no variable: give it an effect, or leave it out")]
    NoEffect(Arc<str>),
    /// A mutation moves a variable twice, or from a value to itself.
    #[error("{mutation} moves {variable} twice, or to the value it has already")]
    BadEffect {
        /// The mutation.
        mutation: Arc<str>,
        /// The variable.
        variable: Path,
    },
    /// What a mutation moves, or falls back to, is not a variable.
    #[error("{mutation} moves {path}, which no schema declares as a variable")]
    NoVariable {
        /// The mutation.
        mutation: Arc<str>,
        /// The address.
        path: Path,
    },
    /// A variable has no such value.
    #[error("{mutation} names {path} = {value}, which is none of its values")]
    NoValue {
        /// The mutation.
        mutation: Arc<str>,
        /// The variable.
        path: Path,
        /// The value.
        value: String,
    },
    /// A number is asked of a variable.
    #[error("{mutation} compares {path} with a number, but it is a variable: name its values")]
    NoNumber {
        /// The mutation.
        mutation: Arc<str>,
        /// The variable.
        path: Path,
    },
    /// More outcomes than are looked at.
    #[error("{0} has more than {MAX_OUTCOMES} outcomes: make several mutations of it")]
    TooManyOutcomes(Arc<str>),
    /// More values than a variable can have.
    #[error("{path} has {values} values, and {MAX_VALUES} are possible: make it a fact")]
    TooManyValues {
        /// The variable.
        path: Path,
        /// How many it has.
        values: usize,
    },
    /// More bits than a state holds.
    #[error("the variables need {0} bits, and a state has 128: use fewer variables or values")]
    TooManyBits(u32),
    /// More facts than there are bits for.
    #[error("the guards ask {0} different things of facts, and {MAX_FACTS} are possible")]
    TooManyFacts(usize),
    /// More mutations than there are numbers for.
    #[error("there are {0} mutations, and {MAX_MUTATIONS} are possible")]
    TooManyMutations(usize),
}

impl ModuleSet {
    /// Compiles the mutations of an application over the variables of its schemas.
    ///
    /// # Errors
    /// With everything that is wrong with the declarations.
    pub fn new(registry: &Registry, mutations: Vec<Mutation>) -> Result<Self, Vec<Problem>> {
        let mut set = Self::default();
        let mut problems = Vec::new();
        set.lay_out(registry, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        for mutation in mutations {
            set.compile(mutation, &mut problems);
        }
        if set.facts.len() > MAX_FACTS {
            problems.push(Problem::TooManyFacts(set.facts.len()));
        }
        if set.steps.len() > MAX_MUTATIONS {
            problems.push(Problem::TooManyMutations(set.steps.len()));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        set.find_groups();
        set.find_discoverers();
        set.find_watched();
        Ok(set)
    }

    fn find_watched(&mut self) {
        let facts = self.facts.iter().filter(|guard| guard.side == Side::Dsc);
        self.watched = facts.map(|guard| (guard.path.clone(), Watched::Fact)).collect();
        let variables = self.by_path.iter();
        self.watched.extend(variables.map(|(path, id)| (path.clone(), Watched::Variable(*id))));
    }

    fn find_discoverers(&mut self) {
        for (id, step) in (0..).map(MutationId).zip(&self.steps) {
            for effect in &step.mutation.effects {
                let variable = &mut self.variables[usize::from(self.by_path[&effect.variable].0)];
                if effect.from == variable.values[0] {
                    variable.discovered_by.push(id);
                }
            }
        }
    }

    /// Gives every variable its bits. Those that no mutation touches may still be goals.
    fn lay_out(&mut self, registry: &Registry, problems: &mut Vec<Problem>) {
        let mut shift = 0;
        for (path, values) in registry.variables() {
            let width = usize::BITS - (values.len() - 1).leading_zeros();
            if values.len() > MAX_VALUES {
                let (path, values) = (Path::known(path), values.len());
                problems.push(Problem::TooManyValues { path, values });
            }
            if shift + width > u128::BITS {
                problems.push(Problem::TooManyBits(shift + width));
                return;
            }
            let out_of_use = registry.unavailable(path);
            let bits = values.iter().enumerate().filter(|(_, value)| out_of_use.contains(value));
            let unavailable = bits.fold(0, |word, (index, _)| word | 1 << index);
            let path = Path::known(path);
            let id = VarId(u16::try_from(self.variables.len()).unwrap_or(u16::MAX));
            self.by_path.insert(path.clone(), id);
            self.variables.push(Variable {
                path,
                values: Arc::clone(values),
                shift,
                mask: ((1 << width) - 1) << shift,
                unavailable,
                discovered_by: Vec::new(),
                group: 0,
            });
            shift += width;
        }
    }

    fn compile(&mut self, mutation: Mutation, problems: &mut Vec<Problem>) {
        let name = Arc::clone(&mutation.name);
        if mutation.effects.is_empty() {
            problems.push(Problem::NoEffect(Arc::clone(&name)));
        }
        let (mut from, mut outcomes) = (Bits::default(), vec![Bits::default()]);
        for effect in &mutation.effects {
            match self.effect(&name, effect, from) {
                Ok((before, after)) => {
                    from = from.and(before).unwrap_or(from);
                    let with = |to: &Bits| outcomes.iter().filter_map(|o| o.and(*to)).collect();
                    outcomes = after.iter().flat_map(|to| -> Vec<Bits> { with(to) }).collect();
                    outcomes.truncate(MAX_OUTCOMES + 1);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if outcomes.len() > MAX_OUTCOMES {
            problems.push(Problem::TooManyOutcomes(Arc::clone(&name)));
        }
        let mut conditions = Vec::new();
        let required = mutation.requires.iter().map(|guard| (guard, false));
        for (guard, excluded) in required.chain(mutation.excludes.iter().map(|g| (g, true))) {
            match self.condition(&name, guard, excluded) {
                Ok(condition) => conditions.push(condition),
                Err(problem) => problems.push(problem),
            }
        }
        if let Some(fallback) = &mutation.on_timeout
            && let Err(problem) = self.bits(&name, &fallback.variable, &fallback.value)
        {
            problems.push(problem);
        }
        let id = MutationId(u16::try_from(self.steps.len()).unwrap_or(u16::MAX));
        if self.by_name.insert(Arc::clone(&name), id).is_some() {
            problems.push(Problem::Twice(name));
        }
        // Whoever works on a node loses it either way.
        let takes_out = self.takes_out_of_use(&mutation) && mutation.context != Context::Itself;
        let mutation = if takes_out { mutation.disruptive() } else { mutation };
        let mutation = Arc::new(mutation);
        self.steps.push(Step { mutation, from, outcomes, conditions, group: 0 });
    }

    /// Where an effect begins, and where it may end: where it is expected to first.
    fn effect(
        &self,
        mutation: &Arc<str>,
        effect: &Effect,
        others: Bits,
    ) -> Result<(Bits, Vec<Bits>), Problem> {
        let before = self.bits(mutation, &effect.variable, &effect.from)?;
        let mut after = Vec::with_capacity(1 + effect.or.len());
        for value in std::iter::once(&effect.to).chain(&effect.or) {
            let bits = self.bits(mutation, &effect.variable, value)?;
            if bits == before || after.contains(&bits) || others.mask & before.mask != 0 {
                let (mutation, variable) = (Arc::clone(mutation), effect.variable.clone());
                return Err(Problem::BadEffect { mutation, variable });
            }
            after.push(bits);
        }
        Ok((before, after))
    }

    fn bits(&self, mutation: &Arc<str>, path: &Path, value: &str) -> Result<Bits, Problem> {
        let Some(variable) = self.by_path.get(path).map(|v| &self.variables[usize::from(v.0)])
        else {
            return Err(Problem::NoVariable { mutation: Arc::clone(mutation), path: path.clone() });
        };
        variable.bits(value).ok_or_else(|| Problem::NoValue {
            mutation: Arc::clone(mutation),
            path: path.clone(),
            value: value.to_owned(),
        })
    }

    fn condition(
        &mut self,
        mutation: &Arc<str>,
        guard: &Guard,
        excluded: bool,
    ) -> Result<Condition, Problem> {
        let variable = (guard.side == Side::Dsc).then(|| self.by_path.get(&guard.path)).flatten();
        let bits = |value: &Value| self.bits(mutation, &guard.path, &value.to_string());
        let test = match (variable.map(|v| &self.variables[usize::from(v.0)]), &guard.test) {
            (Some(variable), Test::Present) => {
                Compiled::NotBits(Bits { mask: variable.mask, value: 0 })
            }
            (Some(_), Test::Is(value)) => Compiled::Bits(bits(value)?),
            (Some(_), Test::IsNot(value)) => Compiled::NotBits(bits(value)?),
            (Some(variable), Test::OneOf(values)) => {
                let (mask, shift) = (variable.mask, variable.shift);
                let values = values.iter().try_fold(0, |set, value| {
                    let index = u32::try_from(bits(value)?.value >> shift).unwrap_or(u32::MAX);
                    Ok(set | 1_u128.checked_shl(index).unwrap_or(0))
                })?;
                Compiled::OneOf(Among { mask, shift, values })
            }
            (Some(_), Test::AtLeast(_) | Test::AtMost(_)) => {
                let (mutation, path) = (Arc::clone(mutation), guard.path.clone());
                return Err(Problem::NoNumber { mutation, path });
            }
            (None, _) => {
                let known = self.facts.iter().position(|fact| fact == guard);
                let bit = known.unwrap_or_else(|| {
                    self.facts.push(guard.clone());
                    self.facts.len() - 1
                });
                Compiled::Fact(u32::try_from(bit.min(63)).unwrap_or(63))
            }
        };
        Ok(Condition { guard: guard.clone(), excluded, test })
    }

    /// Variables that a mutation names together belong to one group (union-find by relabelling:
    /// there are few variables). What no mutation moves ties nothing together: `busy` may stand in
    /// every guard, and the services it spares are planned apart all the same.
    fn find_groups(&mut self) {
        let moved = self.steps.iter().fold(0, |mask, step| mask | step.moved());
        let mut group: Vec<usize> = (0..self.variables.len()).collect();
        for step in &self.steps {
            let tied = (step.moved() | step.reads()) & moved;
            let others: Vec<usize> = (0..self.variables.len())
                .filter(|v| self.variables[*v].mask & tied != 0)
                .map(|v| group[v])
                .collect();
            let Some(first) = others.first().copied() else { continue };
            for label in group.iter_mut().filter(|label| others.contains(label)) {
                *label = first;
            }
        }
        let mut labels = group.clone();
        labels.sort_unstable();
        labels.dedup();
        self.groups = vec![Vec::new(); labels.len()];
        for (variable, label) in self.variables.iter_mut().zip(group) {
            variable.group = labels.binary_search(&label).unwrap_or(0);
        }
        for (index, step) in self.steps.iter_mut().enumerate() {
            let first = self.variables.iter().find(|v| v.mask & step.moved() != 0);
            step.group = first.map_or(0, |variable| variable.group);
            let id = MutationId(u16::try_from(index).unwrap_or(u16::MAX));
            self.groups[step.group].push(id);
        }
    }
}
