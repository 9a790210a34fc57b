//! What stands in the way: the fewest guards without which there would be one.

use crate::costs::Costs;
use crate::explain::Obstacle;
use crate::mutation::Guard;
use crate::policy::Policy;
use crate::set::{Condition, Facts, Goal, ModuleSet, MutationId, State};
use std::cell::Cell;
use std::sync::Arc;

/// How many hurdles are taken away together before single ones are put back instead.
const MAX_TOGETHER: usize = 3;

/// How many sets of hurdles are tried.
const MAX_TRIES: usize = 1000;

/// How many states are looked at while trying, about.
const MAX_VISITED: usize = 200_000;

/// A question to which the answer was that there is no way.
#[derive(Clone, Copy)]
pub(crate) struct Hurdles<'a> {
    pub(crate) set: &'a Arc<ModuleSet>,
    pub(crate) goal: Goal,
    pub(crate) facts: Facts,
    pub(crate) costs: &'a Costs,
    pub(crate) state: State,
}

/// One thing that could be otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Hurdle<'a> {
    /// A guard, in whichever mutations it stands.
    Guard {
        guard: &'a Guard,
        excluded: bool,
    },
    GivenUp(MutationId),
}

/// A hurdle of one mutation.
#[derive(Clone, Copy, PartialEq)]
struct Pair<'a> {
    mutation: MutationId,
    hurdle: Hurdle<'a>,
}

impl<'a> Hurdle<'a> {
    fn of(condition: &'a Condition) -> Self {
        Self::Guard { guard: &condition.guard, excluded: condition.excluded }
    }
}

impl<'a> Hurdles<'a> {
    /// What stands in the way, as far as the policy came.
    pub(crate) fn obstacles(mut self, end: State) -> Vec<Obstacle> {
        self.goal = self.stuck(end);
        let pairs = self.pairs();
        let moved = self.set.steps.iter().fold(0, |mask, step| mask | step.moved());
        let (mut fixed, mut all) = (Vec::new(), Vec::new());
        for pair in &pairs {
            if !all.contains(&pair.hurdle) {
                all.push(pair.hurdle);
            }
            let mut conditions = self.set.step(pair.mutation).conditions.iter();
            let movable =
                conditions.any(|c| Hurdle::of(c) == pair.hurdle && c.reads() & moved != 0);
            if !movable && !fixed.contains(&pair.hurdle) {
                fixed.push(pair.hurdle);
            }
        }
        let hurdles = self.fewest(&fixed).or_else(|| self.fewest(&all)).unwrap_or_default();
        let of_hurdles = |pair: &&Pair<'a>| hurdles.contains(&pair.hurdle);
        let pairs: Vec<Pair<'_>> = pairs.iter().filter(of_hurdles).copied().collect();
        let met = self.met(&hurdles, &pairs);
        let lifted = if self.way(|pair| met.contains(&pair)).0.is_some() { met } else { pairs };
        let mut obstacles: Vec<Obstacle> = lifted.iter().map(|pair| self.obstacle(pair)).collect();
        obstacles.sort();
        obstacles.dedup();
        obstacles
    }

    /// The goal of the groups that are not where they should be.
    fn stuck(&self, end: State) -> Goal {
        let wrong = (end.0 ^ self.goal.0.value) & self.goal.0.mask;
        let variables = &self.set.variables;
        let stuck = variables.iter().filter(|v| v.mask & wrong != 0).map(|v| v.group);
        let stuck: Vec<usize> = stuck.collect();
        let of_stuck = variables.iter().filter(|v| stuck.contains(&v.group));
        self.goal.within(of_stuck.fold(0, |mask, v| mask | v.mask))
    }

    /// Everything that may stand in the way, mutation by mutation.
    fn pairs(&self) -> Vec<Pair<'a>> {
        let set: &'a ModuleSet = self.set;
        let mut pairs = Vec::new();
        for (id, step) in (0..).map(MutationId).zip(&set.steps) {
            let group = |v: &&crate::Variable| v.group == step.group;
            if !set.variables.iter().filter(group).any(|v| v.mask & self.goal.0.mask != 0) {
                continue;
            }
            let guards = step.conditions.iter().map(Hurdle::of);
            pairs.extend(guards.map(|hurdle| Pair { mutation: id, hurdle }));
            if self.costs.is_blocked(id) {
                pairs.push(Pair { mutation: id, hurdle: Hurdle::GivenUp(id) });
            }
        }
        pairs
    }

    /// The way there would be without some hurdles, and how many states were looked at for it.
    fn way(&self, lifted: impl Fn(Pair<'_>) -> bool) -> (Option<Vec<MutationId>>, usize) {
        let set = self.set.relaxed(|mutation, condition| {
            lifted(Pair { mutation, hurdle: Hurdle::of(condition) })
        });
        let set = Arc::new(set);
        let mut costs = self.costs.clone();
        for mutation in self.costs.blocked() {
            if lifted(Pair { mutation, hurdle: Hurdle::GivenUp(mutation) }) {
                costs.clear(mutation);
            }
        }
        let mut policy = Policy::new(&set, self.goal, self.facts, &costs);
        let (path, end) = policy.walk(self.state);
        (set.fulfils(end, self.goal).then_some(path), policy.visited())
    }

    /// The fewest hurdles out of some without which there is a way. Where more than
    /// [`MAX_TOGETHER`] are needed: some of which none can be put back.
    fn fewest(&self, pool: &[Hurdle<'a>]) -> Option<Vec<Hurdle<'a>>> {
        let visited = Cell::new(0);
        let way = |hurdles: &[Hurdle<'a>]| {
            let (way, more) = self.way(|pair| hurdles.contains(&pair.hurdle));
            visited.set(visited.get() + more);
            way.is_some()
        };
        let sizes = 1..=MAX_TOGETHER.min(pool.len());
        for chosen in sizes.flat_map(|size| choices(pool.len(), size)).take(MAX_TRIES) {
            let hurdles: Vec<Hurdle<'a>> = chosen.iter().map(|at| pool[*at]).collect();
            if way(&hurdles) {
                return Some(hurdles);
            }
            if visited.get() > MAX_VISITED {
                break;
            }
        }
        let mut rest = pool.to_vec();
        if !way(&rest) {
            return None;
        }
        for hurdle in pool {
            let fewer: Vec<Hurdle<'a>> = rest.iter().filter(|h| *h != hurdle).copied().collect();
            if way(&fewer) {
                rest = fewer;
            }
        }
        Some(rest)
    }

    /// The hurdles that are met on the way that there would be.
    fn met(&self, hurdles: &[Hurdle<'a>], pairs: &[Pair<'a>]) -> Vec<Pair<'a>> {
        let lifted = |id: MutationId, condition: &Condition| {
            pairs.contains(&Pair { mutation: id, hurdle: Hurdle::of(condition) })
        };
        let relaxed = self.set.relaxed(lifted);
        let (way, _) = self.way(|pair| hurdles.contains(&pair.hurdle));
        let (mut met, mut state) = (Vec::new(), relaxed.forget(self.state, self.facts));
        for id in way.unwrap_or_default() {
            for pair in pairs.iter().filter(|pair| pair.mutation == id) {
                let mut conditions = self.set.step(id).conditions.iter();
                let given_up = matches!(pair.hurdle, Hurdle::GivenUp(_));
                let fails =
                    conditions.any(|c| Hurdle::of(c) == pair.hurdle && !c.met(state, self.facts));
                if (given_up || fails) && !met.contains(pair) {
                    met.push(*pair);
                }
            }
            state = relaxed.after(id, state, self.facts);
        }
        met
    }

    fn obstacle(&self, pair: &Pair<'_>) -> Obstacle {
        let mutation = Arc::clone(&self.set.mutation(pair.mutation).name);
        match pair.hurdle {
            Hurdle::Guard { guard, excluded } => {
                Obstacle { mutation, guard: guard.to_string(), excluded, given_up: false }
            }
            Hurdle::GivenUp(_) => {
                Obstacle { mutation, guard: String::new(), excluded: false, given_up: true }
            }
        }
    }
}

/// All ways to choose some of a number of things, in order.
fn choices(of: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    std::iter::successors((size <= of).then(|| (0..size).collect()), move |last: &Vec<usize>| {
        let at = (0..size).rev().find(|at| last[*at] + size - at < of)?;
        let mut next = last.clone();
        for (further, place) in next[at..].iter_mut().enumerate() {
            *place = last[at] + 1 + further;
        }
        Some(next)
    })
}
