//! What cfg and dsc of all nodes take in an engine and nowhere else, in a process of its own: memory that
//! something else has given back would hide it.

use crate::nodes;
use crate::parent::resident;
use kraken_engine::{Engine, Input, Settings};
use kraken_model::{Change, Path, Registry};
use kraken_plan::ModuleSet;
use layercake_schema::{Timing, phys_state, run_state, service_state};
use std::process::Command;
use std::sync::Arc;

/// Bytes for each of so many nodes.
pub(crate) fn measure(count: usize) -> f64 {
    let mut this = Command::new(std::env::current_exe().unwrap());
    let output = this.args(["documents", &count.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The process of its own.
#[allow(clippy::print_stdout)]
pub(crate) fn main(count: usize) {
    let registry = Arc::new(Registry::new(layercake_schema::schemas()).unwrap());
    let mutations = layercake_schema::mutations(&Timing::default());
    let modules = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
    let mut engine = Engine::new(Settings::default(), modules, registry);
    let (now, mut out) = (kraken_model::Millis(1_000), Vec::new());
    let before = resident();
    let mut values = 0;
    for n in 0..count {
        let (node, by) = (nodes::name(n), Arc::from("bench"));
        engine.step(
            now,
            Input::Configure { node: node.clone(), cfg: Some(nodes::cfg(n)), by },
            &mut out,
        );
        let known = [
            (phys_state::PATH, phys_state::POWER_ON),
            (run_state::PATH, run_state::SYNC),
            (&service_state::path("image").to_string(), service_state::RUNNING),
        ];
        let known = known.map(|(path, value)| Change::set(Path::known(path), value));
        let said = nodes::dsc(n);
        let said = said.iter().map(|(path, value)| Change::set(path.clone(), value.clone()));
        let changes = known.into_iter().chain(said).collect();
        engine.step(
            now,
            Input::Discover { node: node.clone(), changes, by: "bench".into() },
            &mut out,
        );
        out.clear();
        let view = engine.node(&node).unwrap();
        values += view.cfg.len() + view.dsc.len();
    }
    let grown = resident().saturating_sub(before);
    assert!(values >= 45 * count, "{values} values: something was not taken");
    println!("{}", grown as f64 / count as f64);
}
