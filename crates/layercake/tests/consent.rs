//! An apply that takes nodes away, or brings the file of another cluster, against a whole server.
#![allow(clippy::unwrap_used)]

mod cli;
#[path = "../../layercake-server/tests/rig/mod.rs"]
mod rig;

use cli::*;
use layercake_server::{Config, Server};
use rig::*;
use std::path::{Path, PathBuf};

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn nodes(set: &str) -> String {
    format!("  \"{set}\": {{ want: {{ power: off }} }}\n")
}

async fn names(dir: &Path) -> String {
    says(dir, &["get", "nodes", "-o", "name"]).await.replace('\n', " ")
}

/// The command line with a terminal for standard input, on which this is typed.
async fn typed(dir: &Path, answer: &str, arguments: &[&str]) -> (i32, String) {
    let socket = format!("--server unix:{}", dir.join("run/api.sock").display());
    let line = format!("{} {socket} {}", env!("CARGO_BIN_EXE_layercake"), arguments.join(" "));
    let mut command = tokio::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut input, answer.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    drop(input);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn an_apply_that_removes_more_than_half_of_the_nodes_needs_a_persons_word() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let of = |set| file(&dir, &format!("{set}.yaml"), &cluster(&dir, &nodes(set)));
        let apply = async |set, more: &[&str]| {
            let file = of(set);
            layercake(&dir, &[&["apply", "-f", file.to_str().unwrap()], more].concat()).await
        };
        assert_eq!(apply("n[01-10]", &[]).await.0, 0);
        let (code, out, error) = apply("n[01-04]", &[]).await;
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert!(
            error.contains("6 of 10 nodes would be removed: n[05-10]; `layercake apply --yes`"),
            "{error}"
        );
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(names(&dir).await, "n01 n02 n03 n04 n05 n06 n07 n08 n09 n10 ");

        // A look at it says so as well, and changes nothing.
        let path = of("n[01-04]");
        for look in [&["diff", "-f"][..], &["plan", "-f"], &["apply", "--dry-run", "-f"]] {
            let (code, _, noted) =
                layercake(&dir, &[look, &[path.to_str().unwrap()]].concat()).await;
            assert!(
                code == 0 && noted.contains("6 of 10 nodes would be removed: n[05-10]"),
                "{noted}"
            );
        }
        let kept = dir.join("plan.json");
        says(&dir, &["plan", "-f", path.to_str().unwrap(), "--save", kept.to_str().unwrap()]).await;
        let (code, _, error) = layercake(&dir, &["apply", "--plan", kept.to_str().unwrap()]).await;
        assert!(code == 1 && error.contains("6 of 10 nodes would be removed: n[05-10]"), "{error}");

        // Half of them are few enough; the rest are told by name.
        let (code, out, _) = apply("n[01-05]", &[]).await;
        assert!(
            code == 0 && out.contains("removed, and no longer looked after: n[06-10]"),
            "{out}"
        );
        let (code, out, error) = apply("m1", &["--yes"]).await;
        assert!(code == 0 && out.contains("n[01-05]"), "{out}{error}");
        assert_eq!(names(&dir).await, "m1 ");
        server.shutdown().await;
    });
}

#[test]
fn at_a_terminal_a_person_is_asked_and_no_is_no() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, &nodes("n[1-3]"))).await.0, 200);
        let one = file(&dir, "one.yaml", &cluster(&dir, &nodes("n1")));
        let arguments = ["apply", "-f", one.to_str().unwrap()];
        let (code, said) = typed(&dir, "n\n", &arguments).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("2 of 3 nodes would be removed: n[2-3]"), "{said}");
        assert!(said.contains("Apply it? [y/N]"), "{said}");
        assert_eq!(names(&dir).await, "n1 n2 n3 ");
        let (code, said) = typed(&dir, "y\n", &arguments).await;
        assert_eq!(code, 0, "{said}");
        assert_eq!(names(&dir).await, "n1 ");
        server.shutdown().await;
    });
}

#[test]
fn the_api_refuses_with_the_nodes_and_a_digest_that_permits_just_these() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, &nodes("n[1-3]"))).await.0, 200);
        let one = cluster(&dir, &nodes("n1"));
        let (status, problem) = apply(&dir, "", &one).await;
        assert_eq!(status, 409, "{problem}");
        let removed = &problem["confirm"]["removed"];
        assert_eq!((&removed["nodes"], &removed["of"]), (&"n[2-3]".into(), &3.into()), "{problem}");
        assert!(problem["errors"][0].as_str().unwrap().contains("remove=true"), "{problem}");
        let digest = removed["digest"].as_str().unwrap();
        // Others than those that were looked at.
        let none = cluster(&dir, "  m1: {}\n");
        assert_eq!(apply(&dir, &format!("remove={digest}"), &none).await.0, 409);
        assert_eq!(apply(&dir, &format!("remove={digest}"), &one).await.0, 200);
        assert_eq!(apply(&dir, "remove=true", &none).await.0, 200);
        server.shutdown().await;
    });
}

#[test]
fn the_file_of_another_cluster_is_refused_unless_it_is_renamed_also_at_a_start() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let own = cluster(&dir, TWO);
        assert_eq!(apply(&dir, "", &own).await.0, 200);
        says_in_time(&dir, &["get", "nodes"], &["POWER_OFF"]).await;
        let other = file(&dir, "lab.yaml", &own.replacen("cluster: c\n", "cluster: lab\n", 1));
        let path = other.to_str().unwrap();
        let says_so = "the file is that of cluster \"lab\", and this is cluster \"c\"";
        for more in [&[][..], &["--yes"]] {
            let (code, _, error) = layercake(&dir, &[&["apply", "-f", path], more].concat()).await;
            assert!(code == 1 && error.contains(says_so) && error.contains("--rename"), "{error}");
        }
        let (code, _, noted) = layercake(&dir, &["diff", "-f", path]).await;
        assert!(code == 0 && noted.contains(says_so), "{noted}");
        server.shutdown().await;

        // Nobody can be asked at a start: nothing is begun, and nothing is lost.
        let start = |file: &Path| Config { cluster: Some(file.to_owned()), ..config(&dir) };
        let refused = Server::start(start(&other)).await.err().unwrap().to_string();
        assert!(
            refused.contains(says_so) && refused.contains("start without --cluster"),
            "{refused}"
        );
        let few = file(&dir, "few.yaml", &cluster(&dir, "  m1: {}\n"));
        let refused = Server::start(start(&few)).await.err().unwrap().to_string();
        assert!(refused.contains("2 of 2 nodes would be removed: n[1-2]"), "{refused}");

        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(names(&dir).await, "n1 n2 ");
        says(&dir, &["apply", "-f", path, "--rename"]).await;
        let (code, _, error) =
            layercake(&dir, &["apply", "-f", file(&dir, "c.yaml", &own).to_str().unwrap()]).await;
        assert!(code == 1 && error.contains("and this is cluster \"lab\""), "{error}");
        server.shutdown().await;
    });
}
