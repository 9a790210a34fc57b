//! Costs: the declared ones, and how experience corrects them.

use crate::set::MutationId;
use std::time::Duration;

/// What the dearest mutation costs: 35 years, of which a way can have many without an overflow.
const MAX_MICROS: u64 = 1 << 50;

/// How mutations differ from what they declare, for a kind of node or for one that has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Costs {
    /// What was learned, in place of what is declared; in the order of the mutations.
    learned: Vec<(MutationId, Duration)>,
    corrections: Vec<(MutationId, Correction)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Correction {
    Dearer(Duration),
    Blocked,
}

impl Costs {
    /// The declared costs.
    #[must_use]
    pub fn declared() -> Self {
        Self::default()
    }

    /// Puts what was learned of a mutation in the place of what it declares.
    pub fn expect(&mut self, id: MutationId, cost: Duration) {
        match self.learned.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => self.learned[at].1 = cost,
            Err(at) => self.learned.insert(at, (id, cost)),
        }
    }

    /// What a mutation costs, given what it declares; nothing when it is ruled out.
    #[must_use]
    pub fn cost(&self, id: MutationId, declared: Duration) -> Option<Duration> {
        self.micros(id, declared).map(Duration::from_micros)
    }

    /// Makes a mutation dearer by a penalty; replaces an earlier correction of it.
    pub fn penalise(&mut self, id: MutationId, penalty: Duration) {
        self.correct(id, (!penalty.is_zero()).then_some(Correction::Dearer(penalty)));
    }

    /// Rules a mutation out.
    pub fn block(&mut self, id: MutationId) {
        self.correct(id, Some(Correction::Blocked));
    }

    /// Takes a correction back.
    pub fn clear(&mut self, id: MutationId) {
        self.correct(id, None);
    }

    /// Whether a mutation is ruled out.
    #[must_use]
    pub fn is_blocked(&self, id: MutationId) -> bool {
        self.corrections.contains(&(id, Correction::Blocked))
    }

    /// What is ruled out.
    pub fn blocked(&self) -> impl Iterator<Item = MutationId> {
        let blocked = self.corrections.iter().filter(|(_, c)| *c == Correction::Blocked);
        blocked.map(|(id, _)| *id)
    }

    /// What is corrected of some mutations.
    pub(crate) fn only(&self, some: &[MutationId]) -> Self {
        let corrections = self.corrections.iter().filter(|(id, _)| some.contains(id));
        let learned = self.learned.iter().filter(|(id, _)| some.contains(id));
        Self { learned: learned.copied().collect(), corrections: corrections.copied().collect() }
    }

    /// The same of mutations that have other numbers now; nothing when one of them has none.
    pub(crate) fn renumbered(
        &self,
        number: impl Fn(MutationId) -> Option<MutationId>,
    ) -> Option<Self> {
        let learned = self.learned.iter().map(|(id, cost)| Some((number(*id)?, *cost)));
        let corrections = self.corrections.iter().map(|(id, c)| Some((number(*id)?, *c)));
        let (mut learned, mut corrections): (Vec<_>, Vec<_>) =
            (learned.collect::<Option<_>>()?, corrections.collect::<Option<_>>()?);
        learned.sort_by_key(|(id, _)| *id);
        corrections.sort_by_key(|(id, _)| *id);
        Some(Self { learned, corrections })
    }

    /// What a mutation costs, in microseconds: one at least, so that no cycle is free and every step
    /// of a way brings its end nearer. Nothing: it is ruled out.
    pub(crate) fn micros(&self, id: MutationId, declared: Duration) -> Option<u64> {
        let at = self.corrections.binary_search_by_key(&id, |(id, _)| *id);
        let penalty = match at.map(|at| self.corrections[at].1) {
            Ok(Correction::Blocked) => return None,
            Ok(Correction::Dearer(penalty)) => penalty,
            Err(_) => Duration::ZERO,
        };
        let learned = self.learned.binary_search_by_key(&id, |(id, _)| *id);
        let expected = learned.map_or(declared, |at| self.learned[at].1);
        let micros = expected.saturating_add(penalty).as_micros();
        Some(u64::try_from(micros).unwrap_or(MAX_MICROS).clamp(1, MAX_MICROS))
    }

    /// Whether everything costs what it declares.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.learned.is_empty() && self.corrections.is_empty()
    }

    fn correct(&mut self, id: MutationId, correction: Option<Correction>) {
        let at = self.corrections.binary_search_by_key(&id, |(id, _)| *id);
        match (at, correction) {
            (Ok(at), Some(correction)) => self.corrections[at].1 = correction,
            (Ok(at), None) => drop(self.corrections.remove(at)),
            (Err(at), Some(correction)) => self.corrections.insert(at, (id, correction)),
            (Err(_), None) => {}
        }
    }
}
