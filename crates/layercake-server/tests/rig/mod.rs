//! A server in a network namespace of its own, asked over its socket as a person would.
// Each program of tests uses a part of it.
#![allow(dead_code)]

use layercake_server::Config;
use serde_json::Value;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
pub(crate) fn in_namespace<F: Future<Output = ()>>(
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

pub(crate) fn config(dir: &Path) -> Config {
    let minos = dir.join("minos");
    std::fs::create_dir_all(&minos).unwrap();
    std::fs::write(minos.join("vmlinuz"), "a kernel").unwrap();
    std::fs::write(minos.join("initramfs.img"), "an initramfs").unwrap();
    Config {
        cluster: None,
        state: dir.join("state"),
        run: dir.join("run"),
        minos,
        boot_programs: dir.join("boot-programs"),
        modules: dir.join("modules.d"),
        api_socket: dir.join("run/api.sock"),
        api_listen: "127.0.0.1:0".parse().unwrap(),
    }
}

/// Asks over the socket; status and body.
pub(crate) async fn ask(dir: &Path, arguments: &[&str], path: &str) -> (u16, String) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--max-time", "60", "--write-out", "\n%{http_code}"]);
    command.arg("--unix-socket").arg(dir.join("run/api.sock")).args(arguments);
    let output = command.arg(format!("http://localhost/v1/{path}")).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

pub(crate) async fn apply(dir: &Path, query: &str, file: &str) -> (u16, Value) {
    let (status, body) = ask(dir, &["--data-binary", file], &format!("cluster?{query}")).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

pub(crate) const HEAD: &str = "cluster: c\nnetwork:\n  boot: { subnet: 10.99.0.0/24, interface: lab0, \
                    server: 10.99.0.1, gateway: 10.99.0.1 }\n";

/// A cluster of machines that a script switches; it notes what it was told.
pub(crate) fn cluster(dir: &Path, nodes: &str) -> String {
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

pub(crate) const TWO: &str =
    "  \"n[1-2]\": { mac: \"52:54:00:00:00:[01-02]\", address: \"10.99.0.[11-12]\" }\n";
