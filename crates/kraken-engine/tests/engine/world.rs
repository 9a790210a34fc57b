//! A cluster of pretended machines around a real engine, with faults to switch on.

use crate::words::*;
use kraken_engine::{
    Command, DispatchId, Engine, Failure, Input, Order, Output, Role, Settings, Terms,
};
use kraken_engine::{Common, Limit, Scope, Share, Storm, What};
use kraken_model::{Change, Document, Millis, NodeId, Path, Registry};
use kraken_plan::{Guard, ModuleSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// What becomes of what a machine is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It happens and is discovered; the module says so before or after.
    Works,
    /// The module says that it failed.
    Fails,
    /// The module says that it is done, and it is not.
    Lies,
    /// Nothing is ever heard.
    Hangs,
}

#[derive(Clone, Debug)]
enum Event {
    Lands { node: usize, mutation: Arc<str> },
    Says { id: DispatchId, result: Result<(), Failure> },
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Millis,
    set: Arc<ModuleSet>,
    registry: Arc<Registry>,
    /// What this run of the engine began with.
    began_with: (Arc<Registry>, Arc<ModuleSet>),
    epoch: u64,
    names: Vec<NodeId>,
    /// What is really so.
    truth: Vec<BTreeMap<Path, Arc<str>>>,
    /// Whether the node is cut off: it lives, and nobody hears it.
    cut: Vec<bool>,
    pub(crate) fates: Vec<Fate>,
    busy: BTreeSet<usize>,
    held: BTreeMap<usize, Terms>,
    is_frozen: bool,
    wanted: Vec<Document>,
    events: BTreeMap<(Millis, u64), Event>,
    count: u64,
    in_flight: BTreeMap<NodeId, DispatchId>,
    /// Every input of this run of the engine, and what came of it, for a second engine.
    record: Vec<(Millis, Input, Vec<Output>)>,
}

static PLAIN: LazyLock<Common> = LazyLock::new(|| {
    let (registry, set) = FLASHING.clone();
    Common::new(set, registry)
});
static FLASHING: LazyLock<(Arc<Registry>, Arc<ModuleSet>)> = LazyLock::new(flashing);
static DRAINING: LazyLock<(Arc<Registry>, Arc<ModuleSet>)> = LazyLock::new(|| {
    let (disk, steps) = disk();
    draining_with(&[disk], steps)
});

/// How a machine is when it comes from the factory.
fn switched_off() -> BTreeMap<Path, Arc<str>> {
    let is = |(path, value): (&str, &str)| (Path::known(path), Arc::from(value));
    [("phys_state", "OFF"), ("adisk", "OLD")].map(is).into()
}

/// What is so of a machine whether or not it runs, and can be seen without it.
fn of_machine(variable: &str) -> bool {
    ["phys_state", "adisk"].contains(&variable)
}

/// So tight that whoever kept a place for ever, or waited for a place that is free, would be seen.
const AT_ONCE: usize = 2;

fn settings(epoch: u64) -> Settings {
    let storm = Storm { min: 3, ..Storm::default() };
    let limits = vec![
        Limit::at_most(AT_ONCE as u32, Scope::All),
        Limit::spaced(seconds(1), Scope::Mutation("power.on".into())),
        Limit::unavailable(Share::Percent(20), Scope::Disruptive),
    ];
    Settings { storm, limits, seed: 42, ..Settings::new(epoch, Role::Parent) }
}

impl World {
    pub(crate) fn new(nodes: usize) -> Self {
        let (registry, set) = FLASHING.clone();
        let mut world = Self {
            engine: Engine::new(settings(1), Arc::clone(&set), Arc::clone(&registry)),
            now: Millis(1_000),
            set,
            registry,
            began_with: FLASHING.clone(),
            epoch: 1,
            names: (0..nodes).map(|n| node(&format!("n{n}"))).collect(),
            truth: vec![switched_off(); nodes],
            cut: vec![false; nodes],
            fates: vec![Fate::Works; nodes],
            busy: BTreeSet::new(),
            held: BTreeMap::new(),
            is_frozen: false,
            wanted: vec![running_flashed(); nodes],
            events: BTreeMap::new(),
            count: 0,
            in_flight: BTreeMap::new(),
            record: Vec::new(),
        };
        for n in 0..nodes {
            world.want(n, running_flashed());
        }
        world.input(Input::Tick);
        world
    }

    pub(crate) fn want(&mut self, n: usize, cfg: Document) {
        self.wanted[n] = cfg.clone();
        self.input(Input::Configure {
            node: self.names[n].clone(),
            cfg: Some(cfg),
            by: "test".into(),
        });
    }

    pub(crate) fn command(&mut self, command: Command) {
        match &command {
            Command::Hold { node, terms } => {
                drop(self.held.insert(self.number(node), terms.clone()));
            }
            Command::Release { node } => drop(self.held.remove(&self.number(node))),
            Command::Freeze { .. } => self.is_frozen = true,
            Command::Thaw { .. } => self.is_frozen = false,
            Command::Busy { .. }
            | Command::Free { .. }
            | Command::Retry { .. }
            | Command::Restart { .. }
            | Command::WithdrawRestart { .. }
            | Command::TakeOver { .. } => {}
        }
        self.input(Input::Command { command, by: "operator".into() });
    }

    pub(crate) fn name(&self, n: usize) -> NodeId {
        self.names[n].clone()
    }

    fn number(&self, id: &NodeId) -> usize {
        self.names.iter().position(|name| name == id).unwrap()
    }

    pub(crate) fn set_busy(&mut self, n: usize, is_busy: bool) {
        if is_busy {
            self.busy.insert(n)
        } else {
            self.busy.remove(&n)
        };
        let value = if is_busy { "BUSY" } else { "FREE" };
        self.discover(n, set_to(&[("busy", value)]));
    }

    fn discover(&mut self, n: usize, changes: Vec<Change>) {
        self.input(Input::Discover { node: self.names[n].clone(), changes, by: "world".into() });
    }

    /// The power of a machine fails.
    pub(crate) fn crash(&mut self, n: usize) {
        self.truth[n] = switched_off();
        self.report(n);
    }

    /// The network of a machine fails, or comes back.
    pub(crate) fn cut(&mut self, n: usize, is_cut: bool) {
        self.cut[n] = is_cut;
        self.report(n);
    }

    /// Everybody says what they see of a machine.
    pub(crate) fn report(&mut self, n: usize) {
        let mut changes = Vec::new();
        let drained = self.set.variable("drained").map(|_| "drained");
        for variable in
            ["phys_state", "adisk", "run_state", "image_state"].into_iter().chain(drained)
        {
            let mut value = self.truth[n].get(variable).cloned();
            if self.cut[n] && !of_machine(variable) {
                let was_up = variable == "run_state" && value.as_deref() == Some("SYNC");
                value = was_up.then(|| "ERROR".into());
            }
            let path = Path::known(variable);
            changes.push(Change { path, value: value.map(Into::into) });
        }
        self.discover(n, changes);
    }

    /// The engine is killed and another one started from what was kept.
    pub(crate) fn restart(&mut self) {
        self.replay();
        let kept: Vec<(NodeId, Document)> =
            self.engine.nodes().map(|view| (view.id.clone(), view.dsc.clone())).collect();
        self.epoch += 1;
        self.began_with = (Arc::clone(&self.registry), Arc::clone(&self.set));
        let (registry, set) = self.began_with.clone();
        self.engine = Engine::new(settings(self.epoch), set, registry);
        self.in_flight.clear();
        for n in 0..self.names.len() {
            self.want(n, self.wanted[n].clone());
        }
        for (node, dsc) in kept {
            self.input(Input::Restore { node, dsc });
        }
        for (n, terms) in self.held.clone() {
            self.command(Command::Hold { node: self.name(n), terms });
        }
        if self.is_frozen {
            self.command(Command::Freeze { node: None, terms: Terms::default() });
        }
        self.input(Input::Tick);
        for n in 0..self.names.len() {
            self.report(n);
        }
    }

    /// Somebody adds a module, or takes it away again.
    pub(crate) fn drains(&mut self, is_there: bool) {
        (self.registry, self.set) = if is_there { DRAINING.clone() } else { FLASHING.clone() };
        let (registry, set) = (Arc::clone(&self.registry), Arc::clone(&self.set));
        self.input(Input::Modules { set, registry, by: "operator".into() });
        for n in 0..self.names.len() {
            self.report(n);
        }
    }

    /// Same inputs, same outputs: also of an engine that has policies and words in common with those of
    /// all other worlds.
    pub(crate) fn replay(&mut self) {
        let (registry, set) = self.began_with.clone();
        let mut engine = match set.variable("drained") {
            None => Engine::among(settings(self.epoch), &PLAIN),
            Some(_) => Engine::new(settings(self.epoch), set, registry),
        };
        for (now, input, expected) in self.record.drain(..) {
            let mut out = Vec::new();
            engine.step(now, input, &mut out);
            assert_eq!(format!("{out:?}"), format!("{expected:?}"));
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.step(self.now, input.clone(), &mut out);
        for output in &out {
            self.check(output);
        }
        for output in &out {
            if let Output::Dispatch(order) = output {
                self.carry_out(order);
            }
        }
        self.record.push((self.now, input, out));
    }

    /// The invariants, after every output.
    fn check(&mut self, output: &Output) {
        match output {
            Output::Dispatch(order) => {
                assert_eq!(self.in_flight.get(&order.node), Some(&order.id), "it is written down");
            }
            Output::Permitted { node } => {
                let permitted = self.engine.node(node).and_then(|view| view.permitted);
                assert!(permitted.is_none() || self.in_flight.contains_key(node), "written down");
            }
            Output::Journal(entry) => {
                if let (What::Dispatched { mutation, attempt, .. }, Some(node)) =
                    (&entry.what, &entry.node)
                {
                    return self.begins(node, mutation, *attempt);
                }
                if let (What::Released, Some(node)) = (&entry.what, &entry.node) {
                    self.held.remove(&self.number(node));
                }
                let attempt = match entry.what {
                    What::Done { attempt, .. }
                    | What::Failed { attempt, .. }
                    | What::TimedOut { attempt, .. }
                    | What::Interrupted { attempt, .. } => attempt,
                    _ => return,
                };
                let ended = self.in_flight.remove(entry.node.as_ref().unwrap());
                assert_eq!(ended.map(|id| id.attempt), Some(attempt), "what ends had begun");
            }
            _ => {}
        }
    }

    /// A step begins: a module's, or one that the node is permitted.
    fn begins(&mut self, node: &NodeId, mutation: &str, attempt: u32) {
        let n = self.number(node);
        let id = DispatchId { epoch: self.epoch, node: node.clone(), attempt };
        let other = self.in_flight.insert(node.clone(), id);
        assert_eq!(other, None, "never two attempts under way on one node");
        assert!(self.in_flight.len() <= AT_ONCE, "never more than the limit");
        assert!(!self.held.contains_key(&n), "nothing on a held node");
        let id = self.set.mutation_named(mutation).unwrap();
        if self.set.mutation(id).disruptive {
            assert!(!self.is_frozen, "nothing disruptive while frozen");
            assert!(!self.busy.contains(&n), "nothing disruptive on a busy node");
        }
    }

    fn carry_out(&mut self, order: &Order) {
        let n = self.number(&order.node);
        let stale = self.engine.explain(&order.node, self.now).unwrap().stale;
        let is_disruptive = self.set.mutation(order.mutation).disruptive;
        assert!(!is_disruptive || stale.is_empty(), "nothing disruptive on stale knowledge");
        let failure = Failure { reason: "broken".into(), permanent: false };
        let id = order.id.clone();
        match self.fates[n] {
            Fate::Works => {
                let mutation = Arc::clone(&self.set.mutation(order.mutation).name);
                self.later(1_000, Event::Lands { node: n, mutation });
                let delay = if self.count.is_multiple_of(2) { 500 } else { 1_500 };
                self.later(delay, Event::Says { id, result: Ok(()) });
            }
            Fate::Fails => self.later(700, Event::Says { id, result: Err(failure) }),
            Fate::Lies => self.later(700, Event::Says { id, result: Ok(()) }),
            Fate::Hangs => {}
        }
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.count += 1;
        self.events.insert((Millis(self.now.0 + millis), self.count), event);
    }

    /// Something that was asked for happens on a machine, if it can.
    fn lands(&mut self, n: usize, name: &str) {
        // Whoever was about to do it may not be there any more.
        let Some(id) = self.set.mutation_named(name) else { return };
        let mutation = Arc::clone(self.set.mutation(id));
        let is_so = |guard: &Guard| {
            let is = self.truth[n].get(guard.path.as_str()).map(AsRef::as_ref);
            matches!(&guard.test, kraken_plan::Test::Is(value) if value.as_text() == is)
        };
        if !mutation.requires.iter().all(is_so) || mutation.excludes.iter().any(is_so) {
            return;
        }
        for effect in &mutation.effects {
            // Asking does not change anything.
            if !["power.discover", "adisk.look"].contains(&&*mutation.name) {
                self.truth[n].insert(effect.variable.clone(), Arc::clone(&effect.to));
            }
        }
        if self.truth[n].get("phys_state").map(AsRef::as_ref) == Some("OFF") {
            self.truth[n].retain(|path, _| of_machine(path.as_str()));
        }
        if self.truth[n].get("run_state").map(AsRef::as_ref) != Some("SYNC") {
            self.truth[n].remove("image_state");
        }
        self.report(n);
    }

    /// The nodes take the steps that are theirs. Whether there were any.
    fn nodes_act(&mut self) -> bool {
        let mut has_acted = false;
        for n in 0..self.names.len() {
            let view = self.engine.node(&self.names[n]).unwrap();
            let free = view.mutation.filter(|_| view.status == "waits_for_node");
            let next = free.or(view.permitted).cloned();
            if let Some(name) = next
                && self.fates[n] == Fate::Works
                && !self.cut[n]
            {
                self.lands(n, &name);
                has_acted = true;
            }
        }
        has_acted
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, millis: u64) {
        let until = Millis(self.now.0 + millis);
        loop {
            if self.nodes_act() {
                continue;
            }
            let event = self.events.keys().next().map(|(at, _)| *at);
            let tick = self.engine.next_deadline();
            let Some(at) = event.into_iter().chain(tick).min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            if event == Some(at) {
                match self.events.pop_first().unwrap().1 {
                    Event::Lands { node, mutation } => self.lands(node, &mutation),
                    Event::Says { id, result } => self.input(Input::Finished { id, result }),
                }
            } else {
                self.input(Input::Tick);
            }
        }
        self.now = until;
    }

    pub(crate) fn stragglers(&mut self) -> Vec<String> {
        let names = self.names.clone();
        let now = self.now;
        let mut explain = |id: &NodeId| self.engine.explain(id, now).unwrap().to_string();
        let all: Vec<String> = names.iter().map(&mut explain).collect();
        all.into_iter().filter(|text| !text.contains("is as it should be")).collect()
    }
}
