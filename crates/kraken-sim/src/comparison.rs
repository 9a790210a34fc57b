//! What a plan says, held against what happens when just that is applied.

use crate::Wish;
use crate::application::Application;
use crate::fleet::{Fleet, Plan, number};
use kraken_engine::{Entry, Input, NodePlan, What};
use kraken_model::{Document, Millis, NodeId};
use kraken_plan::Context;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of a fleet that is planned and then made.
#[derive(Clone, Debug)]
pub struct Change {
    /// When. What happens to the fleet has to be over by then.
    pub at: Millis,
    /// What is wanted of nodes from then on; of the others what was wanted before.
    pub wishes: Vec<(usize, Wish)>,
    /// How long it is waited for what follows, in milliseconds.
    pub wait_ms: u64,
}

/// A node of which a plan said something else than what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The node.
    pub node: NodeId,
    /// The steps that were planned, and why they were to stop short of the goal.
    pub planned: (Vec<Arc<str>>, Option<String>),
    /// The steps that were done, and how the engine stands about the node at the end, unless it is converged.
    pub happened: (Vec<Arc<str>>, Option<&'static str>),
    /// What is known of it at the change.
    pub known: Known,
}

/// A node at a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What its cfg was before the change and is after it, and what was known of it then.
    pub documents: [Document; 3],
    /// A step of its own was under way for the cfg before: whether that had begun, only the node knew.
    pub goes_on: bool,
}

/// The steps of each node that were done, while somebody wants to know.
pub(crate) type StepsDone = BTreeMap<usize, Vec<Arc<str>>>;

/// Runs a fleet until a change, plans the change, makes it, and compares. Of nodes whose cfg is the same
/// after the change as before, plans say nothing.
#[must_use]
pub fn compare<A: Application>(app: A, plan: Plan, change: &Change) -> Vec<Difference> {
    let end = Millis(change.at.0 + change.wait_ms);
    let plan = Plan { is_checked: false, faults_end: end.plus(END_OF_DAY), ..plan };
    let mut fleet = Fleet::new(app, plan);
    fleet.run_until(change.at);
    let after = fleet.after(change);
    let planned = fleet.planned(&after);
    let known = fleet.known(&after);
    fleet.steps_done = Some(StepsDone::new());
    for (node, cfg) in after {
        fleet.disk.cfg.insert(number(&node), cfg.clone());
        fleet.step(Input::Configure { node, cfg: Some(cfg), by: "operator".into() });
    }
    fleet.run_until(end);
    planned.into_iter().filter_map(|node| fleet.difference(node, &known)).collect()
}

/// Beyond the end of a comparison: nobody takes anything back before.
const END_OF_DAY: std::time::Duration = std::time::Duration::from_secs(1);

impl<A: Application> Fleet<A> {
    fn run_until(&mut self, end: Millis) {
        while self.queue.next().is_some_and(|next| next <= end) {
            self.happens_next();
        }
        self.now = self.now.max(end);
    }

    /// What is wanted of every node after a change.
    fn after(&self, change: &Change) -> BTreeMap<NodeId, Document> {
        let mut after: BTreeMap<NodeId, Document> =
            self.disk.cfg.iter().map(|(n, cfg)| (self.nodes[n].id.clone(), cfg.clone())).collect();
        for (n, wish) in &change.wishes {
            after.insert(self.nodes[*n].id.clone(), self.app.cfg(*n, *wish));
        }
        after
    }

    fn planned(&self, after: &BTreeMap<NodeId, Document>) -> Vec<NodePlan> {
        let engine = self.process.as_ref().and_then(|process| process.engine.here());
        let Some(engine) = engine else { return Vec::new() };
        let mut outlook = engine.outlook();
        outlook
            .foresee(after, |before, after, dsc, step| self.app.foreseen(before, after, dsc, step));
        outlook.plan(after, engine.limits()).nodes
    }

    fn known(&self, after: &BTreeMap<NodeId, Document>) -> BTreeMap<NodeId, Known> {
        let engine = self.process.as_ref().and_then(|process| process.engine.here());
        let Some(engine) = engine else { return BTreeMap::new() };
        let all = engine.nodes().filter_map(|view| {
            let after = after.get(view.id)?;
            let is_under_way = matches!(view.status, "running" | "waits_for_node");
            let step = view.mutation.filter(|_| is_under_way).map(AsRef::as_ref);
            let goes_on = self.app.foreseen(view.cfg, after, view.dsc, step).goes_on;
            let documents = [view.cfg.clone(), after.clone(), view.dsc.clone()];
            Some((view.id.clone(), Known { documents, goes_on }))
        });
        all.collect()
    }

    /// A step that was done counts once: where it was taken.
    pub(crate) fn count_step(&mut self, n: usize, entry: &Entry, is_on_node: bool) {
        let (Some(done), What::Done { mutation, .. }) = (&mut self.steps_done, &entry.what) else {
            return;
        };
        let context = self.set.mutation_named(mutation).map(|id| self.set.mutation(id).context);
        if (context == Some(Context::Node)) == is_on_node {
            done.entry(n).or_default().push(Arc::clone(mutation));
        }
    }

    fn difference(&self, node: NodePlan, known: &BTreeMap<NodeId, Known>) -> Option<Difference> {
        let n = number(&node.node);
        let done = self.steps_done.as_ref().and_then(|done| done.get(&n)).cloned();
        let done = done.unwrap_or_default();
        let engine = self.process.as_ref()?.engine.here()?;
        let status = engine.node(&node.node)?.status;
        let status = Some(status).filter(|status| *status != "converged");
        let is_same = done == node.steps && status.is_some() == node.stops.is_some();
        (!is_same).then(|| Difference {
            known: known.get(&node.node).cloned().unwrap_or_default(),
            node: node.node,
            planned: (node.steps, node.stops),
            happened: (done, status),
        })
    }
}
