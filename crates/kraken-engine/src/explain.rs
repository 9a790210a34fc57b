//! What the engine does about a node and why, what comes next, and when.

use crate::experience::KindId;
use crate::node::{Node, Standing};
use crate::outlook::millis;
use crate::status::{Failed, For, In, Sentence, Status, Want, joined, opening};
use crate::{Engine, Experience, Mark, MarkKind, Marks};
use kraken_model::{Millis, NodeId, Path};
use kraken_plan::{Context, Costs, MutationId, Obstacle, State, explain};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many nodes an explanation names at most.
const MOST_NAMES: usize = 8;

/// What the engine does about a node, or why it does nothing, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The node.
    pub node: NodeId,
    /// When this was so.
    pub at: Millis,
    /// What it does, or why it does nothing.
    pub status: Status,
    /// Since when.
    pub since: Millis,
    /// What cfg wants and is not so.
    pub missing: Vec<Want>,
    /// The steps from here, the one that is under way first.
    pub next: Vec<Expected>,
    /// Why these do not lead to all that it should be, for a person; in a plan too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stops: Option<String>,
    /// What failed on this node.
    pub failures: Vec<FailureView>,
    /// What was seen of it besides that is out of the ordinary, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is known from before a restart only.
    pub stale: Vec<Path>,
    /// What operators say of it; a freeze of everything too, unless it is frozen itself.
    pub marks: Marks,
}

/// A step that is ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// The step.
    pub mutation: Arc<str>,
    /// The module that takes it.
    pub module: Arc<str>,
    /// Who takes it.
    pub by: Context,
    /// What it changes, for a person.
    pub effects: Vec<String>,
    /// Whether it may end what runs on the node.
    pub disruptive: bool,
    /// What it waits for, in words: the first step, unless it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// When it is expected to begin; not, when that depends on something that no clock tells of.
    pub begins: Option<Millis>,
    /// When it is expected to be done, in the same way.
    pub done: Option<Millis>,
    /// How long it is expected to take, in milliseconds.
    pub takes_ms: u64,
    /// What is known of it on hardware of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experience: Option<Experience>,
}

/// What failed on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureView {
    /// The step.
    pub mutation: Arc<str>,
    /// How many times in a row.
    pub failures: u32,
    /// Why, the last time.
    pub reason: Arc<str>,
    /// Not before then; `None`: it is given up.
    pub retry_at: Option<Millis>,
}

impl Engine {
    /// What the engine does about a node, or why it does nothing. Takes longer than a step.
    #[must_use]
    pub fn explain(&mut self, id: &NodeId, now: Millis) -> Option<Explanation> {
        let at = self.nodes.find(id)?;
        let now = self.now.max(now);
        let status = self.status(at)?;
        let next = self.way(at, now, &status);
        let stops = (!next.is_empty()).then(|| self.stops(at)).flatten();
        let node = self.nodes.get(at)?;
        let failures = node.troubles.iter().flat_map(|troubles| &troubles.list);
        Some(Explanation {
            node: id.clone(),
            at: now,
            status,
            since: node.since,
            missing: self.missing(node),
            next,
            stops,
            failures: failures
                .map(|trouble| FailureView {
                    mutation: self.name(trouble.mutation),
                    failures: trouble.failures,
                    reason: Arc::clone(&trouble.reason),
                    retry_at: trouble.retry_at,
                })
                .collect(),
            notes: self.notes_on(node),
            stale: self.stale_paths(at),
            marks: self.marks_on(node),
        })
    }

    /// Everything that operators say that concerns a node.
    fn marks_on(&self, node: &Node) -> Marks {
        let mut marks = node.marks().clone();
        marks.freeze = marks.freeze.or_else(|| self.freeze.clone());
        marks
    }

    fn name(&self, id: MutationId) -> Arc<str> {
        Arc::clone(&self.set.mutation(id).name)
    }

    fn status(&self, at: u32) -> Option<Status> {
        let node = self.nodes.get(at)?;
        let marks = self.marks_on(node);
        let nobody = || Mark { by: Arc::clone(&self.me), terms: Default::default() };
        Some(match node.standing {
            Standing::Loading => Status::Loading,
            Standing::Converged => Status::Converged,
            Standing::Running(_) => self.running_status(node)?,
            Standing::WaitsForNode(id) => Status::WaitsForNode { mutation: self.name(id) },
            Standing::WaitsForParent(id) => Status::WaitsForParent { mutation: self.name(id) },
            Standing::Happens(id) => {
                Status::Happens { mutation: self.name(id), waits_for: self.awaited(node, id) }
            }
            Standing::Held(id) => {
                Status::Held { mutation: self.name(id), mark: marks.hold.unwrap_or_else(nobody) }
            }
            Standing::Frozen(id) => Status::Frozen {
                mutation: self.name(id),
                mark: marks.freeze.unwrap_or_else(nobody),
            },
            Standing::Stale(id) => {
                Status::Stale { mutation: self.name(id), waits_for: self.stale_paths(at) }
            }
            Standing::Doubtful(id) => {
                Status::Doubtful { mutation: self.name(id), waits_for: self.doubtful_paths(at, id) }
            }
            Standing::Unpermitted(id) => Status::Unpermitted { mutation: self.name(id) },
            Standing::Storm(id) => {
                Status::StormHold { mutation: self.name(id), storm: self.storm_view(node)? }
            }
            Standing::Settling(id) => Status::Settling {
                mutation: self.name(id),
                until: self.settles_until(node).unwrap_or(self.now),
                lost_at: node.lost_at?,
                with: self.lost_with(node),
            },
            Standing::Unheard(id) => {
                Status::Unheard { mutation: self.name(id), silence: self.unheard(node, id)? }
            }
            Standing::BackOff(id) => {
                let trouble = node.trouble(id)?;
                Status::BackOff {
                    mutation: self.name(id),
                    until: trouble.retry_at?,
                    failures: trouble.failures,
                    reason: Arc::clone(&trouble.reason),
                }
            }
            Standing::Resting(id) => Status::Resting {
                mutation: self.name(id),
                until: self.rests_until(node, id).unwrap_or(self.now),
            },
            Standing::Queued(id) => self.queued_status(node, id)?,
            Standing::NoWay => self.no_way_status(node),
            Standing::Awaited => self.awaited_status(node),
            Standing::FoundRunning => Status::FoundRunning,
            Standing::LeftRunning => Status::LeftRunning,
            Standing::TooLarge => Status::TooLarge,
            Standing::Quarantined => {
                Status::Quarantined { reason: self.reason_of_quarantine(node) }
            }
        })
    }

    /// What has to be discovered for a step to be done.
    fn awaited(&self, node: &Node, id: MutationId) -> Vec<Want> {
        let effects = self.set.mutation(id).effects.iter();
        let wants = effects.filter_map(|effect| {
            let is = self.set.variable(effect.variable.as_str())?.value(node.state);
            (*is != effect.to).then(|| Want {
                variable: effect.variable.clone(),
                value: Arc::clone(&effect.to),
                or: effect.or.clone(),
                is: Arc::clone(is),
            })
        });
        wants.collect()
    }

    fn running_status(&self, node: &Node) -> Option<Status> {
        let running = node.running.as_ref()?;
        let mutation = self.set.mutation(running.mutation);
        Some(Status::Running {
            mutation: Arc::clone(&mutation.name),
            module: Arc::clone(&mutation.module),
            attempt: running.attempt,
            waits_for: self.awaited(node, running.mutation),
            deadline: running.deadline,
            answered: running.answered,
        })
    }

    fn queued_status(&self, node: &Node, id: MutationId) -> Option<Status> {
        let place = node.place?;
        let queue = self.gates.describe(place)?;
        let counts = |node: &&Node| {
            node.membership.as_ref().is_some_and(|m| m.counted.contains(&place.gate))
        };
        let away: Vec<&Node> = match queue.unavailable {
            Some(_) => self.nodes.iter().filter(counts).collect(),
            None => Vec::new(),
        };
        let given_up = away.iter().filter(|node| node.standing == Standing::Quarantined).count();
        Some(Status::Queued {
            mutation: self.name(id),
            limit: queue.limit,
            in_flight: queue.in_flight,
            at_most: queue.at_most,
            unavailable: queue.unavailable,
            away: away.into_iter().take(MOST_NAMES).map(|node| node.id.clone()).collect(),
            given_up,
            not_before: (queue.opens_at > self.now).then_some(queue.opens_at),
            before: queue.before,
        })
    }

    fn no_way_status(&self, node: &Node) -> Status {
        self.no_way_from(node, node.state)
    }

    fn no_way_from(&self, node: &Node, state: State) -> Status {
        let (blocked_by, missing): (Vec<Obstacle>, _) =
            match explain(&self.set, node.goal, node.facts, &Costs::declared(), state) {
                kraken_plan::Explanation::NoWay { blocked_by, missing } => (blocked_by, missing),
                _ => (Vec::new(), Vec::new()),
            };
        Status::NoWay { blocked_by, missing }
    }

    /// Why the way of a node does not lead to all that it should be, if so.
    fn stops(&mut self, at: u32) -> Option<String> {
        let node = self.nodes.get(at)?;
        let (state, facts) = (node.state, node.facts);
        let from = match &node.running {
            Some(running) => self.set.after(running.mutation, state, facts),
            None => state,
        };
        let path = self.path(at, from);
        let end = path.iter().fold(from, |state, id| self.set.after(*id, state, facts));
        let node = self.nodes.get(at)?;
        if self.set.fulfils(end, node.goal) {
            return None;
        }
        let given_up = node.given_up().next().is_some();
        let reason = || self.reason_of_quarantine(node);
        let status = self.no_way_from(node, end);
        let no_way = Sentence { status: &status, now: self.now }.to_string();
        Some(if given_up { reason() } else { no_way })
    }

    /// The way from here, with the times at which its steps are expected.
    fn way(&mut self, at: u32, now: Millis, status: &Status) -> Vec<Expected> {
        let Some(node) = self.nodes.get(at) else { return Vec::new() };
        let under_way = match (&node.running, node.standing) {
            (Some(running), _) => Some((running.mutation, running.began)),
            (None, Standing::Happens(id)) => Some((id, node.since)),
            _ => None,
        };
        let begins = match node.standing {
            Standing::BackOff(id) => node.trouble(id).and_then(|trouble| trouble.retry_at),
            Standing::Settling(_) => self.settles_until(node),
            Standing::Resting(id) => self.rests_until(node, id),
            _ => None,
        };
        let from = match under_way {
            Some((id, _)) => self.set.after(id, node.state, node.facts),
            None => node.state,
        };
        let kind = node.kind;
        // A step that is under way ends in spite of a hold; none begins after it.
        let is_last = node.marks().hold.is_some() && under_way.is_some();
        let path = self.path(at, from);
        let mut begins = begins.unwrap_or(now).max(now);
        let mut way = Vec::with_capacity(path.len() + 1);
        if let Some((id, began)) = under_way {
            let step = self.expected(id, kind, began);
            way.push(Expected { done: step.done.max(Some(now)), ..step });
        }
        for id in path {
            begins = way.last().and_then(|step: &Expected| step.done).unwrap_or(begins);
            way.push(self.expected(id, kind, begins));
        }
        if is_last {
            way.iter_mut().skip(1).for_each(|step| (step.begins, step.done) = (None, None));
        }
        if under_way.is_none() {
            if let Some(first) = way.first_mut() {
                first.waits_for = status.waits(now);
            }
            if status.has_no_end() {
                way.iter_mut().for_each(|step| (step.begins, step.done) = (None, None));
            }
        }
        way
    }

    fn expected(&self, id: MutationId, kind: KindId, begins: Millis) -> Expected {
        let mutation = self.set.mutation(id);
        let experience = self.learned.of(kind, id);
        let took = experience.map(|known| Duration::from_millis(known.mean_ms));
        let takes = took.unwrap_or(mutation.cost);
        Expected {
            mutation: Arc::clone(&mutation.name),
            module: Arc::clone(&mutation.module),
            by: mutation.context,
            effects: mutation.effects.iter().map(ToString::to_string).collect(),
            disruptive: mutation.disruptive,
            waits_for: None,
            begins: Some(begins),
            done: Some(begins.plus(takes)),
            takes_ms: millis(takes),
            experience,
        }
    }
}

impl Explanation {
    /// Whether the status tells of a mark already.
    fn stands_for(&self, kind: MarkKind) -> bool {
        match self.status {
            Status::Held { .. } => kind == MarkKind::Hold,
            Status::Frozen { .. } => kind == MarkKind::Freeze,
            _ => false,
        }
    }

    /// Whether the status tells of a failure already.
    fn says(&self, failure: &FailureView) -> bool {
        match &self.status {
            Status::BackOff { mutation, .. } => *mutation == failure.mutation,
            Status::Quarantined { .. } => failure.retry_at.is_none(),
            _ => false,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.at;
        writeln!(f, "{}: {}", self.node, Sentence { status: &self.status, now })?;
        if self.status != Status::Converged {
            writeln!(f, "  like this for {}", For { since: self.since, now })?;
        }
        if let Status::NoWay { blocked_by, .. } = &self.status
            && let Some(changes) = opening(blocked_by)
        {
            writeln!(f, "  a way opens when {changes}")?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "  should be: {}", joined(&self.missing, ", "))?;
        }
        for (place, step) in self.next.iter().enumerate() {
            let is_first = place == 0;
            let when = match &self.status {
                Status::Running { .. } if is_first => "now",
                _ if is_first => "next",
                _ => "then",
            };
            write!(f, "  {when} {step}, ")?;
            match step.done {
                None => {
                    let takes = Millis(step.takes_ms);
                    write!(f, "takes {}", For { since: Millis(0), now: takes })?;
                }
                Some(done) if done <= now => f.write_str("should be done by now")?,
                Some(done) => write!(f, "done {}", In { now, then: done })?,
            }
            match &step.experience {
                Some(known) => writeln!(f, " ({known})")?,
                None => writeln!(f)?,
            }
        }
        if let Some(stops) = &self.stops {
            writeln!(f, "  then {stops}")?;
        }
        for failure in self.failures.iter().filter(|failure| !self.says(failure)) {
            let FailureView { mutation, failures, reason, retry_at } = failure;
            let again = match retry_at {
                Some(then) if *then <= now => "may be tried again".to_owned(),
                Some(then) => format!("again {} at the earliest", In { now, then: *then }),
                None => "given up".to_owned(),
            };
            writeln!(f, "  {mutation} failed{}: {reason}; {again}", Failed(*failures))?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        for (kind, mark) in self.marks.iter().filter(|(kind, _)| !self.stands_for(*kind)) {
            let is_last = kind == MarkKind::Hold && matches!(self.status, Status::Running { .. });
            let more = if is_last { ": nothing more is done until it is released" } else { "" };
            writeln!(f, "  {kind} by {mark}{more}")?;
        }
        if !self.stale.is_empty() && !matches!(self.status, Status::Stale { .. }) {
            writeln!(f, "  known from before the restart only: {}", joined(&self.stale, ", "))?;
        }
        Ok(())
    }
}
