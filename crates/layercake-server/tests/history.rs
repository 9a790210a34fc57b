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
        assert_eq!(get(&dir, "status").await.1["freeze"]["why"], "a fair");
        command(&dir, json!({"command": "thaw"})).await;
        command(&dir, json!({"command": "freeze", "nodes": "n[1-2]"})).await;
        command(&dir, json!({"command": "thaw", "nodes": "n1"})).await;
        let (_, nodes) = get(&dir, "nodes").await;
        assert!(nodes[0]["marks"].get("freeze").is_none() && nodes[1]["held"] == true, "{nodes}");
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
        curl.args(["--silent", "--header", "content-type: application/json", "--data"]);
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
                "only hold, freeze and busy",
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
