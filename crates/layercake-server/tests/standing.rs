//! A cluster file that was applied under older rules: it costs nobody else the server.
#![allow(clippy::unwrap_used)]

mod rig;

use kraken_store::{Embedded, Store};
use layercake_server::Server;
use rig::*;
use serde_json::{Value, json};
use std::path::Path;

/// Makes a file the one that counts, behind the back of a server that would refuse it.
fn keep(dir: &Path, file: &str) {
    let mut store = Embedded::open(dir.join("state/kraken.redb")).unwrap();
    let kept = json!({"name": "old.yaml", "text": file}).to_string();
    store.put("cluster", "file", kept.as_bytes()).unwrap();
}

#[test]
fn a_file_that_would_be_refused_now_is_started_with_and_told_of_when_it_is_looked_at() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let good = cluster(&dir, TWO);
        assert_eq!(apply(&dir, "", &good).await.0, 200);
        server.shutdown().await;
        let bad = good
            .replace("gateway: 10.99.0.1 }", "gateway: 10.98.0.1, domain: \"a b\" }")
            .replace("52:54:00:00:00:[01-02]", "01:54:00:00:00:[01-02]");
        assert_ne!(bad, good);
        keep(&dir, &bad);

        let server = Server::start(config(&dir)).await.unwrap();
        let (status, nodes) = ask(&dir, &[], "nodes").await;
        let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
        assert_eq!((status, nodes.len()), (200, 2));
        let (status, said) = apply(&dir, "dry_run=true&name=old.yaml", &bad).await;
        let errors = said["errors"].as_array().unwrap();
        let places: Vec<&str> = errors.iter().map(|e| e.as_str().unwrap()).collect();
        assert!(status == 422 && places.len() == 3, "{places:#?}");
        assert!(places.iter().all(|place| place.starts_with("old.yaml:")), "{places:#?}");
        assert_eq!(apply(&dir, "", &good).await.0, 200);
        server.shutdown().await;
    });
}

#[test]
fn a_file_of_which_nothing_can_be_known_is_told_of_and_nothing_is_started() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        server.shutdown().await;
        keep(&dir, "cluster: c\nnetwork: [a]\n");
        let refused = kraken::chain(&Server::start(config(&dir)).await.err().unwrap());
        assert!(refused.contains("old.yaml:2:10: network is not a map"), "{refused}");
        assert!(refused.contains("give a good one with --cluster"), "{refused}");
    });
}
