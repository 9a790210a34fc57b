//! What became of one node: its steps, each with its end and what came of it, and all that happened
//! in between.

use super::events::{Wanted, find, span};
use super::{Problem, select};
use crate::server::App;
use axum::Json;
use axum::extract::{Path, Query, State};
use kraken::{Cause, Event, What};
use kraken_model::{Change, Millis, NodeId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many events of a node are told of unless more are asked for.
const LIMIT: usize = 2000;

/// How many can be asked for.
const MAX_LIMIT: usize = 100_000;

/// One thing that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// What happened, or the beginning of a step.
    #[serde(flatten)]
    pub event: Event,
    /// What became of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// What became of a step that was dispatched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub ended: Option<Millis>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
    /// What was discovered as its effect.
    pub found: Vec<Change>,
    /// Why it failed or was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// How many times in a row it has failed, with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not.
    #[default]
    UnderWay,
    /// Its effects were discovered.
    Done,
    /// Its module could not take it.
    Failed,
    /// Its effects were not discovered in time.
    TimedOut,
    /// It was dropped.
    Interrupted,
    /// The server ended before it did.
    CutOff,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Not before.
    since: Option<String>,
    /// Not after.
    until: Option<String>,
    /// How many events at most, the latest.
    limit: Option<usize>,
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<Passage>>, Problem> {
    let kraken = app.kraken()?;
    // Of a node that is gone there is still its history.
    let node = NodeId::new(&name).or_else(|_| select::node(&app, &name))?;
    let span = span(kraken, asked.since.as_deref(), asked.until.as_deref()).await?;
    let limit = asked.limit.unwrap_or(LIMIT).min(MAX_LIMIT);
    let events = find(kraken, &Wanted::of(node), span, limit, false).await?;
    if events.is_empty() {
        select::node(&app, &name)?;
    }
    Ok(Json(fold(events)))
}

/// Puts the end of every step, and what was found of it, to its beginning.
fn fold(events: Vec<Event>) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    // The last step that began: there is never more than one under way.
    let mut last: Option<(usize, Arc<str>, u32)> = None;
    for event in events {
        if let What::Dispatched { mutation, attempt, .. } = &event.entry.what {
            if let Some(before) = last.and_then(|(at, ..)| passages[at].step.as_mut()) {
                before.cut_off();
            }
            last = Some((passages.len(), Arc::clone(mutation), *attempt));
            passages.push(Passage { event, step: Some(Step::default()) });
            continue;
        }
        let is_of = |mutation: &Arc<str>, attempt: u32| {
            last.as_ref().filter(|(_, m, a)| m == mutation && *a == attempt).map(|(at, ..)| *at)
        };
        let of = attempt_of(&event).and_then(|(mutation, attempt)| is_of(mutation, attempt));
        let step = of.and_then(|at| {
            let began = passages[at].event.entry.at;
            passages[at].step.as_mut().map(|step| (step, began))
        });
        if step.is_some_and(|(step, began)| step.take(&event, began)) {
            continue;
        }
        if let (What::Restored { .. }, Some((at, ..))) = (&event.entry.what, &last) {
            passages[*at].step.iter_mut().for_each(Step::cut_off);
        }
        passages.push(Passage { event, step: None });
    }
    passages
}

/// The attempt that an event tells of.
fn attempt_of(event: &Event) -> Option<(&Arc<str>, u32)> {
    match (&event.entry.what, &event.entry.cause) {
        (
            What::Done { mutation, attempt, .. }
            | What::Failed { mutation, attempt, .. }
            | What::TimedOut { mutation, attempt, .. }
            | What::Interrupted { mutation, attempt, .. },
            _,
        )
        | (What::Discovered { .. }, Some(Cause::Attempt { mutation, attempt })) => {
            Some((mutation, *attempt))
        }
        _ => None,
    }
}

impl Step {
    fn cut_off(&mut self) {
        if self.outcome == Outcome::UnderWay {
            self.outcome = Outcome::CutOff;
        }
    }

    /// Takes what an event tells of it, if it is still under way. Whether it did.
    fn take(&mut self, event: &Event, began: Millis) -> bool {
        if self.outcome != Outcome::UnderWay {
            return false;
        }
        let end = event.entry.at;
        match &event.entry.what {
            What::Discovered { changes } => {
                self.found.extend(changes.iter().cloned());
                return true;
            }
            What::Done { .. } => self.outcome = Outcome::Done,
            What::Failed { reason, failures, .. } => {
                self.outcome = Outcome::Failed;
                (self.reason, self.failures) = (Some(Arc::clone(reason)), Some(*failures));
            }
            What::TimedOut { failures, answered, .. } => {
                self.outcome = Outcome::TimedOut;
                self.failures = Some(*failures);
                let reason = "its module said that it was done, but nobody saw it";
                self.reason = answered.then(|| reason.into());
            }
            What::Interrupted { reason, .. } => {
                self.outcome = Outcome::Interrupted;
                self.reason = Some(Arc::clone(reason));
            }
            _ => return false,
        }
        self.ended = Some(end);
        self.took_ms = Some(u64::try_from(end.since(began).as_millis()).unwrap_or(u64::MAX));
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn told(events: &[Value]) -> Vec<(u64, Option<Step>)> {
        let event = |(n, value): (usize, &Value)| {
            let mut value = value.clone();
            value["seq"] = json!(n);
            value["node"] = json!("n1");
            value["by"] = json!("engine");
            serde_json::from_value(value).unwrap()
        };
        let events = events.iter().enumerate().map(event).collect();
        fold(events).into_iter().map(|passage| (passage.event.seq, passage.step)).collect()
    }

    fn dispatched(at: u64, attempt: u32) -> Value {
        json!({"at": at, "what": "dispatched", "mutation": "power.on", "attempt": attempt, "deadline": 0})
    }

    #[test]
    fn the_end_of_a_step_and_what_was_found_stand_at_its_beginning() {
        let changes = json!([{"path": "phys_state", "value": "POWER_ON"}]);
        let cause = json!({"attempt": {"mutation": "power.on", "attempt": 2}});
        let lines = told(&[
            json!({"at": 1, "what": "configured", "changes": []}),
            dispatched(2, 1),
            json!({"at": 5, "what": "failed", "mutation": "power.on", "attempt": 1, "reason": "no power", "failures": 1, "retry_at": 9}),
            dispatched(10, 2),
            json!({"at": 20, "what": "discovered", "changes": changes, "cause": cause}),
            json!({"at": 21, "what": "done", "mutation": "power.on", "attempt": 2, "took_ms": 11}),
            json!({"at": 30, "what": "discovered", "changes": changes}),
        ]);
        let numbers: Vec<u64> = lines.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(numbers, [0, 1, 3, 6]);
        let failed = lines[1].1.as_ref().unwrap();
        assert_eq!((failed.outcome, failed.took_ms), (Outcome::Failed, Some(3)));
        assert_eq!(failed.reason.as_deref(), Some("no power"));
        let done = lines[2].1.as_ref().unwrap();
        assert_eq!((done.outcome, done.took_ms, done.found.len()), (Outcome::Done, Some(11), 1));
    }

    #[test]
    fn what_the_end_of_the_server_cut_off_is_said_so_and_what_goes_on_goes_on() {
        let lines = told(&[
            dispatched(1, 7),
            json!({"at": 2, "what": "restored", "stale": ["run_state"]}),
            dispatched(3, 1),
            json!({"at": 4, "what": "done", "mutation": "power.on", "attempt": 7, "took_ms": 3}),
        ]);
        let outcomes: Vec<_> =
            lines.iter().map(|(_, step)| step.as_ref().map(|s| s.outcome)).collect();
        assert_eq!(outcomes, [Some(Outcome::CutOff), None, Some(Outcome::UnderWay), None]);
    }
}
