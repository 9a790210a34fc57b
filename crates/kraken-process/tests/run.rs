//! Commands that behave, and commands that do not.
#![allow(clippy::unwrap_used)]

use kraken_process::{CommandError, Pipe, Run};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn sh(script: &str, limit: Duration) -> Run {
    Run::new("/bin/sh", ["-c", script], limit)
}

/// Waits until a process is gone. A killed orphan is a zombie, without arguments, until its new
/// parent reaps it.
async fn until_gone(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    let args = format!("/proc/{}/cmdline", pid.trim());
    while std::fs::read(&args).is_ok_and(|args| !args.is_empty()) {
        assert!(Instant::now() < deadline, "the command's child lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn lines_of_both_outputs_come_one_by_one() {
    let mut lines = Vec::new();
    let run = sh("echo one; echo two >&2; printf three", PATIENCE);
    let out = run.follow(|pipe, line| lines.push((pipe, line.to_owned()))).await.unwrap();
    lines.sort_by_key(|(pipe, _)| *pipe == Pipe::Err);
    let wanted = [(Pipe::Out, "one"), (Pipe::Out, "three"), (Pipe::Err, "two")];
    assert_eq!(lines, wanted.map(|(pipe, line)| (pipe, line.to_owned())));
    assert_eq!(out, "one\nthree");
}

#[tokio::test]
async fn a_command_sees_nothing_of_our_environment_and_what_it_is_given() {
    let value = "a b\"'$(x)\n`y`";
    let out = Run::new("/usr/bin/env", ["-0"], PATIENCE).env("GIVEN", value).output();
    let out = out.await.unwrap();
    let mut names: Vec<_> = out.split('\0').filter_map(|v| v.split_once('=')).collect();
    names.sort_unstable();
    let names: Vec<_> = names.into_iter().filter(|(name, _)| *name != "PATH").collect();
    assert_eq!(names, [("GIVEN", value), ("LANG", "C")]);
}

#[tokio::test]
async fn a_command_runs_in_its_directory_wherever_we_are() {
    let dir = tempfile::tempdir().unwrap();
    let pwd = sh("pwd", PATIENCE).in_dir(dir.path()).output().await.unwrap();
    assert_eq!(std::path::Path::new(pwd.trim_end()), dir.path());
    assert_eq!(sh("pwd", PATIENCE).output().await.unwrap(), "/\n");
}

#[tokio::test]
async fn a_command_that_is_no_longer_waited_for_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
    let running = tokio::spawn(sh(&script, PATIENCE * 10).output());
    let deadline = Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "the command does not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    until_gone(&std::fs::read_to_string(file).unwrap()).await;
}

#[tokio::test]
async fn a_command_whose_time_is_over_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("child");
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    let error = sh(&script, Duration::from_secs(1)).output().await.unwrap_err();
    assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
    until_gone(&std::fs::read_to_string(file).unwrap()).await;
}

#[tokio::test]
async fn a_command_that_writes_without_end_is_cut_off() {
    for (script, most) in [("exec yes", 10_000), ("exec yes >&2", 1 << 20)] {
        let error = sh(script, PATIENCE).output_bytes(10_000).output().await.unwrap_err();
        let CommandError::TooMuchOutput { limit, .. } = error else { panic!("{error}") };
        assert_eq!(limit, most, "{script}");
    }
}

#[tokio::test]
async fn warnings_cost_nothing() {
    let warnings = "for i in $(seq 1 2000); do echo \"line $i is deprecated\" >&2; done";
    let out = sh(&format!("{warnings}; echo on"), PATIENCE).output().await.unwrap();
    assert_eq!(out, "on\n");
    let error = sh(&format!("{warnings}; exit 3"), PATIENCE).output().await.unwrap_err();
    assert!(error.to_string().ends_with("line 2000 is deprecated"), "{error}");
}

/// A script with a child that keeps the outputs open, longer than anybody waits for it. Its number is
/// in a file, so that it can be ended.
struct Background {
    dir: tempfile::TempDir,
}

impl Background {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn script(&self, rest: &str) -> String {
        format!("sleep 600 & echo $! > {}; {rest}", self.file().display())
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("child")
    }

    fn child(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap().trim().to_owned()
    }

    fn runs(&self) -> bool {
        let args = std::fs::read(format!("/proc/{}/cmdline", self.child()));
        args.is_ok_and(|args| !args.is_empty())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg(self.child()).output();
    }
}

#[tokio::test]
async fn a_command_has_ended_although_its_child_keeps_its_outputs_open() {
    // More than a pipe holds at once comes before, and the last of it with the end.
    let text = "x".repeat(99);
    let long = format!("for i in $(seq 1 2000); do echo {text}; done; printf end");
    for (rest, answer) in
        [("echo on", "on\n".to_owned()), (&long, format!("{text}\n").repeat(2000) + "end")]
    {
        let background = Background::new();
        let run = sh(&background.script(rest), PATIENCE * 10).output_bytes(1 << 20);
        let mut lines = 0;
        let out = tokio::time::timeout(PATIENCE, run.follow(|_, _| lines += 1)).await;
        assert_eq!(out.expect("it is not waited for").unwrap(), answer);
        assert_eq!(lines, answer.lines().count());
        assert!(background.runs(), "what was started in the background goes on");
    }
    let background = Background::new();
    let run = sh(&background.script("echo 'no route' >&2; exit 4"), PATIENCE * 10).output();
    let error = tokio::time::timeout(PATIENCE, run).await.expect("not waited for").unwrap_err();
    assert!(error.to_string().ends_with("exit status: 4: no route"), "{error}");
}

#[tokio::test]
async fn what_a_service_has_started_ends_with_it() {
    let background = Background::new();
    let run = Run::service("/bin/sh", ["-c", &background.script("echo up; exit 3")]).output();
    let error = tokio::time::timeout(PATIENCE, run).await.expect("not waited for").unwrap_err();
    assert!(error.to_string().ends_with("exit status: 3: up"), "{error}");
    until_gone(&background.child()).await;
}

#[tokio::test]
async fn a_command_that_closes_its_outputs_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let script = format!("exec >&- 2>&-; sleep 0.2; : > {}", done.display());
    assert_eq!(sh(&script, PATIENCE).output().await.unwrap(), "");
    assert!(done.exists());
}

#[tokio::test]
async fn a_failure_carries_the_last_words() {
    let error = sh("echo fine; echo 'no route' >&2; exit 4", PATIENCE).output().await.unwrap_err();
    assert!(error.to_string().ends_with("ended with exit status: 4: no route"), "{error}");
    let error = sh("echo 'only here'; exit 1", PATIENCE).output().await.unwrap_err();
    assert!(error.to_string().ends_with("only here"), "{error}");
}

#[tokio::test]
async fn a_service_may_write_without_end_and_is_remembered_by_its_last_words() {
    let mut lines = 0;
    let script = "head -c 1000000 /dev/zero | tr '\\0' '\\n'; echo enough >&2; exit 3";
    let run = Run::service("/bin/sh", ["-c", script]);
    let error = run.follow(|_, _| lines += 1).await.unwrap_err();
    assert!(error.to_string().ends_with("exit status: 3: enough"), "{error}");
    assert_eq!(lines, 1_000_001);
}
