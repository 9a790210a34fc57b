//! What those who tried say of a node, in their own words.

use kraken_model::{Document, Millis, Path};
use layercake_schema::is_last_known;
use std::time::Duration;

/// For how long an image has to run before its last end is no longer worth a line.
const RUNS_WELL_AFTER: Duration = Duration::from_secs(60 * 60);

/// Facts that are a reason each, for whoever wonders why a node is not as it should be.
fn is_reason(path: &Path) -> bool {
    matches!(
        path.as_str(),
        "boot.reason" | "image_reason" | "layer0.last_panic" | "layer0.network" | "power.reason"
    )
}

/// The lines below an explanation.
pub(super) fn reasons(dsc: &Document, now: Millis) -> Vec<String> {
    let when = |path: &Path| match is_last_known(dsc, path) {
        true => " when it was last heard",
        false => "",
    };
    let said = dsc.iter().filter(|(path, _)| is_reason(path));
    let mut lines: Vec<String> =
        said.map(|(path, reason)| format!("{path}{}: {reason}", when(path))).collect();
    for image in dsc.names("images") {
        let at = |key: &str| Path::known(&format!("images.{image}.{key}"));
        let text = |key: &str| dsc.text(at(key).as_str());
        let reason = text("reason");
        // Most reasons are told in `image_reason` already, with those of other images.
        if let Some(reason) =
            reason.filter(|reason| !lines.iter().any(|line| line.contains(reason)))
        {
            lines.push(format!("{}{}: {reason}", at("reason"), when(&at("reason"))));
        }
        if let Some(line) = keeps_ending(dsc, image, now) {
            lines.push(line);
        }
    }
    lines
}

/// An image that was started again and again, also while it happens to run.
fn keeps_ending(dsc: &Document, image: &str, now: Millis) -> Option<String> {
    let fact = |key: &str| dsc.get(&format!("images.{image}.{key}"));
    let restarts = fact("restarts")?.as_int().filter(|restarts| *restarts > 0)?;
    let last_exit = fact("last_exit")?.as_text()?;
    let state = fact("state")?.as_text()?;
    let started = fact("started")?.as_int().and_then(|ms| u64::try_from(ms).ok())?;
    if state == "running" && now.since(Millis(started)) >= RUNS_WELL_AFTER {
        return None;
    }
    let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
    let now = if state == "running" { "it runs now" } else { "it does not run now" };
    Some(format!("image {image} was started again {times}, {now}; before that: {last_exit}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn node(web: serde_json::Value, reason: Option<&str>) -> Document {
        let mut dsc = serde_json::json!({
            "run_state": "SYNC", "image_state": "ACTIVE", "images": {"web": web},
        });
        if let Some(reason) = reason {
            dsc["image_reason"] = reason.into();
        }
        Document::from_json(&dsc).unwrap()
    }

    #[test]
    fn an_image_that_keeps_ending_is_told_of_also_while_it_runs_and_not_for_ever() {
        let ended = "the main process ended with status 1; it last printed: no disk";
        let dsc = |state: &str| {
            let web = serde_json::json!({
                "state": state, "restarts": 4, "last_exit": ended, "started": 10 * HOUR,
            });
            node(web, None)
        };
        let at = |hour: u64, state: &str| reasons(&dsc(state), Millis(hour * HOUR));
        let words =
            format!("image web was started again 4 times, it runs now; before that: {ended}");
        assert_eq!(at(10, "running"), [words]);
        assert_eq!(at(11, "running"), [""; 0]);
        assert!(at(12, "exited")[0].contains("it does not run now"));
    }

    #[test]
    fn each_reason_is_told_once() {
        let ended = "out of memory: the kernel killed the main process";
        let web = serde_json::json!({"state": "failed", "restarts": 0, "reason": ended});
        let all = format!("image web: {ended}; image db: cannot fetch");
        let lines = reasons(&node(web.clone(), Some(&all)), Millis(0));
        assert_eq!(lines, [format!("image_reason: {all}")]);
        let lines = reasons(&node(web, None), Millis(0));
        assert_eq!(lines, [format!("images.web.reason: {ended}")]);
    }

    #[test]
    fn what_a_silent_node_said_is_told_as_what_it_is() {
        let dsc = serde_json::json!({
            "run_state": "ERROR", "layer0": {"network": "eth1 has no link"}, "power": {"reason": "no answer"},
        });
        let lines = reasons(&Document::from_json(&dsc).unwrap(), Millis(0));
        let words =
            ["layer0.network when it was last heard: eth1 has no link", "power.reason: no answer"];
        assert_eq!(lines, words);
    }
}
