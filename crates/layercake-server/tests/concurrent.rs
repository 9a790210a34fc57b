//! People who change the cluster at the same time.
#![allow(clippy::unwrap_used)]

mod rig;

use layercake_server::Server;
use rig::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// How many times each is tried; one is enough as soon as anything is ever lost.
const ROUNDS: usize = 20;

async fn power(dir: &Path, action: &str, nodes: &str) -> (u16, String) {
    let asked = json!({"action": action, "nodes": nodes}).to_string();
    let arguments = ["--header", "content-type: application/json", "--data", &asked];
    ask(dir, &arguments, "power").await
}

/// What of each node is wanted: its power, and who it is for.
async fn wanted(dir: &Path) -> BTreeMap<String, (String, String)> {
    let (_, nodes) = ask(dir, &[], "nodes").await;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |n: &Value| {
        (text(&n["name"]), (text(&n["cfg"]["phys_state"]), text(&n["cfg"]["labels"]["team"])))
    };
    nodes.iter().map(of).collect()
}

/// A file with a node for each number up to this one, all of one team.
fn file(dir: &Path, count: usize, team: &str) -> String {
    let node = |n: usize| {
        format!(
            "  n{n}: {{ mac: \"52:54:00:00:00:0{n}\", address: 10.99.0.1{n}, labels: {{ team: {team} }} }}\n"
        )
    };
    cluster(dir, &(1..=count).map(node).collect::<String>())
}

#[test]
fn a_switch_thrown_during_an_apply_undoes_nothing_of_it_and_brings_no_node_back() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let (large, small) = (file(&dir, 6, "old"), file(&dir, 4, "new"));
        for round in 0..ROUNDS {
            assert_eq!(apply(&dir, "", &large).await.0, 200);
            let before = wanted(&dir).await;
            assert!(before.len() == 6 && before.values().all(|(on, _)| on == "POWER_ON"));
            let ((applied, said), (switched, text)) =
                tokio::join!(apply(&dir, "", &small), power(&dir, "off", "*"));
            assert_eq!((applied, switched), (200, 200), "{said} {text}");
            let after = wanted(&dir).await;
            assert_eq!(after.len(), 4, "round {round}: {after:?}");
            let is_old = after.values().any(|(_, team)| team != "new");
            assert!(!is_old, "round {round}: {after:?}");
            // Whichever came second counts, for all nodes alike.
            let off = after.values().filter(|(power, _)| power == "POWER_OFF").count();
            assert!(off == 0 || off == 4, "round {round}: {after:?}");
        }
        server.shutdown().await;
    });
}

#[test]
fn what_one_apply_says_that_it_changed_is_what_it_changed() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let (one, two) = (file(&dir, 2, "one"), file(&dir, 2, "two"));
        assert_eq!(apply(&dir, "", &one).await.0, 200);
        for round in 0..ROUNDS {
            let ((status, said), (switched, _)) =
                tokio::join!(apply(&dir, "", &two), power(&dir, "off", "n1"));
            assert_eq!((status, switched), (200, 200));
            let changed = &said["nodes"][0]["changes"];
            let is_switched = wanted(&dir).await["n1"].0 == "POWER_OFF";
            let says_switched =
                changed.as_array().unwrap().iter().any(|c| c["path"] == "phys_state");
            // The apply found the node switched off and switched it on, or it came first.
            assert_eq!(says_switched, !is_switched, "round {round}: {said}");
            let (status, _) = apply(&dir, "", &one).await;
            assert_eq!(status, 200);
        }
        server.shutdown().await;
    });
}

#[test]
fn a_file_that_is_refused_leaves_cfg_limits_and_the_file_before_as_they_were() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let good = file(&dir, 2, "one");
        assert_eq!(apply(&dir, "", &good).await.0, 200);
        let (_, before) = ask(&dir, &[], "cluster").await;
        // A plan for a revision that is no longer the present one.
        let other = format!("{}limits: {{ power_on: {{ at_once: 1 }} }}\n", file(&dir, 3, "two"));
        let (_, plan) = ask(&dir, &["--data-binary", &other], "plan").await;
        assert_eq!(power(&dir, "off", "n1").await.0, 200);
        let json = ["--header", "content-type: application/json", "--data", &plan];
        assert_eq!(ask(&dir, &json, "plan/apply").await.0, 409);
        assert_eq!(ask(&dir, &[], "cluster").await.1, before);
        let (_, dry) = apply(&dir, "dry_run=true", &other).await;
        assert_eq!(dry["limits"]["come"].as_array().map(Vec::len), Some(1), "{dry}");
        server.shutdown().await;

        // The file, the limits and what the nodes should be belong together after a restart too.
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(ask(&dir, &[], "cluster").await.1, before);
        assert_eq!(wanted(&dir).await.len(), 2);
        server.shutdown().await;
    });
}
