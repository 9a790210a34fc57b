//! A whole server in a network namespace of its own, asked over its socket as a person would.
#![allow(clippy::unwrap_used)]

mod rig;

use layercake_server::Server;
use rig::*;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_cluster_file_is_looked_at_applied_and_known_again_after_a_restart() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let mode = std::fs::metadata(dir.join("run/api.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (status, _) = ask(&dir, &[], "nodes").await;
        assert_eq!(status, 409);
        let file = cluster(&dir, TWO);
        let (status, dry) = apply(&dir, "dry_run=true", &file).await;
        assert_eq!((status, dry["nodes"].as_array().map(Vec::len)), (200, Some(2)), "{dry}");
        assert_eq!(ask(&dir, &[], "nodes").await.0, 409, "a dry run applied something");
        let (status, applied) = apply(&dir, "", &file).await;
        assert_eq!(status, 200, "{applied}");
        // The machines are wanted on, and their power command is told so.
        let told = tokio::time::timeout(PATIENCE, async {
            while !std::fs::read_to_string(dir.join("said")).is_ok_and(|s| s.contains("on n1")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        told.await.unwrap();
        let (_, explained) = ask(&dir, &[], "explain?nodes=n1").await;
        assert!(explained.contains("\"text\":\"n1: "), "{explained}");
        server.shutdown().await;

        let server = Server::start(config(&dir)).await.unwrap();
        let (_, nodes) = ask(&dir, &[], "nodes").await;
        let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
        assert_eq!(nodes.iter().map(|n| &n["name"]).collect::<Vec<_>>(), ["n1", "n2"]);
        let (_, again) = apply(&dir, "", &file).await;
        assert_eq!(again["nodes"], serde_json::json!([]));
        server.shutdown().await;
    });
}

#[test]
fn a_bad_cluster_file_is_refused_with_every_place_and_changes_nothing() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        let bad = "  n1: { mac: \"52:54:00:00:00:01\", address: 10.99.0.11, colour: red }\n  \
                   n2: { mac: \"52:54:00:00:00:01\", address: 10.98.0.12 }\n  \
                   n3: { mac: \"52:54:00:00:00:03\", address: 10.99.0.13, images: [none] }\n";
        let (status, refused) = apply(&dir, "name=bad.yaml", &cluster(&dir, bad)).await;
        assert_eq!(status, 422, "{refused}");
        let errors = refused["errors"].as_array().unwrap();
        assert!(errors.len() >= 3, "{refused:#}");
        for error in errors {
            assert!(error.as_str().unwrap().starts_with("bad.yaml:"), "{error}");
        }
        let (_, nodes) = ask(&dir, &[], "nodes").await;
        assert!(!nodes.contains("n3") && !nodes.contains("10.98"), "{nodes}");
        server.shutdown().await;
    });
}

#[test]
fn web_pages_are_kept_out_and_a_second_server_is_told_why_it_cannot_start() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        for header in ["Origin: http://evil.example", "Host: evil.example"] {
            assert_eq!(ask(&dir, &["--header", header], "status").await.0, 403, "{header}");
        }
        assert_eq!(ask(&dir, &[], "status").await.0, 200);
        let second = Server::start(config(&dir)).await.err().unwrap();
        let said = kraken::chain(&second);
        assert!(said.contains("in use by another process"), "{said}");
        server.shutdown().await;
    });
}

#[test]
fn an_archive_is_imported_whole_or_not_at_all_and_an_image_in_use_stays() {
    in_namespace(|dir| async move {
        let root = dir.join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("file"), vec![7; 400_000]).unwrap();
        let tar = dir.join("a.tar");
        let mut command = Command::new("tar");
        assert!(
            command.arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status().unwrap().success()
        );
        let cut = dir.join("cut.tar");
        std::fs::write(&cut, &std::fs::read(&tar).unwrap()[..200_000]).unwrap();
        let server = Server::start(config(&dir)).await.unwrap();
        let import = async |file: &Path| {
            let data = format!("@{}", file.display());
            ask(&dir, &["--data-binary", &data], "images?name=web:1&command=%5B%22%2Fx%22%5D").await
        };
        let (status, said) = import(&cut).await;
        assert_eq!(status, 422, "{said}");
        assert_eq!(ask(&dir, &[], "images").await.1, "[]");
        let (status, said) = import(&tar).await;
        assert_eq!(status, 200, "{said}");
        let nodes = format!("{TWO}images: {{ web: {{ image: \"web:1\" }} }}\n");
        let file = cluster(&dir, &nodes.replace("\" }\n", "\", images: [web] }\n"));
        let (status, said) = apply(&dir, "", &file).await;
        assert_eq!(status, 200, "{said}");
        let (status, said) = ask(&dir, &["--request", "DELETE"], "images/web:1").await;
        assert!(status == 409 && said.contains("n1"), "{status} {said}");
        server.shutdown().await;
    });
}
