//! How long it would take all nodes to go their ways under limits: every step takes as long as
//! expected, nothing fails, and whoever waits is let through in order.

use crate::gates::{Candidate, Gates, Place};
use crate::node::Membership;
use crate::outlook::{LimitWait, millis};
use crate::timers::{Timer, Timers};
use crate::way::Leg;
use crate::{Availability, Limit};
use kraken_model::{Document, Millis, NodeId};
use kraken_plan::{Context, Facts, ModuleSet, MutationId, State};
use std::collections::BTreeMap;
use std::time::Duration;

/// A node with its way.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) id: &'a NodeId,
    pub(crate) cfg: &'a Document,
    pub(crate) facts: Facts,
    pub(crate) state: State,
    pub(crate) path: &'a [Leg],
    /// Its first step, if that is under way, and for how long.
    pub(crate) running: Option<(MutationId, Duration)>,
}

/// Where a walker is.
#[derive(Debug, Default)]
struct Going {
    /// How many steps are behind it.
    taken: usize,
    /// The gates of the step under way.
    running: Option<Box<[u32]>>,
    membership: Membership,
    place: Option<Place>,
    /// The gate at which it began to wait for its next step, and when.
    waiting: Option<(u32, Millis)>,
}

/// All nodes on their ways.
#[derive(Debug)]
pub(crate) struct Forecast<'a> {
    set: &'a ModuleSet,
    availability: &'a Availability,
    walkers: Vec<Walker<'a>>,
    going: Vec<Going>,
    gates: Gates,
    timers: Timers,
    now: Millis,
    done: Vec<Option<u64>>,
    waits: BTreeMap<String, LimitWait>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Foreseen {
    /// When each node is at the end of its way, in milliseconds; nothing: never.
    pub(crate) done: Vec<Option<u64>>,
    pub(crate) waits: Vec<LimitWait>,
}

impl<'a> Forecast<'a> {
    pub(crate) fn new(
        set: &'a ModuleSet,
        availability: &'a Availability,
        limits: &[Limit],
        walkers: Vec<Walker<'a>>,
    ) -> Self {
        let mut gates = Gates::new(limits, set);
        let mut going = Vec::with_capacity(walkers.len());
        for walker in &walkers {
            let mut node = Going::default();
            node.membership.enrol(set, &availability.wanted, walker.id, walker.cfg, &mut gates);
            going.push(node);
        }
        let (timers, done) = (Timers::default(), vec![None; walkers.len()]);
        let (now, waits) = (Millis(0), BTreeMap::new());
        Self { set, availability, walkers, going, gates, timers, now, done, waits }
    }

    pub(crate) fn run(mut self) -> Foreseen {
        let all = u32::try_from(self.walkers.len()).unwrap_or(u32::MAX);
        for at in 0..all {
            self.recount(at);
        }
        // What is under way has its places already.
        let is_running = |this: &Self, at: u32| this.walkers[at as usize].running.is_some();
        for at in (0..all).filter(|at| is_running(&self, *at)).collect::<Vec<_>>() {
            self.resume(at);
        }
        for at in (0..all).filter(|at| !is_running(&self, *at)).collect::<Vec<_>>() {
            self.advance(at);
        }
        loop {
            while let Some(at) = self.gates.next_waiting(self.now) {
                self.advance(at);
            }
            let Some(next) = self.timers.next() else { break };
            self.now = self.now.max(next);
            while let Some((_, timer)) = self.timers.pop_due(self.now) {
                match timer {
                    Timer::Gate(gate) => self.gates.may_be_open(gate),
                    Timer::Node(at) => self.arrive(at),
                    // What operators say is taken to last.
                    Timer::Marks(_) | Timer::Freeze | Timer::Found(_) => {}
                }
            }
        }
        Foreseen { done: self.done, waits: self.waits.into_values().collect() }
    }

    fn resume(&mut self, at: u32) {
        let walker = &self.walkers[at as usize];
        let Some((id, elapsed)) = walker.running else { return };
        self.going[at as usize].running = Some(self.gates.resume(id, walker.id, walker.cfg));
        let left = walker.path.first().map_or(Duration::ZERO, |leg| leg.1.saturating_sub(elapsed));
        self.timers.push(self.now.plus(left), Timer::Node(at));
        self.recount(at);
    }

    /// Begins the next step of a node, or waits for a limit.
    fn advance(&mut self, at: u32) {
        let (walker, going) = (&self.walkers[at as usize], &mut self.going[at as usize]);
        let place = going.place.take();
        if let Some(place) = place {
            self.gates.withdraw(place);
        }
        let Some((id, time)) = walker.path.get(going.taken).copied() else {
            self.done[at as usize] = Some(self.now.0);
            return;
        };
        // What a node takes for itself, disrupting nobody, is not held up by anybody; nor what comes by itself.
        let mutation = self.set.mutation(id);
        let is_free = match mutation.context {
            Context::Node => !mutation.disruptive,
            Context::Itself => true,
            Context::Child | Context::Any => false,
        };
        let gates = if is_free {
            Ok(Box::default())
        } else {
            let (counted, ticket) = (&going.membership.counted[..], place.map(|p| p.ticket));
            let who = Candidate { at, id: walker.id, cfg: walker.cfg, counted, ticket };
            self.gates.enter(id, who, self.now, &mut self.timers)
        };
        match gates {
            Ok(gates) => {
                going.running = Some(gates);
                if let Some((gate, since)) = going.waiting.take() {
                    let wait = self.waits.entry(self.gates.limit_of(gate)).or_default();
                    wait.longest_ms = wait.longest_ms.max(millis(self.now.since(since)));
                }
                self.timers.push(self.now.plus(time), Timer::Node(at));
                self.recount(at);
            }
            Err(place) => {
                if going.waiting.is_none() {
                    going.waiting = Some((place.gate, self.now));
                    let limit = self.gates.limit_of(place.gate);
                    let wait = self.waits.entry(limit.clone()).or_default();
                    (wait.limit, wait.steps) = (limit, wait.steps + 1);
                }
                going.place = Some(place);
            }
        }
    }

    /// A step has come to its end.
    fn arrive(&mut self, at: u32) {
        let (walker, going) = (&mut self.walkers[at as usize], &mut self.going[at as usize]);
        let Some(gates) = going.running.take() else { return };
        self.gates.leave(&gates);
        walker.state = self.set.after(walker.path[going.taken].0, walker.state, walker.facts);
        going.taken += 1;
        self.recount(at);
        self.advance(at);
    }

    fn recount(&mut self, at: u32) {
        let (walker, going) = (&self.walkers[at as usize], &mut self.going[at as usize]);
        let running = going.running.is_some().then(|| walker.path[going.taken].0);
        let Going { membership, .. } = going;
        let is_available = membership.is_available(self.set, self.availability, walker.state);
        membership.recount(is_available, running, &mut self.gates);
    }
}
