//! Short words for module sets, states and goals.

use kraken_model::{Document, Field, Kind, Path, Registry, Schema, Side};
use kraken_plan::{
    Context, Costs, Explanation, Facts, Finding, Goal, ModuleSet, Mutation, Policy, State, Step,
    check, explain,
};
use std::sync::Arc;
use std::time::Duration;

/// Variables with their values, and the fact `f` of both documents.
pub(crate) fn registry(variables: &[(&str, &[&str])]) -> Registry {
    let mut fields: Vec<Field> =
        variables.iter().map(|(name, values)| Field::variable(name, values, "").unwrap()).collect();
    fields.push(Field::new("f", Kind::Bool, &[Side::Cfg, Side::Dsc], "").unwrap());
    Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap()
}

pub(crate) fn step(name: &str) -> Mutation {
    Mutation::new("m", name, Context::Child)
}

/// A mutation that moves one variable.
pub(crate) fn moving(name: &str, variable: &str, from: &str, to: &str) -> Mutation {
    step(name).moves(variable, from, to)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn doc(values: &[(&str, &str)]) -> Document {
    let mut document = Document::new();
    for (path, value) in values {
        document.set(Path::known(path), *value);
    }
    document
}

/// A question about a module set: where a node is, and where it should be.
pub(crate) struct Case {
    pub(crate) set: Arc<ModuleSet>,
    pub(crate) facts: Facts,
    pub(crate) costs: Costs,
    goal: Goal,
}

impl Case {
    pub(crate) fn new(
        variables: &[(&str, &[&str])],
        mutations: Vec<Mutation>,
        goal: &[(&str, &str)],
    ) -> Self {
        let set = Arc::new(ModuleSet::new(&registry(variables), mutations).unwrap());
        let goal = set.goal(&doc(goal));
        Self { set, facts: Facts::default(), costs: Costs::declared(), goal }
    }

    pub(crate) fn state(&self, values: &[(&str, &str)]) -> State {
        self.set.state(&doc(values))
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::new(&self.set, self.goal, self.facts, &self.costs)
    }

    pub(crate) fn next(&self, values: &[(&str, &str)]) -> Step {
        self.policy().next(self.state(values))
    }

    /// The names of the steps from a state, and what they cost in seconds.
    pub(crate) fn way(&self, values: &[(&str, &str)]) -> (String, u64) {
        let (mut policy, state) = (self.policy(), self.state(values));
        let names = policy.path(state).into_iter().map(|id| self.name(id));
        let names = names.collect::<Vec<_>>().join(" ");
        let cost = match policy.next(state) {
            Step::Take { cost_to_go, .. } => cost_to_go.as_secs(),
            _ => 0,
        };
        (names, cost)
    }

    pub(crate) fn name(&self, id: kraken_plan::MutationId) -> String {
        self.set.mutation(id).name.trim_start_matches("m.").to_owned()
    }

    pub(crate) fn explain(&self, values: &[(&str, &str)]) -> Explanation {
        explain(&self.set, self.goal, self.facts, &self.costs, self.state(values))
    }

    pub(crate) fn block(&mut self, name: &str) {
        self.costs.block(self.set.mutation_named(&format!("m.{name}")).unwrap());
    }
}

/// What a check of a module set finds, in words.
pub(crate) fn findings(variables: &[(&str, &[&str])], mutations: Vec<Mutation>) -> Vec<Finding> {
    check(&ModuleSet::new(&registry(variables), mutations).unwrap())
}
