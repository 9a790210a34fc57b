//! Machines that are found running: what runs on one that was not switched on from here, and is not
//! heard, is not ours to know, and not ours to end.

use crate::absorb::Said;
use crate::node::{Node, Standing};
use crate::status::Status;
use crate::timers::Timer;
use crate::{Engine, Output, What};
use kraken_model::{Change, Document, Millis, NodeId, Path};
use kraken_plan::{Guard, ModuleSet, State, Watched};
use std::sync::Arc;
use std::time::Duration;

/// The guard against taking over a machine on which somebody's work runs.
///
/// When one of `seen_by` sees power where nothing was known of it before, that is not taken for one of
/// `runs` but for `found`. From there only such mutations lead on as the application declares for it; what proves
/// that the machine is ours, or that nothing runs on it, is whatever else says otherwise of `variable`. For
/// as long as `patience` it is only waited: its node may be on its way back. What a person says of it is a
/// value of `claim`, which mutations may ask for.
#[derive(Clone, Debug)]
pub struct FoundRunning {
    /// The variable that says whether a machine has power.
    pub variable: Path,
    /// Its values for a machine on which something may run.
    pub runs: Vec<Arc<str>>,
    /// Its value for one that was found like that.
    pub found: Arc<str>,
    /// The modules that see power, and not what it is used for.
    pub seen_by: Vec<Arc<str>>,
    /// The variable that says how it is with such a machine. No mutation moves it.
    pub claim: Path,
    /// Its value while the node may still be heard.
    pub awaited: Arc<str>,
    /// Its value when a person said that the machine may be taken over.
    pub granted: Arc<str>,
    /// How long a node may take to come back that is in touch with another run of the application.
    pub patience: Duration,
    /// Holds for nodes whose machines are to be left alone, and about which nobody has to be asked.
    pub left: Guard,
}

impl FoundRunning {
    /// Whether a node's machine was found running, by what is known of the node.
    pub(crate) fn is_found(&self, dsc: &Document) -> bool {
        dsc.text(self.variable.as_str()) == Some(&self.found)
    }

    pub(crate) fn is_awaited(&self, dsc: &Document) -> bool {
        dsc.text(self.claim.as_str()) == Some(&self.awaited)
    }

    /// Makes what is seen of power what it means.
    fn judge(&self, dsc: &Document, changes: &mut [Change], by: &str) {
        if self.seen_by.iter().all(|module| **module != *by) {
            return;
        }
        let known = dsc.text(self.variable.as_str());
        let mut is_unknown = known.is_none_or(|known| *known == *self.found);
        for change in changes.iter_mut().filter(|change| change.path == self.variable) {
            let said = change.value.as_ref().and_then(|value| value.as_text());
            let runs = said.is_some_and(|said| self.runs.iter().any(|runs| **runs == *said));
            if is_unknown && runs {
                change.value = Some(Arc::clone(&self.found).into());
            }
            is_unknown &= runs;
        }
    }

    /// What is known of a node, as it is when it was waited for in vain.
    pub(crate) fn unheard(&self, set: &ModuleSet, dsc: &Document) -> State {
        let state = set.state(dsc);
        match set.watched(self.claim.as_str()).filter(|_| self.is_awaited(dsc)) {
            Some(Watched::Variable(claim)) => set.with(state, claim, None),
            _ => state,
        }
    }

    /// How it is with a node to which no way leads, when its machine was found running.
    pub(crate) fn status(&self, cfg: &Document, dsc: &Document) -> Option<Status> {
        if !self.is_found(dsc) {
            return None;
        }
        let is_left = self.left.holds(cfg, dsc);
        Some(if is_left { Status::LeftRunning } else { Status::FoundRunning })
    }
}

impl Engine {
    /// Makes what is seen of the power of a node what it means.
    pub(crate) fn judge_power(&self, at: u32, changes: &mut [Change], by: &str) {
        if let (Some(found), Some(node)) = (&self.settings.found_running, self.nodes.get(at)) {
            found.judge(&node.dsc, changes, by);
        }
    }

    pub(crate) fn was_found_running(&self, at: u32) -> bool {
        let found = self.settings.found_running.as_ref();
        let node = self.nodes.get(at);
        found.zip(node).is_some_and(|(found, node)| found.is_found(&node.dsc))
    }

    /// Begins to wait for a node whose machine was just found running, or ends all that was said of one that no longer
    /// counts as that.
    pub(crate) fn judge_claim(&mut self, at: u32, was_found: bool, out: &mut Vec<Output>) {
        let Some(found) = &self.settings.found_running else { return };
        let awaited = Arc::clone(&found.awaited);
        match (was_found, self.was_found_running(at)) {
            (false, true) => {
                self.claim(at, Some(awaited), Arc::clone(&self.me), out);
                self.await_node(at);
            }
            (true, false) => self.claim(at, None, Arc::clone(&self.me), out),
            _ => {}
        }
    }

    /// Waits for a node as long as it may take to come back, from now on, if it is waited for.
    pub(crate) fn await_node(&mut self, at: u32) {
        let Some(found) = &self.settings.found_running else { return };
        let Some(node) = self.nodes.get_mut(at).filter(|node| found.is_awaited(&node.dsc)) else {
            return;
        };
        let until = self.now.plus(found.patience);
        node.awaited_until = Some(until);
        self.timers.push(until, Timer::Found(at));
    }

    /// Its time is over: it has not come back, if it is still waited for.
    pub(crate) fn await_no_longer(&mut self, at: u32, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(at) else { return };
        if node.awaited_until.take_if(|until| *until <= now).is_none() {
            return;
        }
        let found = self.settings.found_running.as_ref();
        let node = self.nodes.get(at);
        if found.zip(node).is_some_and(|(found, node)| found.is_awaited(&node.dsc)) {
            self.claim(at, None, Arc::clone(&self.me), out);
            self.reconsider(at, out);
        }
    }

    /// A person says that the machine of a node may be taken over, whatever runs on it.
    pub(crate) fn take_machine_over(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.known(id).filter(|at| self.was_found_running(*at)) else { return };
        let Some(found) = &self.settings.found_running else { return };
        let granted = Arc::clone(&found.granted);
        let claim = found.claim.as_str();
        if self.nodes.get(at).is_some_and(|node| node.dsc.text(claim) == Some(&granted)) {
            return;
        }
        self.note_by(Some(id), What::TakenOver, Arc::clone(&by), None, out);
        self.claim(at, Some(granted), by, out);
        self.reconsider(at, out);
    }

    fn claim(&mut self, at: u32, value: Option<Arc<str>>, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(found) = &self.settings.found_running else { return };
        let path = found.claim.clone();
        let mut changes = vec![Change { path, value: value.map(Into::into) }];
        let sifted = self.sift(at, &mut changes, false);
        if !changes.is_empty() {
            self.absorb(at, changes, Said::of(&sifted, by), out);
        }
    }

    /// How a node stands to which no way leads, when its machine was found running, and when it has to be
    /// looked at again.
    pub(crate) fn stands_found(&self, node: &Node) -> Option<Standing> {
        let found = self.settings.found_running.as_ref()?;
        Some(match found.status(&node.cfg, &node.dsc)? {
            _ if found.is_awaited(&node.dsc) => Standing::Awaited,
            Status::LeftRunning => Standing::LeftRunning,
            _ => Standing::FoundRunning,
        })
    }

    pub(crate) fn awaited_status(&self, node: &Node) -> Status {
        let until = node.awaited_until.unwrap_or(Millis(0)).max(self.now);
        Status::Awaited { until }
    }
}
