//! The way of one node in a plan: the steps that the engine would take, one by one, and what stops it. Decided as
//! the engine decides (`decide.rs`), but for what only time settles.

use crate::experience::{KindId, Learned};
use crate::outlook::{Outlook, Present};
use crate::status::{Sentence, Status};
use kraken_model::{Document, Millis};
use kraken_plan::{Costs, Explanation, Facts, Goal, State, Step};
use kraken_plan::{ModuleSet, MutationId, PolicyCache, PolicyId, explain};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A way has no more steps: every one brings some variable nearer to its goal, so that this is never reached.
const MAX_STEPS: usize = 1_000;

/// How a node that a plan is made for goes on.
pub(crate) struct Way {
    pub(crate) path: Vec<Leg>,
    /// Why it ends before the goal, for a person.
    pub(crate) stops: Option<String>,
    pub(crate) facts: Facts,
    /// Where it begins.
    pub(crate) state: State,
}

/// One step of a way, and how long it is expected to take.
pub(crate) type Leg = (MutationId, Duration);

type Question = (Goal, Facts, State);

/// Results shared by all nodes that look alike.
pub(crate) struct PlanContext {
    policies: PolicyCache,
    learned: Learned,
    reasons: HashMap<Question, String>,
}

/// A node in the middle of being planned for.
struct Walk<'a> {
    outlook: &'a Outlook,
    present: Option<&'a Present>,
    /// What is wanted of it.
    wanted: Document,
    policy: PolicyId,
    facts: Facts,
    state: State,
    path: Vec<MutationId>,
    /// Why the first step that was passed over is not taken.
    stops: Option<String>,
}

impl PlanContext {
    pub(crate) fn new(learned: Learned) -> Self {
        Self { policies: PolicyCache::default(), learned, reasons: HashMap::new() }
    }

    /// The first steps of other variables, and what leads on as well: what is done while a step has to wait.
    fn alternatives(
        &mut self,
        policy: PolicyId,
        state: State,
        next: MutationId,
    ) -> Vec<MutationId> {
        let mut firsts = vec![next];
        firsts.extend(self.policies.others(policy, state));
        let mut all = Vec::new();
        for first in firsts {
            all.push(first);
            all.extend(self.policies.as_good(policy, state, first));
        }
        all.retain(|id| *id != next);
        all
    }

    /// Why there is no way on from a state, for a person.
    fn no_way(&mut self, set: &Arc<ModuleSet>, question: Question, costs: &Costs) -> String {
        let (goal, facts, state) = question;
        let new = || match explain(set, goal, facts, costs, state) {
            Explanation::NoWay { blocked_by, missing } => {
                let status = Status::NoWay { blocked_by, missing };
                Sentence { status: &status, now: Millis(0) }.to_string()
            }
            other => other.to_string(),
        };
        // What was given up is a reason of its own; without, nodes that look alike have the same.
        match costs.blocked().next() {
            None => self.reasons.entry(question).or_insert_with(new).clone(),
            Some(_) => new(),
        }
    }

    fn leg(&self, set: &ModuleSet, kind: KindId, id: MutationId) -> Leg {
        let measured = self.learned.of(kind, id).map(|known| known.mean_ms);
        (id, measured.map_or(set.mutation(id).cost, Duration::from_millis))
    }
}

impl Outlook {
    /// The way of one node, as far as it goes.
    pub(crate) fn way(
        &self,
        context: &mut PlanContext,
        present: Option<&Present>,
        cfg: &Document,
        dsc: &Document,
    ) -> Way {
        let set = &self.set;
        let kind = context.learned.kind(cfg, dsc);
        let kept = present.filter(|present| present.cfg == *cfg);
        let costs = kept.and_then(|present| present.costs.as_ref());
        let costs = costs.unwrap_or(context.learned.costs(kind)).clone();
        let facts = set.facts(cfg, dsc);
        let found = self.found_running.as_ref();
        let state = found.map_or_else(|| set.state(dsc), |found| found.unheard(set, dsc));
        let state = set.forget(state, facts);
        let (policy, path) = (PolicyId::NONE, Vec::new());
        let (outlook, wanted) = (self, Document::new());
        let mut walk = Walk { outlook, present, wanted, policy, facts, state, path, stops: None };
        let mut stops = None;
        for wanted in self.wanted(present, cfg) {
            let goal = set.goal(&wanted);
            walk.facts = set.facts(&wanted, dsc);
            walk.wanted = wanted;
            walk.policy = context.policies.find(set, goal, walk.facts, &costs);
            walk.run(context);
            if set.fulfils(walk.state, goal) {
                walk.stops = None;
                continue;
            }
            let question = (goal, walk.facts, walk.state);
            stops = Some(match walk.stops.take() {
                Some(stops) => stops,
                None if let Some(status) = found.and_then(|found| found.status(cfg, dsc))
                    && walk.path.is_empty()
                    && costs.blocked().next().is_none() =>
                {
                    Sentence { status: &status, now: Millis(0) }.to_string()
                }
                None => context.no_way(set, question, &costs),
            });
            break;
        }
        let path = walk.path.into_iter().map(|id| context.leg(set, kind, id)).collect();
        Way { path, stops, facts, state }
    }

    /// What is wanted of a node, one after the other: in the middle of a restart that it is off first.
    fn wanted(&self, present: Option<&Present>, cfg: &Document) -> Vec<Document> {
        let is_hard = present.and_then(|present| present.passing);
        let restart = self.restart.as_ref().zip(is_hard);
        let passing = restart.map(|(restart, is_hard)| restart.passing(cfg, is_hard));
        passing.into_iter().chain([cfg.clone()]).collect()
    }
}

impl Walk<'_> {
    fn run(&mut self, context: &mut PlanContext) {
        if let Some(present) = self.present.filter(|p| p.goes_on && self.path.is_empty()) {
            // Where it leads to is in what was foreseen.
            self.path.extend(present.running.map(|(id, _)| id));
        }
        while self.path.len() < MAX_STEPS {
            let step = context.policies.next(self.policy, self.state).unwrap_or(Step::NoWay);
            let Step::Take { mutation: next, .. } = step else { return };
            let Some(id) = self.allowed(context, next) else { return };
            self.path.push(id);
            self.state = self.outlook.set.after(id, self.state, self.facts);
        }
    }

    /// The step that is taken now: the next one, or what is done in its place while it has to wait.
    fn allowed(&mut self, context: &mut PlanContext, next: MutationId) -> Option<MutationId> {
        let stopped = self.stopped(next);
        if stopped.is_none() {
            return Some(next);
        }
        self.stops = self.stops.take().or(stopped);
        let others = context.alternatives(self.policy, self.state, next);
        others.into_iter().find(|id| self.stopped(*id).is_none())
    }

    /// Why a step is not taken as things are, for a person. What is under way is not called back.
    fn stopped(&self, id: MutationId) -> Option<String> {
        let present = self.present;
        let is_under_way = present.and_then(|present| present.running).map(|(id, _)| id);
        if self.path.is_empty() && is_under_way == Some(id) {
            return None;
        }
        if present.is_some_and(|present| present.is_held) {
            return Some("it is held: release it to go on".to_owned());
        }
        let mutation = self.outlook.set.mutation(id);
        if !mutation.disruptive {
            return None;
        }
        let name = &mutation.name;
        if present.map_or(self.outlook.is_frozen, |present| present.is_frozen) {
            return Some(format!("{name} is disruptive, and that is frozen: thaw to go on"));
        }
        let storm = present.and_then(|present| present.storm.as_ref());
        if let Some(storm) = storm {
            return Some(format!("{name} is disruptive, and held: {storm}"));
        }
        let tried = present.map(|present| present.tried).unwrap_or_default();
        let silence = self.outlook.silence.as_ref()?;
        let why = silence.stops(&self.outlook.set, (&self.wanted, self.state, tried), id)?;
        Some(format!("the node is not heard, and {name} waits for a person: {why}"))
    }
}
