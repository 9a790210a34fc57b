//! What is written down for ever.

use crate::{Domain, Terms};
use kraken_model::{Change, Millis, NodeId, Path};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One thing that happened. A flat JSON object: `at`, `node`, `what`, what belongs to that, `by`,
/// `cause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Millis,
    /// To which node; `None`: to all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// Who or what did it.
    pub by: Arc<str>,
    /// What led to it, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// What the node should be has changed; the first time, the node has come.
    Configured {
        /// The new values.
        changes: Vec<Change>,
    },
    /// The node was taken away.
    Removed,
    /// Something was found out.
    Discovered {
        /// The new values.
        changes: Vec<Change>,
    },
    /// Variables became unknown, because what made them knowable has ended.
    Forgotten {
        /// Which.
        variables: Vec<Path>,
    },
    /// What was known before a restart was taken over, to be confirmed.
    Restored {
        /// What has to be confirmed before anything disruptive is done.
        stale: Vec<Path>,
    },
    /// All that had to be confirmed after a restart has been.
    Adopted,
    /// The node is as it should be.
    Converged,
    /// A step was handed to its module.
    Dispatched {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// Until when its effects have to be discovered.
        deadline: Millis,
    },
    /// The effects of a step were discovered.
    Done {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// A module could not take a step.
    Failed {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// Why.
        reason: Arc<str>,
        /// How many times in a row, with this one.
        failures: u32,
        /// When it may be tried again; `None`: it is given up on this node.
        retry_at: Option<Millis>,
    },
    /// The effects of a step were not discovered in time.
    TimedOut {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// Whether its module had said that it was done.
        answered: bool,
        /// How many times in a row, with this one.
        failures: u32,
        /// When it may be tried again; `None`: it is given up on this node.
        retry_at: Option<Millis>,
    },
    /// A step was dropped before its end.
    Interrupted {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// Why.
        reason: Arc<str>,
    },
    /// The command that took a step printed something.
    Printed {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
        /// Its last lines, in order.
        lines: Vec<Arc<str>>,
        /// How many lines there were before them.
        left_out: u64,
    },
    /// The application has started; what was kept counts again.
    Started {
        /// How many times, with this one.
        epoch: u64,
    },
    /// Other modules count from now on.
    Modules {
        /// The steps that there are besides now.
        added: Vec<Arc<str>>,
        /// The steps that there are no longer.
        removed: Vec<Arc<str>>,
    },
    /// A module ended by itself. It is started again after a pause.
    ModuleEnded {
        /// Why.
        reason: Arc<str>,
        /// How many times since the start of the application, with this one.
        restarts: u64,
    },
    /// A module that had ended runs again.
    ModuleRuns,
    /// What a module said was not taken: not its to say, outside the schemas, or of a node that there is
    /// not. Told the first time, and then each time that there were twice as many.
    ModuleRefused {
        /// The latest of it.
        reason: Arc<str>,
        /// How many since the start of the application.
        refused: u64,
    },
    /// A module says so often that something has changed that only the latest of each value is taken, every
    /// now and then, until it is calm again.
    ModuleFloods {
        /// A node of which it says so.
        example: NodeId,
        /// The value that changes so often.
        path: Path,
    },
    /// A module that flooded does so no longer.
    ModuleCalmed {
        /// How many values were replaced by later ones before they were taken.
        held_back: u64,
        /// How long it had flooded, in milliseconds.
        lasted_ms: u64,
    },
    /// Other limits hold from now on.
    Limits {
        /// All of them, in words.
        limits: Vec<Arc<str>>,
    },
    /// The node was put on hold.
    Held {
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// The hold has ended.
    Released,
    /// Everything disruptive was stopped, on this node or everywhere.
    Frozen {
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// That has ended.
    Thawed,
    /// Somebody said that the node is in use.
    Busy {
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// That has ended.
    Free,
    /// Somebody wants the node to be off once.
    RestartAsked {
        /// Why, until when it may wait, and whether it is hard.
        #[serde(flatten)]
        terms: Terms,
    },
    /// The node was off as a restart wanted; what its cfg wants counts again.
    Restarted,
    /// The restart was withdrawn, or waited for too long.
    RestartWithdrawn,
    /// The failures of the node were forgotten.
    Retried,
    /// The machine of the node was found running and the node is not heard: it is asked what to do.
    FoundRunning,
    /// Somebody said that the machine may be taken over, whatever runs on it.
    TakenOver,
    /// Every way to where the node should be was tried and given up.
    Quarantined {
        /// What failed, and why.
        reason: Arc<str>,
    },
    /// No way leads to where the node should be.
    NoWay {
        /// What stands in the way.
        reason: Arc<str>,
    },
    /// The node is not heard, and is not recovered, or not again, unless a person says so.
    Unheard {
        /// Why.
        reason: Arc<str>,
    },
    /// So many nodes lost what they had at once that everything disruptive is held, there or everywhere.
    StormHold {
        /// How many have lost it.
        lost: usize,
        /// Of how many.
        nodes: usize,
        /// Where; `None`: among all nodes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<Domain>,
    },
    /// That has ended.
    StormOver {
        /// How many are still without it.
        lost: usize,
        /// Of how many.
        nodes: usize,
        /// Where; `None`: among all nodes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<Domain>,
    },
    /// Another storm guard counts from now on.
    StormGuard {
        /// The rule, in words.
        guard: Arc<str>,
    },
}

impl What {
    /// The names that [`What::name`] gives.
    pub const NAMES: [&str; 39] = [
        "configured",
        "removed",
        "discovered",
        "forgotten",
        "restored",
        "adopted",
        "converged",
        "dispatched",
        "done",
        "failed",
        "timed_out",
        "interrupted",
        "printed",
        "started",
        "modules",
        "module_ended",
        "module_runs",
        "module_refused",
        "module_floods",
        "module_calmed",
        "limits",
        "held",
        "released",
        "frozen",
        "thawed",
        "busy",
        "free",
        "restart_asked",
        "restarted",
        "restart_withdrawn",
        "retried",
        "found_running",
        "taken_over",
        "quarantined",
        "no_way",
        "unheard",
        "storm_hold",
        "storm_over",
        "storm_guard",
    ];

    /// Whether it tells that what operators say has changed.
    #[must_use]
    pub fn is_of_marks(&self) -> bool {
        matches!(
            self,
            Self::Held { .. }
                | Self::Released
                | Self::Frozen { .. }
                | Self::Thawed
                | Self::Busy { .. }
                | Self::Free
                | Self::RestartAsked { .. }
                | Self::Restarted
                | Self::RestartWithdrawn
        )
    }

    /// What kind it is, by the name that it has in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
            Self::Removed => "removed",
            Self::Discovered { .. } => "discovered",
            Self::Forgotten { .. } => "forgotten",
            Self::Restored { .. } => "restored",
            Self::Adopted => "adopted",
            Self::Converged => "converged",
            Self::Dispatched { .. } => "dispatched",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Interrupted { .. } => "interrupted",
            Self::Printed { .. } => "printed",
            Self::Started { .. } => "started",
            Self::Modules { .. } => "modules",
            Self::ModuleEnded { .. } => "module_ended",
            Self::ModuleRuns => "module_runs",
            Self::ModuleRefused { .. } => "module_refused",
            Self::ModuleFloods { .. } => "module_floods",
            Self::ModuleCalmed { .. } => "module_calmed",
            Self::Limits { .. } => "limits",
            Self::Held { .. } => "held",
            Self::Released => "released",
            Self::Frozen { .. } => "frozen",
            Self::Thawed => "thawed",
            Self::Busy { .. } => "busy",
            Self::Free => "free",
            Self::RestartAsked { .. } => "restart_asked",
            Self::Restarted => "restarted",
            Self::RestartWithdrawn => "restart_withdrawn",
            Self::Retried => "retried",
            Self::FoundRunning => "found_running",
            Self::TakenOver => "taken_over",
            Self::Quarantined { .. } => "quarantined",
            Self::NoWay { .. } => "no_way",
            Self::Unheard { .. } => "unheard",
            Self::StormHold { .. } => "storm_hold",
            Self::StormOver { .. } => "storm_over",
            Self::StormGuard { .. } => "storm_guard",
        }
    }
}

/// What led to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An attempt whose effects these are, or that fell through.
    Attempt {
        /// The step.
        mutation: Arc<str>,
        /// Which attempt.
        attempt: u32,
    },
    /// The way to where the node should be.
    Plan {
        /// How long the rest of the way is expected to take, in milliseconds.
        cost_to_go_ms: u64,
    },
    /// The time of what an operator said was over.
    Expired {
        /// Who had said it.
        by: Arc<str>,
        /// Until when it was to be.
        until: Millis,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_named_in_words_as_it_is_in_json() {
        let samples = [
            json!({"what": "configured", "changes": []}),
            json!({"what": "removed"}),
            json!({"what": "discovered", "changes": []}),
            json!({"what": "forgotten", "variables": []}),
            json!({"what": "restored", "stale": []}),
            json!({"what": "adopted"}),
            json!({"what": "converged"}),
            json!({"what": "dispatched", "mutation": "a.b", "attempt": 1, "deadline": 1}),
            json!({"what": "done", "mutation": "a.b", "attempt": 1, "took_ms": 1}),
            json!({"what": "failed", "mutation": "a.b", "attempt": 1, "reason": "", "failures": 1, "retry_at": null}),
            json!({"what": "timed_out", "mutation": "a.b", "attempt": 1, "answered": true, "failures": 1, "retry_at": 2}),
            json!({"what": "interrupted", "mutation": "a.b", "attempt": 1, "reason": ""}),
            json!({"what": "printed", "mutation": "a.b", "attempt": 1, "lines": ["x"], "left_out": 0}),
            json!({"what": "started", "epoch": 1}),
            json!({"what": "modules", "added": ["a.b"], "removed": []}),
            json!({"what": "module_ended", "reason": "", "restarts": 1}),
            json!({"what": "module_runs"}),
            json!({"what": "module_refused", "reason": "", "refused": 1}),
            json!({"what": "module_floods", "example": "n1", "path": "a"}),
            json!({"what": "module_calmed", "held_back": 1, "lasted_ms": 1}),
            json!({"what": "limits", "limits": ["all steps: 1 at a time"]}),
            json!({"what": "held", "why": "because", "until": 5}),
            json!({"what": "released"}),
            json!({"what": "frozen"}),
            json!({"what": "thawed"}),
            json!({"what": "busy"}),
            json!({"what": "free"}),
            json!({"what": "restart_asked", "why": "because", "hard": true}),
            json!({"what": "restarted"}),
            json!({"what": "restart_withdrawn"}),
            json!({"what": "retried"}),
            json!({"what": "found_running"}),
            json!({"what": "taken_over"}),
            json!({"what": "quarantined", "reason": ""}),
            json!({"what": "no_way", "reason": ""}),
            json!({"what": "unheard", "reason": ""}),
            json!({"what": "storm_hold", "lost": 1, "nodes": 2}),
            json!({"what": "storm_over", "lost": 1, "nodes": 2,
                   "domain": {"per": "location.rack", "value": "r2"}}),
            json!({"what": "storm_guard", "guard": "20 %"}),
        ];
        let names = samples.map(|sample| {
            let what: What = serde_json::from_value(sample.clone()).unwrap();
            assert_eq!(serde_json::to_value(&what).unwrap(), sample);
            assert_eq!(sample["what"], what.name());
            what.name()
        });
        assert_eq!(names, What::NAMES);
    }
}
