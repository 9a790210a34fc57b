//! Which nodes count as unavailable, and where: what limits on a share of the nodes go by.

use crate::gates::Place;
use crate::node::Membership;
use crate::{Engine, Limit, Output};
use kraken_model::Document;

impl Engine {
    /// Other limits hold from now on. What is under way goes on and is counted; those who wait are
    /// looked at in the order of their turns.
    pub(crate) fn limit(&mut self, limits: Vec<Limit>, out: &mut Vec<Output>) {
        if limits == self.settings.limits {
            return;
        }
        self.gates = self.gates.replaced(&limits, &self.set, &mut self.timers);
        self.settings.limits = limits;
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
        for (_, at) in queue {
            self.reconsider(at, out);
        }
    }

    /// Finds out among whose nodes a node is, after its cfg or the limits have changed.
    pub(crate) fn enrol(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        if !self.gates.has_shares() {
            return;
        }
        let goal = available(&self.settings.availability, &node.cfg);
        let after = self.gates.shares_of(&node.id, &node.cfg);
        let membership = node.membership.get_or_insert_default();
        self.gates.enrol(&membership.gates, &after);
        let counted = std::mem::take(&mut membership.counted);
        **membership = Membership { goal: self.set.goal(&goal), gates: after, counted };
        self.recount(at);
    }

    /// Counts a node as unavailable wherever it is, and nowhere else.
    pub(crate) fn recount(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        let Some(membership) = &mut node.membership else { return };
        let running = node.running.as_ref().map_or(&[][..], |running| &running.gates);
        let mut counted = self.gates.with_shares(running);
        if !self.set.fulfils(node.state, membership.goal) {
            counted.extend_from_slice(&membership.gates);
            counted.sort_unstable();
            counted.dedup();
        }
        if counted != membership.counted {
            self.gates.count_away(&mut membership.counted, counted);
        }
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

/// The part of cfg that decides whether a node is available.
fn available(variables: &[kraken_model::Path], cfg: &Document) -> Document {
    let mut part = Document::new();
    for path in variables {
        if let Some(value) = cfg.get(path.as_str()) {
            part.set(path.clone(), value.clone());
        }
    }
    part
}
