//! What operators want.

use crate::node::Standing;
use crate::timers::Timer;
use crate::{Cause, Command, Engine, InUse, Mark, MarkKind, Marks, Output, What};
use kraken_model::{Change, NodeId};
use kraken_plan::PolicyId;
use std::sync::Arc;

fn expired(mark: &Mark) -> Option<Cause> {
    let until = mark.terms.until?;
    Some(Cause::Expired { by: Arc::clone(&mark.by), until })
}

impl Engine {
    pub(crate) fn command(&mut self, command: Command, by: Arc<str>, out: &mut Vec<Output>) {
        let said = out.len();
        match command {
            Command::Hold { node, terms } => self.hold(&node, Mark { by, terms }, out),
            Command::Release { node } => self.release(&node, by, out),
            Command::Freeze { node: Some(node), terms } => {
                self.freeze_node(&node, Mark { by, terms }, out);
            }
            Command::Freeze { node: None, terms } => self.freeze(Mark { by, terms }, out),
            Command::Thaw { node: Some(node) } => self.thaw_node(&node, by, out),
            Command::Thaw { node: None } => self.thaw(by, out),
            Command::Busy { node, terms } => self.busy(&node, Mark { by, terms }, out),
            Command::Free { node } => self.free(&node, by, out),
            Command::Restart { node, terms } => self.restart(&node, Mark { by, terms }, out),
            Command::WithdrawRestart { node } => self.withdraw_restart(&node, by, out),
            Command::Retry { node } => self.retry(&node, by, out),
            Command::TakeOver { node } => self.take_machine_over(&node, by, out),
        }
        if !self.is_started {
            // A hold or a freeze from before a restart was journalled when it was made.
            out.truncate(said);
        }
    }

    /// Makes a mark on a node, in place of an earlier one. Whether that is anything new.
    pub(crate) fn mark(&mut self, at: u32, kind: MarkKind, mark: &Mark) -> bool {
        let Some(node) = self.nodes.get_mut(at) else { return false };
        let place = node.marks.get_or_insert_default().of(kind);
        if place.as_ref() == Some(mark) {
            return false;
        }
        *place = Some(mark.clone());
        if let Some(until) = mark.terms.until {
            self.timers.push(until, Timer::Marks(at));
        }
        true
    }

    /// Takes a mark from a node, if it has it.
    pub(crate) fn unmark(&mut self, at: u32, kind: MarkKind) -> Option<Mark> {
        let node = self.nodes.get_mut(at)?;
        let mark = node.marks.as_mut()?.of(kind).take();
        if node.marks().is_empty() {
            node.marks = None;
        }
        mark
    }

    fn hold(&mut self, id: &NodeId, mark: Mark, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        if self.mark(at, MarkKind::Hold, &mark) {
            self.note_by(Some(id), What::Held { terms: mark.terms }, mark.by, None, out);
            self.reconsider(at, out);
        }
    }

    fn release(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let was_held = self.unmark(at, MarkKind::Hold).is_some();
        let was_lost = self.let_pass(at);
        if was_held || was_lost {
            self.note_by(Some(id), What::Released, by, None, out);
            self.reconsider(at, out);
        }
    }

    fn freeze_node(&mut self, id: &NodeId, mark: Mark, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        if self.mark(at, MarkKind::Freeze, &mark) {
            self.note_by(Some(id), What::Frozen { terms: mark.terms }, mark.by, None, out);
            self.reconsider(at, out);
        }
    }

    fn thaw_node(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let was_frozen = self.unmark(at, MarkKind::Freeze).is_some();
        // Of a whole rack that is known to be dead, people say that in one word.
        let is_stormy = self.nodes.get(at).is_some_and(|node| self.storm_on(node).is_some());
        let was_lost = is_stormy && self.let_pass(at);
        if was_frozen || was_lost {
            self.note_by(Some(id), What::Thawed, by, None, out);
            self.reconsider(at, out);
        }
    }

    fn freeze(&mut self, mark: Mark, out: &mut Vec<Output>) {
        if self.freeze.as_ref() == Some(&mark) {
            return;
        }
        if let Some(until) = mark.terms.until {
            self.timers.push(until, Timer::Freeze);
        }
        self.freeze = Some(mark.clone());
        self.note_by(None, What::Frozen { terms: mark.terms }, mark.by, None, out);
        self.is_sweep_due = true;
    }

    fn thaw(&mut self, by: Arc<str>, out: &mut Vec<Output>) {
        let was_frozen = self.freeze.take().is_some();
        let was_storm = self.domains.is_storm();
        if !was_frozen && !was_storm {
            return;
        }
        self.note_by(None, What::Thawed, Arc::clone(&by), None, out);
        if was_storm {
            self.forgive_storms(&by, out);
        }
        self.is_sweep_due = true;
    }

    fn busy(&mut self, id: &NodeId, mark: Mark, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let by = Arc::clone(&mark.by);
        if self.mark(at, MarkKind::Busy, &mark) {
            self.note_by(Some(id), What::Busy { terms: mark.terms }, mark.by, None, out);
        }
        let InUse { variable, busy, .. } = self.settings.in_use.clone();
        self.discover(at, vec![Change::set(variable, busy)], by, out);
    }

    fn free(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let InUse { variable, free, .. } = self.settings.in_use.clone();
        self.discover(at, vec![Change::set(variable, free)], by, out);
    }

    /// A node that is said to be free is not in use, whoever had said that it was.
    pub(crate) fn judge_use(&mut self, at: u32, by: &Arc<str>, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get(at).filter(|node| node.marks.is_some()) else { return };
        let InUse { variable, busy, .. } = &self.settings.in_use;
        if node.dsc.text(variable.as_str()) != Some(busy) {
            let id = node.id.clone();
            if self.unmark(at, MarkKind::Busy).is_some() {
                self.note_by(Some(&id), What::Free, Arc::clone(by), None, out);
            }
        }
    }

    /// Ends what operators said of a node until now.
    pub(crate) fn expire(&mut self, at: u32, out: &mut Vec<Output>) {
        let mut has_ended = false;
        for kind in Marks::KINDS {
            let Some(node) = self.nodes.get(at) else { return };
            let Some(mark) = node.marks().get(kind).filter(|m| m.terms.are_over(self.now)) else {
                continue;
            };
            let (id, cause) = (node.id.clone(), expired(mark));
            self.unmark(at, kind);
            has_ended = true;
            let what = match kind {
                MarkKind::Hold => What::Released,
                MarkKind::Freeze => What::Thawed,
                MarkKind::Busy => What::Free,
                MarkKind::Restart => {
                    self.restart_expired(at, cause, out);
                    continue;
                }
            };
            self.note(Some(&id), what, cause, out);
            if kind == MarkKind::Busy {
                self.free(&id, Arc::clone(&self.me), out);
            }
        }
        if has_ended {
            self.reconsider(at, out);
        }
    }

    /// Ends the freeze of everything, when it was to be until now. A storm is another matter.
    pub(crate) fn expire_freeze(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        if let Some(mark) = self.freeze.take_if(|mark| mark.terms.are_over(now)) {
            self.note(None, What::Thawed, expired(&mark), out);
            self.is_sweep_due = true;
        }
    }

    fn retry(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        let rests = node.last.take().is_some() && matches!(node.standing, Standing::Resting(_));
        let is_forgotten = node.troubles.take().is_some() || rests;
        node.policy = PolicyId::NONE;
        if self.grant_recovery(at, out) || is_forgotten {
            self.note_by(Some(id), What::Retried, by, None, out);
            self.reconsider(at, out);
        }
    }

    pub(crate) fn known(&mut self, id: &NodeId) -> Option<u32> {
        let at = self.nodes.find(id);
        self.counters.unknown_nodes += u64::from(at.is_none());
        at
    }
}
