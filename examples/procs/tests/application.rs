//! The example as a user runs it: processes come, are killed, are stopped, and come again.
#![allow(clippy::unwrap_used)]

use kraken::{Keeper, Kraken, Options, Settings, Tasks, View};
use kraken_model::{Document, NodeId, Path as Address, Value};
use kraken_store::Embedded;
use procs::{PID, PROCESS, Procs, ProcsModule, declared, running};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn application(store: &Path) -> (Kraken, Tasks) {
    let (registry, modules) = declared().unwrap();
    let options = Options {
        registry,
        modules,
        hosted: vec![Arc::new(ProcsModule(Arc::new(Procs::default())))],
        keeper: Keeper::new(Box::new(Embedded::open(store).unwrap())),
        settings: Settings::default(),
    };
    Kraken::start(options).await.unwrap()
}

async fn end(kraken: Kraken, tasks: Tasks) {
    kraken.stop();
    tasks.ended().await;
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

async fn until(kraken: &Kraken, name: &str, so: impl Fn(&View) -> bool) -> View {
    let mut subscription = kraken.views().subscribe();
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(view) = kraken.views().get(&node(name)).filter(|view| so(view)) {
                return view;
            }
            subscription.changed().await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{name}: {:?}", kraken.views().get(&node(name))))
}

fn pid(view: &View) -> Option<i64> {
    view.dsc.get(PID).and_then(Value::as_int)
}

fn is(view: &View, state: &str) -> bool {
    view.dsc.text(PROCESS) == Some(state)
}

fn stopped_cfg() -> Document {
    let mut cfg = running(&["sleep", "1000"]);
    cfg.set(Address::known(PROCESS), "STOPPED");
    cfg
}

/// Whether a process is there and is no zombie. Its command line would not tell: it is empty for a
/// moment while the program is being loaded.
fn lives(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

async fn wait_until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(signal: &str, pid: i64) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (kraken, tasks) = application(&dir.path().join("s.redb")).await;
    let cfg = running(&["sleep", "1000"]);
    kraken.configure(vec![(node("web"), Some(cfg))], "test").await.unwrap();
    let first = pid(&until(&kraken, "web", |view| is(view, "RUNNING")).await).unwrap();
    assert!(lives(first));
    kill("-9", first);
    let again = |view: &View| is(view, "RUNNING") && pid(view) != Some(first);
    let view = until(&kraken, "web", again).await;
    assert!(lives(pid(&view).unwrap()));
    assert_eq!(view.dsc.text("ended"), Some("signal: 9 (SIGKILL)"));
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_should_not_run_is_stopped_and_one_that_is_taken_away_too() {
    let dir = tempfile::tempdir().unwrap();
    let (kraken, tasks) = application(&dir.path().join("s.redb")).await;
    let writes = ["stays", "stops", "goes"].map(|n| (node(n), Some(running(&["sleep", "1000"]))));
    kraken.configure(writes.to_vec(), "test").await.unwrap();
    let mut pids = Vec::new();
    for name in ["stays", "stops", "goes"] {
        pids.push(pid(&until(&kraken, name, |view| is(view, "RUNNING")).await).unwrap());
    }
    let writes = vec![(node("stops"), Some(stopped_cfg())), (node("goes"), None)];
    kraken.configure(writes, "test").await.unwrap();
    let stopped = until(&kraken, "stops", |view| is(view, "STOPPED")).await;
    assert_eq!(pid(&stopped), None);
    wait_until("the removed process lives on", || !lives(pids[2])).await;
    assert!(!lives(pids[1]) && lives(pids[0]));
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_is_there_after_a_restart_and_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s.redb");
    let (kraken, tasks) = application(&store).await;
    let writes =
        vec![(node("web"), Some(running(&["sleep", "1000"]))), (node("rest"), Some(stopped_cfg()))];
    kraken.configure(writes, "test").await.unwrap();
    let first = pid(&until(&kraken, "web", |view| is(view, "RUNNING")).await).unwrap();
    end(kraken, tasks).await;
    // As after the end of the program, which takes its processes along.
    kill("-9", first);

    let (kraken, tasks) = application(&store).await;
    let again = |view: &View| is(view, "RUNNING") && pid(view) != Some(first);
    let view = until(&kraken, "web", again).await;
    assert!(lives(pid(&view).unwrap()));
    assert_eq!(kraken.views().get(&node("rest")).unwrap().cfg, stopped_cfg());
    end(kraken, tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_started_costs_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (kraken, tasks) = application(&dir.path().join("s.redb")).await;
    let writes = vec![
        (node("bad"), Some(running(&["/nowhere/program"]))),
        (node("good"), Some(running(&["sleep", "1000"]))),
    ];
    kraken.configure(writes, "test").await.unwrap();
    until(&kraken, "good", |view| is(view, "RUNNING")).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = kraken.explain(&node("bad")).await.unwrap().to_string();
        if text.contains("cannot start /nowhere/program: No such file") {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    end(kraken, tasks).await;
}

/// The program itself; dropping it kills it, also when the test panics.
struct Program(Child);

impl Program {
    fn start(store: &Path, wanted: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procs"));
        Self(command.arg(store).arg(wanted).spawn().unwrap())
    }

    fn terminate(mut self) {
        kill("-TERM", self.0.id().into());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A declaration of one process, and the file in which it writes its number.
fn one(dir: &Path, name: &str) -> (String, PathBuf) {
    let file = dir.join(name);
    let script = format!("echo $$ > {}; exec sleep 1000", file.display());
    (serde_json::json!({name: ["sh", "-c", script]}).to_string(), file)
}

fn read_pid(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn the_program_starts_what_it_is_given_and_takes_it_along_when_it_is_terminated() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s.redb");
    let (web, web_file) = one(dir.path(), "web");
    let (db, db_file) = one(dir.path(), "db");
    let program = Program::start(&store, &web);
    wait_until("nothing was started", || read_pid(&web_file).is_some_and(lives)).await;
    program.terminate();
    let web_pid = read_pid(&web_file).unwrap();
    wait_until("it lives on", || !lives(web_pid)).await;

    // Another declaration on the same file: the old one is not started again.
    std::fs::remove_file(&web_file).unwrap();
    let program = Program::start(&store, &db);
    wait_until("nothing was started", || read_pid(&db_file).is_some_and(lives)).await;
    program.terminate();
    let db_pid = read_pid(&db_file).unwrap();
    wait_until("it lives on", || !lives(db_pid)).await;
}
