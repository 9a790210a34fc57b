//! Limits: how many steps may be under way at a time, and who waits for a place.

use crate::fasthash::FastMap;
use crate::timers::{Timer, Timers};
use crate::{Limit, Scope};
use kraken_model::{Document, Millis, Value};
use kraken_plan::{ModuleSet, MutationId};
use std::collections::{BTreeMap, BTreeSet};

/// One count of one limit: of a rack, of a module, of everything.
#[derive(Debug)]
struct Gate {
    limit: usize,
    of: Option<Value>,
    in_flight: u32,
    /// Not before then (spacing).
    opens_at: Millis,
    /// Who waits, in the order of their tickets.
    waiting: BTreeMap<u64, u32>,
}

/// A place in the queue of a gate. The ticket is kept when a node moves on to the next gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) gate: u32,
    pub(crate) ticket: u64,
}

/// What a node waits for at a gate.
#[derive(Debug)]
pub(crate) struct Queue {
    /// What is limited.
    pub(crate) limit: String,
    pub(crate) in_flight: u32,
    pub(crate) at_most: Option<u32>,
    pub(crate) opens_at: Millis,
    /// How many wait there before it.
    pub(crate) before: usize,
}

/// All limits with all their counts. There are as many gates as limits times values of their facts
/// that were ever configured.
#[derive(Debug)]
pub(crate) struct Gates {
    limits: Vec<Limit>,
    /// The limits that each mutation is subject to.
    of_mutation: Vec<Vec<usize>>,
    index: FastMap<(usize, Option<Value>), u32>,
    gates: Vec<Gate>,
    tickets: u64,
    /// Gates where a place may have become free in this step.
    open: BTreeSet<u32>,
}

impl Gates {
    pub(crate) fn new(limits: Vec<Limit>, set: &ModuleSet) -> Self {
        let is_about = |limit: &Limit, id: MutationId| match &limit.of {
            Scope::All => true,
            Scope::Module(module) => *module == set.mutation(id).module,
            Scope::Mutation(name) => *name == set.mutation(id).name,
        };
        let limits_of =
            |id| (0..limits.len()).filter(|l| is_about(&limits[*l], id)).collect::<Vec<_>>();
        let of_mutation = set.mutations().map(|(id, _)| limits_of(id)).collect();
        Self {
            limits,
            of_mutation,
            index: FastMap::default(),
            gates: Vec::new(),
            tickets: 0,
            open: BTreeSet::new(),
        }
    }

    /// The gates that a step for a node with this cfg has to pass.
    fn gates_of(&mut self, mutation: MutationId, cfg: &Document) -> Vec<u32> {
        let limits = &self.of_mutation[usize::from(mutation.0)];
        let mut gates = Vec::with_capacity(limits.len());
        for limit in limits {
            let of = match &self.limits[*limit].per {
                None => None,
                Some(fact) => match cfg.get(fact.as_str()) {
                    None => continue,
                    value => value.cloned(),
                },
            };
            let gate = self.index.entry((*limit, of)).or_insert_with_key(|(limit, of)| {
                let waiting = BTreeMap::new();
                let (in_flight, opens_at) = (0, Millis(0));
                self.gates.push(Gate {
                    limit: *limit,
                    of: of.clone(),
                    in_flight,
                    opens_at,
                    waiting,
                });
                // As many gates as nodes at most, and those are counted in 32 bits.
                u32::try_from(self.gates.len() - 1).unwrap_or(u32::MAX)
            });
            gates.push(*gate);
        }
        gates
    }

    fn is_full(&self, gate: &Gate, now: Millis) -> bool {
        let at_most = self.limits[gate.limit].in_flight;
        gate.opens_at > now || at_most.is_some_and(|n| gate.in_flight >= n)
    }

    /// Takes a place at every gate of a step, or none: then the place in the queue of the first
    /// gate that has none free, or where others came first.
    pub(crate) fn enter(
        &mut self,
        mutation: MutationId,
        cfg: &Document,
        node: u32,
        ticket: Option<u64>,
        now: Millis,
        timers: &mut Timers,
    ) -> Result<Box<[u32]>, Place> {
        let gates = self.gates_of(mutation, cfg);
        for id in &gates {
            let gate = &self.gates[*id as usize];
            let first = gate.waiting.keys().next().copied();
            let is_overtaking = first.is_some_and(|first| ticket.is_none_or(|mine| first < mine));
            if is_overtaking || self.is_full(gate, now) {
                let ticket = ticket.unwrap_or_else(|| {
                    self.tickets += 1;
                    self.tickets
                });
                self.gates[*id as usize].waiting.insert(ticket, node);
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

    /// Gives back the places of an attempt that has ended.
    pub(crate) fn leave(&mut self, gates: &[u32]) {
        for id in gates {
            self.gates[*id as usize].in_flight -= 1;
            self.may_be_open(*id);
        }
    }

    /// No longer waits.
    pub(crate) fn withdraw(&mut self, place: Place) {
        self.gates[place.gate as usize].waiting.remove(&place.ticket);
        // Whoever is next may have been kept by this one alone.
        self.may_be_open(place.gate);
    }

    pub(crate) fn may_be_open(&mut self, gate: u32) {
        if !self.gates[gate as usize].waiting.is_empty() {
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

    /// Where a node waits, for a person.
    pub(crate) fn describe(&self, place: Place) -> Queue {
        let gate = &self.gates[place.gate as usize];
        let limit = &self.limits[gate.limit];
        let mut name = match &limit.of {
            Scope::All => "all steps".to_owned(),
            Scope::Module(module) => format!("steps of {module}"),
            Scope::Mutation(name) => name.to_string(),
        };
        if let (Some(fact), Some(value)) = (&limit.per, &gate.of) {
            name.push_str(&format!(" with {fact} = {value}"));
        }
        Queue {
            limit: name,
            in_flight: gate.in_flight,
            at_most: limit.in_flight,
            opens_at: gate.opens_at,
            before: gate.waiting.range(..place.ticket).count(),
        }
    }
}
