//! `layercake plan`, and applying what was planned.

use super::Failure;
use super::cluster::{agreeing, limit_lines, read, show_applied};
use crate::args::{Agreed, Output};
use crate::client::{Client, ClientError, quoted};
use crate::show::{self, Column};
use kraken_model::{NodeId, NodeSet};
use layercake_server::api::{Applied, NodePlan, PlanSummary, Planned};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) async fn plan(
    client: &Client,
    output: Output,
    file: &Path,
    save: Option<&Path>,
) -> Result<(), Failure> {
    let text = read(file)?;
    let name = quoted(&file.display().to_string());
    let planned: Planned = client.post(&format!("/v1/plan?name={name}"), text).await?;
    let names = || planned.plan.nodes.iter().map(|node| node.node.to_string()).collect();
    show::answer(output, &serde_json::to_value(&planned)?, || table(&planned), names)?;
    for note in &planned.notes {
        show::note(note);
    }
    if let Some(save) = save {
        let shown = save.display();
        std::fs::write(save, serde_json::to_string_pretty(&planned)?)
            .map_err(|error| format!("cannot write {shown}: {error}"))?;
        show::note(&format!("kept in {shown}; to do just that: layercake apply --plan {shown}"));
    }
    Ok(())
}

pub(crate) async fn apply(
    client: &Client,
    output: Output,
    file: &Path,
    agreed: Agreed,
) -> Result<(), Failure> {
    let planned: serde_json::Value = serde_json::from_str(&read(file)?).map_err(|error| {
        let file = file.display();
        format!("{file} is no plan: {error}; make one with `layercake plan -f … --save {file}`")
    })?;
    let apply = async |query: String| -> Result<Applied, ClientError> {
        client.post_json(&format!("/v1/plan/apply?{query}"), &planned).await
    };
    let applied = agreeing(agreed, apply).await?;
    show_applied(output, &applied)
}

const COLUMNS: [Column; 5] = [
    Column::key("NODES"),
    Column::word("TAKES", 3),
    Column::word("DONE", 2),
    Column::text("DISRUPTED BY", 4),
    Column::text("STEPS", 5),
];

/// A plan for people: nodes with the same way ahead in one line, and what it comes to.
fn table(planned: &Planned) -> String {
    let plan = &planned.plan;
    let removed = planned.changes.iter().filter(|change| change.removed);
    let removed: NodeSet = removed.map(|change| change.name.clone()).collect();
    let mut alike: BTreeMap<(String, u64), (Vec<&NodePlan>, usize)> = BTreeMap::new();
    for (place, node) in plan.nodes.iter().enumerate() {
        let way = match (&node.stops, removed.contains(&node.node)) {
            (_, true) => "is no longer looked after, and stays as it is".to_owned(),
            (None, _) if node.steps.is_empty() => "nothing to do".to_owned(),
            (None, _) => node.steps.join(", "),
            (Some(stops), _) if node.steps.is_empty() => stops.clone(),
            (Some(stops), _) => format!("{}; then {stops}", node.steps.join(", ")),
        };
        let group = alike.entry((way, node.takes_ms)).or_insert((Vec::new(), place));
        group.0.push(node);
    }
    let mut rows: Vec<_> = alike.into_iter().collect();
    rows.sort_by_key(|(_, (_, place))| *place);
    let rows = rows.into_iter().map(|((way, takes), (nodes, _))| {
        let set: NodeSet = nodes.iter().map(|node| node.node.clone()).collect();
        let done = nodes.iter().map(|node| node.done_ms).collect::<Option<Vec<u64>>>();
        let done = match done.and_then(|done| done.into_iter().max()) {
            Some(done) => show::duration(done),
            None => "?".to_owned(),
        };
        let disruption = nodes.first().map(|node| plan.disruption(node)).unwrap_or_default();
        let times =
            if takes == 0 { [String::new(), String::new()] } else { [show::duration(takes), done] };
        let [takes, done] = times;
        vec![set.to_string(), takes, done, disruption.join(", "), way]
    });
    let mut text = String::new();
    if !plan.nodes.is_empty() {
        text = show::table(&COLUMNS, rows);
        text.push_str("\n\n");
    }
    let mut lines = limit_lines(&planned.limits);
    lines.push(summary(&plan.summary, lines.is_empty()));
    text + &lines.join("\n")
}

/// What a plan comes to. Without nodes, limits may change all the same.
fn summary(plan: &PlanSummary, same_limits: bool) -> String {
    let PlanSummary { nodes, moving, disrupted, stopping, others, longest, .. } = plan;
    if *nodes == 0 {
        let what = if same_limits { "nothing changes" } else { "no node changes, but limits" };
        return what.to_owned();
    }
    let change = if *nodes == 1 { "node changes" } else { "nodes change" };
    let mut lines =
        vec![format!("{nodes} {change}: {moving} with steps ahead, {disrupted} disrupted")];
    if *stopping > 0 {
        lines[0].push_str(&format!(", {stopping} that stop short of what they should be"));
    }
    if let Some(longest) = longest as &Option<NodeId> {
        let (way, done) = (show::duration(plan.longest_ms), show::duration(plan.done_ms));
        lines.push(format!("the longest way takes {way} ({longest}), everything {done}"));
    }
    for wait in &plan.limits {
        let (limit, steps, time) = (&wait.limit, wait.steps, show::duration(wait.longest_ms));
        lines.push(format!(
            "steps that wait for the limit on {limit}: {steps}, {time} at the longest"
        ));
    }
    if *others > 0 {
        lines.push(format!("nodes that do not change and have steps ahead besides: {others}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn planned() -> Planned {
        let step = |disruptive: bool| {
            json!({"module": "power", "by": "child", "effects": [], "disruptive": disruptive,
                   "expected_ms": 3000})
        };
        serde_json::from_value(json!({
            "name": "c.yaml", "text": "", "revision": 3, "notes": [],
            "changes": [{"name": "n5", "added": false, "removed": true, "changes": []}],
            "plan": {
                "nodes": [
                    {"node": "n1", "steps": ["power.on", "boot.arm"], "takes_ms": 4000, "done_ms": 4000},
                    {"node": "n2", "steps": ["power.on", "boot.arm"], "takes_ms": 4000, "done_ms": 64000},
                    {"node": "n3", "steps": ["power.off"], "takes_ms": 3000, "done_ms": null},
                    {"node": "n4", "steps": [], "takes_ms": 0, "done_ms": 0, "stops": "it is held"},
                    {"node": "n5", "steps": [], "takes_ms": 0, "done_ms": 0},
                ],
                "steps": {"power.on": step(false), "boot.arm": step(false), "power.off": step(true)},
                "summary": {"nodes": 5, "moving": 3, "disrupted": 1, "stopping": 1, "others": 2,
                    "longest_ms": 4000, "longest": "n1", "done_ms": 64000,
                    "limits": [{"limit": "power.on", "steps": 1, "longest_ms": 60000}]},
            },
        }))
        .unwrap()
    }

    #[test]
    fn nodes_with_the_same_way_stand_in_one_line_and_the_whole_is_summed_up() {
        let lines = [
            "NODES   TAKES  DONE   DISRUPTED BY  STEPS",
            "n[1-2]  4.0s   1m04s                power.on, boot.arm",
            "n3      3.0s   ?      power.off     power.off",
            "n4                                  it is held",
            "n5                                  is no longer looked after, and stays as it is",
            "",
            "5 nodes change: 3 with steps ahead, 1 disrupted, 1 that stop short of what they should be",
            "the longest way takes 4.0s (n1), everything 1m04s",
            "steps that wait for the limit on power.on: 1, 1m00s at the longest",
            "nodes that do not change and have steps ahead besides: 2",
        ];
        assert_eq!(table(&planned()), lines.join("\n"));
    }

    #[test]
    fn limits_that_come_and_go_stand_before_the_sum() {
        let mut limited = planned();
        limited.limits.come.push("power.on: 2 at a time".to_owned());
        let text = table(&limited);
        assert!(
            text.contains("\n\nlimits\n  new: power.on: 2 at a time\n5 nodes change"),
            "{text}"
        );
        limited.plan.nodes.clear();
        limited.plan.summary.nodes = 0;
        let lines = "limits\n  new: power.on: 2 at a time\nno node changes, but limits";
        assert_eq!(table(&limited), lines);
    }
}
