//! `layercake history`: what became of a node.

use super::{Failure, story};
use crate::args::{History, Output};
use crate::client::{Client, path, quoted};
use crate::show;
use layercake_server::api::{Outcome, Passage, Step, What};

pub(crate) async fn run(client: &Client, output: Output, asked: &History) -> Result<(), Failure> {
    let base = format!("/v1/nodes/{}/history?limit={}", quoted(&asked.node), asked.limit);
    let span = &asked.span;
    let query = [("since", span.since.as_deref()), ("until", span.until.as_deref())];
    let passages: Vec<Passage> = client.get(&path(&base, &query)).await?;
    let names = || passages.iter().map(|passage| passage.event.seq.to_string()).collect();
    let table = || told(&asked.node, &passages);
    show::answer(output, &serde_json::to_value(&passages)?, table, names)
}

/// A line for each passage, under the date of its day.
fn told(node: &str, passages: &[Passage]) -> String {
    let mut lines = vec![node.to_owned()];
    let mut day = String::new();
    for Passage { event, step } in passages {
        let at = event.entry.at;
        let date = at.rfc3339()[..10].to_owned();
        if date != day {
            lines.push(date.clone());
            day = date;
        }
        let took = step.as_ref().and_then(|step| step.took_ms).map(show::duration);
        let words = match (step, &event.entry.what) {
            (Some(step), What::Dispatched { mutation, attempt, .. }) => {
                format!("{mutation} {}{}", ended(step, *attempt), story::cause(&event.entry))
            }
            _ => format!("{}{}", story::words(&event.entry), story::cause(&event.entry)),
        };
        let took = took.unwrap_or_default();
        lines.push(format!("  {} {took:>7}  {words}", show::time_of_day(at.0)));
    }
    lines.join("\n")
}

/// How a step ended, and what came of it.
fn ended(step: &Step, attempt: u32) -> String {
    let because = step.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let times = match step.failures {
        Some(failures) => format!(" (failure {failures})"),
        None => String::new(),
    };
    let found = match &*step.found {
        [] => String::new(),
        changes => format!("; found {}", story::list(changes)),
    };
    let outcome = match step.outcome {
        Outcome::UnderWay => "is under way",
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "took too long",
        Outcome::Interrupted => "interrupted",
        Outcome::CutOff => "was under way when the server ended",
    };
    format!("{outcome}{times}{because}{found}, attempt {attempt}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_history_reads_from_the_first_word_to_the_last_step() {
        let day = 1_795_615_500_000_u64;
        let passages: Vec<Passage> = serde_json::from_value(json!([
            {"seq": 1, "at": day, "node": "n1", "what": "configured", "by": "anna",
             "changes": [{"path": "phys_state", "value": "POWER_ON"}]},
            {"seq": 2, "at": day + 5, "node": "n1", "what": "dispatched", "by": "engine",
             "mutation": "power.on", "attempt": 1, "deadline": day,
             "cause": {"plan": {"cost_to_go_ms": 80_000}},
             "step": {"outcome": "failed", "ended": day + 1500, "took_ms": 1495, "found": [],
                      "reason": "no answer", "failures": 1}},
            {"seq": 5, "at": day + 6000, "node": "n1", "what": "dispatched", "by": "engine",
             "mutation": "power.on", "attempt": 2, "deadline": day,
             "step": {"outcome": "done", "ended": day + 18_000, "took_ms": 12_000,
                      "found": [{"path": "phys_state", "value": "POWER_ON"}]}},
            {"seq": 9, "at": day + 86_400_000, "node": "n1", "what": "discovered", "by": "timeout",
             "changes": [{"path": "phys_state", "value": "PHYS_HANG"}],
             "cause": {"attempt": {"mutation": "boot.serve", "attempt": 3}}},
            {"seq": 10, "at": day + 86_400_000, "node": "n1", "what": "held", "by": "anna",
             "why": "new DIMM"}
        ]))
        .unwrap();
        let lines = [
            "n1",
            "2026-11-25",
            "  14:05:00.000          is to be phys_state = POWER_ON (anna)",
            "  14:05:00.005    1.4s  power.on failed (failure 1): no answer, attempt 1, on a way of 1m20s",
            "  14:05:06.000     12s  power.on done; found phys_state = POWER_ON, attempt 2",
            "2026-11-26",
            "  14:05:00.000          phys_state = PHYS_HANG (timeout), because of boot.serve, attempt 3",
            "  14:05:00.000          held by anna (new DIMM)",
        ];
        assert_eq!(told("n1", &passages), lines.join("\n"));
    }
}
