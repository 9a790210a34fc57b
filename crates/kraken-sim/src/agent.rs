//! A node's process: an engine with only itself as node and a sync child, driven as the agent of
//! the runtime drives them, in virtual time.

use crate::application::{Application, Side};
use crate::fleet::{Event, Fleet, Work};
use crate::parent::JOIN_WITHIN;
use crate::plant::Bug;
use kraken_engine::{DispatchId, Engine, Failure, Input, Output, without_permissions};
use kraken_model::{Change, Document, Millis, Path, Side as Doc};
use kraken_sync::{Child, ChildInput, ChildOutput, KeyRole, Proof, Secret, SessionKeys, Welcome};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The first pause after a join that failed, and the longest; as in the runtime.
const RETRY: Duration = Duration::from_millis(500);
pub(crate) const RETRY_CAP: Duration = Duration::from_secs(15);

/// How long a node that left waits for its power to go before it comes back.
const REST: Duration = Duration::from_secs(60);

/// One in so many nodes speaks of everything that it knows: what it may is its parent's to judge.
const BOASTERS: usize = 5;

/// How long an init takes to start an agent again.
const RESPAWN: Duration = Duration::from_secs(1);

/// One life of a node's agent.
pub(crate) struct Agent {
    pub(crate) engine: Engine,
    pub(crate) child: Child,
    /// Where its datagrams come from; another one after each join.
    pub(crate) port: u16,
    link: Link,
    pause: Duration,
    running: Option<DispatchId>,
    wake_at: Option<Millis>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Joining,
    Linked,
    Resting,
}

impl<A: Application> Fleet<A> {
    /// A machine's system is up, and starts its agent with what it was given at its boot.
    pub(crate) fn boot(&mut self, n: usize, boot_id: String, token: Secret) {
        let seat = &mut self.nodes[n];
        seat.boots += 1;
        seat.boot = Some((boot_id, token));
        seat.resume = None;
        let boot = seat.boots;
        self.start_agent(n, boot);
    }

    pub(crate) fn start_agent(&mut self, n: usize, boot: u32) {
        let seat = &mut self.nodes[n];
        if seat.boots != boot || seat.boot.is_none() || seat.agent.is_some() {
            return;
        }
        seat.lives += 1;
        let life = seat.lives;
        let mut engine = Engine::among(Arc::clone(&self.agent_settings), &self.agents);
        engine.step(self.now, Input::Tick, &mut Vec::new());
        seat.agent = Some(Box::new(Agent {
            engine,
            child: Child::new(self.random.next()),
            port: 0,
            link: Link::Joining,
            pause: RETRY,
            running: None,
            wake_at: None,
        }));
        if let Some(checker) = &mut self.checker {
            checker.node_is(n, &Document::new());
        }
        self.ask(n, None, |app, machine, _| app.revives(machine));
        self.tell(|fleet| format!("{}: its agent starts", fleet.nodes[n].id));
        for module in self.modules.clone() {
            self.ask(n, None, |app, machine, deeds| app.begin(machine, &module, deeds));
        }
        self.queue.push(self.now, Event::Join { node: n, life });
    }

    /// Whatever ran on the machine is gone.
    pub(crate) fn agent_dies(&mut self, n: usize) {
        let seat = &mut self.nodes[n];
        seat.agent = None;
        seat.boot = None;
        seat.boots += 1;
    }

    /// The agent alone is killed: what it started goes on, and it is started again.
    pub(crate) fn crash_agent(&mut self, n: usize) {
        let seat = &mut self.nodes[n];
        if seat.agent.take().is_some() {
            let boot = seat.boots;
            self.queue.push(self.now.plus(RESPAWN), Event::AgentStart { node: n, boot });
        }
    }

    fn agent_of(&mut self, n: usize, life: u32) -> Option<&mut Agent> {
        let seat = &mut self.nodes[n];
        seat.agent.as_deref_mut().filter(|_| seat.lives == life)
    }

    /// A node tries to join, with the secret of its last join or with its token.
    pub(crate) fn join(&mut self, n: usize, life: u32) {
        if self.agent_of(n, life).is_none_or(|agent| agent.link == Link::Linked) {
            return;
        }
        if let Some(agent) = self.agent_of(n, life) {
            agent.link = Link::Joining;
        }
        let seat = &self.nodes[n];
        let proof = match (&seat.resume, &seat.boot) {
            (Some(secret), _) => Proof::Resume(secret.clone()),
            (None, Some((_, token))) => Proof::Token(token.clone()),
            (None, None) => return,
        };
        let is_reachable = seat.cuts == 0 && self.process.is_some();
        let exported = self.random.bytes();
        let took = Duration::from_millis(self.random.within(20, 200));
        if is_reachable {
            let request = Box::new((proof, exported));
            let knock = Event::Knock { node: n, life, request };
            self.queue.push(self.now.plus(took), knock);
        } else {
            // A port that nobody listens at refuses; a cable that is cut says nothing.
            let took = if self.nodes[n].cuts > 0 { JOIN_WITHIN } else { took };
            self.join_later(n, life, took);
        }
    }

    fn join_later(&mut self, n: usize, life: u32, took: Duration) {
        let share = self.random.below(501);
        let Some(agent) = self.agent_of(n, life) else { return };
        let pause = agent.pause.mul_f64(0.5 + share as f64 / 1000.0);
        agent.pause = (agent.pause * 2).min(RETRY_CAP);
        let at = self.now.plus(took).plus(pause);
        self.queue.push(at, Event::Join { node: n, life });
    }

    /// The request of a node arrives at the parent.
    pub(crate) fn knock(&mut self, n: usize, life: u32, proof: &Proof, exported: [u8; 32]) {
        let (now, random) = (self.now, self.random.bytes());
        let seat = &self.nodes[n];
        let is_heard = seat.cuts == 0 && self.process.is_some();
        let Some((boot_id, id)) =
            seat.boot.as_ref().map(|(boot, _)| (boot.clone(), seat.id.clone()))
        else {
            return;
        };
        let Some(process) = self.process.as_mut().filter(|_| is_heard) else {
            self.join_later(n, life, JOIN_WITHIN);
            return;
        };
        let Ok(resume) = process.book.present(now, &id, &boot_id, proof, random) else {
            self.keep_tokens();
            self.join_later(n, life, Duration::from_millis(50));
            return;
        };
        // It says everything anew.
        process.said.remove(n);
        let cfg = process.cfg_for(&self.app, &id);
        let keys = SessionKeys::derive(&exported, KeyRole::Parent);
        let mut welcome = process.sync.admit(now, &id, keys, cfg, resume);
        self.keep_tokens();
        welcome.silence = self.child_silence();
        let keys = Box::new(SessionKeys::derive(&exported, KeyRole::Child));
        let at = now.plus(Duration::from_millis(self.random.within(1, 20)));
        let welcome = Box::new(welcome);
        self.queue.push(at, Event::Welcome { node: n, life, keys, welcome });
    }

    /// The answer arrives at the node.
    pub(crate) fn welcome(&mut self, n: usize, life: u32, keys: SessionKeys, welcome: &Welcome) {
        if self.nodes[n].cuts > 0 {
            self.join_later(n, life, JOIN_WITHIN);
            return;
        }
        let now = self.now;
        let Some(agent) = self.agent_of(n, life) else { return };
        agent.link = Link::Linked;
        agent.pause = RETRY;
        agent.port = agent.port.wrapping_add(1);
        let mut outputs = Vec::new();
        agent.child.joined(now, keys, welcome, &mut outputs);
        self.nodes[n].resume = Some(welcome.resume.clone());
        self.child_said(n, outputs);
        let mut joined = self.app.joined();
        joined.extend(self.app.services(&self.nodes[n].machine));
        self.agent_found(n, joined, "agent".into());
    }

    /// Something is found out on a node, and told to its engine.
    pub(crate) fn agent_found(&mut self, n: usize, changes: Vec<Change>, by: Arc<str>) {
        let node = self.nodes[n].id.clone();
        self.agent_step(n, Input::Discover { node, changes, by });
    }

    fn agent_step(&mut self, n: usize, input: Input) {
        let seat = &mut self.nodes[n];
        let Some(agent) = &mut seat.agent else { return };
        let life = seat.lives;
        let mut outputs = Vec::new();
        agent.engine.step(self.now, input, &mut outputs);
        let mut is_changed = false;
        for output in outputs {
            match output {
                Output::Dispatch(order) => {
                    if let Some(agent) = &mut self.nodes[n].agent {
                        agent.running = Some(order.id.clone());
                    }
                    let agent = self.nodes[n].agent.as_ref();
                    let is_in_touch = agent.is_some_and(|agent| agent.link == Link::Linked);
                    if let Some(checker) = &mut self.checker {
                        checker.node_steps(self.now, n, &order, is_in_touch);
                    }
                    let order = Rc::new(order);
                    let work = Work { side: Side::Node, order, stage: 0, life: (life, 0) };
                    self.queue.push(Millis(self.now.0 + 1), Event::Work { node: n, work });
                }
                Output::Interrupt { id, .. } => {
                    if let Some(agent) = &mut self.nodes[n].agent {
                        agent.running.take_if(|running| *running == id);
                    }
                }
                Output::Changed { side: Doc::Dsc, .. } => is_changed = true,
                Output::Journal(entry) => {
                    self.count_step(n, &entry, true);
                    self.tell(|_| format!("  on {}: {:?} by {}", n, entry.what, entry.by));
                }
                Output::Changed { .. } | Output::Permitted { .. } | Output::Refused { .. } => {}
            }
        }
        if is_changed {
            self.tell_parent(n);
        }
        self.plan_agent_wake(n);
    }

    /// What a node knows of itself goes to its parent.
    fn tell_parent(&mut self, n: usize) {
        let speaks_of_everything = n.is_multiple_of(BOASTERS);
        let app = &self.app;
        let seat = &mut self.nodes[n];
        let Some(agent) = &mut seat.agent else { return };
        let Some(view) = agent.engine.node(&seat.id) else { return };
        let mut document = Document::new();
        let owns = |path: &Path| speaks_of_everything || app.node_owns(path);
        for (path, value) in view.dsc.iter().filter(|(path, _)| owns(path)) {
            document.set(path.clone(), value.clone());
        }
        if let Some(checker) = &mut self.checker {
            checker.node_is(n, &document);
        }
        let mut outputs = Vec::new();
        agent.child.step(self.now, ChildInput::Dsc { document }, &mut outputs);
        self.child_said(n, outputs);
    }

    pub(crate) fn child_said(&mut self, n: usize, outputs: Vec<ChildOutput>) {
        for output in outputs {
            match output {
                ChildOutput::Send { bytes } => self.send_to_parent(n, &bytes),
                ChildOutput::Cfg { document, .. } => {
                    if let Some(checker) = &mut self.checker {
                        checker.node_takes(self.now, n, &document);
                    }
                    let (node, by) = (self.nodes[n].id.clone(), "parent".into());
                    let cfg = document.clone();
                    self.agent_step(n, Input::Configure { node, cfg: Some(document), by });
                    self.ask(n, None, |app, machine, deeds| app.configured(machine, &cfg, deeds));
                }
                ChildOutput::ParentSilent { .. } | ChildOutput::KeysSpent => {
                    let life = self.nodes[n].lives;
                    if let Some(agent) = self.agent_of(n, life) {
                        agent.link = Link::Joining;
                    }
                    self.lapse(n);
                    self.queue.push(self.now, Event::Join { node: n, life });
                }
                ChildOutput::DscTooLarge { .. } => {}
                ChildOutput::Left { .. } => {
                    let life = self.nodes[n].lives;
                    if let Some(agent) = self.agent_of(n, life) {
                        agent.link = Link::Resting;
                    }
                    self.lapse(n);
                    let left = self.app.left();
                    self.agent_found(n, left, "agent".into());
                    self.queue.push(self.now.plus(REST), Event::Join { node: n, life });
                }
            }
        }
        self.plan_agent_wake(n);
    }

    /// Out of touch with its parent, a node has no permissions any more.
    fn lapse(&mut self, n: usize) {
        if self.plan.bug == Some(Bug::PermissionOutlives) {
            return;
        }
        let (under, seat) = (self.app.permitted_under(), &self.nodes[n]);
        let view = seat.agent.as_ref().and_then(|agent| agent.engine.node(&seat.id));
        let Some(cfg) = view.map(|view| view.cfg) else { return };
        let lapsed = without_permissions(&under).apply(Some(cfg)).filter(|lapsed| lapsed != cfg);
        if let Some(cfg) = lapsed {
            let (node, by) = (seat.id.clone(), "agent".into());
            self.agent_step(n, Input::Configure { node, cfg: Some(cfg), by });
        }
    }

    /// The node takes its leave.
    pub(crate) fn leave(&mut self, n: usize) {
        let now = self.now;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let mut outputs = Vec::new();
        agent.child.step(now, ChildInput::Leave, &mut outputs);
        self.child_said(n, outputs);
    }

    pub(crate) fn agent_prints(&mut self, n: usize, stream: &str, line: &str) {
        let now = self.now;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let mut outputs = Vec::new();
        agent.child.step(now, ChildInput::Log { stream, line }, &mut outputs);
        self.child_said(n, outputs);
    }

    pub(crate) fn agent_works_on(&self, n: usize, work: &Work) -> bool {
        let seat = &self.nodes[n];
        let running = seat.agent.as_ref().and_then(|agent| agent.running.as_ref());
        seat.lives == work.life.0 && running == Some(&work.order.id)
    }

    pub(crate) fn agent_answered(
        &mut self,
        n: usize,
        id: DispatchId,
        result: Result<(), Failure>,
        life: Option<u32>,
    ) {
        let Some(agent) = life.and_then(|life| self.agent_of(n, life)) else { return };
        agent.running.take_if(|running| *running == id);
        self.agent_step(n, Input::Finished { id, result });
    }

    fn plan_agent_wake(&mut self, n: usize) {
        let seat = &mut self.nodes[n];
        let Some(agent) = &mut seat.agent else { return };
        let wanted = [agent.engine.next_deadline(), agent.child.next_deadline()];
        let Some(at) = wanted.into_iter().flatten().min() else { return };
        if agent.wake_at.is_none_or(|planned| at < planned) {
            agent.wake_at = Some(at);
            let life = seat.lives;
            self.queue.push(at.max(self.now), Event::AgentWake { node: n, life });
        }
    }

    pub(crate) fn agent_wakes(&mut self, n: usize, life: u32) {
        let now = self.now;
        let Some(agent) = self.agent_of(n, life) else { return };
        if agent.wake_at.is_none_or(|at| at > now) {
            return;
        }
        agent.wake_at = None;
        let is_due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        let child_is_due = is_due(agent.child.next_deadline());
        if is_due(agent.engine.next_deadline()) {
            self.agent_step(n, Input::Tick);
        }
        if child_is_due && let Some(agent) = self.agent_of(n, life) {
            let mut outputs = Vec::new();
            agent.child.step(now, ChildInput::Tick, &mut outputs);
            self.child_said(n, outputs);
        }
        self.plan_agent_wake(n);
    }
}
