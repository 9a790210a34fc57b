//! From declarations to masks: what [`ModuleSet::new`] does, and what it refuses.

use crate::mutation::{Guard, Mutation, Test};
use crate::set::{Bits, Compiled, Condition, ModuleSet, MutationId, Step, VarId, Variable};
use kraken_model::{Path, Registry, Side};
use std::sync::Arc;

/// How many different guards on facts there can be: the bits of [`Facts`](crate::Facts).
const MAX_FACTS: usize = 64;

/// How many mutations there can be: far fewer than a [`MutationId`] can tell apart.
const MAX_MUTATIONS: usize = 1 << 15;

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
        Ok(set)
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
            if shift + width > u128::BITS {
                problems.push(Problem::TooManyBits(shift + width));
                return;
            }
            let path = Path::known(path);
            let id = VarId(u16::try_from(self.variables.len()).unwrap_or(u16::MAX));
            self.by_path.insert(path.clone(), id);
            self.variables.push(Variable {
                path,
                values: Arc::clone(values),
                shift,
                mask: ((1 << width) - 1) << shift,
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
        let (mut from, mut to) = (Bits::default(), Bits::default());
        for effect in &mutation.effects {
            let before = self.bits(&name, &effect.variable, &effect.from);
            let after = self.bits(&name, &effect.variable, &effect.to);
            match (before, after) {
                (Ok(before), Ok(after)) if before != after && from.mask & before.mask == 0 => {
                    from = from.and(before).unwrap_or(from);
                    to = to.and(after).unwrap_or(to);
                }
                (Err(problem), _) | (_, Err(problem)) => problems.push(problem),
                _ => problems.push(Problem::BadEffect {
                    mutation: Arc::clone(&name),
                    variable: effect.variable.clone(),
                }),
            }
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
        let mutation = Arc::new(mutation);
        self.steps.push(Step { mutation, from, to, conditions, group: 0 });
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
        let test = match (variable, &guard.test) {
            (Some(var), Test::Present) => {
                let mask = self.variables[usize::from(var.0)].mask;
                Compiled::NotBits(Bits { mask, value: 0 })
            }
            (Some(_), Test::Is(value)) => {
                let value = value.to_string();
                Compiled::Bits(self.bits(mutation, &guard.path, &value)?)
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
        let moved = self.steps.iter().fold(0, |mask, step| mask | step.from.mask);
        let mut group: Vec<usize> = (0..self.variables.len()).collect();
        for step in &self.steps {
            let tied = (step.from.mask | step.reads()) & moved;
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
            let first = self.variables.iter().find(|v| v.mask & step.from.mask != 0);
            step.group = first.map_or(0, |variable| variable.group);
            let id = MutationId(u16::try_from(index).unwrap_or(u16::MAX));
            self.groups[step.group].push(id);
        }
    }
}
