//! What to do about a node next.

use crate::gates::{Candidate, Place};
use crate::node::{Node, Outdated, Standing};
use crate::status::{Failed, Want};
use crate::{Engine, Output, Role, What};
use kraken_model::{Edit, Millis, Patch, Path, Value};
use kraken_plan::{Context, MutationId, State, Step};
use std::sync::Arc;
use std::time::Duration;

/// The address at which a node is told that it may take a step: under the one that parents use for
/// that.
#[must_use]
pub fn permitted(under: &Path, mutation: &str) -> Path {
    Path::known(&format!("{under}.{mutation}"))
}

/// A change of what a node should be after which no permission counts any more: its parent is out of reach and could
/// not take it back.
#[must_use]
pub fn without_permissions(under: &Path) -> Patch {
    Patch::Edit(vec![Edit::clear(under.clone())])
}

/// What was decided, and when it has to be looked at again although nothing happened.
struct Decision {
    standing: Standing,
    again_at: Option<Millis>,
}

impl Decision {
    fn wait(standing: Standing) -> Self {
        Self { standing, again_at: None }
    }
}

impl Engine {
    /// Looks at a node afresh, whatever led to it: finishes or interrupts what is under way, and
    /// dispatches what comes next, or notes why it does not.
    pub(crate) fn reconsider(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get(at) else { return };
        if !self.is_started {
            return;
        }
        let state = node.state;
        if let Some(running) = &node.running
            && self.set.done(running.mutation, state)
        {
            self.done(at, out);
        }
        self.judge_restart(at, out);
        self.learn_from_waiting(at, state);
        let step = self.plan(at, state);
        if self.nodes.get(at).is_some_and(|node| node.running.is_some()) {
            match self.still_right(at, state, step) {
                Ok(()) if !self.is_done_in_vain(at) => return,
                Ok(()) => self.interrupt(at, "it was done for a cfg that counts no more", out),
                Err(reason) => self.interrupt(at, reason, out),
            }
        }
        // A place in a queue is kept while the node still waits for the same, and only then.
        let place = self.nodes.get_mut(at).and_then(|node| node.place.take());
        if let Some(place) = place {
            self.gates.withdraw(place);
        }
        let mut decision = self.decide(at, step, place, out);
        if decision.standing.waits() {
            decision = self.meanwhile(at, state, decision, step, place, out);
        }
        self.stand(at, decision, out);
    }

    /// What is done while the next step of a node has to wait: what could as well come first, or has nothing to do with
    /// it. What waits in one module is no reason not to go on in another.
    fn meanwhile(
        &mut self,
        at: u32,
        state: State,
        waits: Decision,
        step: Step,
        place: Option<Place>,
        out: &mut Vec<Output>,
    ) -> Decision {
        let Step::Take { mutation: next, cost_to_go, .. } = step else { return waits };
        let Decision { mut standing, mut again_at } = waits;
        for other in self.other_steps(at, state, next) {
            let Some(node) = self.nodes.get(at) else { break };
            if self.is_anothers(other).is_some() {
                continue;
            }
            if let Some(held) = self.held_back(node, other) {
                // Whichever may go on first is the one to look again for.
                again_at = again_at.into_iter().chain(held.again_at).min();
                continue;
            }
            let is_queued = node.place;
            let decision = self.try_dispatch(at, other, cost_to_go, place, out);
            match (is_queued, decision.standing) {
                (_, Standing::Running(_)) => {
                    is_queued.into_iter().for_each(|first| self.step_aside(at, first));
                    return decision;
                }
                (None, queued) => standing = queued,
                // The place that it has is for the step before, and may be the very same one.
                (Some(first), _) => {
                    let place = self.nodes.get_mut(at).and_then(|n| n.place.replace(first));
                    let place = place.filter(|place| *place != first);
                    place.into_iter().for_each(|place| self.gates.withdraw(place));
                }
            }
        }
        Decision { standing, again_at }
    }

    /// Leaves a queue, and keeps the turn: who is busy with something else must not keep others waiting.
    fn step_aside(&mut self, at: u32, place: Place) {
        self.gates.withdraw(place);
        if let Some(node) = self.nodes.get_mut(at) {
            node.place = Some(Place::nowhere(place.ticket));
        }
    }

    /// How long that took for which a node has waited, and which has come by itself.
    fn learn_from_waiting(&mut self, at: u32, state: State) {
        let Some(node) = self.nodes.get(at) else { return };
        let Standing::Happens(id) = node.standing else { return };
        if self.set.done(id, state) {
            let (took, cost) = (self.now.since(node.since), self.set.mutation(id).cost);
            self.learned.done(node.kind, id, took, cost);
        }
    }

    /// How a node stands when its next step is not ours to take.
    pub(crate) fn is_anothers(&self, id: MutationId) -> Option<Standing> {
        match (self.set.mutation(id).context, self.settings.role) {
            (Context::Node, Role::Parent) if !self.is_permitted_by_us(id) => {
                Some(Standing::WaitsForNode(id))
            }
            (Context::Child, Role::Node) => Some(Standing::WaitsForParent(id)),
            (Context::Itself, _) => Some(Standing::Happens(id)),
            _ => None,
        }
    }

    fn decide(
        &mut self,
        at: u32,
        step: Step,
        place: Option<Place>,
        out: &mut Vec<Output>,
    ) -> Decision {
        let Some(node) = self.nodes.get(at) else { return Decision::wait(Standing::NoWay) };
        let (id, cost_to_go) = match step {
            Step::Done => return Decision::wait(Standing::Converged),
            Step::TooLarge => return Decision::wait(Standing::TooLarge),
            Step::NoWay if node.given_up().next().is_some() => {
                return Decision::wait(Standing::Quarantined);
            }
            Step::NoWay => {
                return Decision::wait(self.stands_found(node).unwrap_or(Standing::NoWay));
            }
            Step::Take { mutation, cost_to_go, .. } => (mutation, cost_to_go),
        };
        if let Some(standing) = self.is_anothers(id) {
            return Decision::wait(standing);
        }
        match self.held_back(node, id) {
            Some(decision) => decision,
            None => self.try_dispatch(at, id, cost_to_go, place, out),
        }
    }

    /// Whether a step is one that nodes take by themselves, but not before they were permitted to.
    pub(crate) fn is_permitted_by_us(&self, id: MutationId) -> bool {
        let mutation = self.set.mutation(id);
        let is_theirs = mutation.context == Context::Node && mutation.disruptive;
        is_theirs && self.settings.role == Role::Parent
    }

    /// Why a step must not be taken now, if so.
    fn held_back(&self, node: &Node, id: MutationId) -> Option<Decision> {
        if node.marks().hold.is_some() {
            return Some(Decision::wait(Standing::Held(id)));
        }
        if self.set.mutation(id).disruptive {
            if !self.is_permitted_to_us(node, id) {
                return Some(Decision::wait(Standing::Unpermitted(id)));
            }
            if self.freeze.is_some() || node.marks().freeze.is_some() {
                return Some(Decision::wait(Standing::Frozen(id)));
            }
            if node.stale != 0 {
                return Some(Decision::wait(Standing::Stale(id)));
            }
            if node.doubt != 0 && node.doubt & self.set.relied_on(id) != 0 {
                return Some(Decision::wait(Standing::Doubtful(id)));
            }
            if self.storm_on(node).is_some() {
                return Some(Decision::wait(Standing::Storm(id)));
            }
            if let Some(until) = self.settles_until(node) {
                let standing = Standing::Settling(id);
                return Some(Decision { standing, again_at: Some(until) });
            }
            if self.unrecovered(node, id).is_some() {
                return Some(Decision::wait(Standing::Unheard(id)));
            }
        }
        let again_at = node.trouble(id).and_then(|t| t.retry_at).filter(|at| *at > self.now);
        if again_at.is_some() {
            return Some(Decision { standing: Standing::BackOff(id), again_at });
        }
        let again_at = self.rests_until(node, id);
        again_at.map(|at| Decision { standing: Standing::Resting(id), again_at: Some(at) })
    }

    /// Until when a step rests that was done lately and is needed again.
    pub(crate) fn rests_until(&self, node: &Node, id: MutationId) -> Option<Millis> {
        node.last.as_ref()?.rests_until(id, self.now, &self.set.mutation(id).retry)
    }

    /// Whether a parent that has to be asked has permitted a step.
    fn is_permitted_to_us(&self, node: &Node, id: MutationId) -> bool {
        let Some(under) = &self.settings.permitted_under else { return true };
        let path = permitted(under, &self.set.mutation(id).name);
        node.cfg.get(path.as_str()).and_then(Value::as_bool) == Some(true)
    }

    fn try_dispatch(
        &mut self,
        at: u32,
        id: MutationId,
        cost_to_go: Duration,
        place: Option<Place>,
        out: &mut Vec<Output>,
    ) -> Decision {
        let ticket = place.map(|place| place.ticket);
        let Some(node) = self.nodes.get_mut(at) else { return Decision::wait(Standing::NoWay) };
        let counted = node.membership.as_ref().map_or(&[][..], |m| &m.counted);
        let who = Candidate { at, id: &node.id, cfg: &node.cfg, counted, ticket };
        match self.gates.enter(id, who, self.now, &mut self.timers) {
            Ok(gates) => {
                let deadline = self.dispatch(at, id, cost_to_go, gates, out);
                Decision { standing: Standing::Running(id), again_at: Some(deadline) }
            }
            Err(place) => {
                node.place = Some(place);
                Decision::wait(Standing::Queued(id))
            }
        }
    }

    /// Notes how a node stands, and journals what a person would want to be told.
    fn stand(&mut self, at: u32, decision: Decision, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.alarm.set(decision.again_at, at, &mut self.timers);
        let (before, after) = (node.standing, decision.standing);
        if before == after {
            return;
        }
        node.standing = after;
        node.since = now;
        self.by_standing[before.kind()] -= 1;
        self.by_standing[after.kind()] += 1;
        let Some(node) = self.nodes.get(at) else { return };
        let what = match after {
            // After a start, finding everything in order is not news.
            Standing::Converged if before != Standing::Loading => What::Converged,
            Standing::Quarantined => {
                What::Quarantined { reason: self.reason_of_quarantine(node).into() }
            }
            Standing::FoundRunning => What::FoundRunning,
            Standing::Unheard(id) => What::Unheard { reason: self.reason_unheard(node, id).into() },
            Standing::NoWay | Standing::TooLarge => {
                let missing: Vec<String> =
                    self.missing(node).iter().map(ToString::to_string).collect();
                What::NoWay { reason: format!("no way to {}", missing.join(", ")).into() }
            }
            _ => return,
        };
        let id = node.id.clone();
        self.note(Some(&id), what, None, out);
    }

    pub(crate) fn reason_of_quarantine(&self, node: &Node) -> String {
        let reasons: Vec<String> = node
            .given_up()
            .map(|t| {
                let name = &self.set.mutation(t.mutation).name;
                format!("{name} failed{}: {}", Failed(t.failures), t.reason)
            })
            .collect();
        reasons.join("; ")
    }

    /// What cfg wants of the variables and is not so.
    pub(crate) fn missing(&self, node: &Node) -> Vec<Want> {
        let wants = self.set.variables().iter().filter_map(|variable| {
            let wanted = node.cfg.text(variable.path.as_str())?;
            let is = variable.value(node.state);
            let value = variable.values.iter().skip(1).find(|value| value.as_ref() == wanted)?;
            (value != is).then(|| Want {
                variable: variable.path.clone(),
                value: Arc::clone(value),
                or: Vec::new(),
                is: Arc::clone(is),
            })
        });
        wants.collect()
    }

    /// Whether the module says that it did its part, what it moves was looked at since the cfg has changed, and is not
    /// so: it did what was wanted before.
    fn is_done_in_vain(&self, at: u32) -> bool {
        let running = self.nodes.get(at).and_then(|node| node.running.as_ref());
        running.is_some_and(|running| running.answered && running.outdated == Outdated::Seen)
    }

    /// Whether what is under way should go on: it is still what the policy says, or it still
    /// brings the node nearer. The effects of a step may be discovered one by one, and in between
    /// the policy may well say something else.
    fn still_right(&mut self, at: u32, state: State, step: Step) -> Result<(), &'static str> {
        let Some(node) = self.nodes.get(at) else { return Ok(()) };
        let Some(id) = node.running.as_ref().map(|running| running.mutation) else { return Ok(()) };
        if matches!(step, Step::Take { mutation, .. } if mutation == id) {
            return Ok(());
        }
        if step == Step::Done {
            return Err("the node is as it should be without it");
        }
        if !self.set.may_still_come(id, node.state, node.facts) {
            return Err("what it needs no longer holds");
        }
        let after = self.set.after(id, state, node.facts);
        match (step, self.plan(at, after)) {
            (_, Step::Done) => Ok(()),
            (Step::Take { cost_to_go, .. }, Step::Take { cost_to_go: rest, .. })
                if rest < cost_to_go =>
            {
                Ok(())
            }
            (Step::NoWay | Step::TooLarge, Step::Take { .. }) => Ok(()),
            _ => Err("it no longer leads to where the node should be"),
        }
    }
}
