//! The exec driver with commands that behave, and commands that do not.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use layercake_power::{
    CommandError, ExecConfig, ExecMachine, Off, PowerDriver, PowerError, PowerState,
};

fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("power");
    // Written beside and moved: a file that is open for writing cannot be executed (ETXTBSY), and another
    // test's fork may hold this one open for a moment.
    let draft = dir.join("draft");
    let write = std::process::Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\" && mv \"$1\" \"$2\"", "sh"])
        .args([&draft, &path])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut sh| {
            use std::io::Write;
            sh.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{body}\n").as_bytes())?;
            sh.wait()
        });
    assert!(write.unwrap().success());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    path
}

fn machine(command: PathBuf, timeout_seconds: u32) -> ExecMachine {
    ExecMachine::new("n7".parse().unwrap(), ExecConfig { command, timeout_seconds }).unwrap()
}

fn cause(error: PowerError) -> CommandError {
    match error {
        PowerError::Command { source, .. } => source,
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test]
async fn a_machine_is_switched_by_a_script_that_keeps_its_state_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let body = r#"
        [ $# = 2 ] && [ "$2" = n7 ] || exit 9
        case "$1" in
            status) cat "$STATE" 2>/dev/null || echo off ;;
            on|cycle) echo on > "$STATE" ;;
            off) echo off > "$STATE" ;;
            *) exit 8 ;;
        esac"#;
    let body = body.replace("$STATE", &state.to_string_lossy());
    let n7 = machine(script(dir.path(), &body), 20);
    assert_eq!(n7.status().await.unwrap(), PowerState::Off);
    n7.on().await.unwrap();
    assert_eq!(n7.status().await.unwrap(), PowerState::On);
    n7.off(Off::Hard).await.unwrap();
    assert_eq!(n7.status().await.unwrap(), PowerState::Off);
    n7.cycle().await.unwrap();
    assert_eq!(n7.status().await.unwrap(), PowerState::On);
    let graceful = n7.off(Off::Graceful { deadline: Duration::from_secs(1) }).await;
    assert!(matches!(graceful, Err(PowerError::Unsupported { .. })));
    assert!(!n7.capabilities().graceful_off);
}

#[tokio::test]
async fn only_the_exact_words_are_answers() {
    let dir = tempfile::tempdir().unwrap();
    for (answer, shown) in [
        ("ON", r#""ON""#),
        ("on\\non", r#""on\non""#),
        ("", r#""""#),
        ("\\r\\n", r#""\r\n""#),
        ("powered on\\r\\n", r#""powered on\r\n""#),
        ("on\\0", r#""on\0""#),
        ("on\\033[0m", r#""on\u{1b}[0m""#),
    ] {
        let n7 = machine(script(dir.path(), &format!("printf '{answer}'")), 20);
        let error = cause(n7.status().await.unwrap_err());
        assert!(matches!(error, CommandError::Answer { .. }), "{answer:?} gave {error}");
        let said = format!("answered {shown}; expected one word: on, off, hang or unknown");
        assert!(error.to_string().ends_with(&said), "{error}\nwanted {said}");
    }
    for (answer, state) in [
        ("hang\\n", PowerState::Hang),
        ("unknown", PowerState::Unknown),
        ("on\\r\\n", PowerState::On),
        (" off \\t\\r\\n\\n", PowerState::Off),
    ] {
        let n7 = machine(script(dir.path(), &format!("printf '{answer}'")), 20);
        assert_eq!(n7.status().await.unwrap(), state, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_counts_although_a_child_keeps_the_output_open_and_however_many_warnings_come() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("child");
    let light = format!("sleep 600 & echo $! > {}; echo on", child.display());
    let warnings = "for i in $(seq 1 400); do echo \"line $i is deprecated\" >&2; done; echo on";
    for body in [&light, warnings] {
        let n7 = machine(script(dir.path(), body), 600);
        let status = tokio::time::timeout(Duration::from_secs(20), n7.status()).await;
        assert_eq!(status.expect("it is waited for").unwrap(), PowerState::On, "{body}");
    }
    let child = fs::read_to_string(child).unwrap();
    std::process::Command::new("kill").arg(child.trim()).status().unwrap();
}

#[tokio::test]
async fn a_failure_carries_the_commands_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let n7 = machine(script(dir.path(), "echo on; echo 'PDU 3: no route to host' >&2; exit 4"), 20);
    let error = cause(n7.status().await.unwrap_err()).to_string();
    assert!(
        error.contains("exit status: 4") && error.contains("PDU 3: no route to host"),
        "{error}"
    );
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("child");
    let body = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let n7 = machine(script(dir.path(), &body), 1);
    let asked_at = Instant::now();
    let error = cause(n7.on().await.unwrap_err());
    assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
    assert!(asked_at.elapsed() < Duration::from_secs(20));
    let child = fs::read_to_string(pid_file).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // A killed orphan is a zombie, without arguments, until its new parent reaps it.
    while fs::read(format!("/proc/{}/cmdline", child.trim())).is_ok_and(|args| !args.is_empty()) {
        assert!(Instant::now() < deadline, "the command's child lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_command_that_writes_without_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let n7 = machine(script(dir.path(), "exec yes on"), 20);
    let error = cause(n7.status().await.unwrap_err());
    assert!(matches!(error, CommandError::TooMuchOutput { .. }), "{error}");
}

#[test]
fn a_command_without_its_full_path_is_refused() {
    let config = ExecConfig { command: "power".into(), timeout_seconds: 1 };
    let error = ExecMachine::new("n7".parse().unwrap(), config).unwrap_err();
    assert!(cause(error).to_string().contains("power"));
    assert!(serde_json::from_str::<ExecConfig>(r#"{"command": "/x", "shell": true}"#).is_err());
}
