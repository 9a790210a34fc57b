//! The engine: its state, its one entrance, and what can be read from it.

use crate::backoff::{Jitter, pause};
use crate::common::{Common, Sharing};
use crate::domains::Domains;
use crate::experience::Learned;
use crate::gates::Gates;
use crate::interner::Interner;
use crate::node::{NAMES, Node, STANDINGS, Standing};
use crate::table::Table;
use crate::timers::{Timer, Timers};
use crate::{Cause, DispatchId, Entry, Input, Lesson, Limit, Mark, Marks, Output, Settings, What};
use crate::{Storm, StormView};
use kraken_model::{Document, Millis, NodeId, Registry};
use kraken_plan::{Costs, ModuleSet, MutationId, PolicyCache, PolicyId, Step};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The engine.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: Arc<Settings>,
    pub(crate) set: Arc<ModuleSet>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) nodes: Table,
    pub(crate) policies: Sharing<PolicyCache>,
    /// What mutations cost where nothing failed.
    pub(crate) learned: Learned,
    pub(crate) timers: Timers,
    pub(crate) gates: Gates,
    /// What was lost where.
    pub(crate) domains: Domains,
    pub(crate) jitter: Jitter,
    pub(crate) interner: Sharing<Interner>,
    /// The freeze of everything.
    pub(crate) freeze: Option<Mark>,
    pub(crate) is_started: bool,
    /// The domains whose storm has begun or ended, and whose nodes are to be looked at.
    pub(crate) storms_turned: Vec<u32>,
    /// Something changed that all nodes have to be looked at for.
    pub(crate) is_sweep_due: bool,
    pub(crate) now: Millis,
    pub(crate) by_standing: [u32; STANDINGS],
    pub(crate) in_flight: usize,
    pub(crate) counters: Counters,
    /// The name under which the engine itself acts.
    pub(crate) me: Arc<str>,
    /// The name under which it draws conclusions from silence.
    pub(crate) timeout: Arc<str>,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Inputs of every kind.
    pub inputs: u64,
    /// Answers to attempts that had ended, or of an earlier epoch.
    pub late_answers: u64,
    /// Values that did not fit the schemas.
    pub refused: u64,
    /// Inputs about nodes that there are not.
    pub unknown_nodes: u64,
    /// Values that were said of variables that cannot be known at present.
    pub not_knowable: u64,
    /// Steps that were dispatched.
    pub dispatched: u64,
}

/// The fleet in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many stand how, by the names that [`crate::Status`] has in JSON.
    pub by_status: BTreeMap<&'static str, usize>,
    /// How many steps are under way.
    pub in_flight: usize,
    /// Who froze everything disruptive, why, and until when.
    pub freeze: Option<Mark>,
    /// Whether anything disruptive is held because of a storm.
    pub storm: bool,
    /// The storms that last.
    pub storms: Vec<StormView>,
    /// How many nodes were lost lately.
    pub lost: usize,
    /// What was counted since the start.
    pub counters: Counters,
}

/// What can be read of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// Its name.
    pub id: &'a NodeId,
    /// What it should be.
    pub cfg: &'a Document,
    /// What is wanted of it now: its cfg, or until it is off what a restart wants.
    pub wanted: &'a Document,
    /// What is known of it. A variable that is absent is unknown.
    pub dsc: &'a Document,
    /// What the engine does about it, by the name that [`crate::Status`] has in JSON.
    pub status: &'static str,
    /// The step that is under way, next or waited for.
    pub mutation: Option<&'a Arc<str>>,
    /// Since when.
    pub since: Millis,
    /// What operators say of it. The freeze of everything is in [`Summary`].
    pub marks: &'a Marks,
    /// The disruptive step that the node may take by itself now: on its own it takes none.
    pub permitted: Option<&'a Arc<str>>,
}

impl Engine {
    /// An engine that knows no node yet. It dispatches nothing before its first [`Input::Tick`].
    #[must_use]
    pub fn new(
        settings: impl Into<Arc<Settings>>,
        set: Arc<ModuleSet>,
        registry: Arc<Registry>,
    ) -> Self {
        let settings = settings.into();
        let gates = Gates::new(&settings.limits, &set);
        let jitter = Jitter::new(settings.seed);
        let learned = Learned::new(settings.kinds.clone());
        Self {
            settings,
            set,
            registry,
            nodes: Table::default(),
            policies: Sharing::default(),
            learned,
            timers: Timers::default(),
            gates,
            domains: Domains::default(),
            jitter,
            interner: Sharing::default(),
            freeze: None,
            is_started: false,
            storms_turned: Vec::new(),
            is_sweep_due: false,
            now: Millis(0),
            by_standing: [0; STANDINGS],
            in_flight: 0,
            counters: Counters::default(),
            me: "engine".into(),
            timeout: "timeout".into(),
        }
    }

    /// The same, one of many in this process.
    #[must_use]
    pub fn among(settings: impl Into<Arc<Settings>>, common: &Common) -> Self {
        let Common { set, registry, policies, interner } = common.clone();
        let (policies, interner) = (Sharing::Common(policies), Sharing::Common(interner));
        Self { policies, interner, ..Self::new(settings, set, registry) }
    }

    /// Takes one input; what follows from it is added to `out`, in the order in which it is to be
    /// carried out.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        // Time that runs backwards is a clock that was set: it stands still here until it catches
        // up, rather than let every deadline pass.
        self.now = self.now.max(now);
        self.counters.inputs += 1;
        self.wake(out);
        match input {
            Input::Configure { node, cfg: Some(cfg), by } => self.configure(node, cfg, by, out),
            Input::Configure { node, cfg: None, by } => self.remove(&node, by, out),
            Input::Restore { node, dsc } => self.restore(&node, &dsc, out),
            Input::Discover { node, changes, by } => match self.nodes.find(&node) {
                Some(at) => self.discover(at, changes, by, out),
                None => self.counters.unknown_nodes += 1,
            },
            Input::Finished { id, result } => self.finished(&id, result, out),
            Input::Abandoned { id, reason } => self.abandoned(&id, &reason, out),
            Input::Command { command, by } => self.command(command, by, out),
            Input::Limits(limits) => self.limit(limits, out),
            Input::Storm(storm) => self.guard_against(storm),
            Input::Modules { set, registry, by } => self.go_over(set, registry, by, out),
            Input::Recall(lessons) => {
                lessons.into_iter().for_each(|lesson| self.learned.recall(lesson, &self.set));
            }
            Input::Tick => self.start(),
        }
        self.settle(out);
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.settings.limits
    }

    /// The storm guard that counts.
    #[must_use]
    pub fn storm_guard(&self) -> &Storm {
        &self.settings.storm
    }

    /// When the engine wants a tick at the latest, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.is_started { self.timers.next() } else { Some(self.now) }
    }

    /// How many nodes stand how, as far as there are any.
    fn by_status(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let counted = NAMES.into_iter().zip(self.by_standing).filter(|(_, nodes)| *nodes > 0);
        counted.map(|(name, nodes)| (name, nodes as usize))
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<NodeView<'_>> {
        self.nodes.get(self.nodes.find(id)?).map(|node| self.view(node))
    }

    /// All nodes, in an order that means nothing but is the same every time.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.nodes.iter().map(|node| self.view(node))
    }

    /// What steps took so far, to be kept.
    #[must_use]
    pub fn lessons(&self) -> Vec<Lesson> {
        self.learned.lessons(&self.set)
    }

    /// The fleet in numbers. Costs the same for any number of nodes.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            nodes: self.nodes.len(),
            by_status: self.by_status().collect(),
            in_flight: self.in_flight,
            freeze: self.freeze.clone(),
            storm: self.domains.is_storm(),
            storms: self.storms(),
            lost: self.domains.lost(self.now, &self.settings.storm),
            counters: self.counters,
        }
    }

    fn view<'a>(&'a self, node: &'a Node) -> NodeView<'a> {
        NodeView {
            id: &node.id,
            cfg: node.configured(),
            wanted: &node.cfg,
            dsc: &node.dsc,
            status: NAMES[node.standing.kind()],
            mutation: node.standing.mutation().map(|id| &self.set.mutation(id).name),
            since: node.since,
            marks: node.marks(),
            permitted: node
                .running
                .as_ref()
                .filter(|running| self.is_permitted_by_us(running.mutation))
                .map(|running| &self.set.mutation(running.mutation).name),
        }
    }

    fn start(&mut self) {
        if !self.is_started {
            self.is_started = true;
            self.is_sweep_due = true;
        }
    }

    /// Looks at everything whose time has come.
    fn wake(&mut self, out: &mut Vec<Output>) {
        if !self.is_started {
            return;
        }
        while let Some((at, timer)) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Gate(gate) => self.gates.may_be_open(gate),
                Timer::Marks(place) => self.expire(place, out),
                Timer::Freeze => self.expire_freeze(out),
                Timer::Found(place) => self.await_no_longer(place, out),
                Timer::Node(place) => {
                    let Some(node) = self.nodes.get_mut(place) else { continue };
                    if node.alarm.rings(at, place, &mut self.timers) {
                        self.time_is_up(place, out);
                    }
                }
            }
        }
    }

    /// Lets everything follow that one input set free: storms that began or ended, and places at
    /// limits.
    fn settle(&mut self, out: &mut Vec<Output>) {
        if !self.is_started {
            return;
        }
        self.judge_storm(out);
        self.look_at_storms(out);
        if std::mem::take(&mut self.is_sweep_due) {
            for place in self.nodes.places() {
                self.reconsider(place, out);
            }
        }
        while let Some(place) = self.gates.next_waiting(self.now) {
            self.reconsider(place, out);
        }
    }

    /// What the policy says for a node in a state.
    pub(crate) fn plan(&mut self, at: u32, state: kraken_plan::State) -> Step {
        let policy = self.policy(at);
        self.policies.with(|policies| policies.next(policy, state)).unwrap_or(Step::NoWay)
    }

    /// What else could be done while the next step of a node has to wait: what leads on as well, in any order, and the
    /// first steps of the groups of variables that have nothing to do with it. With a step that is somebody else's to take,
    /// its group is left alone: two would work on the same. At what comes by itself nobody works.
    pub(crate) fn other_steps(
        &mut self,
        at: u32,
        state: kraken_plan::State,
        next: MutationId,
    ) -> Vec<MutationId> {
        let policy = self.policy(at);
        let firsts = self.policies.with(|policies| policies.others(policy, state));
        let is_free =
            |id: &MutationId| matches!(self.is_anothers(*id), None | Some(Standing::Happens(_)));
        let ours = std::iter::once(next).chain(firsts).filter(is_free);
        let ours: Vec<MutationId> = ours.collect();
        let with_ties = ours.into_iter().flat_map(|id| {
            let as_good = self.policies.with(|policies| policies.as_good(policy, state, id));
            std::iter::once(id).chain(as_good)
        });
        with_ties.filter(|id| *id != next).collect()
    }

    /// The mutations from a state to where a node should be, as far as there is a way.
    pub(crate) fn path(&mut self, at: u32, state: kraken_plan::State) -> Vec<MutationId> {
        let policy = self.policy(at);
        self.policies.with(|policies| policies.path(policy, state))
    }

    /// The policy of a node, found anew when what it depends on has changed.
    fn policy(&mut self, at: u32) -> PolicyId {
        let Some(node) = self.nodes.get(at) else { return PolicyId::NONE };
        let (goal, facts, policy) = (node.goal, node.facts, node.policy);
        // Asked of every node when its turn comes: telling a hundred thousand that costs have
        // changed would take longer than what follows from it.
        let learned = self.learned.version(node.kind);
        if node.learned == learned && self.policies.with(|policies| policies.holds(policy)) {
            debug_assert!({
                let (costs, set) = (self.costs(node).into_owned(), &self.set);
                self.policies.with(|policies| policies.is_for(policy, set, goal, facts, &costs))
            });
            return policy;
        }
        let (costs, set) = (self.costs(node).into_owned(), &self.set);
        let policy = self.policies.with(|policies| policies.find(set, goal, facts, &costs));
        if let Some(node) = self.nodes.get_mut(at) {
            node.policy = policy;
            node.learned = learned;
        }
        policy
    }

    /// What mutations cost on a node: what was learned of its kind, and what failed on it besides.
    pub(crate) fn costs(&self, node: &Node) -> Cow<'_, Costs> {
        let costs = self.learned.costs(node.kind);
        let Some(troubles) = &node.troubles else { return Cow::Borrowed(costs) };
        let mut costs = costs.clone();
        for trouble in &troubles.list {
            let declared = self.set.mutation(trouble.mutation);
            match trouble.retry_at {
                // What another failure would cost. Without jitter, so that nodes on which the same
                // has failed as often share a policy.
                Some(_) => {
                    let pause = pause(&declared.retry, trouble.failures);
                    costs.penalise(trouble.mutation, pause.saturating_add(declared.timeout));
                }
                None => costs.block(trouble.mutation),
            }
        }
        Cow::Owned(costs)
    }

    pub(crate) fn dispatch_id(&self, node: &NodeId, attempt: u32) -> DispatchId {
        DispatchId { epoch: self.settings.epoch, node: node.clone(), attempt }
    }

    /// An entry by the engine itself.
    pub(crate) fn note(
        &self,
        node: Option<&NodeId>,
        what: What,
        cause: Option<Cause>,
        out: &mut Vec<Output>,
    ) {
        self.note_by(node, what, Arc::clone(&self.me), cause, out);
    }

    pub(crate) fn note_by(
        &self,
        node: Option<&NodeId>,
        what: What,
        by: Arc<str>,
        cause: Option<Cause>,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Journal(Entry { at: self.now, node: node.cloned(), what, by, cause }));
    }
}
