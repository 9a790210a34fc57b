//! The fleet: everything there is, and the loop that lets time pass.

use crate::agent::Agent;
use crate::application::{Application, Deed, Deeds, Side};
use crate::brain::{Brain, Mirror};
use crate::checker::Checker;
use crate::comparison::StepsDone;
use crate::disk::Disk;
use crate::happening::{Happening, Noise};
use crate::network::Sent;
use crate::parent::Process;
use crate::plant::Bug;
use crate::queue::Queue;
use crate::{Alarm, Random, Violation};
use kraken_engine::{Common, DispatchId, Failure, Order, Output, Role, Settings};
use kraken_model::{Document, Millis, NodeId, Registry};
use kraken_plan::ModuleSet;
use kraken_sync::{Proof, Secret, SessionKeys, Welcome};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Everything that may come next.
pub(crate) enum Event {
    /// The parent wanted to be woken.
    ParentWake { life: u32 },
    /// The parent is started.
    ParentStart,
    /// A module of the parent is started again.
    ModuleStart { module: usize, life: u32 },
    /// The sync module looks whether nodes that the engine lost track of are heard.
    Look { life: u32 },
    /// Discovered documents are checkpointed.
    Checkpoint { life: u32 },
    /// A write that is durable reaches the engine.
    Apply { life: u32, node: usize, cfg: Document },
    /// A datagram arrives.
    Datagram { node: usize, port: u16, sent: Rc<Sent> },
    /// A node's agent wanted to be woken.
    AgentWake { node: usize, life: u32 },
    /// A node's agent is started again.
    AgentStart { node: usize, boot: u32 },
    /// A node tries to join.
    Join { node: usize, life: u32 },
    /// Its request arrives.
    Knock { node: usize, life: u32, request: Box<(Proof, [u8; 32])> },
    /// The answer arrives.
    Welcome { node: usize, life: u32, keys: Box<SessionKeys>, welcome: Box<Welcome> },
    /// An alarm of the application.
    Alarm { node: usize, alarm: Alarm, life: Option<(u32, u32)> },
    /// A module carries out a stage of an order.
    Work { node: usize, work: Work },
    /// A module answers.
    Answer { side: Side, answer: Box<(DispatchId, Result<(), Failure>)>, life: Option<u32> },
    /// Something happens.
    Happens { index: usize, begins: bool },
    /// Faults stop: operators take back what they said.
    Quiet,
}

/// An order that a module is carrying out.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) side: Side,
    pub(crate) order: Rc<Order>,
    pub(crate) stage: u32,
    /// Whose: of a run of the parent and of its module, or of a life of the agent.
    pub(crate) life: (u32, u32),
}

/// One node: its machine, and what runs on it.
pub(crate) struct Seat<M> {
    pub(crate) id: NodeId,
    pub(crate) machine: M,
    pub(crate) agent: Option<Box<Agent>>,
    /// How many agents there were.
    pub(crate) lives: u32,
    /// How many boots there were.
    pub(crate) boots: u32,
    /// What the running boot joins with: name, token, and the secret of its last join.
    pub(crate) boot: Option<(String, Secret)>,
    pub(crate) resume: Option<Secret>,
    /// How many cuts separate it from the parent.
    pub(crate) cuts: u32,
    /// How many faults are on it now, and when the last one began or ended.
    pub(crate) faults: u32,
    pub(crate) touched: Millis,
}

impl<M> Seat<M> {
    pub(crate) fn new(n: usize, machine: M) -> Self {
        Self {
            id: node_id(n),
            machine,
            agent: None,
            lives: 0,
            boots: 0,
            boot: None,
            resume: None,
            cuts: 0,
            faults: 0,
            touched: Millis(0),
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything random.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// What happens.
    pub happenings: Vec<Happening>,
    /// When faults have stopped.
    pub faults_end: Millis,
    /// By when every node that can has to be as its cfg wants it.
    pub converged_by: Millis,
    /// Whether invariants are checked; figures are taken without.
    pub is_checked: bool,
    /// A bug that is planted, to see whether it is found.
    pub bug: Option<Bug>,
    /// How many of the last events are kept in words.
    pub trace: usize,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was violated, if anything.
    pub violation: Option<Violation>,
    /// When it ended.
    pub at: Millis,
    /// How many events there were.
    pub events: u64,
    /// A number that differs when anything that the engine said differs.
    pub fingerprint: u64,
    /// The last events, in words.
    pub trace: Vec<String>,
}

/// The fleet.
pub(crate) struct Fleet<A: Application> {
    pub(crate) app: A,
    pub(crate) plan: Plan,
    pub(crate) registry: Arc<Registry>,
    pub(crate) set: Arc<ModuleSet>,
    /// What the engines of all nodes have in common: apart they would take twice the memory.
    pub(crate) agents: Common,
    pub(crate) agent_settings: Arc<Settings>,
    /// The names of all modules, in the order of their first mutation.
    pub(crate) modules: Vec<Arc<str>>,
    pub(crate) now: Millis,
    pub(crate) queue: Queue<Event>,
    pub(crate) nodes: Vec<Seat<A::Machine>>,
    pub(crate) process: Option<Box<Process>>,
    pub(crate) lives: u32,
    /// What was under way when its parent died.
    pub(crate) orphans: HashSet<DispatchId>,
    pub(crate) disk: Disk,
    pub(crate) checker: Option<Checker>,
    pub(crate) random: Random,
    pub(crate) noise: Noise,
    pub(crate) noisy_until: Millis,
    pub(crate) recorded: VecDeque<(usize, u16, Rc<Sent>)>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) fingerprint: u64,
    pub(crate) events: u64,
    /// Counted only while somebody wants to compare them with a plan.
    pub(crate) steps_done: Option<StepsDone>,
    trace: VecDeque<String>,
}

/// How often it is looked whether all is as it should be, once faults have stopped.
const LOOK_EVERY_MS: u64 = 2_000;

/// How often an operator comes by then.
const COME_BY_EVERY_MS: u64 = 300_000;

impl<A: Application> Fleet<A> {
    /// A fleet on its first day.
    pub(crate) fn new(app: A, plan: Plan) -> Self {
        let mut fleet = Self::built(app, plan);
        fleet.first_day();
        fleet
    }

    /// A fleet whose parent runs, with an engine elsewhere.
    pub(crate) fn without_engine(app: A, plan: Plan) -> Self {
        let mut fleet = Self::built(app, plan);
        fleet.start_parent_with(|_, _| Brain::Elsewhere(Mirror::default()));
        fleet
    }

    fn built(app: A, plan: Plan) -> Self {
        let (registry, set) = (app.registry(), app.modules());
        let mut modules: Vec<Arc<str>> = Vec::new();
        for (_, mutation) in set.mutations() {
            if !modules.contains(&mutation.module) {
                modules.push(Arc::clone(&mutation.module));
            }
        }
        let nodes: Vec<Seat<A::Machine>> =
            (0..plan.nodes).map(|n| Seat::new(n, app.machine(n))).collect();
        let checker = plan.is_checked.then(|| {
            let owners = nodes.iter().map(|seat| seat.id.clone()).collect();
            let under = app.permitted_under();
            Checker::new(Arc::clone(&set), app.settings(0), A::writers, under, owners)
        });
        let asks = plan.bug != Some(Bug::PermissionAssumed);
        let permitted_under = asks.then(|| app.permitted_under());
        let agent_settings = Settings { role: Role::Node, permitted_under, ..Settings::default() };
        Self {
            random: Random::apart(plan.seed, 2),
            agents: Common::new(Arc::clone(&set), Arc::clone(&registry)),
            agent_settings: Arc::new(agent_settings),
            registry,
            set,
            modules,
            now: Millis(1_000),
            queue: Queue::new(),
            nodes,
            process: None,
            lives: 0,
            orphans: HashSet::new(),
            disk: Disk::default(),
            checker,
            noise: Noise::default(),
            noisy_until: Millis(0),
            recorded: VecDeque::new(),
            outputs: Vec::new(),
            fingerprint: 0,
            events: 0,
            steps_done: None,
            trace: VecDeque::new(),
            app,
            plan,
        }
    }

    /// What people want of the fleet is there from the beginning.
    fn first_day(&mut self) {
        for n in 0..self.nodes.len() {
            let cfg = self.app.cfg(n, crate::Wish::Runs(0));
            if let Some(checker) = &mut self.checker {
                checker.written(n, &cfg);
                checker.acknowledged(self.now, n, &cfg);
            }
            self.disk.cfg.insert(n, cfg);
        }
        self.queue.push(self.now, Event::ParentStart);
        for (index, happening) in self.plan.happenings.iter().enumerate() {
            self.queue.push(happening.at, Event::Happens { index, begins: true });
        }
        self.queue.push(self.plan.faults_end, Event::Quiet);
    }

    /// Lets time pass until everything is as it should be, or something is wrong.
    pub(crate) fn run(&mut self) -> Outcome {
        let mut look_at = self.plan.faults_end.0;
        let violation = loop {
            if let Some(violation) = self.checker.as_mut().and_then(Checker::take_violation) {
                break Some(violation);
            }
            let next = self.queue.next().unwrap_or(self.plan.converged_by);
            if next.0 >= look_at {
                self.now = self.now.max(Millis(look_at));
                if self.is_converged() {
                    break None;
                }
                look_at += LOOK_EVERY_MS;
                if (look_at - self.plan.faults_end.0).is_multiple_of(COME_BY_EVERY_MS) {
                    self.come_by();
                }
                if look_at > self.plan.converged_by.0 {
                    break self.stragglers();
                }
                continue;
            }
            self.happens_next();
        };
        let (at, events, fingerprint) = (self.now, self.events, self.fingerprint);
        Outcome {
            violation,
            at,
            events,
            fingerprint,
            trace: std::mem::take(&mut self.trace).into(),
        }
    }

    pub(crate) fn happens_next(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        self.events += 1;
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ParentWake { life } => self.parent_wakes(life),
            Event::ParentStart => self.start_parent(),
            Event::ModuleStart { module, life } => self.start_module(module, life),
            Event::Look { life } => self.look(life),
            Event::Checkpoint { life } => self.checkpoint(life),
            Event::Apply { life, node, cfg } => self.apply(life, node, cfg),
            Event::Datagram { node, port, sent } => self.arrives(node, port, &sent),
            Event::AgentWake { node, life } => self.agent_wakes(node, life),
            Event::AgentStart { node, boot } => self.start_agent(node, boot),
            Event::Join { node, life } => self.join(node, life),
            Event::Knock { node, life, request } => {
                let (proof, exported) = *request;
                self.knock(node, life, &proof, exported);
            }
            Event::Welcome { node, life, keys, welcome } => {
                self.welcome(node, life, *keys, &welcome);
            }
            Event::Alarm { node, alarm, life } => self.alarm(node, alarm, life),
            Event::Work { node, work } => self.work(node, work),
            Event::Answer { side, answer, life } => self.answer(side, *answer, life),
            Event::Happens { index, begins } => self.happens(index, begins),
            Event::Quiet => self.quiet(),
        }
    }

    /// Keeps in words what happened, when somebody wants to read it.
    pub(crate) fn tell(&mut self, words: impl FnOnce(&Self) -> String) {
        if self.plan.trace == 0 {
            return;
        }
        let line = format!("{:>9.3} s  {}", self.now.0 as f64 / 1000.0, words(self));
        if self.trace.len() == self.plan.trace {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// Asks the application, and does what it wants done.
    pub(crate) fn ask(
        &mut self,
        n: usize,
        work: Option<&Work>,
        question: impl FnOnce(&A, &mut A::Machine, &mut Deeds<'_>),
    ) {
        let mut wanted = Vec::new();
        let Self { app, nodes, process, random, now, .. } = self;
        let seat = &mut nodes[n];
        let (book, down) = match process {
            Some(process) => (Some(&mut process.book), process.down.as_slice()),
            None => (None, [].as_slice()),
        };
        let (node, is_cut) = (&seat.id, seat.cuts > 0);
        let mut deeds = Deeds { node, now: *now, random, book, is_cut, down, wanted: &mut wanted };
        question(app, &mut seat.machine, &mut deeds);
        self.keep_tokens();
        for deed in wanted {
            self.carry_out_deed(n, work, deed);
        }
    }

    fn carry_out_deed(&mut self, n: usize, work: Option<&Work>, deed: Deed) {
        match deed {
            Deed::Find(Side::Parent, changes, by) => {
                // What a module of an earlier run of the parent finds, nobody hears.
                let lives = self.lives;
                if work.is_none_or(|work| work.life.0 == lives) {
                    self.found(n, changes, by);
                }
            }
            Deed::Find(Side::Node, changes, by) => self.agent_found(n, changes, by),
            Deed::Answer(id, result) => {
                let side = work.map_or(Side::Parent, |work| work.side);
                let life = (side == Side::Node).then_some(self.nodes[n].lives);
                let at = Millis(self.now.0 + self.random.below(30));
                let answer = Box::new((id, result));
                self.queue.push(at, Event::Answer { side, answer, life });
            }
            Deed::GoOn(after, stage) => {
                if let Some(work) = work {
                    let work = Work { stage, ..work.clone() };
                    self.queue.push(self.now.plus(after), Event::Work { node: n, work });
                }
            }
            Deed::Alarm(after, alarm) => {
                let life = match alarm {
                    Alarm::Machine(_) => None,
                    Alarm::Module(module, _) => {
                        let index = self.modules.iter().position(|name| **name == *module);
                        index.and_then(|index| self.module_life(index))
                    }
                };
                self.queue.push(self.now.plus(after), Event::Alarm { node: n, alarm, life });
            }
            Deed::Print(stream, line) => self.agent_prints(n, &stream, &line),
            Deed::Boot(boot_id, token) => self.boot(n, boot_id, token),
            Deed::Die => self.agent_dies(n),
        }
    }

    fn alarm(&mut self, n: usize, alarm: Alarm, life: Option<(u32, u32)>) {
        if let Alarm::Module(module, _) = alarm {
            let index = self.modules.iter().position(|name| **name == *module);
            if life.is_none() || index.and_then(|index| self.module_life(index)) != life {
                return;
            }
        }
        self.ask(n, None, |app, machine, deeds| app.alarm(machine, alarm, deeds));
    }

    /// Whether every node really is as it was last acknowledged to become, and known to be.
    fn is_converged(&self) -> bool {
        let Some(engine) = self.process.as_ref().and_then(|process| process.engine.here()) else {
            return false;
        };
        let summary = engine.summary();
        let settled = summary.by_status.get("converged").copied().unwrap_or(0);
        settled == self.nodes.len() && self.first_straggler().is_none()
    }

    fn first_straggler(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|n| {
            let cfg = self.disk.cfg.get(*n);
            cfg.is_none_or(|cfg| !self.app.is_as(&self.nodes[*n].machine, cfg))
        })
    }

    /// Time is up.
    fn stragglers(&mut self) -> Option<Violation> {
        let engine = self.process.as_ref()?.engine.here()?;
        let late = engine.nodes().find(|view| view.status != "converged");
        let late = late.map(|view| number(view.id)).or_else(|| self.first_straggler())?;
        let id = self.nodes[late].id.clone();
        let now = self.now;
        let why = self.process.as_mut().and_then(|p| p.engine.here_mut()?.explain(&id, now));
        let why = why.map_or_else(String::new, |why| why.to_string());
        let what = format!("is not as its cfg wants it, long after faults stopped: {why}");
        let invariant = crate::Invariant::Converges;
        Some(Violation { invariant, at: now, node: Some(id), what })
    }

    /// What an operator does who comes by and sees that nodes were given up, or that too many were
    /// lost at once: once everything is whole again, has it tried again.
    fn come_by(&mut self) {
        let Some(engine) = self.process.as_ref().and_then(|process| process.engine.here()) else {
            return;
        };
        let is_storm = engine.summary().storm;
        let given_up = |status| ["quarantined", "unheard"].contains(&status);
        let given_up = engine.nodes().filter(|view| given_up(view.status));
        let given_up: Vec<usize> = given_up.map(|view| number(view.id)).collect();
        if is_storm {
            self.operator(crate::Word::Thaw(None));
        }
        for n in given_up {
            self.operator(crate::Word::Retry(n));
        }
    }
}

/// The name of the n-th node.
pub(crate) fn node_id(n: usize) -> NodeId {
    // A letter and digits are a valid name.
    #[allow(clippy::expect_used)]
    NodeId::new(&format!("n{n}")).expect("a valid name")
}

/// Which node has this name.
pub(crate) fn number(id: &NodeId) -> usize {
    id.as_str()[1..].parse().unwrap_or(0)
}
