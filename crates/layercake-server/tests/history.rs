//! What operators say, and what is told afterwards: who, what, when and why.
#![allow(clippy::unwrap_used)]

mod rig;

use layercake_server::Server;
use rig::*;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

async fn get(dir: &Path, path: &str) -> (u16, Value) {
    let (status, body) = ask(dir, &[], path).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn command(dir: &Path, body: Value) -> (u16, Value) {
    let body = body.to_string();
    let arguments = ["--header", "content-type: application/json", "--data", &body];
    let (status, body) = ask(dir, &arguments, "command").await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Asks again until the answer is as wanted.
async fn until(dir: &Path, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let (_, answer) = get(dir, path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    asked.await.unwrap()
}

async fn started(dir: &Path) -> Server {
    let server = Server::start(config(dir)).await.unwrap();
    assert_eq!(apply(dir, "", &cluster(dir, TWO)).await.0, 200);
    server
}

#[test]
fn a_hold_is_seen_everywhere_with_who_why_and_until_when() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        let hold = json!({"command": "hold", "nodes": "n1", "why": "new DIMM", "until": "2h"});
        let (status, done) = command(&dir, hold).await;
        assert_eq!(status, 200, "{done}");
        assert!(done["text"].as_str().unwrap().contains("no step is taken, until 20"), "{done}");
        let (_, nodes) = get(&dir, "nodes").await;
        let mark = &nodes[0]["marks"]["hold"];
        let by = mark["by"].as_str().unwrap();
        assert!(by.ends_with("root"), "the socket's user: {by}");
        assert_eq!((&nodes[0]["held"], &mark["why"]), (&json!(true), &json!("new DIMM")));
        assert_eq!(nodes[1].get("marks"), None, "{nodes}");
        let (_, explained) = get(&dir, "explain?nodes=n1").await;
        let text = explained[0]["text"].as_str().unwrap();
        assert!(text.contains(&format!("held by {by} (new DIMM) until 20")), "{text}");
        assert_eq!(&explained[0]["explanation"]["marks"]["hold"], mark);
        let events = until(&dir, "events?nodes=n1", |events| {
            events.as_array().unwrap().iter().any(|event| event["what"] == "held")
        })
        .await;
        let held = events.as_array().unwrap().iter().find(|event| event["what"] == "held").unwrap();
        assert_eq!((held["by"].as_str(), &held["why"]), (Some(by), &json!("new DIMM")));

        let (_, done) = command(&dir, json!({"command": "freeze", "why": "a fair"})).await;
        assert_eq!(done["nodes"], json!([]), "{done}");
        let (_, nodes) = get(&dir, "nodes?nodes=n2").await;
        assert_eq!(nodes[0]["marks"]["freeze"]["why"], "a fair");
        let (_, status) = get(&dir, "status").await;
        assert_eq!(
            (&status["freeze"]["why"], &status["storm_hold"]),
            (&json!("a fair"), &json!(false))
        );
        let standing = status["standing"].as_object().unwrap();
        assert_eq!(standing.values().filter_map(Value::as_u64).sum::<u64>(), 2, "{status}");
        let (_, done) = command(&dir, json!({"command": "thaw"})).await;
        assert_eq!(done["text"], "thawed");
        let (_, done) = command(&dir, json!({"command": "thaw"})).await;
        assert!(done["text"].as_str().unwrap().starts_with("nothing was frozen"), "{done}");
        command(&dir, json!({"command": "freeze", "nodes": "n[1-2]"})).await;
        command(&dir, json!({"command": "thaw", "nodes": "n1"})).await;
        let (_, nodes) = get(&dir, "nodes").await;
        assert!(nodes[0]["marks"].get("freeze").is_none(), "{nodes}");
        assert!(nodes[1]["marks"]["freeze"].is_object() && nodes[1]["held"] == false, "{nodes}");
        server.shutdown().await;
    });
}

#[test]
fn a_use_ends_by_itself_and_over_loopback_nobody_has_a_name() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        let url = format!("http://{}/v1/command", server.address());
        let body = json!({"command": "busy", "nodes": "n2", "why": "job 7", "until": "300ms"});
        let mut curl = tokio::process::Command::new("curl");
        curl.args([
            "--silent",
            "--output",
            "/dev/null",
            "--header",
            "content-type: application/json",
            "--data",
        ]);
        assert!(curl.arg(body.to_string()).arg(url).status().await.unwrap().success());
        let events = until(&dir, "events?nodes=n2", |events| {
            events.as_array().unwrap().iter().any(|event| event["what"] == "free")
        })
        .await;
        let told = |what| events.as_array().unwrap().iter().find(|event| event["what"] == what);
        assert_eq!(told("busy").unwrap()["by"], "operator at loopback");
        let expired = &told("free").unwrap()["cause"]["expired"];
        assert_eq!(expired["by"], "operator at loopback");
        until(&dir, "nodes?nodes=n2", |nodes| nodes[0]["dsc"]["busy"] == "FREE").await;
        server.shutdown().await;
    });
}

#[test]
fn words_that_make_no_sense_are_refused_with_what_to_say_instead() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        let bad = [
            (json!({"command": "hold"}), "node set"),
            (json!({"command": "hold", "nodes": "n1", "until": "soon"}), "18:00"),
            (
                json!({"command": "hold", "nodes": "n1", "until": "2001-01-01T00:00:00Z"}),
                "has passed",
            ),
            (
                json!({"command": "release", "nodes": "n1", "why": "x"}),
                "only hold, freeze, busy and restart",
            ),
            (json!({"command": "hold", "nodes": "n1", "why": "two\nlines"}), "one line"),
        ];
        for (body, said) in bad {
            let (status, problem) = command(&dir, body.clone()).await;
            assert_eq!(status, 400, "{body}");
            assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        }
        let (_, nodes) = get(&dir, "nodes").await;
        assert!(nodes.as_array().unwrap().iter().all(|node| node["held"] == false), "{nodes}");
        server.shutdown().await;
    });
}

/// The time in a query, and the certainty that whatever comes next is later.
async fn now() -> String {
    let millis = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        kraken_model::Millis(u64::try_from(since.as_millis()).unwrap())
    };
    let now = millis();
    while millis() <= now.plus(Duration::from_millis(2)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    now.plus(Duration::from_millis(1)).rfc3339()
}

#[test]
fn the_cluster_is_told_as_it_was_also_after_a_restart() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        until(&dir, "nodes", |nodes| {
            nodes.as_array().unwrap().iter().all(|n| n["dsc"]["phys_state"] == "POWER_OFF")
        })
        .await;
        command(&dir, json!({"command": "hold", "nodes": "n[1-2]", "why": "moving"})).await;
        let first = now().await;
        let other = TWO.replace("\" }", "\", labels: { team: blue } }").replace("[1-2]", "[2-3]");
        assert_eq!(apply(&dir, "", &cluster(&dir, &other)).await.0, 200);
        let second = now().await;
        command(&dir, json!({"command": "release", "nodes": "n2"})).await;

        let names = |nodes: &Value| -> Vec<Value> {
            nodes.as_array().unwrap().iter().map(|node| node["name"].clone()).collect()
        };
        let look = async || {
            let (status, nodes) = get(&dir, &format!("nodes?at={first}")).await;
            assert_eq!((status, names(&nodes)), (200, vec![json!("n1"), json!("n2")]));
            let n1 = &nodes[0];
            assert_eq!(n1["marks"]["hold"]["why"], "moving");
            assert_eq!((&n1["held"], &n1["converged"]), (&json!(true), &json!(false)));
            assert_eq!(n1["dsc"]["phys_state"], "POWER_OFF");
            assert_eq!(n1["cfg"]["labels"], Value::Null);
            let (_, nodes) = get(&dir, &format!("nodes?at={second}")).await;
            assert_eq!(names(&nodes), ["n2", "n3"]);
            assert_eq!(nodes[0]["cfg"]["labels"]["team"], "blue");
            let (_, nodes) =
                get(&dir, &format!("nodes?nodes=phys_state=POWER_OFF&at={first}")).await;
            assert_eq!(names(&nodes), ["n1", "n2"]);
            let (_, nodes) = get(&dir, &format!("nodes?nodes=n2&at={second}")).await;
            assert_eq!(names(&nodes), ["n2"]);
            let (status, said) = get(&dir, &format!("nodes?nodes=n1&at={second}")).await;
            assert_eq!(status, 404, "{said}");
        };
        look().await;
        server.shutdown().await;
        let server = Server::start(config(&dir)).await.unwrap();
        look().await;

        let (status, said) = get(&dir, "nodes?at=2001-01-01T00:00:00Z").await;
        assert_eq!(status, 410);
        assert!(
            said["detail"].as_str().unwrap().contains("the journal reaches back to 20"),
            "{said}"
        );
        let (status, said) = get(&dir, "nodes?at=2999-01-01T00:00:00Z").await;
        assert!(
            status == 400 && said["detail"].as_str().unwrap().contains("still to come"),
            "{said}"
        );
        let (status, _) = get(&dir, "explain?at=2h").await;
        assert_eq!(status, 400);
        server.shutdown().await;
    });
}

#[test]
fn events_are_found_by_time_kind_and_node() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        let before = now().await;
        for nodes in ["n1", "n2"] {
            command(&dir, json!({"command": "hold", "nodes": nodes, "why": "first"})).await;
        }
        until(&dir, "events?kind=held", |events| events.as_array().unwrap().len() == 2).await;
        let between = now().await;
        command(&dir, json!({"command": "release", "nodes": "n[1-2]"})).await;
        until(&dir, "events?kind=released", |events| events.as_array().unwrap().len() == 2).await;

        let found = async |query: &str| -> Vec<(Value, Value)> {
            let (status, events) = get(&dir, &format!("events?kind=held,released&{query}")).await;
            assert_eq!(status, 200, "{events}");
            let events = events.as_array().unwrap();
            events.iter().map(|e| (e["node"].clone(), e["what"].clone())).collect()
        };
        let pair = |node: &str, what: &str| (json!(node), json!(what));
        let (held, released) = (
            [pair("n1", "held"), pair("n2", "held")],
            [pair("n1", "released"), pair("n2", "released")],
        );
        assert_eq!(found(&format!("since={before}&until={between}")).await, held);
        assert_eq!(found(&format!("since={between}")).await, released);
        assert_eq!(found("limit=1").await, released[1..], "the latest");
        assert_eq!(found(&format!("since={before}&limit=1")).await, held[..1], "the first since");
        assert_eq!(found("nodes=n2").await, [held[1].clone(), released[1].clone()]);
        assert_eq!(found(&format!("nodes=n2&since={between}")).await, released[1..]);
        assert_eq!(found("since=1h&nodes=n1&limit=1").await, held[..1]);
        let (status, said) = get(&dir, "events?kind=hold").await;
        assert!(status == 400 && said["detail"].as_str().unwrap().contains("held"), "{said}");
        assert_eq!(get(&dir, "events?since=soon").await.0, 400);
        assert_eq!(get(&dir, "events?follow=true&until=1h").await.0, 400);
        server.shutdown().await;
    });
}

#[test]
fn a_node_has_a_history_of_its_own_even_when_it_is_gone() {
    in_namespace(|dir| async move {
        let server = started(&dir).await;
        let is_tried = |passages: &Value| {
            let passages = passages.as_array().unwrap();
            passages
                .iter()
                .any(|p| p["mutation"] == "power.discover" && p["step"]["outcome"] == "done")
        };
        let passages = until(&dir, "nodes/n1/history", is_tried).await;
        let passages = passages.as_array().unwrap();
        assert_eq!(
            (&passages[0]["what"], &passages[0]["node"]),
            (&json!("configured"), &json!("n1"))
        );
        assert!(passages[0]["by"].as_str().unwrap().ends_with("root"), "{}", passages[0]);
        let step = passages.iter().find(|p| p["mutation"] == "power.discover").unwrap();
        assert_eq!(step["step"]["found"][0]["path"], "phys_state", "{step}");
        assert!(step["step"]["took_ms"].is_u64() && step["cause"]["plan"].is_object(), "{step}");
        assert!(passages.iter().all(|passage| passage["node"] == "n1"));

        let rest = TWO.replace("[1-2]", "[2-2]").replace("[01-02]", "[02-02]");
        let rest = rest.replace("[11-12]", "[12-12]");
        let (status, applied) = apply(&dir, "", &cluster(&dir, &rest)).await;
        assert_eq!(status, 200, "{applied}");
        let is_gone = |passages: &Value| {
            passages.as_array().unwrap().last().is_some_and(|p| p["what"] == "removed")
        };
        until(&dir, "nodes/n1/history", is_gone).await;
        assert_eq!(get(&dir, "nodes/n9/history").await.0, 404);
        let (_, none) = get(&dir, "nodes/n2/history?until=1d").await;
        assert_eq!(none, json!([]));
        server.shutdown().await;
    });
}
