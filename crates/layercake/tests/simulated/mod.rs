//! A server with machines that do not exist, run as an administrator runs it.
// Not every test needs all of it.
#![allow(dead_code)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A simulation, and a directory of its own for what it leaves lying about.
pub(crate) struct Sim {
    child: Child,
    pub(crate) address: String,
    pub(crate) greeting: String,
    /// A sign that something happened since it was looked at.
    events: Receiver<()>,
    watching: Child,
}

impl Sim {
    pub(crate) fn start(temporary: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["sim", "--serve", "--api-listen", "127.0.0.1:0"]).args(more);
        command.env("TMPDIR", temporary).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut greeting = Vec::new();
        for line in said.by_ref() {
            greeting.push(line);
            if greeting.last().unwrap().contains("layercake plan") {
                break;
            }
        }
        let address = greeting.iter().find_map(|line| line.split_once("LAYERCAKE_SERVER="));
        let address = address.unwrap_or_else(|| panic!("{greeting:?}")).1.to_owned();
        let (watching, events) = watch(&address);
        Self { child, address, greeting: greeting.join("\n"), events, watching }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["--server", &self.address]).args(arguments).output().unwrap()
    }

    /// What it says, when it does what it was asked.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first line of what it says, if it goes on.
    pub(crate) fn first_line(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["--server", &self.address]).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        line
    }

    /// What it says when it refuses.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until so many nodes are in a state.
    pub(crate) fn until(&self, state: &str, count: usize) {
        let now = || self.says(&["get", "nodes", state, "-o", "name"]).lines().count();
        if !self.eventually(|| now() == count) {
            panic!("{} with {state}, not {count}: {}", now(), self.says(&["explain", "*"]));
        }
    }

    /// Looks again after every event, until it is so. Whether it was so in time.
    pub(crate) fn eventually(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !is_so() {
            let left = PATIENCE.saturating_sub(began.elapsed());
            if self.events.recv_timeout(left).is_err() {
                return is_so();
            }
        }
        true
    }

    /// Ends it as an administrator does.
    pub(crate) fn end(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Reads along what happens, from the beginning.
fn watch(address: &str) -> (Child, Receiver<()>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
    command.args(["--server", address, "events", "--follow", "--from", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, events) = sync_channel(1);
    std::thread::spawn(move || {
        for _ in lines.map_while(Result::ok) {
            // One sign is enough for all events that nobody has looked at.
            if let Err(TrySendError::Disconnected(())) = sender.try_send(()) {
                return;
            }
        }
    });
    (child, events)
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.watching.kill();
        let _ = self.watching.wait();
        // It has ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
