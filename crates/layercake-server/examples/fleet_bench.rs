//! Measures a whole server with 100,000 nodes (or as many as the first argument says): how long one
//! cluster file takes until all of it is durable and acknowledged, and how long a server that starts
//! again takes until it answers for all of them. Prints one JSON object a line: name, value, unit.
//! Needs root, for a network namespace of its own. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use layercake_server::{Config, Server};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const NODES: usize = 100_000;

/// A network namespace with a bridge for the machines; gone when it is dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let this = Self(format!("lcfleet-{}", std::process::id()));
        let name = &this.0;
        for line in [
            format!("netns add {name}"),
            format!("-n {name} link add lab0 type bridge"),
            format!("-n {name} addr add 10.0.0.1/8 dev lab0"),
            format!("-n {name} link set lab0 up"),
            format!("-n {name} link set lo up"),
        ] {
            assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "{line}");
        }
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
        this
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
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
        boot_programs: dir.join("boot-programs"),
        modules: dir.join("modules.d"),
        api_socket: dir.join("run/api.sock"),
        api_listen: "127.0.0.1:0".parse().unwrap(),
    }
}

/// Nodes that nobody switches: what is measured is what every node costs, whatever is done with it.
fn cluster(nodes: usize) -> String {
    format!(
        "cluster: fleet\nnetwork:\n  boot: {{ subnet: 10.0.0.0/8, interface: lab0, server: 10.0.0.1 }}\n\
         defaults:\n  arch: x86_64\n  location: {{ rack: \"r{{{{ index // 40 }}}}\" }}\n  labels: {{ team: blue }}\n\
         nodes:\n  \"n[000001-{nodes:06}]\":\n    \
         mac: \"52:54:{{{{ (index // 16777216)|hex(2) }}}}:{{{{ (index // 65536 % 256)|hex(2) }}}}:{{{{ (index // 256 % 256)|hex(2) }}}}:{{{{ (index % 256)|hex(2) }}}}\"\n    \
         address: \"10.{{{{ 1 + index // 65536 }}}}.{{{{ index // 256 % 256 }}}}.{{{{ index % 256 }}}}\"\n"
    )
}

/// Asks over the socket, as everybody does.
async fn ask(dir: &Path, arguments: &[&str], path: &str) -> String {
    let said = try_to_ask(dir, arguments, path).await;
    said.unwrap_or_else(|said| panic!("{path}: {}", &said[..said.len().min(500)]))
}

/// What the server says, and whether it could do what was asked.
async fn try_to_ask(dir: &Path, arguments: &[&str], path: &str) -> Result<String, String> {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--silent", "--fail-with-body", "--unix-socket"]).arg(dir.join("run/api.sock"));
    let output = curl.args(arguments).arg(format!("http://localhost/v1/{path}")).output().await;
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn say(name: &str, took: Duration) {
    println!("{{\"name\":\"fleet.{name}\",\"value\":{:.3},\"unit\":\"s\"}}", took.as_secs_f64());
}

async fn measure(dir: &Path, nodes: usize) {
    let file = dir.join("cluster.yaml");
    std::fs::write(&file, cluster(nodes)).unwrap();
    let server = Server::start(config(dir)).await.unwrap();
    let began = Instant::now();
    let data = format!("@{}", file.display());
    ask(dir, &["--data-binary", &data, "--output", "/dev/null"], "cluster").await;
    say("create", began.elapsed());
    let status = ask(dir, &[], "status").await;
    assert!(status.contains(&format!("\"nodes\":{nodes}")), "{status}");
    let began = Instant::now();
    server.shutdown().await;
    say("shutdown", began.elapsed());

    let began = Instant::now();
    let server = Server::start(config(dir)).await.unwrap();
    let status = ask(dir, &[], "status").await;
    say("restart", began.elapsed());
    assert!(status.contains(&format!("\"nodes\":{nodes}")), "{status}");
    let began = Instant::now();
    ask(dir, &["--output", "/dev/null"], "nodes/n000001/history").await;
    say("history", began.elapsed());
    // After a start it is written down first what everything is, and the server says so until then.
    let began = Instant::now();
    while try_to_ask(dir, &["--output", "/dev/null"], "nodes?nodes=n000001&at=0s").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say("written_down", began.elapsed());
    let began = Instant::now();
    ask(dir, &["--output", "/dev/null"], "nodes?nodes=n000001&at=0s").await;
    say("past_of_one", began.elapsed());
    let began = Instant::now();
    ask(dir, &["--output", "/dev/null"], "nodes?at=0s").await;
    say("past_of_all", began.elapsed());
    server.shutdown().await;
}

fn main() {
    let nodes = std::env::args().nth(1).map_or(NODES, |text| text.parse().unwrap());
    let namespace = Namespace::new();
    // Threads are made from here on, and are in the namespace too.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(measure(dir.path(), nodes));
    drop((runtime, dir, namespace));
}
