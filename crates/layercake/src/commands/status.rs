//! How the cluster and its server are, on one page.

use super::Failure;
use super::nodes::flatten;
use crate::args::Output;
use crate::client::Client;
use crate::show;
use kraken_model::counted as number_of;
use layercake_server::api::{Mark, StormView};
use serde::Deserialize;
use serde_json::Value;

/// The counters of the server, each under its own name.
const COUNTERS: [&str; 3] = ["boot", "images", "sync"];

pub(crate) async fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let status: Value = client.get("/v1/status").await?;
    show::answer(output, &status, || words(&status), Vec::new)
}

fn words(status: &Value) -> String {
    let version = status["version"].as_str().unwrap_or_default();
    let Some(cluster) = status["cluster"].as_str() else {
        return format!(
            "layercake {version}: no cluster file was applied yet: layercake apply -f FILE"
        );
    };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (nodes, converged) = (number(&status["nodes"]), number(&status["converged"]));
    let mut lines = vec![format!(
        "{cluster}: {}, {converged} as they should be",
        number_of(nodes as usize, "node")
    )];
    lines.extend(stops(status));
    let mut rows: Vec<[String; 2]> = Vec::new();
    for (variable, counts) in status["states"].as_object().into_iter().flatten() {
        rows.push([variable.clone(), by_number(counts)]);
    }
    rows.push(["now".to_owned(), by_number(&status["standing"]).replace('_', " ")]);
    for name in COUNTERS {
        rows.push([name.to_owned(), counted(&status[name])]);
    }
    rows.retain(|[_, said]| !said.is_empty());
    rows.push(["version".to_owned(), version.to_owned()]);
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
    lines.extend(rows.iter().map(|[name, said]| format!("  {name:width$}  {said}")));
    let news = status["news"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(news.map(|news| format!("news: {news}")));
    lines.join("\n")
}

/// What keeps the whole cluster from being changed, and how that ends.
fn stops(status: &Value) -> Vec<String> {
    let freeze = Mark::deserialize(&status["freeze"]).ok();
    let frozen = freeze.map(|mark| format!("frozen by {mark}: no disruptive step; layercake thaw"));
    let storms = status["storms"].as_array().into_iter().flatten();
    let storms = storms.filter_map(|storm| StormView::deserialize(storm).ok()).map(|storm| {
        let place = if storm.domain.is_some() { "there" } else { "anywhere" };
        format!(
            "storm: {storm}: no disruptive step {place} until most are back; \
             layercake thaw does not wait for them"
        )
    });
    let given_up = status["standing"]["quarantined"].as_u64();
    let given_up = given_up.map(|nodes| {
        format!("{nodes} given up: layercake events --kind quarantined says why, layercake retry begins anew")
    });
    let found = status["standing"]["found_running"].as_u64();
    let found = found.map(|nodes| {
        format!(
            "{nodes} found running and not heard, left alone until a person says what to do: \
             layercake get nodes phys_state=PHYS_FOUND lists them, layercake take-over boots them"
        )
    });
    let unheard = status["standing"]["unheard"].as_u64();
    let unheard = unheard.map(|nodes| {
        format!(
            "{nodes} not heard and left alone: layercake events --kind unheard says why, \
             layercake retry power-cycles them once"
        )
    });
    let nodes = found.into_iter().chain(unheard).chain(given_up);
    frozen.into_iter().chain(storms).chain(nodes).collect()
}

/// Counts, the greatest first.
fn by_number(counts: &Value) -> String {
    let mut counts: Vec<(u64, &String)> = counts
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, count)| Some((count.as_u64()?, name)))
        .collect();
    counts.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let words = counts.into_iter().map(|(count, name)| match name.as_str() {
        "-" => format!("not known {count}"),
        name => format!("{name} {count}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Counters that have counted anything.
fn counted(counters: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", counters, &mut rows);
    let rows = rows.into_iter().filter(|(_, count)| count != "0");
    rows.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_that_is_well_takes_few_lines() {
        let status = json!({
            "version": "1.2.3", "cluster": "lab", "nodes": 12, "converged": 9, "lost": 0,
            "states": {"phys_state": {"POWER_OFF": 2, "POWER_ON": 10}, "run_state": {"-": 2, "SYNC": 10}},
            "standing": {"converged": 9, "waits_for_node": 3}, "storm_hold": false, "freeze": null,
            "boot": {"dhcp_offers": 0}, "images": {}, "news": [],
            "sync": {"hellos": 7, "replayed": 0, "joins": {"joined": 10}},
        });
        let wanted = [
            "lab: 12 nodes, 9 as they should be",
            "  phys_state  POWER_ON 10, POWER_OFF 2",
            "  run_state   SYNC 10, not known 2",
            "  now         converged 9, waits for node 3",
            "  sync        hellos 7, joins.joined 10",
            "  version     1.2.3",
        ];
        assert_eq!(words(&status), wanted.join("\n"));
    }

    #[test]
    fn what_stands_still_comes_first_with_the_way_out() {
        let status = json!({
            "version": "1", "cluster": "lab", "nodes": 9, "converged": 1, "lost": 7,
            "states": {}, "standing": {"quarantined": 1, "found_running": 2, "unheard": 3}, "storm_hold": true,
            "storms": [{"domain": {"per": "location.rack", "value": "r2"}, "lost": 7, "nodes": 8,
                        "lost_since": 1_795_615_500_000_u64}],
            "freeze": {"by": "anna", "why": "power works"}, "news": ["no seed for 52:54:00:00:00:01"],
        });
        let said = words(&status);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[1], "frozen by anna (power works): no disruptive step; layercake thaw");
        let storm = "storm: rack r2: 7 of 8 nodes silent since 2026-11-25T14:05:00Z: no disruptive step there";
        assert!(lines[2].starts_with(storm), "{said}");
        assert!(lines[3].starts_with("2 found running and not heard"), "{said}");
        assert!(lines[4].starts_with("3 not heard and left alone: "), "{said}");
        assert!(lines[5].starts_with("1 given up: "), "{said}");
        assert_eq!(lines.last(), Some(&"news: no seed for 52:54:00:00:00:01"));
    }

    #[test]
    fn without_a_cluster_file_it_says_what_to_do() {
        let said = words(&json!({"version": "1", "cluster": null}));
        assert!(said.ends_with("layercake apply -f FILE"), "{said}");
    }
}
