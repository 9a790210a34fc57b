//! Commands that crash, hang, flood and lie, beside a module that works.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, PATIENCE, node};
use kraken::{Keeper, Kraken, ModuleState, Options, Settings, What};
use kraken_model::{Document, Path, Registry};
use kraken_modules::Modules;
use kraken_plan::ModuleSet;
use kraken_store::Memory;
use std::sync::Arc;

/// A door whose look and whose step are as a test says.
fn door(look: &str, step: &str) -> String {
    format!(
        "module: door
variables: {{ door: {{ values: [UNKNOWN, OPEN, SHUT] }} }}
discover: {{ shell: '{look}', every: 100ms, timeout: 500ms }}
mutations:
  shut:
    moves: {{ door: [OPEN, SHUT] }}
    shell: '{step}'
    timeout: 500ms
    retry: {{ pause: 100ms, longest: 200ms, attempts: forever }}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_crashes_is_a_reason_and_is_run_again() {
    let house =
        House::open(&door("echo door=OPEN", "echo the hinges broke >&2; kill -SEGV $$")).await;
    house.until_explained("signal: 11 (SIGSEGV)").await;
    house.until_explained("the hinges broke").await;
    house.close().await;
    let house = House::open(&door("echo no eyes >&2; exit 3", "exit 0")).await;
    let said = |house: &House| {
        let error = house.status("door").last_error;
        error.is_some_and(|error| error.contains("cannot look") && error.contains("no eyes"))
    };
    house.until("nobody says so", said).await;
    house.until_explained("no eyes").await;
    let status = house.status("door");
    assert_eq!(status.state, ModuleState::Blind, "it never looked, and is not well");
    assert!(status.last_error_at.is_some_and(|at| at >= status.since), "{status:?}");
    assert_eq!(house.status("lamp").state, ModuleState::Running);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_printed_is_in_the_journal_also_when_it_never_ended() {
    for (step, lines) in [
        ("echo pulling; echo it creaks >&2; exit 1", vec!["pulling", "it creaks"]),
        ("echo pulling; sleep 600 & wait", vec!["pulling"]),
    ] {
        let house = House::open(&door("echo door=OPEN", step)).await;
        let printed = house.until_told("printed").await;
        let What::Printed { mutation, lines: printed, left_out, .. } = printed.what else {
            panic!()
        };
        let mut printed: Vec<&str> = printed.iter().map(AsRef::as_ref).collect();
        // Two pipes: what comes first is not said.
        printed.sort_unstable_by_key(|line| std::cmp::Reverse(*line));
        assert_eq!((&*mutation, printed, left_out), ("door.shut", lines, 0));
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_is_killed_when_its_time_is_over() {
    let house = House::open(&door("echo door=OPEN", "sleep 600 & wait")).await;
    house.until_explained("not discovered in time").await;
    house.close().await;
    let house = House::open(&door("exec sleep 600", "exit 0")).await;
    let said = |house: &House| {
        let error = house.status("door").last_error;
        error.is_some_and(|error| error.contains("did not end within 500ms and was killed"))
    };
    house.until("nobody says so", said).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_floods_is_cut_off() {
    let house = House::open(&door("echo door=OPEN", "exec yes")).await;
    house.until_explained("wrote more than").await;
    house.close().await;
    let house = House::open(&door("exec yes door=OPEN", "exit 0")).await;
    let said = |house: &House| {
        house.status("door").last_error.is_some_and(|error| error.contains("wrote more than"))
    };
    house.until("nobody says so", said).await;
    assert!(!house.is("a", "door", "OPEN"), "half an answer was taken");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_lies_is_not_believed() {
    let lies = "echo door=OPEN; echo lamp=ON; echo nothing=1";
    let house = House::open(&door(lies, "exit 0")).await;
    house.until("the truth was not taken", |house| house.is("a", "door", "OPEN")).await;
    house.until("lies were taken", |house| house.status("door").refused >= 2).await;
    assert!(!house.is("a", "lamp", "ON"));
    // That it succeeded proves nothing.
    house.until_explained("not discovered in time").await;
    house.close().await;
    let house = House::open(&door("echo door=AJAR", "exit 0")).await;
    house.until("it was taken", |house| house.status("door").refused >= 1).await;
    let error = house.status("door").last_error.unwrap();
    assert!(error.contains("\"AJAR\" is not one of UNKNOWN, OPEN, SHUT"), "{error}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_answers_for_all_nodes_and_what_it_says_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "module: lamp
variables: { lamp: { values: [UNKNOWN, OFF, ON] } }
discover: { shell: 'for n in a b stranger; do echo $n lamp=$(cat FILE); done', every: 1h, of: all }
mutations:
  light: { moves: { lamp: [OFF, ON] }, shell: 'echo ON > FILE' }
";
    let file = dir.path().join("state");
    std::fs::write(&file, "OFF").unwrap();
    let text = text.replace("FILE", &file.display().to_string());
    std::fs::write(dir.path().join("lamp.yaml"), text).unwrap();
    let modules = Modules::read(dir.path(), &[], &[]).unwrap();
    let registry = Arc::new(Registry::new(modules.schemas()).unwrap());
    let mut mutations = Vec::new();
    modules.extend(&mut mutations);
    let set = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
    let hosted = modules.hosted(&registry, dir.path());
    let keeper = Keeper::new(Box::new(Memory::default()));
    let options = Options { registry, modules: set, hosted, keeper, settings: Settings::default() };
    let (kraken, tasks) = Kraken::start(options).await.unwrap();
    let mut cfg = Document::new();
    cfg.set(Path::known("lamp"), "ON");
    let writes = ["a", "b"].map(|name| (node(name), Some(cfg.clone())));
    kraken.configure(writes.to_vec(), "test").await.unwrap();
    let house = House { kraken, tasks, dir };
    // Long before the hour is over: whoever took a step wants to know.
    house.until("a is not lit", |house| house.is("a", "lamp", "ON")).await;
    house.until("b is not lit", |house| house.is("b", "lamp", "ON")).await;
    let status = house.status("lamp");
    let stranger = "refused: there is no node stranger";
    assert!(status.refused >= 1, "{status:?}");
    assert_eq!(status.last_error.as_deref(), Some(stranger));
    let told = house.until_told("module_refused").await;
    assert!(matches!(told.what, What::ModuleRefused { .. }), "{told:?}");
    house.kraken.stop();
    tokio::time::timeout(PATIENCE, house.tasks.ended()).await.unwrap();
}
