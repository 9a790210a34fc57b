//! Checking a module set: what its author did not mean.

mod facts;

use crate::set::{Compiled, Condition, ModuleSet, MutationId, State, Variable};
use kraken_model::{Path, Side};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

/// How many states of a group of variables are looked at.
pub const MAX_CHECKED: usize = 1 << 16;

/// Something about a module set that its author should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// Mutations are declared to lead to a value, and none of them ever can.
    Unreachable {
        /// The variable.
        variable: Path,
        /// The value.
        value: Arc<str>,
    },
    /// A value that is never left again.
    DeadEnd {
        /// The variable.
        variable: Path,
        /// The value.
        value: Arc<str>,
    },
    /// Mutations move a variable, and none of them discovers it.
    Undiscovered {
        /// The variable.
        variable: Path,
        /// What its being unknown is called.
        unknown: Arc<str>,
    },
    /// The guards of a mutation can never hold together.
    NeverTaken {
        /// The mutation.
        mutation: Arc<str>,
    },
    /// What a mutation asks of one fact can never hold together.
    Contradiction {
        /// The mutation.
        mutation: Arc<str>,
        /// The guards, in words.
        guards: Vec<Arc<str>>,
    },
    /// The effects of a mutation make one of themselves unknowable: it could be taken for ever.
    Undone {
        /// The mutation.
        mutation: Arc<str>,
    },
    /// What a mutation falls back to when it takes too long leads back to it, and nothing ends that.
    Endless {
        /// The mutation.
        mutation: Arc<str>,
        /// The variable that it falls back to.
        variable: Path,
        /// Its value.
        value: Arc<str>,
    },
    /// A disruptive mutation asks nothing about what it may disturb.
    Unguarded {
        /// The mutation.
        mutation: Arc<str>,
    },
    /// So many states are tied together that not all could be looked at.
    NotChecked {
        /// The variables.
        variables: Vec<Path>,
    },
}

/// What a module set's author should look at, in the order of the kinds of findings.
///
/// Facts are taken to be as mutations want them. A value to which nothing leads but which mutations
/// leave or guards name (a failure, say) is taken to be observed; a variable that nothing moves is
/// taken to be told from outside, with any value.
#[must_use]
pub fn check(set: &ModuleSet) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    let mut unguarded = |step: &crate::set::Step| {
        let mut guards = step.mutation.requires.iter().chain(&step.mutation.excludes);
        let disturbs = step.mutation.disruptive && !set.takes_out_of_use(&step.mutation);
        if disturbs && !guards.any(|guard| guard.side == Side::Dsc) {
            findings.insert(Finding::Unguarded { mutation: Arc::clone(&step.mutation.name) });
        }
    };
    set.steps.iter().for_each(&mut unguarded);
    for variable in undiscovered(set) {
        let unknown = Arc::clone(&variable.values[0]);
        findings.insert(Finding::Undiscovered { variable: variable.path.clone(), unknown });
    }
    let contradictions: BTreeMap<MutationId, Vec<Arc<str>>> = (0..)
        .map(MutationId)
        .zip(&set.steps)
        .filter_map(|(id, step)| Some((id, facts::contradiction(&step.conditions)?)))
        .collect();
    let relaxed = set.relaxed(|_, condition| matches!(condition.test, Compiled::Fact(_)));
    for group in (0..set.groups.len()).filter(|group| !set.groups[*group].is_empty()) {
        let is_possible = |id: &MutationId| !contradictions.contains_key(id);
        match Explored::new(&relaxed, group, is_possible) {
            Some(explored) => findings.extend(explored.findings()),
            None => {
                let variables = set.variables.iter().filter(|v| v.group == group);
                let variables = variables.map(|v| v.path.clone()).collect();
                findings.insert(Finding::NotChecked { variables });
            }
        }
    }
    findings.extend(contradictions.into_iter().map(|(id, guards)| Finding::Contradiction {
        mutation: Arc::clone(&set.mutation(id).name),
        guards,
    }));
    findings.into_iter().collect()
}

fn is_moved(set: &ModuleSet, variable: &Variable) -> bool {
    set.steps.iter().any(|step| step.moved() & variable.mask != 0)
}

fn undiscovered(set: &ModuleSet) -> impl Iterator<Item = &Variable> {
    set.variables.iter().filter(|v| is_moved(set, v) && !v.is_forgettable())
}

/// The states that a group of variables can come to from where all is unknown, and what leads on.
struct Explored<'a> {
    set: &'a ModuleSet,
    /// The mutations that can be taken at all, as far as facts go.
    steps: Vec<MutationId>,
    variables: Vec<&'a Variable>,
    mask: u128,
    numbers: FxHashMap<State, usize>,
    states: Vec<State>,
    /// By state: where mutations lead from there.
    after: Vec<Vec<(MutationId, usize)>>,
    /// By state: where mutations fall back to.
    fallen: Vec<Vec<(MutationId, usize)>>,
}

impl<'a> Explored<'a> {
    /// Everything, or nothing when it is too much.
    fn new(
        set: &'a ModuleSet,
        group: usize,
        is_possible: impl Fn(&MutationId) -> bool,
    ) -> Option<Self> {
        let mask = set.group_mask(group);
        let mut explored = Self {
            set,
            steps: set.groups[group].iter().copied().filter(is_possible).collect(),
            variables: set.variables.iter().filter(|v| v.mask & mask != 0).collect(),
            mask,
            numbers: FxHashMap::default(),
            states: Vec::new(),
            after: Vec::new(),
            fallen: Vec::new(),
        };
        let told = explored.told();
        explored.number(State::default());
        let mut at = 0;
        while at < explored.states.len() {
            if explored.states.len() > MAX_CHECKED {
                return None;
            }
            explored.look_at(explored.states[at], &told);
            at += 1;
        }
        Some(explored)
    }

    /// The values, as masks and values, that come from outside.
    fn told(&self) -> Vec<(u128, u128)> {
        let mut told = Vec::new();
        for variable in &self.variables {
            let from_outside = !is_moved(self.set, variable) || !variable.is_forgettable();
            for value in variable.values.iter().filter_map(|value| variable.bits(value)) {
                let holds = |state: u128| state & value.mask == value.value;
                let leads = self.set.steps.iter().any(|step| {
                    let fallback = step.mutation.on_timeout.as_ref();
                    let fallback = fallback.filter(|f| f.variable == variable.path);
                    step.outcomes.iter().any(|to| to.mask & value.mask != 0 && holds(to.value))
                        || fallback.is_some_and(|f| variable.bits(&f.value) == Some(value))
                });
                let named = self.set.steps.iter().any(|step| {
                    let guarded = |c: &Condition| match c.test {
                        Compiled::Bits(bits) => bits == value,
                        Compiled::OneOf(among) => {
                            among.mask == value.mask && among.holds(State(value.value))
                        }
                        Compiled::NotBits(_) | Compiled::Fact(_) => false,
                    };
                    step.from.mask & value.mask != 0 && holds(step.from.value)
                        || step.conditions.iter().any(guarded)
                });
                if from_outside || !leads && named {
                    told.push((value.mask, value.value));
                }
            }
        }
        told
    }

    fn look_at(&mut self, state: State, told: &[(u128, u128)]) {
        let facts = crate::Facts::default();
        let (mut after, mut fallen) = (Vec::new(), Vec::new());
        for at in 0..self.steps.len() {
            let id = self.steps[at];
            if !self.set.applies(id, state, facts) {
                continue;
            }
            for to in &self.set.step(id).outcomes {
                after.push((id, self.number(self.set.outcome(*to, state, facts))));
            }
            let fallback = self.set.mutation(id).on_timeout.as_ref();
            let bits = fallback
                .and_then(|f| self.set.variable(f.variable.as_str())?.bits(&f.value))
                .filter(|bits| bits.mask & self.mask != 0);
            if let Some(bits) = bits {
                let state = State(state.0 & !bits.mask | bits.value);
                fallen.push((id, self.number(self.set.forget(state, facts))));
            }
        }
        for (mask, value) in told {
            let _ = self.number(self.set.forget(State(state.0 & !mask | value), facts));
        }
        self.after.push(after);
        self.fallen.push(fallen);
    }

    fn number(&mut self, state: State) -> usize {
        let state = State(state.0 & self.mask);
        let next = self.states.len();
        let number = *self.numbers.entry(state).or_insert(next);
        if number == next {
            self.states.push(state);
        }
        number
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.values();
        for id in &self.steps {
            let mutation = Arc::clone(&self.set.mutation(*id).name);
            let mut ends = self.after.iter().flatten().filter(|(by, _)| by == id).peekable();
            if ends.peek().is_none() {
                findings.push(Finding::NeverTaken { mutation });
            } else if !ends.any(|(_, end)| self.set.done(*id, self.states[*end])) {
                findings.push(Finding::Undone { mutation });
            }
            findings.extend(self.endless(*id));
        }
        findings
    }

    /// Values that are not reached, or not left.
    fn values(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for variable in self.variables.iter().filter(|v| is_moved(self.set, v)) {
            let mut reached = vec![false; variable.values.len()];
            let mut left = reached.clone();
            for (state, after) in self.states.iter().zip(&self.after) {
                let value = variable.index(*state);
                reached[value] = true;
                let mut ends = after.iter().map(|(_, end)| variable.index(self.states[*end]));
                left[value] |= ends.any(|end| end != value);
            }
            for (at, value) in variable.values.iter().enumerate().skip(1) {
                let (value, path) = (Arc::clone(value), variable.path.clone());
                if reached[at] && !left[at] {
                    findings.push(Finding::DeadEnd { variable: path, value });
                } else if !reached[at] && self.is_meant(variable, &value) {
                    findings.push(Finding::Unreachable { variable: path, value });
                }
            }
        }
        findings
    }

    fn is_meant(&self, variable: &Variable, value: &Arc<str>) -> bool {
        let mut effects = self.set.steps.iter().flat_map(|step| &step.mutation.effects);
        effects.any(|e| e.variable == variable.path && (e.to == *value || e.or.contains(value)))
    }

    /// Whether a mutation without a limit to its attempts can be taken again after it fell back.
    fn endless(&self, id: MutationId) -> Option<Finding> {
        let mutation = self.set.mutation(id);
        let fallback = mutation.on_timeout.as_ref()?;
        if mutation.retry.limit.is_some() {
            return None;
        }
        let fallen = self.fallen.iter().flatten().filter(|(by, _)| *by == id);
        let mut open: Vec<usize> = fallen.map(|(_, end)| *end).collect();
        let mut seen: HashSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            for (by, end) in &self.after[at] {
                if *by == id {
                    return Some(Finding::Endless {
                        mutation: Arc::clone(&mutation.name),
                        variable: fallback.variable.clone(),
                        value: Arc::clone(&fallback.value),
                    });
                }
                if seen.insert(*end) {
                    open.push(*end);
                }
            }
        }
        None
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { variable, value } => write!(
                f,
                "{variable} can never become {value}: no mutation that leads there is ever possible"
            ),
            Self::DeadEnd { variable, value } => write!(
                f,
                "once {variable} is {value} it stays so: no mutation leads out of it, and none makes \
                 it unknown"
            ),
            Self::Undiscovered { variable, unknown } => {
                write!(f, "nobody discovers {variable}: mutations move it, but none from {unknown}")
            }
            Self::NeverTaken { mutation } => {
                write!(f, "{mutation} can never be taken: what it asks for cannot hold together")
            }
            Self::Contradiction { mutation, guards } => write!(
                f,
                "{mutation} can never be taken: no value is both {}",
                guards.join(" and ")
            ),
            Self::Undone { mutation } => write!(
                f,
                "{mutation} is never done: its effects make one of themselves unknowable, so it \
                 could be taken for ever"
            ),
            Self::Endless { mutation, variable, value } => write!(
                f,
                "{mutation} could be tried for ever: {variable} = {value}, to which it falls back, \
                 leads to it again; limit its attempts"
            ),
            Self::Unguarded { mutation } => write!(
                f,
                "{mutation} is disruptive and asks nothing about what it may disturb: exclude a \
                 discovered value, such as busy = BUSY"
            ),
            Self::NotChecked { variables } => {
                let names: Vec<&str> = variables.iter().map(Path::as_str).collect();
                write!(
                    f,
                    "{} have more than {MAX_CHECKED} states together, too many to be checked",
                    names.join(", ")
                )
            }
        }
    }
}
