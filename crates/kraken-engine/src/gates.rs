//! Limits: how many steps may be under way at a time, and who waits for a place.

use crate::timers::{Timer, Timers};
use crate::{Limit, Scope, Share, Unavailable};
use kraken_model::{Document, Millis, NodeId, Value};
use kraken_plan::{ModuleSet, Mutation, MutationId};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// One count of one limit: of a rack, of a module, of everything.
#[derive(Debug)]
struct Gate {
    limit: usize,
    of: Option<Value>,
    in_flight: u32,
    /// Not before then (spacing).
    opens_at: Millis,
    /// How many nodes belong here, where a share of them is limited.
    members: u32,
    /// How many of them are unavailable.
    away: u32,
    /// Who waits, in the order of their tickets.
    waiting: BTreeMap<u64, u32>,
}

/// A place in the queue of a gate. The ticket is kept when a node moves on to the next gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) gate: u32,
    pub(crate) ticket: u64,
}

impl Place {
    /// A place in no queue: only the turn is kept.
    pub(crate) fn nowhere(ticket: u64) -> Self {
        Self { gate: u32::MAX, ticket }
    }
}

/// A node that would take a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its place in the table.
    pub(crate) at: u32,
    pub(crate) id: &'a NodeId,
    pub(crate) cfg: &'a Document,
    /// Where it counts as unavailable already: a step takes nothing away there.
    pub(crate) counted: &'a [u32],
    /// Its turn, if it has waited.
    pub(crate) ticket: Option<u64>,
}

/// What a node waits for at a gate.
#[derive(Debug)]
pub(crate) struct Queue {
    /// What is limited.
    pub(crate) limit: String,
    pub(crate) in_flight: u32,
    pub(crate) at_most: Option<u32>,
    pub(crate) unavailable: Option<Unavailable>,
    pub(crate) opens_at: Millis,
    /// How many wait there before it.
    pub(crate) before: usize,
}

/// All limits with all their counts. There are as many gates as limits times values of their facts
/// that were ever configured.
#[derive(Debug)]
pub(crate) struct Gates {
    limits: Vec<Limit>,
    /// The limits that each mutation is subject to; nothing where there are no limits.
    of_mutation: Vec<Vec<usize>>,
    /// The limits on how many nodes may be unavailable.
    shares: Vec<usize>,
    index: FxHashMap<(usize, Option<Value>), u32>,
    gates: Vec<Gate>,
    tickets: u64,
    /// Gates where a place may have become free in this step.
    open: BTreeSet<u32>,
}

impl Gates {
    pub(crate) fn new(limits: &[Limit], set: &ModuleSet) -> Self {
        let limits: Vec<Limit> = limits.iter().flat_map(one_by_one).collect();
        let limits_of = |id| {
            let is_about = |limit: &usize| limits[*limit].of.is_about(set.mutation(id));
            (0..limits.len()).filter(is_about).collect::<Vec<_>>()
        };
        let of_mutation = match limits.is_empty() {
            true => Vec::new(),
            false => set.mutations().map(|(id, _)| limits_of(id)).collect(),
        };
        let shares = (0..limits.len()).filter(|l| limits[*l].unavailable.is_some()).collect();
        Self {
            limits,
            of_mutation,
            shares,
            index: FxHashMap::default(),
            gates: Vec::new(),
            tickets: 0,
            open: BTreeSet::new(),
        }
    }

    /// Other limits in place of these. Turns are kept, and so is the time to the next beginning
    /// where a limit stays the same. Nobody is under way, unavailable or waits here yet.
    pub(crate) fn replaced(&self, limits: &[Limit], set: &ModuleSet, timers: &mut Timers) -> Self {
        let mut new = Self { tickets: self.tickets, ..Self::new(limits, set) };
        for gate in &self.gates {
            let limit = &self.limits[gate.limit];
            let same = new.limits.iter().position(|other| other == limit);
            if let Some(same) = same.filter(|_| !limit.spacing.is_zero()) {
                let id = new.gate(same, gate.of.clone());
                new.gates[id as usize].opens_at = gate.opens_at;
                timers.push(gate.opens_at, Timer::Gate(id));
            }
        }
        new
    }

    /// Whether any limit asks how many nodes are unavailable.
    pub(crate) fn has_shares(&self) -> bool {
        !self.shares.is_empty()
    }

    fn gate(&mut self, limit: usize, of: Option<Value>) -> u32 {
        *self.index.entry((limit, of)).or_insert_with_key(|(limit, of)| {
            self.gates.push(Gate {
                limit: *limit,
                of: of.clone(),
                in_flight: 0,
                opens_at: Millis(0),
                members: 0,
                away: 0,
                waiting: BTreeMap::new(),
            });
            // As many gates as nodes at most, and those are counted in 32 bits.
            u32::try_from(self.gates.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// The gate of a limit at which a node with this cfg counts.
    fn gate_of(&mut self, limit: usize, id: &NodeId, cfg: &Document) -> Option<u32> {
        let Limit { nodes, per, .. } = &self.limits[limit];
        if nodes.as_ref().is_some_and(|group| !group.nodes.contains(id)) {
            return None;
        }
        let of = match per {
            None => None,
            Some(fact) => Some(cfg.get(fact.as_str())?.clone()),
        };
        Some(self.gate(limit, of))
    }

    /// The gates that a step for a node with this cfg has to pass.
    fn gates_of(&mut self, mutation: MutationId, id: &NodeId, cfg: &Document) -> Vec<u32> {
        let Some(limits) = self.of_mutation.get_mut(usize::from(mutation.0)) else {
            return Vec::new();
        };
        let limits = std::mem::take(limits);
        let gates = limits.iter().filter_map(|limit| self.gate_of(*limit, id, cfg)).collect();
        self.of_mutation[usize::from(mutation.0)] = limits;
        gates
    }

    /// The gates at which it counts whether a node with this cfg is available.
    pub(crate) fn shares_of(&mut self, id: &NodeId, cfg: &Document) -> Vec<u32> {
        let limits = std::mem::take(&mut self.shares);
        let gates = limits.iter().filter_map(|limit| self.gate_of(*limit, id, cfg)).collect();
        self.shares = limits;
        gates
    }

    fn is_full(&self, gate: &Gate, now: Millis) -> bool {
        let Limit { in_flight, unavailable, .. } = &self.limits[gate.limit];
        gate.opens_at > now
            || in_flight.is_some_and(|n| gate.in_flight >= n)
            || unavailable.is_some_and(|share| gate.away >= share.of(gate.members))
    }

    /// Takes a place at every gate of a step, or none: then the place in the queue of the first
    /// gate that has none free, or where others came first.
    pub(crate) fn enter(
        &mut self,
        mutation: MutationId,
        who: Candidate<'_>,
        now: Millis,
        timers: &mut Timers,
    ) -> Result<Box<[u32]>, Place> {
        let gates = self.gates_of(mutation, who.id, who.cfg);
        for id in &gates {
            // To keep a node unavailable for the sake of others, who wait because it is, would be
            // for ever.
            if who.counted.contains(id) {
                continue;
            }
            let gate = &self.gates[*id as usize];
            let first = gate.waiting.keys().next().copied();
            let is_overtaking = first.is_some_and(|f| who.ticket.is_none_or(|mine| f < mine));
            if is_overtaking || self.is_full(gate, now) {
                let ticket = who.ticket.unwrap_or_else(|| {
                    self.tickets += 1;
                    self.tickets
                });
                self.gates[*id as usize].waiting.insert(ticket, who.at);
                return Err(Place { gate: *id, ticket });
            }
        }
        for id in &gates {
            let gate = &mut self.gates[*id as usize];
            let spacing = self.limits[gate.limit].spacing;
            gate.in_flight += 1;
            if !spacing.is_zero() {
                gate.opens_at = now.plus(spacing);
                timers.push(gate.opens_at, Timer::Gate(*id));
            }
        }
        Ok(gates.into())
    }

    /// Counts what is under way already when the limits change, whether they let it begin or not.
    pub(crate) fn resume(
        &mut self,
        mutation: MutationId,
        id: &NodeId,
        cfg: &Document,
    ) -> Box<[u32]> {
        let gates = self.gates_of(mutation, id, cfg);
        for id in &gates {
            self.gates[*id as usize].in_flight += 1;
        }
        gates.into()
    }

    /// Counts a node among those of a gate, or no longer.
    pub(crate) fn enrol(&mut self, before: &[u32], after: &[u32]) {
        if before == after {
            return;
        }
        for id in before {
            self.gates[*id as usize].members -= 1;
        }
        for id in after {
            self.gates[*id as usize].members += 1;
            self.may_be_open(*id);
        }
    }

    /// Counts a node as unavailable at these gates and no others.
    pub(crate) fn count_away(&mut self, counted: &mut Vec<u32>, at: Vec<u32>) {
        for id in at.iter().filter(|id| !counted.contains(id)) {
            self.gates[*id as usize].away += 1;
        }
        for id in counted.iter().filter(|id| !at.contains(id)) {
            self.gates[*id as usize].away -= 1;
            self.may_be_open(*id);
        }
        *counted = at;
    }

    /// Whether a mutation is subject to the limit of a gate.
    pub(crate) fn is_about(&self, gate: u32, mutation: MutationId) -> bool {
        let limits = self.of_mutation.get(usize::from(mutation.0));
        limits.is_some_and(|limits| limits.contains(&self.gates[gate as usize].limit))
    }

    /// Gives back the places of an attempt that has ended.
    pub(crate) fn leave(&mut self, gates: &[u32]) {
        for id in gates {
            self.gates[*id as usize].in_flight -= 1;
            self.may_be_open(*id);
        }
    }

    /// No longer waits.
    pub(crate) fn withdraw(&mut self, place: Place) {
        let Some(gate) = self.gates.get_mut(place.gate as usize) else { return };
        gate.waiting.remove(&place.ticket);
        // Whoever is next may have been kept by this one alone.
        self.may_be_open(place.gate);
    }

    pub(crate) fn may_be_open(&mut self, gate: u32) {
        // A timer may be of a gate that went with its limit.
        if self.gates.get(gate as usize).is_some_and(|gate| !gate.waiting.is_empty()) {
            self.open.insert(gate);
        }
    }

    /// A node that waits at a gate with a free place, the longest waiting first.
    pub(crate) fn next_waiting(&mut self, now: Millis) -> Option<u32> {
        while let Some(id) = self.open.first().copied() {
            let gate = &self.gates[id as usize];
            match gate.waiting.values().next() {
                Some(node) if !self.is_full(gate, now) => return Some(*node),
                _ => self.open.remove(&id),
            };
        }
        None
    }

    /// What the limit of a gate is about, for a person.
    pub(crate) fn limit_of(&self, gate: u32) -> String {
        self.limits[self.gates[gate as usize].limit].name(None)
    }

    /// Where a node waits, for a person.
    pub(crate) fn describe(&self, place: Place) -> Option<Queue> {
        let gate = self.gates.get(place.gate as usize)?;
        let limit = &self.limits[gate.limit];
        let (now, of) = (gate.away, gate.members);
        let unavailable = |share: Share| Unavailable { now, of, at_most: share.of(gate.members) };
        Some(Queue {
            limit: limit.name(gate.of.as_ref()),
            in_flight: gate.in_flight,
            at_most: limit.in_flight,
            unavailable: limit.unavailable.map(unavailable),
            opens_at: gate.opens_at,
            before: gate.waiting.range(..place.ticket).count(),
        })
    }
}

/// A limit on steps and a limit on unavailable nodes are waited for apart: a node that is
/// unavailable has to wait for the one and passes the other.
fn one_by_one(limit: &Limit) -> impl Iterator<Item = Limit> + use<> {
    let steps = Limit { unavailable: None, ..limit.clone() };
    let share = Limit { in_flight: None, spacing: Duration::ZERO, ..limit.clone() };
    let limits_steps = steps.in_flight.is_some() || !steps.spacing.is_zero();
    let share = share.unavailable.is_some().then_some(share);
    limits_steps.then_some(steps).into_iter().chain(share)
}

impl Scope {
    fn is_about(&self, mutation: &Mutation) -> bool {
        match self {
            Self::All => true,
            Self::Disruptive => mutation.disruptive,
            Self::Module(module) => *module == mutation.module,
            Self::Mutation(name) => *name == mutation.name,
            Self::AnyOf(names) => names.contains(&mutation.name),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_once = self.in_flight.map(|n| format!("{n} at a time"));
        let spacing = (!self.spacing.is_zero()).then(|| format!("{:?} apart", self.spacing));
        let away = self.unavailable.map(|share| match share {
            Share::Count(count) => format!("at most {count} unavailable"),
            Share::Percent(percent) => format!("at most {percent} % unavailable"),
        });
        let terms: Vec<String> = [at_once, spacing, away].into_iter().flatten().collect();
        write!(f, "{}: {}", self.name(None), terms.join(", "))
    }
}

impl Limit {
    /// What is limited, for a person; where the limit counts apart, for one value.
    fn name(&self, of: Option<&Value>) -> String {
        let mut name = match &self.of {
            Scope::All => "all steps".to_owned(),
            Scope::Disruptive => "disruptive steps".to_owned(),
            Scope::Module(module) => format!("steps of {module}"),
            Scope::Mutation(name) => name.to_string(),
            Scope::AnyOf(names) => names.join(" and "),
        };
        if let Some(group) = &self.nodes {
            name.push_str(&format!(" in {}", group.name));
        }
        match (&self.per, of) {
            (Some(fact), Some(value)) => name.push_str(&format!(" with {fact} = {value}")),
            (Some(fact), None) => name.push_str(&format!(" for each {fact}")),
            _ => {}
        }
        name
    }
}
