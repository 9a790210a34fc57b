//! A plan from the command line to a real server and back, in a network namespace of its own.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

static LABS: AtomicU32 = AtomicU32::new(0);

/// A server in its namespace, with a directory for everything; gone when it is dropped.
struct Lab {
    namespace: String,
    dir: PathBuf,
    server: Option<Child>,
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    fn new() -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("lcplan-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&namespace);
        std::fs::create_dir_all(dir.join("minos")).unwrap();
        let mut lab = Self { namespace, dir, server: None };
        let name = &lab.namespace;
        ip(&format!("netns add {name}"));
        for line in ["link add lab0 type bridge", "addr add 10.99.0.1/24 dev lab0"] {
            ip(&format!("-n {name} {line}"));
        }
        ip(&format!("-n {name} link set lab0 up"));
        ip(&format!("-n {name} link set lo up"));
        for file in ["vmlinuz", "initramfs.img"] {
            std::fs::write(lab.dir.join("minos").join(file), "not booted").unwrap();
        }
        lab.server = Some(lab.serve());
        let begun = Instant::now();
        while !lab.layercake(&["status"]).status.success() {
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::yield_now();
        }
        lab
    }

    fn serve(&self) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_layercake"), "serve"]);
        for (option, place) in [("--state", "state"), ("--run", "run"), ("--minos", "minos")] {
            command.arg(option).arg(self.dir.join(place));
        }
        command.args(["--api-listen", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn layercake(&self, arguments: &[&str]) -> Output {
        let socket = format!("unix:{}", self.dir.join("run/api.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.env("LAYERCAKE_SERVER", socket).current_dir(&self.dir);
        command.args(arguments).output().unwrap()
    }

    /// What it says when it does what it was told.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.layercake(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A cluster of two machines whose power a script pretends.
    fn cluster(&self, want: &str) -> PathBuf {
        let file = self.dir.join("cluster.yaml");
        let text = format!(
            "cluster: c\nnetwork:\n  boot: {{ subnet: 10.99.0.0/24, interface: lab0, server: 10.99.0.1 }}
limits: {{ power_on: {{ at_once: 1 }} }}
defaults: {{ arch: x86_64, power: {{ driver: exec, exec: {{ command: /bin/false }} }}, want: {{ power: {want} }} }}
nodes:\n  \"n[1-2]\": {{ mac: \"52:54:00:00:00:[01-02]\", address: \"10.99.0.[11-12]\" }}\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // `ip netns exec` becomes the server. Whatever cannot be undone was not there.
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_was_planned_and_kept_is_applied_once_and_refused_when_the_state_moved_on() {
    let lab = Lab::new();
    let file = lab.cluster("on");
    let plan = lab.dir.join("plan.json");
    let said = lab.says(&["plan", "-f", path(&file), "--save", path(&plan)]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("NODES   TAKES  DONE"), "{said}");
    assert!(lines[1].starts_with("n[1-2]") && lines[1].contains("power.on, boot.arm"), "{said}");
    assert!(said.contains("2 nodes change: 2 with steps ahead, 0 disrupted"), "{said}");
    assert!(said.contains("steps that wait for the limit on power.on: 1, "), "{said}");
    for dry in [["plan", "--dry-run"], ["apply", "--dry-run"]] {
        assert_eq!(lab.says(&[&dry[..], &["-f", path(&file)]].concat()), said);
    }
    assert!(!lab.layercake(&["get", "nodes"]).status.success(), "planning applied something");
    assert_eq!(lab.says(&["plan", "-f", path(&file), "-o", "name"]), "n1\nn2\n");
    let json: serde_json::Value =
        serde_json::from_str(&lab.says(&["plan", "-f", path(&file), "-o", "json"])).unwrap();
    assert_eq!(json["plan"]["nodes"][0]["node"], "n1");

    let edited = lab.dir.join("edited.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&edited, text.replace("at_once: 1", "at_once: 2")).unwrap();
    let refused = lab.layercake(&["apply", "--plan", path(&edited)]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it was edited") && said.contains("plan anew"), "{said}");

    let said = lab.says(&["apply", "--plan", path(&plan)]);
    assert!(said.contains("2 nodes changed, revision 1"), "{said}");
    let again = lab.layercake(&["apply", "--plan", path(&plan)]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(said.starts_with("layercake: the plan no longer holds: "), "{said}");
    assert!(said.contains("cfg: it was planned at revision 0, now it is 1"), "{said}");

    let refused = lab.layercake(&["apply", "--plan", path(&file)]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is no plan") && said.contains("layercake plan -f"), "{said}");
    let said = lab.says(&["plan", "-f", path(&lab.cluster("on"))]);
    assert_eq!(said, "nothing changes\n");
}

#[test]
fn the_graph_is_drawn_for_all_and_for_a_node_and_checked() {
    let lab = Lab::new();
    let dot = lab.says(&["graph"]);
    assert!(dot.starts_with("digraph mutations {") && dot.ends_with("}\n"), "{dot}");
    assert!(
        dot.contains("label=\"power.off\\ndisruptive\\nneeds cfg power.driver is set"),
        "{dot}"
    );
    assert_eq!(lab.says(&["graph", "check"]), "nothing found\n");
    lab.says(&["apply", "-f", path(&lab.cluster("on"))]);
    let mermaid = lab.says(&["graph", "--node", "n1", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR") && mermaid.contains("==>|\"1. "), "{mermaid}");
    let json = lab.says(&["graph", "--node", "n1", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let join = json["mutations"].as_array().unwrap();
    let join = join.iter().find(|edge| edge["mutation"] == "sync.join").unwrap();
    let closed = join["closed"].as_array().unwrap();
    assert!(closed.contains(&"run_state is UNKNOWN, not INIT".into()), "{join}");
    let missing = lab.layercake(&["graph", "--node", "n9"]);
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(
        (missing.status.code(), said.as_str()),
        (Some(1), "layercake: no such node: there is no node n9\n")
    );
}
