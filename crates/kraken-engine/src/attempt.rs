//! One attempt at one step: how it begins, and the four ways in which it ends.

use crate::backoff::{Trouble, pause};
use crate::node::{LastDone, Outdated, Running, Troubles};
use crate::{Cause, DispatchId, Engine, Failure, Order, Output, What};
use kraken_model::{Change, Millis};
use kraken_plan::{MutationId, PolicyId};
use std::sync::Arc;
use std::time::Duration;

/// What a failure led to.
struct Consequence {
    failures: u32,
    retry_at: Option<Millis>,
}

impl Engine {
    /// Begins an attempt; says until when it may take. Of a step that the node itself takes this is the
    /// permission.
    pub(crate) fn dispatch(
        &mut self,
        at: u32,
        mutation: MutationId,
        cost_to_go: Duration,
        gates: Box<[u32]>,
        out: &mut Vec<Output>,
    ) -> Millis {
        let declared = self.set.mutation(mutation);
        let (began, deadline) = (self.now, self.now.plus(declared.timeout));
        let is_recovery = self.nodes.get(at).is_some_and(|node| self.is_recovery(node, mutation));
        let Some(node) = self.nodes.get_mut(at) else { return deadline };
        node.attempts = node.attempts.wrapping_add(1);
        let attempt = node.attempts;
        let outdated = Outdated::No;
        let answered = false;
        let running =
            Running { mutation, attempt, began, deadline, answered, outdated, is_recovery, gates };
        node.running = Some(Box::new(running));
        self.in_flight += 1;
        self.counters.dispatched += 1;
        let (node, cfg, dsc) = (node.id.clone(), node.cfg.clone(), node.dsc.clone());
        let what = What::Dispatched { mutation: Arc::clone(&declared.name), attempt, deadline };
        let cost_to_go_ms = u64::try_from(cost_to_go.as_millis()).unwrap_or(u64::MAX);
        // In this order, what is in the journal may not have happened, but nothing happens that is
        // not in the journal.
        self.note(Some(&node), what, Some(Cause::Plan { cost_to_go_ms }), out);
        self.recount(at);
        if self.is_permitted_by_us(mutation) {
            out.push(Output::Permitted { node });
            return deadline;
        }
        let id = self.dispatch_id(&node, attempt);
        out.push(Output::Dispatch(Order { id, mutation, node, cfg, dsc, deadline }));
        deadline
    }

    /// Its effects are there.
    pub(crate) fn done(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(running) = self.end(at, out) else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        if let Some(troubles) = &mut node.troubles {
            node.policy = PolicyId::NONE;
            troubles.list.retain(|trouble| trouble.mutation != running.mutation);
            if troubles.list.is_empty() {
                node.troubles = None;
            }
        }
        let (id, kind) = (node.id.clone(), node.kind);
        let took = self.now.since(running.began);
        let declared = Arc::clone(self.set.mutation(running.mutation));
        let (mutation, number, at) = (running.mutation, at, self.now);
        let repeats = node.last.filter(|last| last.did_not_last(mutation, at, &declared.retry));
        let repeats = repeats.map_or(0, |last| last.repeats.saturating_add(1));
        node.last = Some(LastDone { mutation, at, repeats });
        self.learned.done(kind, running.mutation, took, declared.cost);
        let what = What::Done {
            mutation: Arc::clone(&declared.name),
            attempt: running.attempt,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.note(Some(&id), what, None, out);
        if running.is_recovery {
            self.recovered(number, out);
        }
    }

    /// It is to be dropped.
    pub(crate) fn interrupt(&mut self, at: u32, reason: &str, out: &mut Vec<Output>) {
        let Some(running) = self.end_unseen(at, out) else { return };
        let Some(node) = self.nodes.get(at) else { return };
        let id = self.dispatch_id(&node.id, running.attempt);
        let what = What::Interrupted {
            mutation: Arc::clone(&self.set.mutation(running.mutation).name),
            attempt: running.attempt,
            reason: reason.into(),
        };
        self.note(Some(&id.node), what, None, out);
        self.call_off(id, running.mutation, reason, out);
    }

    /// A module has answered.
    pub(crate) fn finished(
        &mut self,
        id: &DispatchId,
        result: Result<(), Failure>,
        out: &mut Vec<Output>,
    ) {
        match (result, self.under_way(id)) {
            (_, None) => self.counters.late_answers += 1,
            (Err(failure), Some((at, _))) => self.failed(at, failure, out),
            (Ok(()), Some((at, running))) => {
                running.answered = true;
                if running.outdated != Outdated::No {
                    self.reconsider(at, out);
                }
            }
        }
    }

    /// Nobody has it in hand any more.
    pub(crate) fn abandoned(&mut self, id: &DispatchId, reason: &str, out: &mut Vec<Output>) {
        if let Some((at, _)) = self.under_way(id) {
            self.interrupt(at, reason, out);
            self.reconsider(at, out);
        }
    }

    /// An attempt, when it is the one that is under way on its node.
    fn under_way(&mut self, id: &DispatchId) -> Option<(u32, &mut Running)> {
        let at = self.nodes.find(&id.node).filter(|_| id.epoch == self.settings.epoch)?;
        let running = self.nodes.get_mut(at)?.running.as_deref_mut();
        Some((at, running.filter(|running| running.attempt == id.attempt)?))
    }

    /// Its module could not take it.
    fn failed(&mut self, at: u32, failure: Failure, out: &mut Vec<Output>) {
        let Some(running) = self.end_unseen(at, out) else { return };
        let Some(id) = self.nodes.get(at).map(|node| node.id.clone()) else { return };
        let reason: Arc<str> = failure.reason.into();
        let Consequence { failures, retry_at } =
            self.blame(at, &running, Arc::clone(&reason), failure.permanent);
        let mutation = Arc::clone(&self.set.mutation(running.mutation).name);
        let attempt = running.attempt;
        let what = What::Failed { mutation, attempt, reason, failures, retry_at };
        self.note(Some(&id), what, None, out);
        self.reconsider(at, out);
    }

    /// The time has come that a node was to be looked at again.
    pub(crate) fn time_is_up(&mut self, at: u32, out: &mut Vec<Output>) {
        let running = self.nodes.get(at).and_then(|node| node.running.as_ref());
        if running.is_some_and(|running| running.deadline <= self.now) {
            self.timed_out(at, out);
        }
        self.reconsider(at, out);
    }

    /// Its effects were not discovered in time.
    fn timed_out(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(running) = self.end_unseen(at, out) else { return };
        let Some(id) = self.nodes.get(at).map(|node| node.id.clone()) else { return };
        let Running { mutation, attempt, answered, .. } = *running;
        let declared = Arc::clone(self.set.mutation(mutation));
        let reason = if answered {
            "its module said it was done, but that was not discovered in time"
        } else {
            "its effects were not discovered in time"
        };
        let Consequence { failures, retry_at } = self.blame(at, &running, reason.into(), false);
        let name = Arc::clone(&declared.name);
        let what = What::TimedOut { mutation: name.clone(), attempt, answered, failures, retry_at };
        self.note(Some(&id), what, None, out);
        let id = self.dispatch_id(&id, attempt);
        self.call_off(id, mutation, "its time is over", out);
        if let Some(fallback) = &declared.on_timeout {
            let change = Change::set(fallback.variable.clone(), Arc::clone(&fallback.value));
            self.conclude(at, change, Cause::Attempt { mutation: name, attempt }, out);
        }
    }

    /// Tells the module that takes a step to drop it. A node that takes it by itself is told by the end of
    /// its permission not to begin.
    fn call_off(&self, id: DispatchId, mutation: MutationId, reason: &str, out: &mut Vec<Output>) {
        if !self.is_permitted_by_us(mutation) {
            out.push(Output::Interrupt { id, mutation, reason: reason.to_owned() });
        }
    }

    /// Ends what is under way on a node, and gives back its places.
    fn end(&mut self, at: u32, out: &mut Vec<Output>) -> Option<Box<Running>> {
        let node = self.nodes.get_mut(at)?;
        let (running, id) = (node.running.take()?, node.id.clone());
        if self.is_permitted_by_us(running.mutation) {
            out.push(Output::Permitted { node: id });
        }
        self.in_flight -= 1;
        self.gates.leave(&running.gates);
        self.recount(at);
        Some(running)
    }

    /// Ends what is under way without its effects having been seen. It may have had them all the
    /// same, or may have them yet: what was known before is no longer good enough to disrupt anybody.
    fn end_unseen(&mut self, at: u32, out: &mut Vec<Output>) -> Option<Box<Running>> {
        let node = self.nodes.get_mut(at)?;
        let mutation = node.running.as_ref()?.mutation;
        let doubted = self.set.doubted_after(mutation) & self.set.known(node.state);
        node.doubt |= doubted;
        if self.set.mutation(mutation).disruptive {
            // Before its places are given back: another node would be taken at once.
            node.shaken |= doubted;
        }
        self.end(at, out)
    }

    /// Remembers a failure: the mutation gets dearer on this node, so that another way is taken if
    /// there is one, and is ruled out when it has failed too often.
    fn blame(
        &mut self,
        at: u32,
        running: &Running,
        reason: Arc<str>,
        is_permanent: bool,
    ) -> Consequence {
        let mutation = running.mutation;
        let declared = Arc::clone(self.set.mutation(mutation));
        let retry = declared.retry;
        let kind = self.nodes.get(at).map(|node| node.kind).unwrap_or_default();
        let took = self.now.since(running.began);
        self.learned.failed(kind, mutation, took, declared.cost);
        let Some(node) = self.nodes.get_mut(at) else {
            return Consequence { failures: 0, retry_at: None };
        };
        node.policy = PolicyId::NONE;
        let Troubles { list } = &mut **node.troubles.get_or_insert_default();
        let index = list.iter().position(|trouble| trouble.mutation == mutation);
        let index = index.unwrap_or_else(|| {
            list.push(Trouble {
                mutation,
                failures: 0,
                reason: Arc::clone(&reason),
                retry_at: None,
            });
            list.len() - 1
        });
        let trouble = &mut list[index];
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.reason = reason;
        let failures = trouble.failures;
        let pause = pause(&retry, failures);
        if is_permanent || retry.limit.is_some_and(|limit| failures >= limit) {
            trouble.retry_at = None;
        } else {
            trouble.retry_at = Some(self.now.plus(self.jitter.of(pause)));
        }
        Consequence { failures, retry_at: trouble.retry_at }
    }
}
