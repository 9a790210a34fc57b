//! Policies for many nodes: those that look alike share one, and policies share what they have in common.
//!
//! A policy is for a goal, the facts that matter to it, and costs. What was found out about a group of
//! variables depends on its own part of these alone, and is shared by all policies that agree on that
//! part: a fact that changes costs one group a new search, and the others nothing.

use crate::carry::Carry;
use crate::costs::Costs;
use crate::group::{Group, Known};
use crate::policy::{Answers, Step, walk};
use crate::set::{Facts, Goal, ModuleSet, MutationId, State};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How many policies are kept. Fleets have few kinds of nodes; failures make some more.
const MAX_POLICIES: usize = 1024;

/// How many groups are kept; beyond, everything begins anew.
const MAX_GROUPS: usize = 4 * MAX_POLICIES;

/// What a policy is for: the goal, the facts that matter to it, and what things cost.
type Key = (Goal, Facts, Costs);

/// What a group depends on: its number, and its parts of goal, facts and costs.
type GroupKey = (usize, Goal, Facts, Costs);

/// Policies of one module set, by what they are for.
#[derive(Debug, Default)]
pub struct PolicyCache {
    places: FxHashMap<Key, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    group_places: FxHashMap<GroupKey, usize>,
    groups: Vec<Group>,
}

/// A policy of a [`PolicyCache`], to be asked without being looked for. It may be thrown away to make room,
/// which is noticed when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyId {
    slot: u32,
    generation: u32,
}

/// A place for a policy; with each one that comes there the generation counts on.
#[derive(Debug)]
struct Slot {
    generation: u32,
    cached: Option<Cached>,
}

#[derive(Debug)]
struct Cached {
    key: Key,
    answers: Answers,
    /// The groups that its goal speaks of, in order.
    groups: Vec<usize>,
    /// Whether it was asked since the last sweep.
    asked: bool,
}

/// A policy that is kept, if it is still the one that is meant.
fn cached(slots: &[Slot], id: PolicyId) -> Option<&Cached> {
    let slot = slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation);
    slot?.cached.as_ref()
}

impl PolicyId {
    /// No policy.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0 };
}

impl PolicyCache {
    /// The policy for a goal, facts and costs. When too many are kept, those go that nobody asked
    /// since this happened last, and all when that frees nothing.
    ///
    /// Facts that no mutation of the goal's groups looks at make no difference: nodes that differ only in
    /// such facts share a policy.
    pub fn find(
        &mut self,
        set: &Arc<ModuleSet>,
        goal: Goal,
        facts: Facts,
        costs: &Costs,
    ) -> PolicyId {
        let facts = Facts(facts.0 & set.facts_for(goal));
        let key = (goal, facts, costs.clone());
        if let Some(slot) = self.places.get(&key) {
            let slot = *slot;
            return PolicyId { slot, generation: self.slots[slot as usize].generation };
        }
        self.make_room();
        let groups = self.groups(set, &key);
        let answers = Answers::new(set, goal, facts);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, cached: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        place.cached = Some(Cached { key: key.clone(), answers, groups, asked: true });
        self.places.insert(key, slot);
        PolicyId { slot, generation: place.generation }
    }

    /// What a policy says of a state; nothing when it was thrown away meanwhile and has to be
    /// [found](Self::find) anew. The state after the step is right in what the goal's groups look at.
    #[inline]
    pub fn next(&mut self, id: PolicyId, state: State) -> Option<Step> {
        let slot =
            self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)?;
        let cached = slot.cached.as_mut()?;
        cached.asked = true;
        let Cached { answers, groups, .. } = cached;
        let all = &mut self.groups;
        let look_up = |nth: usize, set: &ModuleSet, facts, state| -> Option<Known> {
            Some(all[*groups.get(nth)?].look_up(set, facts, state))
        };
        Some(answers.next(state, look_up))
    }

    /// The first steps of the goal's other groups, besides the one that [`PolicyCache::next`] says: what can be done
    /// while that one has to wait. Groups have nothing to do with each other.
    pub fn others(&mut self, id: PolicyId, state: State) -> Vec<MutationId> {
        let Some(Cached { answers, groups, .. }) = cached(&self.slots, id) else {
            return Vec::new();
        };
        if groups.len() < 2 {
            return Vec::new();
        }
        let all = &mut self.groups;
        answers.others(state, |nth, set, facts, state| {
            Some(all[*groups.get(nth)?].look_up(set, facts, state))
        })
    }

    /// The steps that lead on from a state as well as this one does, at the same cost and for the same variables: what can
    /// be done in its place while it has to wait.
    pub fn as_good(&mut self, id: PolicyId, state: State, than: MutationId) -> Vec<MutationId> {
        let Some(Cached { answers, groups, .. }) = cached(&self.slots, id) else {
            return Vec::new();
        };
        let all = &mut self.groups;
        let group = groups.iter().copied().find(|group| all[*group].moves_with(than));
        group.map_or(Vec::new(), |group| answers.as_good(state, &mut all[group]))
    }

    /// The mutations from a state to the goal of a policy, as far as there is a way; nothing when the policy
    /// was thrown away.
    pub fn path(&mut self, id: PolicyId, state: State) -> Vec<MutationId> {
        walk(state, |state| self.next(id, state).unwrap_or(Step::NoWay)).0
    }

    /// Whether a policy is kept, and is for this.
    #[must_use]
    pub fn is_for(
        &self,
        id: PolicyId,
        set: &ModuleSet,
        goal: Goal,
        facts: Facts,
        costs: &Costs,
    ) -> bool {
        cached(&self.slots, id).is_some_and(|Cached { key, .. }| {
            key.0 == goal && key.1.0 == facts.0 & set.facts_for(goal) && key.2 == *costs
        })
    }

    /// Whether a policy is kept.
    #[must_use]
    pub fn holds(&self, id: PolicyId) -> bool {
        cached(&self.slots, id).is_some()
    }

    /// Goes over to another module set. Policies are made anew when they are asked for, of groups; what was
    /// found out about the groups that are the same stays.
    pub fn go_over(&mut self, old: &ModuleSet, new: &ModuleSet) {
        self.sweep(|_| false);
        let carry = Carry::new(old, new);
        let mut groups: Vec<Option<Group>> = self.groups.drain(..).map(Some).collect();
        for ((group, goal, facts, costs), place) in std::mem::take(&mut self.group_places) {
            let key = || -> Option<GroupKey> {
                let (goal, facts) = (carry.goal(goal)?, carry.facts(facts)?);
                Some((carry.group(group)?, goal, facts, carry.costs(&costs)?))
            };
            let group = key().and_then(|key| Some((key, groups[place].take()?.carried(&carry)?)));
            if let Some((key, group)) = group {
                self.group_places.insert(key, self.groups.len());
                self.groups.push(group);
            }
        }
    }

    /// How many policies are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many states all searches have looked at so far, in the groups that are kept: what the policies
    /// have cost.
    #[must_use]
    pub fn visited(&self) -> usize {
        self.groups.iter().map(Group::visited).sum()
    }

    fn make_room(&mut self) {
        if self.places.len() >= MAX_POLICIES {
            self.sweep(|cached| std::mem::take(&mut cached.asked));
        }
        if self.places.len() >= MAX_POLICIES || self.groups.len() >= MAX_GROUPS {
            self.sweep(|_| false);
            self.groups.clear();
            self.group_places.clear();
        }
    }

    /// Throws away the policies that are not to be kept.
    fn sweep(&mut self, keep: impl Fn(&mut Cached) -> bool) {
        for (place, slot) in (0..).zip(&mut self.slots) {
            if slot.cached.as_mut().is_some_and(|cached| !keep(cached)) {
                let gone = slot.cached.take();
                gone.inspect(|cached| {
                    self.places.remove(&cached.key);
                });
                self.free.push(place);
            }
        }
    }

    /// The groups that a goal speaks of, each with what is known of it already.
    fn groups(&mut self, set: &ModuleSet, (goal, facts, costs): &Key) -> Vec<usize> {
        let spoken = set.groups_of(*goal);
        let place = |group: usize| {
            let own = set.own_mask(group);
            let key = (
                group,
                goal.within(own),
                Facts(facts.0 & set.group_facts(group)),
                costs.only(&set.groups[group]),
            );
            let (groups, places) = (&mut self.groups, &mut self.group_places);
            *places.entry(key).or_insert_with(|| {
                groups.push(Group::new(set, group, *goal, *facts, costs));
                groups.len() - 1
            })
        };
        spoken.into_iter().map(place).collect()
    }
}
