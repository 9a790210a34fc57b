//! Which nodes count as unavailable, and where: what limits on a share of the nodes go by.

use crate::gates::{Gates, Place};
use crate::node::Membership;
use crate::{Availability, Engine, Limit, Output};
use kraken_model::{Document, NodeId, Path};
use kraken_plan::{Goal, ModuleSet, MutationId, State};
use std::sync::Arc;

impl Engine {
    /// Other limits hold from now on. What is under way goes on and is counted; those who wait are
    /// looked at in the order of their turns.
    pub(crate) fn limit(&mut self, limits: Vec<Limit>, out: &mut Vec<Output>) {
        if limits == self.settings.limits {
            return;
        }
        Arc::make_mut(&mut self.settings).limits = limits;
        let queue = self.regate();
        for at in queue {
            self.reconsider(at, out);
        }
    }

    /// Counts everything anew, at the gates of the present limits and mutations. Gives those who wait, in
    /// the order of their turns: each has to be looked at.
    pub(crate) fn regate(&mut self) -> Vec<u32> {
        let limits = &self.settings.limits;
        self.gates = self.gates.replaced(limits, &self.set, &mut self.timers);
        let mut queue = Vec::new();
        for at in self.nodes.places() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            node.membership = None;
            if let Some(running) = &mut node.running {
                running.gates = self.gates.resume(running.mutation, &node.id, &node.cfg);
            }
            if let Some(place) = &mut node.place {
                *place = Place::nowhere(place.ticket);
                queue.push((place.ticket, at));
            }
            self.enrol(at);
        }
        queue.sort_unstable();
        queue.into_iter().map(|(_, at)| at).collect()
    }

    /// Finds out among whose nodes a node is, after its cfg or the limits have changed.
    pub(crate) fn enrol(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        if !self.gates.has_shares() {
            return;
        }
        let membership = node.membership.get_or_insert_default();
        let variables = &self.settings.availability.wanted;
        let cfg = node.base.as_deref().unwrap_or(&node.cfg);
        membership.enrol(&self.set, variables, &node.id, cfg, &mut self.gates);
        self.recount(at);
    }

    /// Counts a node as unavailable wherever it is, and nowhere else.
    pub(crate) fn recount(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        let Some(membership) = &mut node.membership else { return };
        let running = node.running.as_ref().map(|running| running.mutation);
        let Self { set, settings, gates, .. } = self;
        let is_available =
            node.shaken == 0 && membership.is_available(set, &settings.availability, node.state);
        membership.recount(is_available, running, gates);
    }

    /// Counts a node no longer.
    pub(crate) fn strike(&mut self, at: u32) {
        let membership = self.nodes.get_mut(at).and_then(|node| node.membership.take());
        if let Some(mut membership) = membership {
            self.gates.enrol(&membership.gates, &[]);
            self.gates.count_away(&mut membership.counted, Vec::new());
        }
    }
}

impl Membership {
    /// Counts a node among those of every limit that is about it.
    pub(crate) fn enrol(
        &mut self,
        set: &ModuleSet,
        variables: &[Path],
        id: &NodeId,
        cfg: &Document,
        gates: &mut Gates,
    ) {
        self.goal = set.goal(&available(variables, cfg));
        self.wished = set.goal(cfg);
        let after = gates.shares_of(id, cfg);
        gates.enrol(&self.gates, &after);
        self.gates = after;
    }

    /// Whether a node in a state is available.
    pub(crate) fn is_available(
        &self,
        set: &ModuleSet,
        availability: &Availability,
        state: State,
    ) -> bool {
        availability.has(set, state, self.goal) && !set.is_out_of_use(state, self.wished)
    }

    /// Counts a node as unavailable where it is, with the step that is under way on it.
    pub(crate) fn recount(
        &mut self,
        is_available: bool,
        running: Option<MutationId>,
        gates: &mut Gates,
    ) {
        let counts = |gate: &&u32| {
            !is_available || running.is_some_and(|mutation| gates.is_about(**gate, mutation))
        };
        let counted: Vec<u32> = self.gates.iter().filter(counts).copied().collect();
        if counted != self.counted {
            gates.count_away(&mut self.counted, counted);
        }
    }
}

impl Availability {
    /// Whether a node in a state is available, whose cfg wants this of it.
    fn has(&self, set: &ModuleSet, state: State, goal: Goal) -> bool {
        let as_good = |state, (path, value): &(Path, Arc<str>)| match set.variable(path.as_str()) {
            Some(variable) if variable.value(state) == value => {
                set.as_wanted(state, goal, variable)
            }
            _ => state,
        };
        set.fulfils(state, goal) || set.fulfils(self.as_good.iter().fold(state, as_good), goal)
    }
}

/// The part of cfg that decides whether a node is available.
fn available(variables: &[Path], cfg: &Document) -> Document {
    let mut part = Document::new();
    for path in variables {
        if let Some(value) = cfg.get(path.as_str()) {
            part.set(path.clone(), value.clone());
        }
    }
    part
}
