//! Where answers go: a terminal, a pipe, a reader that has gone, a device that is full.
#![allow(clippy::unwrap_used)]

mod simulated;

use rustix::process::{Pid, Signal, kill_process};
use simulated::{PATIENCE, Sim};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

/// How much faster than real machines these are: a minute a second.
const SPEED: &str = "60";

/// What a program prints that is stopped after some time or by itself.
struct Printing {
    child: Child,
    lines: Receiver<String>,
}

impl Printing {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, received) = std::sync::mpsc::sync_channel(1000);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        Self { child, lines: received }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whoever_watches_in_a_pipe_is_told_of_changes_only() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "9", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 9);
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["--server", &sim.address, "get", "nodes", "--watch"]).args(arguments);
        command
    };
    let (table, json) =
        (Printing::of(command(&["n00[3-5]"])), Printing::of(command(&["n004", "-o", "json"])));
    assert!(table.line().starts_with("NODE  PHYS"));
    for node in ["n003", "n004", "n005"] {
        assert!(table.line().starts_with(node));
    }
    let told = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    assert_eq!(told(json.line())["converged"], true);
    sim.says(&["power", "off", "n004", "--yes"]);
    loop {
        let line = table.line();
        assert!(line.starts_with("n004  "), "{line}");
        if line.contains("POWER_OFF") {
            break;
        }
    }
    while told(json.line())["dsc"]["phys_state"] != "POWER_OFF" {}

    drop((table, json));

    // Whoever reads no more ends it, although nothing happens any more that could fail to be printed.
    for follow in
        [&["get", "nodes", "n001", "--watch"][..], &["events", "--follow", "--limit", "1"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["--server", &sim.address]).args(follow);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && said.is_empty(), "{follow:?}: {said}");
    }
    sim.end();
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "3", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 3);
    let state = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
    let cluster = state.path().join("cluster.yaml");
    let cluster = cluster.to_str().unwrap();
    let verbs: [&[&str]; 23] = [
        &["--help"],
        &["--version"],
        &["get", "--help"],
        &["get", "nodes"],
        &["get", "nodes", "-o", "json"],
        &["get", "nodes", "--watch"],
        &["get", "images"],
        &["get", "modules"],
        &["describe", "n001"],
        &["explain", "n001"],
        &["events"],
        &["events", "--follow"],
        &["history", "n001"],
        &["hold", "n001"],
        &["power", "status", "n001"],
        &["graph"],
        &["graph", "check"],
        &["status"],
        &["logs", "n001"],
        &["plan", "-f", cluster],
        &["diff", "-f", cluster],
        &["sim", "fault", "list"],
        &["sim", "status"],
    ];
    for verb in verbs {
        let run = |out: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
            command.args(["--server", &sim.address]).args(verb).stdout(out);
            let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
            let output = output.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = run(full.into());
        assert_eq!(code, Some(1), "{verb:?}: {said}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{verb:?}: {said}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(writer.into()), (Some(0), String::new()), "{verb:?}");
    }
    sim.end();
}

#[test]
fn whoever_watches_on_a_terminal_sees_it_redrawn_in_place_and_gets_the_terminal_back() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "30", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 30);

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let size = Winsize { ws_row: 8, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
    command.args(["--server", &sim.address, "get", "nodes", "--watch"]).env("TERM", "xterm");
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = command.stdin(stream()).stdout(stream()).spawn().unwrap();
    let (sender, drawn) = std::sync::mpsc::sync_channel(1000);
    let mut read = std::fs::File::from(master);
    std::thread::spawn(move || {
        let mut room = [0; 4096];
        // The terminal has gone when nobody has it open any more.
        while let Ok(length @ 1..) = read.read(&mut room) {
            let _ = sender.send(String::from_utf8_lossy(&room[..length]).into_owned());
        }
    });
    let mut screen = String::new();
    let mut until = |text: &str| {
        while !screen.contains(text) {
            screen.push_str(&drawn.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{screen:?}")));
        }
        screen.clone()
    };
    assert!(until("more, 0 of them not converged").starts_with("\x1b[?1049h\x1b[?25l\x1b[H"));
    assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
    sim.says(&["power", "off", "n025", "--yes"]);
    // A node that changes comes into view, wherever it stands in the list.
    let told = until("n025  POWER_OFF");
    for frame in told.split("\x1b[H").skip(1) {
        let lines: Vec<&str> = frame.lines().collect();
        assert!(lines.len() <= 8, "{frame:?}");
        for line in lines {
            let text = line.replace("\x1b[2K", "").replace("\x1b[J", "").replace('\r', "");
            assert!(text.chars().count() <= 50, "{line:?}");
        }
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(until("\x1b[?25h\x1b[?1049l").ends_with("\x1b[?25h\x1b[?1049l"));
    assert!(tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
    sim.end();
}
