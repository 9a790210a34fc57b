//! The fleet without its engine: machines, agents, networks and the parent's side of sync, for an
//! engine that runs elsewhere and in a time of its own.

use crate::application::{Application, Blow};
use crate::brain::{Mirror, Said, Seen};
use crate::fleet::{Fleet, Plan, node_id, number};
use crate::happening::Noise;
use kraken_engine::{DispatchId, Failure, Order};
use kraken_model::{Document, Millis, NodeId};
use kraken_sync::{ParentCounters, ParentInput};
use std::collections::HashMap;

/// Machines and their nodes, moved by whoever has the time and the engine.
///
/// In: what the engine orders, how it sees its nodes, faults, and the time. Out: what was found out,
/// and what modules answer. It reads no clock: its time is what [`Field::advance`] is given.
pub struct Field<A: Application> {
    fleet: Fleet<A>,
    /// Machines have numbers here and names there. A machine stays where it is when its node is taken
    /// away, and is the same one when the name comes again.
    numbers: HashMap<NodeId, usize>,
    names: Vec<NodeId>,
    /// Answers to orders that nobody could carry out.
    refusals: Vec<Said>,
}

/// An order of an engine elsewhere, which knows mutations by their names.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Which attempt it is.
    pub id: DispatchId,
    /// The name of the mutation.
    pub mutation: std::sync::Arc<str>,
    /// What the node should be.
    pub cfg: Document,
    /// What is known of it.
    pub dsc: Document,
    /// When the attempt counts as failed.
    pub deadline: Millis,
}

impl<A: Application> Field<A> {
    /// An empty field; a machine stands there as soon as its node is seen for the first time.
    #[must_use]
    pub fn new(app: A, seed: u64) -> Self {
        let plan = Plan {
            seed,
            nodes: 0,
            happenings: Vec::new(),
            faults_end: Millis(u64::MAX),
            converged_by: Millis(u64::MAX),
            is_checked: false,
            bug: None,
            trace: 0,
        };
        Self {
            fleet: Fleet::without_engine(app, plan),
            numbers: HashMap::new(),
            names: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// What time it is on the field.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.fleet.now
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> Option<Millis> {
        self.fleet.queue.next()
    }

    /// Lets happen what happens until then, so many events at most. Whether that was all of it.
    pub fn advance(&mut self, until: Millis, most: usize) -> bool {
        for _ in 0..most {
            if self.next().is_none_or(|at| at > until) {
                self.fleet.now = self.fleet.now.max(until);
                return true;
            }
            self.fleet.happens_next();
        }
        false
    }

    /// How the engine sees a node now.
    pub fn see(&mut self, node: &NodeId, seen: Seen) {
        let n = match self.numbers.get(node) {
            Some(n) => *n,
            None => self.place(node),
        };
        let was_there = self.mirror().is_some_and(|mirror| mirror.see(node_id(n), seen));
        if !was_there {
            self.fleet.looked_after(n);
        }
        self.fleet.changed(n);
    }

    fn place(&mut self, node: &NodeId) -> usize {
        let n = self.fleet.place();
        self.numbers.insert(node.clone(), n);
        self.names.push(node.clone());
        n
    }

    /// A node is taken away; its machine goes on, and nobody listens to it any more.
    pub fn forget(&mut self, node: &NodeId) {
        let Some(n) = self.numbers.get(node).copied() else { return };
        if let Some(mirror) = self.mirror() {
            mirror.forget(&node_id(n));
        }
        self.fleet.dismissed(n);
    }

    /// An order goes to its module.
    pub fn order(&mut self, order: Ordered) {
        let Ordered { id, mutation, cfg, dsc, deadline } = order;
        let known = self.numbers.get(&id.node).zip(self.fleet.set.mutation_named(&mutation));
        let Some((n, mutation)) = known.map(|(n, mutation)| (*n, mutation)) else {
            let reason = format!("the simulation has no machine of {} or no {mutation}", id.node);
            // It may be about to come.
            let result = Err(Failure { reason, permanent: false });
            self.refusals.push(Said::Answer { id, result });
            return;
        };
        let node = node_id(n);
        let id = DispatchId { node: node.clone(), ..id };
        self.fleet.dispatch(Order { id, mutation, node, cfg, dsc, deadline });
    }

    /// An order is dropped.
    pub fn interrupt(&mut self, id: &DispatchId) {
        if let Some(n) = self.numbers.get(&id.node) {
            self.fleet.interrupt(&DispatchId { node: node_id(*n), ..id.clone() });
        }
    }

    /// Something breaks on the machine of a node, or is whole again.
    pub fn strike(&mut self, node: &NodeId, blow: Blow, begins: bool) {
        if let Some(n) = self.numbers.get(node) {
            self.fleet.strikes(*n, blow, begins);
        }
    }

    /// A node is cut off from its parent, or one cut that was is mended.
    pub fn cut(&mut self, node: &NodeId, begins: bool) {
        if let Some(n) = self.numbers.get(node) {
            self.fleet.cuts(*n, begins);
        }
    }

    /// The agent of a node is killed.
    pub fn crash_agent(&mut self, node: &NodeId) {
        if let Some(n) = self.numbers.get(node) {
            self.fleet.crash_agent(*n);
        }
    }

    /// How bad the network is from now on, everywhere.
    pub fn noise(&mut self, noise: Noise) {
        self.fleet.set_noise(noise);
    }

    /// What the engine is to be told, in order.
    pub fn take_said(&mut self) -> Vec<Said> {
        let mut said = self.mirror().map(Mirror::take_said).unwrap_or_default();
        for said in &mut said {
            let (Said::Found { node, .. }
            | Said::Printed { node, .. }
            | Said::Answer { id: DispatchId { node, .. }, .. }) = said;
            if let Some(name) = self.names.get(number(node)) {
                *node = name.clone();
            }
        }
        said.append(&mut self.refusals);
        said
    }

    /// What the parent's side of sync has counted.
    #[must_use]
    pub fn sync_counters(&self) -> ParentCounters {
        let process = self.fleet.process.as_ref();
        process.map(|process| process.sync.counters()).unwrap_or_default()
    }

    fn mirror(&mut self) -> Option<&mut Mirror> {
        self.fleet.process.as_mut()?.engine.mirror_mut()
    }
}

impl<A: Application> Fleet<A> {
    fn place(&mut self) -> usize {
        let n = self.nodes.len();
        let machine = self.app.machine(n);
        self.nodes.push(crate::fleet::Seat::new(n, machine));
        n
    }

    /// The modules of the parent begin to look after a machine.
    fn looked_after(&mut self, n: usize) {
        for module in self.modules.clone() {
            self.ask(n, None, |app, machine, deeds| app.begin(machine, &module, deeds));
        }
    }

    /// The parent has no such node any more.
    fn dismissed(&mut self, n: usize) {
        let node = self.nodes[n].id.clone();
        let Some(process) = &mut self.process else { return };
        process.forget(n);
        process.book.revoke(&node);
        self.keep_tokens();
        self.sync_step(ParentInput::Remove { node });
    }
}
