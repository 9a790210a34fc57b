//! Limits, counted again from outside.

use kraken_engine::{Limit, Scope};
use kraken_model::{Document, Millis, Value};
use kraken_plan::Mutation;
use std::collections::BTreeMap;

/// What a step counts towards: a limit, and the value of the fact it is counted apart for.
pub(crate) type Count = (usize, Option<Value>);

/// How many steps are under way, and when the last one began.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: Vec<Limit>,
    under_way: BTreeMap<Count, u32>,
    last_began: BTreeMap<Count, Millis>,
}

impl Quotas {
    pub(crate) fn new(limits: Vec<Limit>) -> Self {
        Self { limits, under_way: BTreeMap::new(), last_began: BTreeMap::new() }
    }

    /// A step begins for a node with this cfg: what it counts towards, or which limit it breaks.
    pub(crate) fn enter(
        &mut self,
        now: Millis,
        mutation: &Mutation,
        cfg: &Document,
    ) -> Result<Vec<Count>, String> {
        let mut counts = Vec::new();
        let mut broken = None;
        for (index, limit) in self.limits.iter().enumerate() {
            let is_about = match &limit.of {
                Scope::All => true,
                Scope::Disruptive => mutation.disruptive,
                Scope::Module(module) => *module == mutation.module,
                Scope::Mutation(name) => *name == mutation.name,
                Scope::AnyOf(names) => names.contains(&mutation.name),
            };
            let value = match &limit.per {
                None => None,
                Some(fact) => match cfg.get(fact.as_str()) {
                    None => continue,
                    value => value.cloned(),
                },
            };
            if !is_about {
                continue;
            }
            let count = (index, value);
            let under_way = self.under_way.entry(count.clone()).or_default();
            *under_way += 1;
            if limit.in_flight.is_some_and(|most| *under_way > most) {
                broken = Some(format!("{under_way} are under way, above a limit"));
            }
            let last = self.last_began.insert(count.clone(), now);
            if last.is_some_and(|last| now.since(last) < limit.spacing) {
                broken = Some(format!("the last one began less than {:?} ago", limit.spacing));
            }
            counts.push(count);
        }
        broken.map_or(Ok(counts), Err)
    }

    /// A step has ended.
    pub(crate) fn leave(&mut self, counts: &[Count]) {
        for count in counts {
            if let Some(under_way) = self.under_way.get_mut(count) {
                *under_way = under_way.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_plan::Context;
    use std::time::Duration;

    #[test]
    fn one_above_a_limit_and_one_too_early_are_seen() {
        let on = Mutation::new("power", "on", Context::Child);
        let scope = || Scope::Module("power".into());
        let mut quotas = Quotas::new(vec![Limit::at_most(1, scope())]);
        let counts = quotas.enter(Millis(0), &on, &Document::new()).unwrap();
        quotas.leave(&counts);
        quotas.enter(Millis(0), &on, &Document::new()).unwrap();
        assert!(quotas.enter(Millis(0), &on, &Document::new()).is_err());

        let mut quotas = Quotas::new(vec![Limit::spaced(Duration::from_millis(9), scope())]);
        quotas.enter(Millis(0), &on, &Document::new()).unwrap();
        quotas.enter(Millis(9), &on, &Document::new()).unwrap();
        assert!(quotas.enter(Millis(17), &on, &Document::new()).is_err());
    }
}
