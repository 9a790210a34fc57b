//! The parent's process: an engine, a sync parent and a token book, driven as the runtime drives
//! them (crate `kraken`: its turn, its sync module, its checkpoint), in virtual time.

use crate::agent::RETRY_CAP;
use crate::application::Application;
use crate::brain::Brain;
use crate::desk::{RUN_STATE, silence};
use crate::fleet::{Event, Fleet, number};
use crate::per_node::PerNode;
use crate::plant::Bug;
use kraken_engine::{Command, DispatchId, Engine, Input, Output, Settings};
use kraken_model::{Change, Document, Millis, Side as Doc};
use kraken_plan::MutationId;
use kraken_sync::{Parent, ParentInput, ParentSettings, TokenBook};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The name of the sync module, whose steps are carried out here.
pub(crate) const SYNC: &str = "sync";

/// How often it is looked whether nodes that the engine lost track of are heard.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How old a checkpoint may get.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How long the runtime lets a join take.
pub(crate) const JOIN_WITHIN: Duration = Duration::from_secs(15);

/// How long a commit takes until whoever asked for it is told.
const COMMIT: Duration = Duration::from_millis(5);

/// After how many hellos without an answer a node joins again, on a path that loses a lot.
const MOST_HELLOS: u32 = 12;

/// How much longer than the least a neighbour's silence may be.
pub(crate) const PATIENCE: u64 = 8;

/// Room for more outputs of one step is not kept.
const MANY_OUTPUTS: usize = 1_024;

/// An order that a module is carrying out.
pub(crate) struct Running {
    pub(crate) id: DispatchId,
    pub(crate) module: Arc<str>,
}

/// One run of the parent.
pub(crate) struct Process {
    pub(crate) engine: Brain,
    pub(crate) sync: Parent,
    pub(crate) book: TokenBook,
    /// What every node last said of itself.
    pub(crate) said: PerNode<Document>,
    /// Nodes with a session that the engine does not know to be in touch, and since when.
    pub(crate) unsure: BTreeMap<usize, Millis>,
    pub(crate) adopt_until: Option<Millis>,
    /// What modules are carrying out.
    pub(crate) running: PerNode<Running>,
    /// What was kept is being read: modules begin to look when all of it is there.
    is_loading: bool,
    /// Nodes whose documents changed since the last checkpoint.
    dirty: BTreeSet<usize>,
    wake_at: Option<Millis>,
    /// How many times each module crashed, and which are down.
    pub(crate) module_lives: Vec<u32>,
    pub(crate) down: Vec<Arc<str>>,
    /// For a planted bug: what each node said before.
    pub(crate) repeated: HashMap<usize, Vec<Change>>,
}

impl<A: Application> Fleet<A> {
    /// What was kept is read, nodes that were known are adopted, modules begin to look.
    pub(crate) fn start_parent(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.start_parent_with(|settings, fleet| {
            let (set, registry) = (Arc::clone(&fleet.set), Arc::clone(&fleet.registry));
            Brain::Here(Box::new(Engine::new(settings, set, registry)))
        });
    }

    /// The same, with this engine.
    pub(crate) fn start_parent_with(&mut self, engine: impl FnOnce(Settings, &Self) -> Brain) {
        self.lives += 1;
        self.disk.epoch += 1;
        let mut settings = self.app.settings(self.disk.epoch);
        settings.seed = self.plan.seed ^ self.disk.epoch;
        if let Some(bug) = self.plan.bug {
            bug.spoil(&mut settings);
        }
        let cadence = self.app.cadence();
        let sync = ParentSettings {
            hello_ms: millis(cadence.hello),
            silence: silence(cadence.silent),
            ..ParentSettings::default()
        };
        let patience = cadence.silent.max(cadence.hello * MOST_HELLOS);
        let window = patience + RETRY_CAP + JOIN_WITHIN * 2;
        self.process = Some(Box::new(Process {
            engine: engine(settings, self),
            sync: Parent::new(sync),
            book: TokenBook::import(self.disk.tokens.values().cloned()),
            said: PerNode::default(),
            unsure: BTreeMap::new(),
            adopt_until: Some(self.now.plus(window)),
            running: PerNode::default(),
            is_loading: true,
            dirty: BTreeSet::new(),
            wake_at: None,
            module_lives: vec![0; self.modules.len()],
            down: Vec::new(),
            repeated: HashMap::new(),
        }));
        let (epoch, nodes) = (self.disk.epoch, self.nodes.len());
        self.tell(|_| format!("the parent starts, epoch {epoch}"));
        let adopted = self.adopted();
        if let Some(checker) = &mut self.checker {
            checker.parent_starts(self.now, epoch, &adopted);
        }
        self.read_what_was_kept();
        if let Some(checker) = &mut self.checker {
            checker.loaded(self.now);
        }
        self.step(Input::Tick);
        if let Some(process) = &mut self.process {
            process.is_loading = false;
        }
        (0..nodes).for_each(|n| self.changed(n));
        for module in self.modules.clone() {
            for n in 0..nodes {
                self.ask(n, None, |app, machine, deeds| app.begin(machine, &module, deeds));
            }
        }
        self.queue.push(self.now.plus(LOOK_EVERY), Event::Look { life: self.lives });
    }

    fn read_what_was_kept(&mut self) {
        let by: Arc<str> = "start".into();
        for (n, cfg) in self.disk.cfg.clone().iter() {
            let node = self.nodes[n].id.clone();
            self.step(Input::Configure { node, cfg: Some(cfg.clone()), by: Arc::clone(&by) });
        }
        for (n, dsc) in self.disk.checkpoint.clone().iter() {
            let node = self.nodes[n].id.clone();
            if self.plan.bug == Some(Bug::AdoptionGuardOff) {
                for (path, value) in dsc.iter() {
                    let changes = vec![Change::set(path.clone(), value.clone())];
                    let by = A::writers(path).first().copied().unwrap_or("start").into();
                    self.step(Input::Discover { node: node.clone(), changes, by });
                }
            } else {
                self.step(Input::Restore { node, dsc: dsc.clone() });
            }
        }
        self.mark_again();
    }

    /// The parent is killed. What its modules asked machines for still happens.
    pub(crate) fn crash_parent(&mut self) {
        if let Some(process) = self.process.take() {
            self.orphans.extend(process.running.into_values().map(|running| running.id));
        }
        self.tell(|_| "the parent is dead".to_owned());
    }

    pub(crate) fn keep_tokens(&mut self) {
        let Some(process) = &mut self.process else { return };
        for record in process.book.take_changes() {
            self.disk.tokens.insert(number(&record.node), record);
        }
    }

    /// One step of the engine, and everything that follows from it.
    pub(crate) fn step(&mut self, input: Input) {
        self.step_as(input, None);
    }

    /// The same, for an answer that had this number when it was given.
    pub(crate) fn step_as(&mut self, input: Input, answered: Option<&DispatchId>) {
        let Some(process) = &mut self.process else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        process.engine.step(self.now, input, &mut outputs);
        if let Some(bug) = self.plan.bug {
            bug.spoil_outputs(&mut outputs);
        }
        if let Some(checker) = &mut self.checker {
            checker.outputs(self.now, answered, &outputs);
        }
        let mut changed = Vec::new();
        for output in outputs.drain(..) {
            self.fingerprint = mixed(self.fingerprint, self.now, &output);
            match output {
                Output::Dispatch(order) => self.dispatch(order),
                Output::Interrupt { id, .. } => self.interrupt(&id),
                Output::Changed { node, .. } => {
                    let n = number(&node);
                    if changed.last() != Some(&n) {
                        changed.push(n);
                    }
                }
                Output::Permitted { node } => {
                    self.judge_permission(number(&node));
                    changed.push(number(&node));
                }
                Output::Journal(entry) => {
                    self.marked(&entry, &mut changed);
                    if let Some(node) = &entry.node {
                        self.count_step(number(node), &entry, false);
                    }
                    self.tell(|_| {
                        let node = entry.node.as_ref().map_or("all", |node| node.as_str());
                        format!("{node}: {:?} by {}", entry.what, entry.by)
                    });
                }
                Output::Refused { .. } => {}
            }
        }
        // After a start there is one for every node, and never so many again.
        if self.outputs.capacity() == 0 && outputs.capacity() <= MANY_OUTPUTS {
            self.outputs = outputs;
        }
        for n in changed {
            self.changed(n);
        }
        self.plan_wake();
    }

    /// What a node may do by itself has changed; if it may do something now, that is disruptive.
    fn judge_permission(&mut self, n: usize) {
        let Some(process) = &self.process else { return };
        let permitted = process.engine.node(&self.nodes[n].id).and_then(|view| view.permitted);
        if let Some(id) = permitted.and_then(|name| self.set.mutation_named(name)) {
            self.judge_disruption(n, id);
        }
    }

    /// A disruptive step is ordered, or permitted: is that right, with the machine as it is?
    pub(crate) fn judge_disruption(&mut self, n: usize, step: MutationId) {
        let health = self.checker.is_some().then(|| self.health(n));
        if let Some((checker, health)) = self.checker.as_mut().zip(health) {
            checker.disrupts(self.now, n, step, health);
        }
    }

    /// Something found out by a module, or by a person.
    pub(crate) fn found(&mut self, n: usize, changes: Vec<Change>, by: Arc<str>) {
        if self.process.is_none() || changes.is_empty() {
            return;
        }
        if let Some(checker) = &mut self.checker {
            checker.observed(n, &changes);
        }
        let node = self.nodes[n].id.clone();
        self.step(Input::Discover { node, changes, by });
    }

    /// What is known of a node, or wanted of it, has changed: whoever watches is told.
    pub(crate) fn changed(&mut self, n: usize) {
        let now = self.now;
        let id = self.nodes[n].id.clone();
        let Some(process) = self.process.as_mut().filter(|process| !process.is_loading) else {
            return;
        };
        if process.dirty.is_empty() {
            let life = self.lives;
            self.queue.push(now.plus(CHECKPOINT_EVERY), Event::Checkpoint { life });
        }
        process.dirty.insert(n);
        let Some(view) = process.engine.node(&id) else { return };
        let dsc = view.dsc.clone();
        if dsc.text(RUN_STATE) == Some("SYNC") {
            process.unsure.remove(&n);
        } else if process.sync.child(&id).is_some_and(|child| child.heard) {
            process.unsure.entry(n).or_insert(now);
        }
        let document = process.cfg_for(&self.app, &id);
        self.sync_step(ParentInput::Cfg { node: id, document });
        self.ask(n, None, |app, machine, deeds| app.changed(machine, &dsc, deeds));
    }

    /// A command that is durable.
    pub(crate) fn command_kept(&mut self, command: Command) {
        let command = match self.plan.bug {
            Some(bug) => bug.spoil_command(command),
            None => Some(command),
        };
        if let Some(command) = command {
            self.step(Input::Command { command, by: "operator".into() });
        }
    }

    /// A person wants something of a node: durable first.
    pub(crate) fn write(&mut self, n: usize, cfg: Document) {
        if self.process.is_none() {
            return;
        }
        let (now, life) = (self.now, self.lives);
        let mut commit = COMMIT;
        if self.plan.bug == Some(Bug::AcknowledgedTooEarly) {
            commit = Duration::from_secs(30);
            if let Some(checker) = &mut self.checker {
                checker.written(n, &cfg);
                checker.acknowledged(now, n, &cfg);
            }
        } else {
            self.disk.cfg.insert(n, cfg.clone());
            if let Some(checker) = &mut self.checker {
                checker.written(n, &cfg);
            }
        }
        self.queue.push(now.plus(commit), Event::Apply { life, node: n, cfg });
    }

    pub(crate) fn apply(&mut self, life: u32, n: usize, cfg: Document) {
        if life != self.lives || self.process.is_none() {
            return;
        }
        if self.plan.bug == Some(Bug::AcknowledgedTooEarly) {
            self.disk.cfg.insert(n, cfg.clone());
        } else if let Some(checker) = &mut self.checker {
            checker.acknowledged(self.now, n, &cfg);
        }
        let node = self.nodes[n].id.clone();
        self.nodes[n].touched = self.now;
        self.step(Input::Configure { node, cfg: Some(cfg), by: "operator".into() });
    }

    pub(crate) fn checkpoint(&mut self, life: u32) {
        let Some(process) = &mut self.process else { return };
        if life != self.lives {
            return;
        }
        for n in std::mem::take(&mut process.dirty) {
            self.keep_discovered(n);
        }
    }

    pub(crate) fn keep_discovered(&mut self, n: usize) {
        let Some(process) = &self.process else { return };
        if let Some(view) = process.engine.node(&self.nodes[n].id) {
            self.disk.checkpoint.insert(n, view.dsc.clone());
        }
    }

    /// Plans to be woken when the engine or sync wants it.
    pub(crate) fn plan_wake(&mut self) {
        let Some(process) = &mut self.process else { return };
        let wanted = [process.engine.next_deadline(), process.sync.next_deadline()];
        let Some(at) = wanted.into_iter().flatten().min() else { return };
        if process.wake_at.is_none_or(|planned| at < planned) {
            process.wake_at = Some(at);
            self.queue.push(at.max(self.now), Event::ParentWake { life: self.lives });
        }
    }

    pub(crate) fn parent_wakes(&mut self, life: u32) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if life != self.lives || process.wake_at.is_none_or(|at| at > now) {
            return;
        }
        process.wake_at = None;
        let is_due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        let sync_is_due = is_due(process.sync.next_deadline());
        if is_due(process.engine.next_deadline()) {
            self.step(Input::Tick);
        }
        if sync_is_due {
            self.sync_step(ParentInput::Tick);
        }
        self.plan_wake();
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / PATIENCE)
}

/// A running number over everything that the engine says.
fn mixed(before: u64, now: Millis, output: &Output) -> u64 {
    let (kind, node, more) = match output {
        Output::Dispatch(order) => (
            1,
            number(&order.node),
            u64::from(order.id.attempt) << 16 | u64::from(order.mutation.0),
        ),
        Output::Interrupt { id, .. } => (2, number(&id.node), u64::from(id.attempt)),
        Output::Journal(entry) => (3, entry.node.as_ref().map_or(0, number), 0),
        Output::Changed { node, side, changes } => {
            (4 + u64::from(*side == Doc::Cfg), number(node), changes.len() as u64)
        }
        Output::Refused { node, .. } => (6, number(node), 0),
        Output::Permitted { node } => (7, number(node), 0),
    };
    let word = now.0 ^ kind << 56 ^ (node as u64) << 32 ^ more;
    (before ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
