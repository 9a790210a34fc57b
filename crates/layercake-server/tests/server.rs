//! A whole server in a network namespace of its own, asked over its socket as a person would.
#![allow(clippy::unwrap_used)]

use layercake_server::{Config, Server};
use serde_json::Value;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a bridge for interface; gone when it is dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let this = Self(format!("lcserver-{}-{number}", std::process::id()));
        let name = &this.0;
        ip(&format!("netns add {name}"));
        for line in [
            "link add lab0 type bridge",
            "addr add 10.99.0.1/24 dev lab0",
            "link set lab0 up",
            "link set lo up",
        ] {
            ip(&format!("-n {name} {line}"));
        }
        this
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that was never made cannot be removed; that is no second failure.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a test inside a namespace, with a directory of its own.
fn in_namespace<F: Future<Output = ()>>(
    test: impl FnOnce(std::path::PathBuf) -> F + Send + 'static,
) {
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().unwrap();
    let (name, path) = (namespace.0.clone(), dir.path().to_owned());
    let ran = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(path));
    })
    .join();
    drop((namespace, dir));
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

fn config(dir: &Path) -> Config {
    let minos = dir.join("minos");
    std::fs::create_dir_all(&minos).unwrap();
    std::fs::write(minos.join("vmlinuz"), "a kernel").unwrap();
    std::fs::write(minos.join("initramfs.img"), "an initramfs").unwrap();
    Config {
        cluster: None,
        state: dir.join("state"),
        run: dir.join("run"),
        minos,
        modules: dir.join("modules.d"),
        api_socket: dir.join("run/api.sock"),
        api_listen: "127.0.0.1:0".parse().unwrap(),
    }
}

/// Asks over the socket; status and body.
async fn ask(dir: &Path, arguments: &[&str], path: &str) -> (u16, String) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--max-time", "60", "--write-out", "\n%{http_code}"]);
    command.arg("--unix-socket").arg(dir.join("run/api.sock")).args(arguments);
    let output = command.arg(format!("http://localhost/v1/{path}")).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

async fn apply(dir: &Path, query: &str, file: &str) -> (u16, Value) {
    let (status, body) = ask(dir, &["--data-binary", file], &format!("cluster?{query}")).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

const HEAD: &str = "cluster: c\nnetwork:\n  boot: { subnet: 10.99.0.0/24, interface: lab0, \
                    server: 10.99.0.1, gateway: 10.99.0.1 }\n";

/// A cluster of machines that a script switches; it notes what it was told.
fn cluster(dir: &Path, nodes: &str) -> String {
    let script = dir.join("power");
    if !script.exists() {
        let (draft, said) = (dir.join("draft"), dir.join("said"));
        let text = format!(
            "#!/bin/sh\n[ $1 = status ] && exec echo off\necho $1 $2 >> {}\n",
            said.display()
        );
        // Written by another process and moved: a file that is open for writing cannot be run.
        let line =
            format!("cat > {0} && chmod 755 {0} && mv {0} {1}", draft.display(), script.display());
        let mut shell = Command::new("sh");
        let mut shell =
            shell.args(["-c", &line]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
    }
    let power = format!("power: {{ driver: exec, exec: {{ command: {} }} }}", script.display());
    format!("{HEAD}defaults:\n  arch: x86_64\n  {power}\nnodes:\n{nodes}")
}

const TWO: &str =
    "  \"n[1-2]\": { mac: \"52:54:00:00:00:[01-02]\", address: \"10.99.0.[11-12]\" }\n";

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
