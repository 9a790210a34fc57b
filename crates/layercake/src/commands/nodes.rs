//! What nodes are, what is done about them, and what people do to them.

use super::{Failure, typed};
use crate::args::{Output, PowerAction, Terms};
use crate::client::{Client, path};
use crate::show::{self, Column};
use kraken_model::counted;
use layercake_server::api::{Commanded, Explained, NodeView};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Up to how many nodes are switched off without a question.
const ASK_ABOVE: usize = 1;

/// The power of a machine that was found running.
const FOUND: &str = "PHYS_FOUND";

pub(crate) async fn get(
    client: &Client,
    output: Output,
    nodes: Option<&str>,
    at: Option<&str>,
    watch: bool,
) -> Result<(), Failure> {
    let nodes = nodes.map(typed).transpose()?;
    let path = path("/v1/nodes", &[("nodes", nodes), ("at", at)]);
    if watch {
        return super::watch::nodes(client, output, &path).await;
    }
    let nodes: Vec<NodeView> = client.get(&path).await?;
    let names = || nodes.iter().map(|node| node.name.to_string()).collect();
    let table = || table_of(&nodes);
    show::answer(output, &serde_json::to_value(&nodes)?, table, names)
}

pub(super) const COLUMNS: [Column; 9] = [
    Column::key("NODE"),
    Column::word("PHYS", 9),
    Column::word("BOOT", 2),
    Column::word("RUN", 6),
    Column::word("IMAGE", 7),
    Column::text("IMAGES", 4),
    Column::word("BUSY", 3),
    Column::word("CONVERGED", 8),
    Column::text("MARKS", 5),
];

fn table_of(nodes: &[NodeView]) -> String {
    show::table(&COLUMNS, nodes.iter().map(row))
}

pub(super) fn row(node: &NodeView) -> Vec<String> {
    let state = |key: &str| node.dsc[key].as_str().unwrap_or("-").to_owned();
    let images = node.dsc["images"].as_object().into_iter().flatten().map(|(name, image)| {
        let state = image["state"].as_str().unwrap_or("-");
        if state == "running" { name.clone() } else { format!("{name} ({state})") }
    });
    // What is not known to run now is not shown as if it did; without power nothing does.
    let last = node.last_known["images"].as_object();
    let last = last.filter(|_| node.dsc["phys_state"] != "POWER_OFF").into_iter().flatten();
    let last = last.map(|(name, image)| {
        let state = image["state"].as_str().unwrap_or_default();
        format!("{name} ({state}?)")
    });
    vec![
        node.name.to_string(),
        state("phys_state"),
        state("boot_state"),
        state("run_state"),
        state("image_state"),
        images.chain(last).collect::<Vec<_>>().join(", "),
        state("busy"),
        if node.converged { "yes" } else { "no" }.to_owned(),
        said(node).join("; "),
    ]
}

/// What operators say of a node, each with who, why and until when, and what they are asked.
fn said(node: &NodeView) -> Vec<String> {
    let found = (node.dsc["phys_state"] == FOUND).then(|| found_running(node));
    found
        .into_iter()
        .chain(node.marks.iter().map(|(kind, mark)| format!("{kind} by {mark}")))
        .collect()
}

/// What is done about a machine that was found running, and by whom.
fn found_running(node: &NodeView) -> String {
    match (node.dsc["claim"].as_str(), node.cfg["found_running"].as_str()) {
        (Some("AWAITED"), _) => "found running, may still be heard".to_owned(),
        (Some("GRANTED"), _) => "found running, to be taken over".to_owned(),
        (_, Some("leave")) => "found running, left as it is".to_owned(),
        (_, Some("reboot")) => "found running, to be rebooted".to_owned(),
        _ => format!("found running: layercake take-over {}", node.name),
    }
}

pub(crate) async fn describe(
    client: &Client,
    output: Output,
    nodes: &str,
    at: Option<&str>,
) -> Result<(), Failure> {
    let path = path("/v1/nodes", &[("nodes", Some(typed(nodes)?)), ("at", at)]);
    let nodes: Vec<NodeView> = client.get(&path).await?;
    let names = || nodes.iter().map(|node| node.name.to_string()).collect();
    let table = || nodes.iter().map(described).collect::<Vec<_>>().join("\n\n");
    show::answer(output, &serde_json::to_value(&nodes)?, table, names)
}

const VALUES: [Column; 4] = [
    Column::key(""),
    Column::text("WANTED", 2),
    Column::text("DISCOVERED", 3),
    Column::word("", 4),
];

/// Everything of a node, wanted beside discovered; `*` marks where they differ, `?` what was only last
/// known.
fn described(node: &NodeView) -> String {
    let (mut cfg, mut dsc, mut last) = (Vec::new(), Vec::new(), Vec::new());
    flatten("", &node.cfg, &mut cfg);
    flatten("", &node.dsc, &mut dsc);
    if !node.last_known.is_null() {
        flatten("", &node.last_known, &mut last);
    }
    let is_last = |path: &str| last.iter().any(|(p, _)| p == path);
    dsc.extend(last.iter().cloned());
    let mut paths: Vec<&String> = cfg.iter().chain(&dsc).map(|(path, _)| path).collect();
    paths.sort_unstable();
    paths.dedup();
    let find = |side: &[(String, String)], path: &str| {
        side.iter().find(|(p, _)| p == path).map(|(_, value)| value.clone())
    };
    let rows = paths.into_iter().map(|path| {
        let (wanted, found) = (find(&cfg, path), find(&dsc, path));
        let differs = wanted.is_some() && found.is_some() && wanted != found;
        let mark = match is_last(path) {
            true => "?",
            false if differs => "*",
            false => "",
        };
        vec![path.clone(), wanted.unwrap_or_default(), found.unwrap_or_default(), mark.to_owned()]
    });
    let mut said: String = said(node).iter().map(|said| format!("\n  {said}")).collect();
    if !last.is_empty() {
        said.push_str(&silence(node));
    }
    format!("{}{said}\n{}", node.name, show::table(&VALUES, rows))
}

/// Why something is only last known.
fn silence(node: &NodeView) -> String {
    let since = node.silent_since.map(|at| format!(" since {}", at.rfc3339()));
    let why = match node.dsc["run_state"] == "SYNC" {
        true => "its image service does not run".to_owned(),
        false => format!("it is not heard{}", since.unwrap_or_default()),
    };
    format!("\n  {why}: what is marked ? is what was last known")
}

pub(super) fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), inner, out);
            }
        }
        Value::String(text) => out.push((prefix.to_owned(), text.clone())),
        other => out.push((prefix.to_owned(), other.to_string())),
    }
}

pub(crate) async fn explain(client: &Client, output: Output, nodes: &str) -> Result<(), Failure> {
    let explained: Vec<Explained> =
        client.get(&path("/v1/explain", &[("nodes", Some(typed(nodes)?))])).await?;
    let names = || explained.iter().map(|node| node.name.to_string()).collect();
    let table = || {
        // Every text begins with the name of its node.
        explained.iter().map(|node| node.text.trim_end()).collect::<Vec<_>>().join("\n")
    };
    show::answer(output, &serde_json::to_value(&explained)?, table, names)
}

pub(crate) async fn power(
    client: &Client,
    output: Output,
    action: PowerAction,
    nodes: &str,
    (hard, yes): (bool, bool),
) -> Result<(), Failure> {
    if hard && action != PowerAction::Cycle {
        return Err("--hard belongs to `power cycle` alone: leave it out".into());
    }
    let verb = match action {
        PowerAction::On => "on",
        PowerAction::Off => "off",
        PowerAction::Cycle => {
            return reboot(client, output, nodes, Terms::default(), (hard, yes)).await;
        }
        PowerAction::Status => {
            return get(client, output, Some(nodes), None, false).await;
        }
    };
    if action != PowerAction::On && !yes {
        let meant: Vec<NodeView> =
            client.get(&path("/v1/nodes", &[("nodes", Some(typed(nodes)?))])).await?;
        if meant.len() > ASK_ABOVE {
            confirm(&format!("power {verb} {} nodes ({nodes})?", meant.len()))?;
        }
    }
    send(client, output, "/v1/power", json!({"action": verb, "nodes": nodes})).await
}

/// Asks for a restart. A healthy node is disturbed, so that even for one it is asked first.
pub(crate) async fn reboot(
    client: &Client,
    output: Output,
    nodes: &str,
    Terms { why, until }: Terms,
    (hard, yes): (bool, bool),
) -> Result<(), Failure> {
    if !yes {
        let meant: Vec<NodeView> =
            client.get(&path("/v1/nodes", &[("nodes", Some(typed(nodes)?))])).await?;
        let how = if hard { "cut the power of" } else { "restart" };
        let count = meant.len();
        // Of none the server says what is wrong.
        if count > 0 {
            confirm(&format!("{how} {} ({nodes})?", counted(count, "node")))?;
        }
    }
    let body = json!({
        "command": "restart", "nodes": nodes, "why": why, "until": until, "hard": hard,
    });
    send(client, output, "/v1/command", body).await
}

/// A person's word for machines that were found running. Those that were not have nothing to fear.
pub(crate) async fn take_over(
    client: &Client,
    output: Output,
    nodes: String,
    yes: bool,
) -> Result<(), Failure> {
    if !yes {
        let meant: Vec<NodeView> =
            client.get(&path("/v1/nodes", &[("nodes", Some(&nodes))])).await?;
        let found = meant.iter().filter(|node| node.dsc["phys_state"] == FOUND).count();
        if found > ASK_ABOVE {
            confirm(&format!("cut the power of {found} machines that run ({nodes})?"))?;
        }
    }
    command(client, output, "take-over", Some(nodes), Terms { why: None, until: None }).await
}

pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let why = "cannot ask for confirmation (no terminal): use --yes";
        return Err(format!("{question} {why}").into());
    }
    let mut out = std::io::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err("nothing was done".into()),
    }
}

pub(crate) async fn command(
    client: &Client,
    output: Output,
    command: &str,
    nodes: Option<String>,
    Terms { why, until }: Terms,
) -> Result<(), Failure> {
    let body = json!({"command": command, "nodes": nodes, "why": why, "until": until});
    send(client, output, "/v1/command", body).await
}

async fn send(client: &Client, output: Output, path: &str, body: Value) -> Result<(), Failure> {
    let done: Commanded = client.post_json(path, &body).await?;
    let names = || done.nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    show::answer(output, &serde_json::to_value(&done)?, || done.text.clone(), names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nodes() -> Vec<NodeView> {
        serde_json::from_value(json!([
            {"name": "n1", "converged": true, "held": false,
             "cfg": {"phys_state": "POWER_ON"},
             "dsc": {"phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
                     "images": {"db": {"state": "exited"}, "web": {"state": "running"}}}},
            {"name": "n2", "converged": false, "held": true,
             "marks": {"hold": {"by": "anna", "why": "new DIMM", "until": 1_795_615_500_000_u64}},
             "cfg": {"phys_state": "POWER_ON"}, "dsc": {"phys_state": "POWER_OFF"}},
            {"name": "n3", "converged": false, "held": false,
             "cfg": {"image_state": "ACTIVE"}, "dsc": {"phys_state": "POWER_ON", "run_state": "ERROR"},
             "last_known": {"images": {"web": {"state": "running"}}},
             "silent_since": 1_795_615_500_000_u64},
        ]))
        .unwrap()
    }

    #[test]
    fn nodes_are_a_table_whose_every_column_has_a_name() {
        let lines = [
            "NODE  PHYS       BOOT  RUN    IMAGE   IMAGES            BUSY  CONVERGED  MARKS",
            "n1    POWER_ON   -     SYNC   ACTIVE  db (exited), web  -     yes",
            "n2    POWER_OFF  -     -      -                         -     no         held by anna (new DIMM) until 2026-11-25T14:05:00Z",
            "n3    POWER_ON   -     ERROR  -       web (running?)    -     no",
        ];
        assert_eq!(table_of(&nodes()), lines.join("\n"));
    }

    #[test]
    fn a_description_marks_where_what_is_wanted_and_what_is_differ() {
        let text = described(&nodes()[1]);
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["n2"]);
        assert_eq!(lines[1][..3], ["held", "by", "anna"]);
        assert_eq!(lines[3], ["phys_state", "POWER_ON", "POWER_OFF", "*"]);
    }

    #[test]
    fn what_a_silent_node_said_is_described_as_last_known_and_since_when() {
        let text = described(&nodes()[2]);
        let since = "n3\n  it is not heard since 2026-11-25T14:05:00Z: what is marked ? is";
        assert!(text.starts_with(since), "{text}");
        let line = text.lines().find(|line| line.starts_with("images.web.state")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["images.web.state", "running", "?"], "{text}");
    }
}
