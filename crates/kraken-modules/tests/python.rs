//! The Python example as its author runs it.
//!
//! It needs `python3` with `venv`, and a package index for what its `requirements.txt` names: once,
//! then it is kept below the build directory. Where those cannot be had, this test fails and says so,
//! unless `KRAKEN_SKIP_PYTHON=1` asks for it to be left out.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used)]

mod house;

use house::{PATIENCE, node};
use kraken::{Keeper, Kraken, ModuleState, Options, Settings};
use kraken_model::{Document, Path as Address, Registry, Value};
use kraken_modules::{Modules, Running};
use kraken_plan::{ModuleSet, check};
use kraken_store::Memory;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/grpc-python")
}

fn run(command: &mut Command) {
    let output = command.output();
    let said = output.as_ref().map(|o| String::from_utf8_lossy(&o.stderr).into_owned());
    assert!(
        output.as_ref().is_ok_and(|output| output.status.success()),
        "{command:?} failed: {said:?}\nThe Python example needs python3 with venv, and a package \
         index; KRAKEN_SKIP_PYTHON=1 leaves it out"
    );
}

/// A Python that has what the example needs; made once for each list of requirements.
fn python() -> PathBuf {
    let requirements = example().join("requirements.txt");
    let text = std::fs::read_to_string(&requirements).unwrap();
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let ready = dir.join(format!("python-{name}"));
    let program = |dir: &Path| dir.join("bin/python3");
    if !ready.exists() {
        let draft = dir.join(format!("python-draft-{}", std::process::id()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&draft));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(program(&draft)).args(pip).arg(&requirements));
        // Another run may have been faster; then its own is as good.
        if std::fs::rename(&draft, &ready).is_err() {
            std::fs::remove_dir_all(&draft).unwrap();
        }
    }
    program(&ready)
}

/// The processes that run in a directory.
fn processes(dir: &Path) -> Vec<String> {
    let dir = dir.canonicalize().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let runs_there =
        |path: &PathBuf| std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == dir);
    let paths = entries.map(|entry| entry.path()).filter(runs_there);
    let mut processes: Vec<String> =
        paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    processes.sort();
    processes
}

#[tokio::test(flavor = "multi_thread")]
async fn lamps_are_switched_by_a_module_in_python_also_after_it_was_killed() {
    if std::env::var_os("KRAKEN_SKIP_PYTHON").is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-r").arg(example().join(".")).arg(dir.path()));
    let file = dir.path().join("lamp.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let command = format!("command: [{}, lamp.py]", python().display());
    assert!(text.contains("command: [./lamp.py]"));
    let text = text.replace("command: [./lamp.py]", &command);
    std::fs::write(&file, &text).unwrap();

    let modules = Modules::read(dir.path(), &[], &[]).unwrap();
    let registry = Arc::new(Registry::new(modules.schemas()).unwrap());
    let mut mutations = Vec::new();
    modules.extend(&mut mutations);
    let set = ModuleSet::new(&registry, mutations).unwrap();
    assert_eq!(check(&set), [], "the example is what its author meant");
    let run_dir = dir.path().join("run");
    let running = modules.running(&registry, &run_dir, None);
    let (hosted, settings) = (running.modules(), Settings::default());
    let (modules, keeper) = (Arc::new(set), Keeper::new(Box::new(Memory::default())));
    let (same, set) = (Arc::clone(&registry), Arc::clone(&modules));
    let options = Options { registry: same, modules: set, hosted, keeper, settings };
    let (kraken, tasks) = Kraken::start(options).await.unwrap();

    let want = async |state: &str| {
        let mut cfg = Document::new();
        cfg.set(Address::known("lamp_state"), state);
        kraken.configure(vec![(node("n1"), Some(cfg))], "test").await.unwrap();
        let deadline = Instant::now() + PATIENCE * 2;
        let known = || kraken.views().get(&node("n1")).map(|view| view.dsc).unwrap_or_default();
        while known().text("lamp_state") != Some(state) {
            assert!(Instant::now() < deadline, "not {state}: {:?} {:?}", known(), kraken.hosted());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        known()
    };
    let lit = want("ON").await;
    assert_eq!(lit.get("lamp.switched"), Some(&Value::Int(1)));
    assert!(dir.path().join("lamps/n1").exists());

    // Killed by whoever runs as this program in the directory of the test.
    run(Command::new("kill").arg("-9").args(processes(dir.path())));
    want("OFF").await;
    let status = kraken.hosted().remove(0);
    assert_eq!((status.restarts, status.state, status.refused), (1, ModuleState::Running, 0));
    assert!(status.last_error.unwrap().contains("signal: 9"));

    // Its file is read again: the same one goes on, and a changed one is another process.
    let before = processes(dir.path());
    let reload = async |text: &str, running: &Running| {
        std::fs::write(&file, text).unwrap();
        let read = Modules::read(dir.path(), &[], &[]).unwrap();
        let now = read.running(&registry, &run_dir, Some(running));
        let (registry, modules) = (Arc::clone(&registry), Arc::clone(&modules));
        kraken.equip(registry, modules, now.modules(), "test").await.unwrap();
        now
    };
    let running = reload(&text, &running).await;
    assert_eq!((processes(dir.path()), kraken.hosted()[0].restarts), (before.clone(), 1));
    let changed = format!("{text}# Changed.\n");
    let running = reload(&changed, &running).await;
    want("ON").await;
    let after = processes(dir.path());
    assert!(after.len() == before.len() && after != before, "{before:?} {after:?}");
    assert_eq!((kraken.hosted().len(), kraken.hosted()[0].restarts), (1, 0), "it is a new one");

    // So is the one of a changed program, although its file is the same.
    let program = dir.path().join("lamp.py");
    let lines = std::fs::read_to_string(&program).unwrap();
    std::fs::write(&program, format!("{lines}# Changed.\n")).unwrap();
    reload(&changed, &running).await;
    want("OFF").await;
    let last = processes(dir.path());
    assert!(last.len() == after.len() && last != after, "{after:?} {last:?}");
    kraken.stop();
    tokio::time::timeout(PATIENCE, tasks.ended()).await.unwrap();
}
