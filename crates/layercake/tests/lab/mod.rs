//! The program that runs as a server of its own, in a network namespace of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static LABS: AtomicU32 = AtomicU32::new(0);

/// A server in its namespace, with a directory for everything; gone when it is dropped.
pub(crate) struct Lab {
    namespace: String,
    pub(crate) dir: PathBuf,
    server: Option<Child>,
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    /// With modules: the names of their files, and what stands in them.
    pub(crate) fn new(modules: &[(&str, &str)]) -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("lclab-{}-{number}", std::process::id());
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
        std::fs::create_dir_all(lab.dir.join("modules.d")).unwrap();
        for (file, text) in modules {
            std::fs::write(lab.dir.join("modules.d").join(file), text).unwrap();
        }
        let (log, begun) = (lab.dir.join("log"), Instant::now());
        let mut server = lab.serve(&log);
        while !lab.layercake(&["status"]).status.success() {
            let has_ended = server.try_wait().unwrap().is_some();
            let said = || std::fs::read_to_string(&log).unwrap();
            assert!(!has_ended && begun.elapsed() < PATIENCE, "it does not answer: {}", said());
        }
        lab.server = Some(server);
        lab
    }

    fn serve(&self, log: &Path) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_layercake"), "serve"]);
        for (option, place) in [
            ("--state", "state"),
            ("--run", "run"),
            ("--minos", "minos"),
            ("--modules", "modules.d"),
        ] {
            command.arg(option).arg(place);
        }
        // Relative paths, as a person types them.
        command.current_dir(&self.dir);
        command.args(["--api-listen", "127.0.0.1:0"]);
        let log = std::fs::File::create(log).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Runs the command line.
    pub(crate) fn layercake(&self, arguments: &[&str]) -> Output {
        let socket = format!("unix:{}", self.dir.join("run/api.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.env("LAYERCAKE_SERVER", socket).current_dir(&self.dir);
        command.args(arguments).output().unwrap()
    }

    /// What it says when it does what it was told.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.layercake(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A cluster of two machines whose power a script pretends.
    pub(crate) fn cluster(&self, want: &str) -> PathBuf {
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

    /// Kills the server with SIGKILL: `ip netns exec` has become it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
        // Whatever cannot be undone was not there.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
