//! What operators want, and the storms that only they can overrule.

use crate::storm::Turn;
use crate::{Command, Engine, Output, What};
use kraken_model::NodeId;
use kraken_plan::PolicyId;
use std::sync::Arc;

impl Engine {
    pub(crate) fn command(&mut self, command: Command, by: Arc<str>, out: &mut Vec<Output>) {
        let said = out.len();
        match command {
            Command::Hold { node } => self.hold(&node, by, out),
            Command::Release { node } => self.release(&node, by, out),
            Command::Freeze => self.freeze(by, out),
            Command::Thaw => self.thaw(by, out),
            Command::Retry { node } => self.retry(&node, by, out),
        }
        if !self.is_started {
            // A hold or a freeze from before a restart was journalled when it was made.
            out.truncate(said);
        }
    }

    fn hold(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        if node.held_by.is_none() {
            node.held_by = Some(Arc::clone(&by));
            self.note_by(Some(id), What::Held, by, None, out);
            self.reconsider(at, out);
        }
    }

    fn release(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        let was_held = node.held_by.take().is_some();
        let lost_at = node.lost_at.take();
        if let Some(lost_at) = lost_at {
            node.passes_storm = true;
            self.losses.regain(lost_at, at);
        }
        if was_held || lost_at.is_some() {
            self.note_by(Some(id), What::Released, by, None, out);
            self.reconsider(at, out);
        }
    }

    fn freeze(&mut self, by: Arc<str>, out: &mut Vec<Output>) {
        if self.frozen_by.is_none() {
            self.frozen_by = Some(Arc::clone(&by));
            self.note_by(None, What::Frozen, by, None, out);
            self.is_sweep_due = true;
        }
    }

    fn thaw(&mut self, by: Arc<str>, out: &mut Vec<Output>) {
        let was_frozen = self.frozen_by.take().is_some();
        let was_storm = self.losses.is_active();
        if !was_frozen && !was_storm {
            return;
        }
        self.note_by(None, What::Thawed, Arc::clone(&by), None, out);
        if was_storm {
            let (lost, nodes) = (self.losses.count(), self.nodes.len());
            self.losses.forgive();
            for node in self.nodes.iter_mut() {
                node.lost_at = None;
            }
            self.note_by(None, What::StormOver { lost, nodes }, by, None, out);
        }
        self.is_sweep_due = true;
    }

    fn retry(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id) else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        if node.troubles.take().is_some() {
            node.policy = PolicyId::NONE;
            self.note_by(Some(id), What::Retried, by, None, out);
            self.reconsider(at, out);
        }
    }

    fn known(&mut self, id: &NodeId) -> Option<u32> {
        let at = self.nodes.find(id);
        self.counters.unknown_nodes += u64::from(at.is_none());
        at
    }

    pub(crate) fn judge_storm(&mut self, out: &mut Vec<Output>) {
        let nodes = self.nodes.len();
        let Some(turn) = self.losses.judge(self.now, nodes, &self.settings.storm) else { return };
        let lost = self.losses.count();
        let what = match turn {
            Turn::Began => What::StormHold { lost, nodes },
            Turn::Ended => What::StormOver { lost, nodes },
        };
        if turn == Turn::Ended {
            for node in self.nodes.iter_mut() {
                node.passes_storm = false;
            }
        }
        self.note(None, what, None, out);
        self.is_sweep_due = true;
    }
}
