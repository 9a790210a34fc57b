//! The parent's sync module: what the sessions of its nodes say, and what that means.

use crate::application::Application;
use crate::brain::Brain;
use crate::fleet::{Event, Fleet, number};
use crate::parent::{LOOK_EVERY, PATIENCE, Process, SYNC, millis};
use crate::plant::Bug;
use kraken_engine::permitted;
use kraken_model::{Change, Document, NodeId, Path};
use kraken_sync::{ParentInput, ParentOutput, Silence};
use std::sync::Arc;
use std::time::Duration;

/// Where it stands whether a node is in touch.
pub(crate) const RUN_STATE: &str = "run_state";

/// After how many hellos without an answer, at the least, a node joins again.
const REJOIN_AFTER_HELLOS: u32 = 5;

impl<A: Application> Fleet<A> {
    /// One step of sync, and everything that follows from it.
    pub(crate) fn sync_step(&mut self, input: ParentInput<'_>) -> Vec<ParentOutput> {
        let Some(process) = &mut self.process else { return Vec::new() };
        let mut outputs = Vec::new();
        process.sync.step(self.now, input, &mut outputs);
        // That a node is heard comes first: what it says can be known only then.
        if outputs.len() > 1 {
            outputs.sort_by_key(|output| !matches!(output, ParentOutput::Heard { .. }));
        }
        for output in &outputs {
            self.sync_said(output);
        }
        self.plan_wake();
        outputs
    }

    pub(crate) fn sync_said(&mut self, output: &ParentOutput) {
        match output {
            ParentOutput::Send { to, bytes } => self.send_to_node(*to, bytes),
            ParentOutput::Heard { node } => self.heard(number(node)),
            ParentOutput::Discovered { node, changes, whole } => {
                self.node_said(number(node), changes.clone(), *whole);
            }
            ParentOutput::Silent { node, .. } => {
                if self.plan.bug != Some(Bug::SilenceUnheard) {
                    self.say(number(node), vec![state("ERROR")]);
                }
            }
            ParentOutput::Left { node } => self.say(number(node), vec![state("INIT")]),
            ParentOutput::Log { node, stream, lines } => {
                // Here nobody reads it.
                let engine = self.process.as_mut().map(|process| &mut process.engine);
                if let Some(mirror) = engine.and_then(Brain::mirror_mut) {
                    mirror.print(node.clone(), stream, lines);
                }
            }
            ParentOutput::LogLost { .. }
            | ParentOutput::CfgTooLarge { .. }
            | ParentOutput::Refused { .. } => {}
        }
    }

    /// A node is heard for the first time, or again after its silence: that disproves some of what
    /// was concluded from it.
    fn heard(&mut self, n: usize) {
        let Some(process) = &self.process else { return };
        let Some(view) = process.engine.node(&self.nodes[n].id) else { return };
        let disproved = self.app.disproved();
        let disproved = disproved
            .iter()
            .filter(|effect| view.dsc.text(effect.variable.as_str()) == Some(effect.from.as_ref()));
        let changes = disproved.map(|e| Change::set(e.variable.clone(), Arc::clone(&e.to)));
        self.say(n, changes.collect());
        self.in_touch(n);
    }

    fn in_touch(&mut self, n: usize) {
        let Some(process) = &self.process else { return };
        let mut changes = vec![state("SYNC")];
        let said = process.said.get(n).map(Document::iter).into_iter().flatten();
        changes.extend(said.map(|(path, value)| Change::set(path.clone(), value.clone())));
        self.say(n, changes);
    }

    fn node_said(&mut self, n: usize, changes: Vec<Change>, whole: bool) {
        if let Some(checker) = &mut self.checker {
            checker.node_said(self.now, n, &changes, whole);
        }
        let trusts = self.plan.bug == Some(Bug::NodeSpeaksForOthers);
        let app = &self.app;
        let owns = |path: &Path| trusts || app.node_owns(path);
        let mut taken: Vec<Change> = changes.into_iter().filter(|c| owns(&c.path)).collect();
        let Some(process) = &mut self.process else { return };
        if whole {
            // What an earlier boot or agent said, and this one does not, is no longer so.
            let dsc = process.engine.node(&self.nodes[n].id).map(|view| view.dsc.clone());
            let dsc = dsc.unwrap_or_default();
            let gone = dsc.iter().filter(|(path, _)| app.node_owns(path));
            let gone = gone.filter(|(path, _)| taken.iter().all(|c| c.path != **path));
            let gone: Vec<Change> = gone.map(|(path, _)| Change::remove(path.clone())).collect();
            process.said.remove(n);
            taken.extend(gone);
        }
        process.said.or_insert_with(n, Document::new).apply(&taken);
        self.say(n, taken);
    }

    fn say(&mut self, n: usize, changes: Vec<Change>) {
        self.found(n, changes, SYNC.into());
    }

    /// Tells the engine of nodes that it lost track of and that were heard since; and, once, of
    /// those that were in touch before the start and did not come back.
    pub(crate) fn look(&mut self, life: u32) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if life != self.lives {
            return;
        }
        let (sync, nodes) = (&process.sync, &self.nodes);
        let is_heard = |n: &usize| sync.child(&nodes[*n].id).filter(|child| child.heard);
        let heard_since = process
            .unsure
            .iter()
            .filter(|(n, since)| is_heard(n).is_some_and(|child| child.last_heard > **since));
        let heard_since: Vec<usize> = heard_since.map(|(n, _)| *n).collect();
        for n in heard_since {
            if let Some(process) = &mut self.process {
                process.unsure.remove(&n);
            }
            self.heard(n);
        }
        let Some(process) = &mut self.process else { return };
        if process.adopt_until.is_some_and(|until| until <= now) {
            process.adopt_until = None;
            let (sync, engine) = (&process.sync, &process.engine);
            let said = |n: usize| {
                let id = &self.nodes[n].id;
                let is_lost = sync.child(id).is_none_or(|child| !child.heard);
                match engine.node(id).filter(|_| is_lost)?.dsc.text(RUN_STATE)? {
                    "SYNC" => Some((n, state("ERROR"))),
                    other => Some((n, state(other))),
                }
            };
            let lost: Vec<(usize, Change)> = (0..self.nodes.len()).filter_map(said).collect();
            for (n, state) in lost {
                self.say(n, vec![state]);
            }
        }
        self.queue.push(now.plus(LOOK_EVERY), Event::Look { life });
    }

    /// The silence after which a node gives up its parent.
    pub(crate) fn child_silence(&self) -> Silence {
        silence(self.app.cadence().hello * REJOIN_AFTER_HELLOS)
    }
}

impl Process {
    /// What a node is told to be, and which disruptive step it may take.
    pub(crate) fn cfg_for<A: Application>(&self, app: &A, id: &NodeId) -> Document {
        let Some(view) = self.engine.node(id) else { return Document::new() };
        let mut told = app.told(view.wanted.clone(), view.dsc, view.is_held);
        if let Some(step) = view.permitted {
            told.set(permitted(&app.permitted_under(), step), true);
        }
        told
    }

    /// A node is taken away.
    pub(crate) fn forget(&mut self, n: usize) {
        self.said.remove(n);
        self.unsure.remove(&n);
        self.running.remove(n);
    }
}

fn state(value: &str) -> Change {
    Change::set(Path::known(RUN_STATE), value)
}

pub(crate) fn silence(least: Duration) -> Silence {
    let min_ms = millis(least);
    Silence { min_ms, max_ms: min_ms.saturating_mul(PATIENCE) }
}
