//! Policies for many nodes: those that look alike share one.

use crate::costs::Costs;
use crate::policy::{Policy, Step};
use crate::set::{Facts, Goal, ModuleSet, State};
use crate::word::WordHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

/// How many policies are kept. Fleets have few kinds of nodes; failures make some more.
const MAX_POLICIES: usize = 1024;

type Key = (Goal, Facts, Costs);

/// Policies of one module set, by what they are for.
#[derive(Debug, Default)]
pub struct PolicyCache {
    policies: HashMap<Key, Cached, BuildHasherDefault<WordHasher>>,
}

#[derive(Debug)]
struct Cached {
    policy: Policy,
    /// Whether it was asked since the last sweep.
    asked: bool,
}

impl PolicyCache {
    /// What to do next in a state, for a goal, facts and costs.
    pub fn next(
        &mut self,
        set: &Arc<ModuleSet>,
        goal: Goal,
        facts: Facts,
        costs: &Costs,
        state: State,
    ) -> Step {
        self.policy(set, goal, facts, costs).next(state)
    }

    /// The policy for a goal, facts and costs. When too many are kept, those go that nobody asked
    /// since this happened last, and all when that frees nothing.
    pub fn policy(
        &mut self,
        set: &Arc<ModuleSet>,
        goal: Goal,
        facts: Facts,
        costs: &Costs,
    ) -> &mut Policy {
        let key = (goal, facts, costs.clone());
        if self.policies.len() >= MAX_POLICIES && !self.policies.contains_key(&key) {
            self.policies.retain(|_, cached| std::mem::take(&mut cached.asked));
            if self.policies.len() >= MAX_POLICIES {
                self.policies.clear();
            }
        }
        let new = || Cached { policy: Policy::new(set, goal, facts, costs), asked: true };
        let cached = self.policies.entry(key).or_insert_with(new);
        cached.asked = true;
        &mut cached.policy
    }

    /// How many policies are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}
