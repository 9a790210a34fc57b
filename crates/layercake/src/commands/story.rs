//! Events in words.

use crate::show;
use kraken_model::counted;
use layercake_server::api::{Cause, Change, Domain, Entry, What};
use std::sync::Arc;

/// What happened, in one line.
pub(crate) fn words(entry: &Entry) -> String {
    let by = &entry.by;
    match &entry.what {
        What::Configured { changes } => format!("is to be {} ({by})", list(changes)),
        What::Removed => format!("removed ({by})"),
        What::Discovered { changes } => format!("{} ({by})", list(changes)),
        What::Forgotten { variables } => {
            let names: Vec<&str> = variables.iter().map(|path| path.as_str()).collect();
            format!("can no longer be known: {}", names.join(", "))
        }
        What::Restored { .. } => "was known before the start; waiting to hear of it".to_owned(),
        What::Adopted => "heard of again: adopted as it is".to_owned(),
        What::Converged => "is as it should be".to_owned(),
        What::Dispatched { mutation, attempt, .. } => format!("{mutation}, attempt {attempt}"),
        What::Done { mutation, took_ms, .. } => {
            format!("{mutation} done in {}", show::duration(*took_ms))
        }
        What::Failed { mutation, reason, failures, .. } => {
            format!("{mutation} failed (failure {failures}): {reason}")
        }
        What::TimedOut { mutation, failures, .. } => {
            format!("{mutation} took too long (failure {failures})")
        }
        What::Interrupted { mutation, reason, .. } => format!("{mutation} interrupted: {reason}"),
        What::Printed { mutation, lines, left_out, .. } => printed(mutation, lines, *left_out),
        What::Started { epoch } => format!("the server has started, for the {epoch}. time"),
        What::Modules { added, removed } => modules(by, added, removed),
        What::ModuleEnded { reason, restarts } => {
            format!("module {by} ended by itself (time {restarts} since the start): {reason}")
        }
        What::ModuleRuns => format!("module {by} runs again"),
        What::ModuleRefused { reason, refused } => {
            format!("not taken from module {by} (time {refused} since the start): {reason}")
        }
        What::ModuleFloods { example, path } => format!(
            "module {by} floods: {path} of {example} changes too often; only the latest of such values is taken"
        ),
        What::ModuleCalmed { held_back, lasted_ms } => format!(
            "module {by} floods no longer, after {}: {held_back} values were replaced by later ones",
            show::duration(*lasted_ms)
        ),
        What::Limits { limits } if limits.is_empty() => format!("no limits any more ({by})"),
        What::Limits { limits } => format!("other limits ({by}): {}", limits.join("; ")),
        What::Held { terms } => format!("held by {by}{terms}"),
        What::Frozen { terms } => format!("frozen by {by}{terms}: no disruptive step is taken"),
        What::Busy { terms } => format!("in use, says {by}{terms}"),
        What::RestartAsked { terms } => format!("restart requested by {by}{terms}"),
        What::Restarted => "off, as the restart wants; switched on again as cfg wants".to_owned(),
        What::Released | What::Thawed | What::Free | What::RestartWithdrawn => ended(entry),
        What::Retried => format!("failures forgotten ({by})"),
        What::FoundRunning => {
            "found running and not heard: left alone until a person takes it over".to_owned()
        }
        What::TakenOver => format!("to be taken over, whatever runs there ({by})"),
        What::Quarantined { reason } => format!("given up until somebody helps: {reason}"),
        What::NoWay { reason } => format!("no way: {reason}"),
        What::Unheard { reason } => reason.to_string(),
        What::StormHold { lost, nodes, domain } => format!(
            "{}{lost} of {nodes} nodes lost at once: every disruptive step {} is held",
            of(domain),
            if domain.is_some() { "there" } else { "everywhere" }
        ),
        What::StormOver { lost, nodes, domain } => {
            format!("{}{lost} of {nodes} nodes lost: disruptive steps go on", of(domain))
        }
        What::StormGuard { guard } => format!("another storm guard ({by}): {guard}"),
    }
}

/// The failure domain that something is about, if it is not about all nodes.
fn of(domain: &Option<Domain>) -> String {
    domain.as_ref().map(|domain| format!("{domain}: ")).unwrap_or_default()
}

/// What a command printed, in one line.
fn printed(mutation: &str, lines: &[Arc<str>], left_out: u64) -> String {
    let left_out = usize::try_from(left_out).unwrap_or(usize::MAX);
    let before = match left_out {
        0 => String::new(),
        _ => format!("({} before) ", counted(left_out, "line")),
    };
    format!("{mutation} printed: {before}{}", lines.join(" | "))
}

/// The end of what an operator said: by somebody, or because its time was over.
fn ended(entry: &Entry) -> String {
    let what = match entry.what {
        What::Released => "released",
        What::Thawed => "thawed",
        What::RestartWithdrawn => "restart withdrawn",
        _ => "no longer in use",
    };
    match &entry.cause {
        Some(Cause::Expired { by, until }) => {
            format!("{what}: what {by} said was until {}", until.rfc3339())
        }
        _ => format!("{what} ({})", entry.by),
    }
}

/// What steps came, and which went.
fn modules(by: &str, added: &[Arc<str>], removed: &[Arc<str>]) -> String {
    let list = |verb: &str, names: &[Arc<str>]| {
        (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
    };
    let changes: Vec<_> =
        [list("with", added), list("without", removed)].into_iter().flatten().collect();
    let changes = if changes.is_empty() { "no other steps".to_owned() } else { changes.join(", ") };
    format!("modules read again ({by}): {changes}")
}

/// What led to it, when that is not told already.
pub(crate) fn cause(entry: &Entry) -> String {
    match &entry.cause {
        Some(Cause::Plan { cost_to_go_ms }) => {
            format!(", on a way of {}", show::duration(*cost_to_go_ms))
        }
        Some(Cause::Attempt { mutation, attempt }) => {
            format!(", because of {mutation}, attempt {attempt}")
        }
        Some(Cause::Expired { .. }) | None => String::new(),
    }
}

pub(crate) fn list(changes: &[Change]) -> String {
    let one = |change: &Change| match &change.value {
        Some(value) => format!("{} = {value}", change.path),
        None => format!("{} gone", change.path),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
