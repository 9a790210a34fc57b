//! A module set as a graph: values are its nodes, mutations its edges. For one node of a fleet it
//! shows besides where that is, the way ahead, and why other edges are closed.

mod dot;
mod mermaid;

use crate::mutation::{Context, Effect, Fallback};
use crate::set::{Facts, Goal, ModuleSet, State};
use kraken_model::Path;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A module set, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The variables, in the order of their addresses.
    pub variables: Vec<Values>,
    /// The mutations, in the order of declaration.
    pub mutations: Vec<Edge>,
    /// The node that it is drawn for, if it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A variable with its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Its address.
    pub path: Path,
    /// Its values, of which the first means *unknown*.
    pub values: Vec<Arc<str>>,
    /// Which of them the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Arc<str>>,
    /// Which of them the node should have, if cfg says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Arc<str>>,
}

/// A mutation: as many arrows as it moves variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Its name.
    pub mutation: Arc<str>,
    /// The module that carries it out.
    pub module: Arc<str>,
    /// Who takes it.
    pub by: Context,
    /// Whether it may end what runs on the node.
    pub disruptive: bool,
    /// How long it is expected to take, in milliseconds.
    pub expected_ms: u64,
    /// What it moves, from where to where.
    pub moves: Vec<Effect>,
    /// What must hold, for a person: `phys_state = POWER_ON`.
    pub requires: Vec<String>,
    /// What must not hold.
    pub excludes: Vec<String>,
    /// What the state falls to when it takes too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<Fallback>,
    /// Why the node cannot take it as it is, for a person. Nothing: it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<String>,
    /// Which step of the node's way it is, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

impl Graph {
    /// The graph of a module set.
    #[must_use]
    pub fn new(set: &ModuleSet) -> Self {
        let values = |variable: &crate::Variable| Values {
            path: variable.path.clone(),
            values: variable.values.to_vec(),
            is: None,
            wanted: None,
        };
        let edge = |mutation: &Arc<crate::Mutation>| Edge {
            mutation: Arc::clone(&mutation.name),
            module: Arc::clone(&mutation.module),
            by: mutation.context,
            disruptive: mutation.disruptive,
            expected_ms: u64::try_from(mutation.cost.as_millis()).unwrap_or(u64::MAX),
            moves: mutation.effects.clone(),
            requires: mutation.requires.iter().map(ToString::to_string).collect(),
            excludes: mutation.excludes.iter().map(ToString::to_string).collect(),
            on_timeout: mutation.on_timeout.clone(),
            closed: Vec::new(),
            step: None,
        };
        Self {
            variables: set.variables().iter().map(values).collect(),
            mutations: set.mutations().map(|(_, mutation)| edge(mutation)).collect(),
            node: None,
        }
    }

    /// The same for a node: where it is, where it should be, and what it cannot do and why.
    #[must_use]
    pub fn at(set: &ModuleSet, node: &str, goal: Goal, facts: Facts, state: State) -> Self {
        let mut graph = Self::new(set);
        graph.node = Some(node.to_owned());
        let state = set.forget(state, facts);
        for (values, variable) in graph.variables.iter_mut().zip(set.variables()) {
            values.is = Some(Arc::clone(variable.value(state)));
            let is_wanted = goal.0.mask & variable.mask != 0;
            let wanted = || Arc::clone(variable.value(State(goal.0.value)));
            values.wanted = is_wanted.then(wanted);
        }
        for (edge, step) in graph.mutations.iter_mut().zip(&set.steps) {
            let elsewhere = edge.moves.iter().filter_map(|effect| {
                let is = set.variable(effect.variable.as_str())?.value(state);
                (*is != effect.from)
                    .then(|| format!("{} is {is}, not {}", effect.variable, effect.from))
            });
            edge.closed = elsewhere.collect();
            let unmet = step.conditions.iter().filter(|condition| !condition.met(state, facts));
            edge.closed.extend(unmet.map(|condition| match condition.excluded {
                true => format!("not while {}", condition.guard),
                false => format!("needs {}", condition.guard),
            }));
        }
        graph
    }

    /// Numbers the steps of the node's way.
    #[must_use]
    pub fn with_way<'a>(mut self, way: impl IntoIterator<Item = &'a str>) -> Self {
        for (place, name) in way.into_iter().enumerate() {
            if let Some(edge) = self.edge(name) {
                edge.step.get_or_insert(place + 1);
            }
        }
        self
    }

    /// Closes a mutation for one more reason, which the module set does not know.
    pub fn close(&mut self, mutation: &str, why: String) {
        if let Some(edge) = self.edge(mutation) {
            edge.closed.push(why);
        }
    }

    fn edge(&mut self, name: &str) -> Option<&mut Edge> {
        self.mutations.iter_mut().find(|edge| edge.mutation.as_ref() == name)
    }

    /// Every arrow: where from, where to, as places of variables and of their values.
    fn arrows(&self) -> impl Iterator<Item = Arrow<'_>> {
        self.mutations.iter().flat_map(move |edge| {
            let moved = edge.moves.iter().flat_map(move |effect| {
                let from = self.place(&effect.variable, &effect.from);
                let to = std::iter::once((&effect.to, Kind::Expected));
                let to = to.chain(effect.or.iter().map(|value| (value, Kind::Possible)));
                to.filter_map(move |(value, kind)| {
                    let to = self.place(&effect.variable, value)?;
                    Some(Arrow { edge, kind, from: from?, to })
                })
            });
            let fallen = edge.on_timeout.as_ref().and_then(|fallback| {
                let first = edge.moves.first()?;
                let from = self.place(&first.variable, &first.from)?;
                let to = self.place(&fallback.variable, &fallback.value)?;
                Some(Arrow { edge, kind: Kind::Timeout, from, to })
            });
            moved.chain(fallen)
        })
    }

    fn place(&self, path: &Path, value: &str) -> Option<(usize, usize)> {
        let variable = self.variables.iter().position(|variable| variable.path == *path)?;
        let mut values = self.variables[variable].values.iter();
        Some((variable, values.position(|other| other.as_ref() == value)?))
    }

    /// Whether a mutation begins where the node is, so that only guards can close it.
    fn begins_here(&self, edge: &Edge) -> bool {
        edge.moves.iter().all(|effect| {
            let variable = self.variables.iter().find(|v| v.path == effect.variable);
            variable.is_some_and(|variable| variable.is.as_ref() == Some(&effect.from))
        })
    }

    /// What is written at an arrow, line by line.
    fn label(&self, arrow: &Arrow<'_>) -> Vec<String> {
        let edge = arrow.edge;
        let mut lines = vec![match (arrow.kind, edge.step) {
            (Kind::Timeout, _) => return vec![format!("{} takes too long", edge.mutation)],
            (Kind::Possible, _) => return vec![format!("{} may find", edge.mutation)],
            (Kind::Expected, Some(step)) => format!("{step}. {}", edge.mutation),
            (Kind::Expected, None) => edge.mutation.to_string(),
        }];
        if edge.disruptive {
            lines.push("disruptive".to_owned());
        }
        if self.node.is_none() {
            lines.extend(edge.requires.iter().map(|guard| format!("needs {guard}")));
            lines.extend(edge.excludes.iter().map(|guard| format!("not while {guard}")));
        } else if edge.step.is_none() && self.begins_here(edge) {
            lines.extend(edge.closed.iter().map(|why| format!("closed: {why}")));
        }
        lines
    }
}

/// One arrow of a mutation.
struct Arrow<'a> {
    edge: &'a Edge,
    kind: Kind,
    from: (usize, usize),
    to: (usize, usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Where it is expected to lead.
    Expected,
    /// What may be found instead.
    Possible,
    /// Where it leads when it takes too long.
    Timeout,
}

impl Arrow<'_> {
    /// Whether the node of the graph cannot go this way now, and is not about to.
    fn is_faint(&self, graph: &Graph) -> bool {
        graph.node.is_some() && self.edge.step.is_none() && !self.edge.closed.is_empty()
    }
}
