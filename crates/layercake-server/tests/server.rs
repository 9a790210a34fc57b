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
        for host in ["LOCALHOST", "localhost.:8470", "127.0.0.1:1"] {
            let header = format!("Host: {host}");
            assert_eq!(ask(&dir, &["--header", &header], "status").await.0, 200, "{host}");
        }
        assert_eq!(ask(&dir, &[], "status").await.0, 200);
        let second = Server::start(config(&dir)).await.err().unwrap();
        let said = kraken::chain(&second);
        assert!(said.contains("in use by another process"), "{said}");
        server.shutdown().await;
    });
}

#[test]
fn whoever_reads_may_ask_of_no_node_and_nobody_of_one_that_does_not_exist() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        for path in ["nodes?nodes=", "explain?nodes=", "events?nodes=", "nodes?at=0s&nodes=%20"] {
            assert_eq!(ask(&dir, &[], path).await, (200, "[]".to_owned()), "{path}");
        }
        let json = ["--header", "content-type: application/json", "--data"];
        for (path, body) in [
            ("power", r#"{"action": "off", "nodes": ""}"#),
            ("command", r#"{"command": "hold", "nodes": " "}"#),
        ] {
            let (status, said) = ask(&dir, &[&json[..], &[body]].concat(), path).await;
            assert!(status == 404 && said.contains("the node set is empty"), "{path}: {said}");
        }
        for path in [
            "nodes?nodes=n1%21n01",
            "nodes?at=0s&nodes=n1%21n01",
            "nodes?at=0s&nodes=n1%26n01",
            "explain?nodes=%21n01",
            "events?nodes=n%5B1-2%5D%5En01",
            "nodes/n01/history",
            "nodes/n01/logs",
            "graph?node=n01",
        ] {
            let (status, said) = ask(&dir, &[], path).await;
            assert_eq!(status, 404, "{path}: {said}");
            assert!(said.contains("n01 (did you mean n1?)"), "{path}: {said}");
        }
        let past = "nodes?at=0s&nodes=n%5B1-2%5D%21n2";
        let (status, nodes) = ask(&dir, &[], past).await;
        let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
        assert_eq!((status, nodes.len(), &nodes[0]["name"]), (200, 1, &Value::from("n1")));
        let (status, said) = ask(&dir, &[], "events?kind=hled").await;
        assert!(status == 400 && said.contains("(did you mean held?)"), "{said}");
        server.shutdown().await;
    });
}

#[test]
fn whatever_is_refused_is_answered_as_a_problem() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let json = "content-type: application/json";
        let cases: [(&[&str], &str, u16, &str); 6] = [
            (&["--header", json, "--data", "{\"action\""], "power", 400, "EOF while parsing"),
            (&["--header", json, "--data", "{\"action\": \"up\"}"], "power", 422, "up"),
            (&["--data", "{}"], "power", 415, "application/json"),
            (&[], "events?sicne=1h", 400, "sicne"),
            (&["--request", "PUT"], "status", 405, "which methods belong here"),
            (&["--header", "Origin: http://evil.example"], "status", 403, ""),
        ];
        for (arguments, path, status, why) in cases {
            let (code, said) = ask(&dir, &[&["--include"], arguments].concat(), path).await;
            assert_eq!(code, status, "{path}: {said}");
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("content-type: application/problem+json"), "{path}: {head}");
            let problem: Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["status"], status);
            assert!(!problem["title"].as_str().unwrap().is_empty(), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(why), "{path}: {problem}");
            assert_eq!(head.contains("allow: GET"), status == 405, "{head}");
        }
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
        assert!(
            status == 409 && said.contains("2 nodes run this image, or should: n[1-2];"),
            "{said}"
        );
        server.shutdown().await;
    });
}

#[test]
fn what_the_file_says_of_services_counts_again_when_a_machine_is_switched_on_by_hand() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let nodes = TWO.replace("\" }\n", "\", services: { image: off } }\n");
        assert_eq!(apply(&dir, "", &cluster(&dir, &nodes)).await.0, 200);
        let wanted = async || {
            let (_, nodes) = ask(&dir, &[], "nodes?nodes=n1").await;
            let nodes: Value = serde_json::from_str(&nodes).unwrap();
            let cfg = &nodes[0]["cfg"];
            (
                cfg["services"]["image"]["state"].clone(),
                cfg["image_state"].clone(),
                cfg["phys_state"].clone(),
            )
        };
        let before = wanted().await;
        assert_eq!(before, ("STOPPED".into(), Value::Null, "POWER_ON".into()));
        tell(&dir, "power", r#"{"action":"off","nodes":"n1"}"#).await;
        assert_eq!(wanted().await, (Value::Null, Value::Null, "POWER_OFF".into()));
        tell(&dir, "power", r#"{"action":"on","nodes":"n1"}"#).await;
        assert_eq!(wanted().await, before);
        server.shutdown().await;
    });
}

/// Two machines that stay off.
fn two_that_are_off(dir: &Path) -> String {
    cluster(dir, &TWO.replace("\" }\n", "\", want: { power: off } }\n"))
}

async fn planned(dir: &Path, file: &str) -> Value {
    let (status, plan) = ask(dir, &["--data-binary", file], "plan?name=c.yaml").await;
    assert_eq!(status, 200, "{plan}");
    serde_json::from_str(&plan).unwrap()
}

async fn apply_planned(dir: &Path, plan: &Value) -> (u16, String) {
    let file = dir.join("plan.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let data = format!("@{}", file.display());
    let json = "content-type: application/json";
    ask(dir, &["--header", json, "--data-binary", &data], "plan/apply").await
}

async fn tell(dir: &Path, path: &str, body: &str) {
    let json = "content-type: application/json";
    let (status, said) = ask(dir, &["--header", json, "--data-binary", body], path).await;
    assert_eq!(status, 200, "{said}");
}

#[test]
fn a_plan_changes_nothing_and_is_then_applied_as_it_is() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let plan = planned(&dir, &cluster(&dir, TWO)).await;
        assert_eq!(ask(&dir, &[], "nodes").await.0, 409, "planning applied something");
        let nodes = plan["plan"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().map(|n| &n["node"]).collect::<Vec<_>>(), ["n1", "n2"]);
        let steps = nodes[0]["steps"].as_array().unwrap();
        assert!(
            steps.contains(&"power.on".into()) && steps.contains(&"sync.join".into()),
            "{plan}"
        );
        assert_eq!(plan["plan"]["summary"]["disrupted"], 0);
        let (status, applied) = apply_planned(&dir, &plan).await;
        assert_eq!(status, 200, "{applied}");
        assert!(ask(&dir, &[], "nodes").await.1.contains("n2"));
        let (status, again) = apply_planned(&dir, &plan).await;
        assert_eq!(status, 409, "{again}");
        server.shutdown().await;
    });
}

#[test]
fn a_plan_that_was_edited_is_refused_and_changes_nothing() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let limits = "limits: { power_on: { at_once: 1 } }\n";
        let plan = planned(&dir, &format!("{limits}{}", cluster(&dir, TWO))).await;
        let refused = async |edit: &dyn Fn(&mut Value)| {
            let mut edited = plan.clone();
            edit(&mut edited);
            assert_ne!(edited, plan);
            let (status, said) = apply_planned(&dir, &edited).await;
            assert!(status == 422 && said.contains("the plan was refused"), "{status} {said}");
            assert!(said.contains("it was edited") && said.contains("plan anew"), "{said}");
        };
        refused(&|plan| {
            let text = plan["text"].as_str().unwrap().replace("at_once: 1", "at_once: 2");
            plan["text"] = text.into();
        })
        .await;
        refused(&|plan| drop(plan["changes"].as_array_mut().unwrap().pop())).await;
        refused(&|plan| drop(plan.as_object_mut().unwrap().remove("checksum"))).await;
        assert_eq!(ask(&dir, &[], "nodes").await.0, 409, "something was applied");
        assert_eq!(apply_planned(&dir, &plan).await.0, 200);
        server.shutdown().await;
    });
}

#[test]
fn a_plan_is_refused_when_cfg_or_the_next_step_of_a_node_is_another() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &two_that_are_off(&dir)).await.0, 200);
        let off = tokio::time::timeout(PATIENCE, async {
            while !ask(&dir, &[], "status").await.1.contains("\"POWER_OFF\":2") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        off.await.unwrap();
        let plan = planned(&dir, &cluster(&dir, TWO)).await;
        assert_eq!(plan["plan"]["nodes"][1]["steps"][0], "power.on");

        tell(&dir, "command", r#"{"command":"hold","nodes":"n2"}"#).await;
        let (status, refused) = apply_planned(&dir, &plan).await;
        assert_eq!(status, 409, "{refused}");
        let why = "n2: it was to begin with power.on, now nothing, since it is held";
        assert!(refused.contains(why) && !refused.contains("n1:"), "{refused}");
        tell(&dir, "command", r#"{"command":"release","nodes":"n2"}"#).await;

        let other = planned(&dir, &cluster(&dir, TWO)).await;
        tell(&dir, "power", r#"{"action":"on","nodes":"n1"}"#).await;
        let (status, refused) = apply_planned(&dir, &other).await;
        assert_eq!(status, 409, "{refused}");
        assert!(refused.contains("it was planned at revision 1, now it is 2"), "{refused}");
        assert!(refused.contains("n1: its cfg would be changed in another way"), "{refused}");
        let (_, nodes) = ask(&dir, &[], "nodes?nodes=n2").await;
        assert!(
            nodes.contains("\"phys_state\":\"POWER_OFF\"") && !nodes.contains("SYNC"),
            "{nodes}"
        );
        server.shutdown().await;
    });
}

#[test]
fn limits_of_an_applied_file_hold_at_once() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &two_that_are_off(&dir)).await.0, 200);
        let limits = "limits: { power_on: { at_once: 1 } }\n";
        let file = format!("{limits}{}", cluster(&dir, TWO));
        let plan = planned(&dir, &file).await;
        let wait = &plan["plan"]["summary"]["limits"][0];
        assert_eq!((&wait["limit"], &wait["steps"]), (&"power.on".into(), &1.into()), "{plan}");
        let come = serde_json::json!({"come": ["power.on: 1 at a time"], "go": []});
        assert_eq!(plan["limits"], come);
        // The script says that a machine is off whatever it was told: the first stays under way.
        let (status, applied) = apply(&dir, "", &file).await;
        assert_eq!((status, &applied["notes"]), (200, &serde_json::json!([])), "{applied}");
        assert_eq!(applied["limits"], come);
        let waits = tokio::time::timeout(PATIENCE, async {
            while !ask(&dir, &[], "explain")
                .await
                .1
                .contains("a limit on power.on: 1 of 1 under way")
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waits.await.unwrap();

        // A change of them alone is one too, and a plan that was made before it no longer holds.
        let more = file.replace("at_once: 1", "at_once: 2");
        let plan = planned(&dir, &more).await;
        let changed = serde_json::json!(
            {"come": ["power.on: 2 at a time"], "go": ["power.on: 1 at a time"]}
        );
        assert_eq!((&plan["limits"], &plan["changes"]), (&changed, &serde_json::json!([])));
        assert_eq!(apply(&dir, "dry_run=true", &more).await.1["limits"], changed);
        assert_eq!(apply(&dir, "", &more).await.1["limits"], changed);
        let (status, refused) = apply_planned(&dir, &plan).await;
        assert!(status == 409 && refused.contains("limits: others would come"), "{refused}");
        server.shutdown().await;
        let server = Server::start(config(&dir)).await.unwrap();
        let nothing = serde_json::json!({"come": [], "go": []});
        assert_eq!(apply(&dir, "", &more).await.1["limits"], nothing, "they are known again");
        server.shutdown().await;
    });
}

#[test]
fn a_module_out_of_process_looks_at_nodes_and_bad_ones_are_refused_at_the_start() {
    in_namespace(|dir| async move {
        let modules = dir.join("modules.d");
        std::fs::create_dir(&modules).unwrap();
        std::fs::write(modules.join("a.yaml"), "module: a\nfacts: { a: { type: numbr } }\n")
            .unwrap();
        std::fs::write(modules.join("b.yaml"), "guards: { image.swapp: {} }\n").unwrap();
        let refused = kraken::chain(&Server::start(config(&dir)).await.err().unwrap());
        for line in ["a.yaml:2:", "a.yaml:1:", "b.yaml:1:1: module is missing", "\"image.swap\"?"] {
            assert!(refused.contains(line), "wanted {line}\n{refused}");
        }

        std::fs::remove_file(modules.join("a.yaml")).unwrap();
        std::fs::remove_file(modules.join("b.yaml")).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/drain/.");
        assert!(
            Command::new("cp").arg("-r").args([&example, &modules]).status().unwrap().success()
        );
        let server = Server::start(config(&dir)).await.unwrap();
        let file = cluster(&dir, TWO).replace("defaults:\n", "defaults:\n  drain_state: IN_USE\n");
        let (status, applied) = apply(&dir, "", &file).await;
        assert_eq!(status, 200, "{applied}");
        let found = tokio::time::timeout(PATIENCE, async {
            while !ask(&dir, &[], "nodes?nodes=n2").await.1.contains("\"jobs\":0") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if found.await.is_err() {
            let (_, nodes) = ask(&dir, &[], "nodes").await;
            panic!("nobody looks: {nodes}\n{}", ask(&dir, &[], "modules").await.1);
        }
        let (_, nodes) = ask(&dir, &[], "nodes?nodes=drain_state=IN_USE").await;
        assert!(nodes.contains("\"n2\""), "{nodes}");
        let (_, all) = ask(&dir, &[], "modules").await;
        let all: Vec<Value> = serde_json::from_str(&all).unwrap();
        let names: Vec<_> = all.iter().map(|module| module["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["power", "boot", "sync", "drain"]);
        assert_eq!((&all[3]["kind"], &all[3]["state"]), (&"exec".into(), &"running".into()));
        let wrong = file.replace("IN_USE", "SOMEWHERE");
        let (status, refused) = apply(&dir, "", &wrong).await;
        assert!(status == 422 && refused.to_string().contains("IN_USE"), "{refused}");
        server.shutdown().await;
    });
}
