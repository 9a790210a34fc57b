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
    for script in ["exec yes", "exec yes >&2"] {
        let error = sh(script, PATIENCE).output_bytes(10_000).output().await.unwrap_err();
        assert!(matches!(error, CommandError::TooMuchOutput { limit: 10_000, .. }), "{error}");
    }
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
