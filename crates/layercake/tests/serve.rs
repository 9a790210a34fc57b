//! `layercake serve` as a process: where it is, and what it leaves behind when it is killed.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, PATIENCE};
use std::path::Path;
use std::time::Instant;

/// Until the condition holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// The command line of a process; of one that is gone, or a zombie, there is none.
fn runs(pid: &str) -> bool {
    let words = std::fs::read(Path::new("/proc").join(pid).join("cmdline"));
    words.is_ok_and(|words| !words.is_empty())
}

#[test]
fn processes_of_modules_and_what_they_started_end_with_a_server_that_is_killed() {
    // Written whole before it has its name.
    let noted = "sleep 600 & echo $$ $! > $KRAKEN_MODULE.new; \
                 mv $KRAKEN_MODULE.new $KRAKEN_MODULE.pids; wait";
    let variable = "{ values: [UNKNOWN, SEEN], about: Whether it was seen }";
    let lamp = format!(
        "module: lamp\nvariables: {{ lamp: {variable} }}\n\
         serve: {{ command: [/bin/sh, -c, \"trap '' TERM; {noted}\"] }}\n"
    );
    let look = format!(
        "module: look\nvariables: {{ look: {variable} }}\n\
         discover: {{ shell: \"{noted}\", of: all, timeout: 1h }}\n"
    );
    let mut lab = Lab::new(&[("lamp.yaml", &lamp), ("look.yaml", &look)]);
    let cluster = lab.cluster("off");
    lab.says(&["apply", "-f", cluster.to_str().unwrap()]);
    let mut pids = Vec::new();
    for module in ["lamp", "look"] {
        let file = lab.dir.join(format!("modules.d/{module}.pids"));
        until("a module starts", || file.exists());
        let noted = std::fs::read_to_string(file).unwrap();
        pids.extend(noted.split_whitespace().map(str::to_owned));
    }
    assert!(pids.len() == 4 && pids.iter().all(|pid| runs(pid)), "{pids:?}");
    lab.kill();
    until("they end", || !pids.iter().any(|pid| runs(pid)));
}

#[test]
fn paths_that_are_said_from_here_mean_the_same_to_what_runs_elsewhere() {
    let told = "echo $KRAKEN_SOCKET > socket.new; mv socket.new socket; sleep 600";
    let lamp = format!(
        "module: lamp\nvariables: {{ lamp: {{ values: [UNKNOWN, SEEN] }} }}\n\
         serve: {{ shell: \"{told}\" }}\n"
    );
    let lab = Lab::new(&[("lamp.yml", &lamp)]);
    let cluster = lab.cluster("off");
    lab.says(&["apply", "-f", cluster.to_str().unwrap()]);
    let file = lab.dir.join("modules.d/socket");
    until("the module starts", || file.exists());
    let socket = std::fs::read_to_string(file).unwrap();
    assert_eq!(Path::new(socket.trim()), lab.dir.join("run/modules/lamp.sock"));
}
