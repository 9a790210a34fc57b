//! Restarts: a node is off once, and then what its cfg wants again. An intent like any other: it waits for
//! limits, holds and freezes, and can be withdrawn for as long as the node is not off.

use crate::{Cause, Engine, Mark, MarkKind, Output, What};
use kraken_model::{Document, NodeId};
use kraken_plan::{PolicyId, Restart};
use std::sync::Arc;

impl Engine {
    /// What is wanted of a node now, when this is its cfg.
    pub(crate) fn wanted_now(&self, at: u32, cfg: &Document) -> Option<Document> {
        let mark = self.nodes.get(at)?.marks().restart.as_ref()?;
        Some(self.settings.restart.as_ref()?.passing(cfg, mark.terms.hard))
    }

    pub(crate) fn restart(&mut self, id: &NodeId, mark: Mark, out: &mut Vec<Output>) {
        let Some(at) = self.known(id).filter(|_| self.settings.restart.is_some()) else { return };
        if self.mark(at, MarkKind::Restart, &mark) {
            self.note_by(Some(id), What::RestartAsked { terms: mark.terms }, mark.by, None, out);
            self.want_anew(at, out);
        }
    }

    pub(crate) fn withdraw_restart(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        if self.unmark(at, MarkKind::Restart).is_some() {
            self.note_by(Some(id), What::RestartWithdrawn, by, None, out);
            self.want_anew(at, out);
        }
    }

    /// The time of a restart was over before the node was off.
    pub(crate) fn restart_expired(&mut self, at: u32, cause: Option<Cause>, out: &mut Vec<Output>) {
        let Some(id) = self.nodes.get(at).map(|node| node.id.clone()) else { return };
        self.note(Some(&id), What::RestartWithdrawn, cause, out);
        self.want_anew(at, out);
    }

    /// Ends a restart whose node is off: from here on its cfg counts again.
    pub(crate) fn judge_restart(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get(at).filter(|node| node.base.is_some()) else { return };
        let Some(Restart { off: (path, off), .. }) = &self.settings.restart else { return };
        let is_stale = node.stale != 0 && self.stale_paths(at).contains(path);
        let variable = self.set.variable(path.as_str());
        if is_stale || variable.is_none_or(|variable| variable.value(node.state) != off) {
            return;
        }
        let id = node.id.clone();
        if self.unmark(at, MarkKind::Restart).is_some() {
            self.note(Some(&id), What::Restarted, None, out);
            self.rewish(at, out);
        }
    }

    fn want_anew(&mut self, at: u32, out: &mut Vec<Output>) {
        self.rewish(at, out);
        self.reconsider(at, out);
    }

    /// Goes over to what is wanted now, after a restart was asked for or has ended. Failures count on: what they
    /// were about is the same machine.
    fn rewish(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get(at) else { return };
        let (id, before, cfg) = (node.id.clone(), node.state, node.configured().clone());
        let now = self.wanted_now(at, &cfg);
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.base = now.is_some().then(|| Box::new(cfg.clone()));
        node.cfg = now.unwrap_or(cfg);
        node.goal = self.set.goal(&node.cfg);
        node.policy = PolicyId::NONE;
        let forgotten = self.refresh(at, before, true);
        // What the node is told has changed.
        out.push(Output::Permitted { node: id.clone() });
        self.say_forgotten(&id, &forgotten, out);
        self.watch_loss(at, before);
    }
}
