//! Measures the engine at 10,000 nodes, on one core; prints one JSON object a line: name, value,
//! unit. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use kraken_engine::{Engine, Input, Output, Settings};
use kraken_model::{
    Change, Document, Field, Format, Kind, Millis, NodeId, Path, Registry, Schema, Side, Value,
};
use kraken_plan::{Context, Costs, Guard, ModuleSet, Mutation, PolicyCache};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: usize = 10_000;

/// How often each figure is taken; the median is printed.
const ROUNDS: usize = 5;

/// How many inputs are timed at once. They are made beforehand: what is measured is the engine.
const BATCH: usize = 200_000;

fn registry() -> Arc<Registry> {
    let both: &[Side] = &[Side::Cfg, Side::Dsc];
    let text = || Kind::Text(Format::Any);
    let number = Kind::Int { min: 0, max: i64::MAX };
    let fields = vec![
        Field::variable("phys_state", &["UNKNOWN", "OFF", "ON", "HANG"], "power").unwrap(),
        Field::variable("boot_state", &["UNKNOWN", "WAIT", "INIT"], "boot").unwrap(),
        Field::variable("run_state", &["UNKNOWN", "INIT", "SYNC", "ERROR"], "run").unwrap(),
        Field::variable("image_state", &["UNKNOWN", "IDLE", "ACTIVE"], "image").unwrap(),
        Field::new("net.*.*", text(), both, "network").unwrap(),
        Field::new("power.*", text(), both, "power").unwrap(),
        Field::new("location.*", text(), both, "place").unwrap(),
        Field::new("images.*.*", text(), both, "images").unwrap(),
        Field::new("layer0.*", number, both, "layer 0").unwrap(),
    ];
    Arc::new(Registry::new(vec![Schema { name: "bench".into(), fields }]).unwrap())
}

fn mutations() -> Vec<Mutation> {
    let on = || Guard::is("phys_state", "ON");
    let synced = || Guard::is("run_state", "SYNC");
    let power = |name: &str, from: &str, to: &str| {
        Mutation::new("power", name, Context::Child)
            .moves("phys_state", from, to)
            .requires(Guard::configured("power.driver"))
    };
    let image = |name: &str, from: &str, to: &str| {
        let image = Mutation::new("image", name, Context::Node).requires(synced());
        image.moves("image_state", from, to)
    };
    vec![
        power("discover", "UNKNOWN", "OFF"),
        power("on", "OFF", "ON"),
        power("off", "ON", "OFF").excludes(synced()).disruptive(),
        power("recover", "HANG", "OFF").disruptive(),
        Mutation::new("boot", "arm", Context::Child)
            .moves("boot_state", "UNKNOWN", "WAIT")
            .requires(on()),
        Mutation::new("boot", "serve", Context::Child)
            .moves("boot_state", "WAIT", "INIT")
            .moves("run_state", "UNKNOWN", "INIT")
            .requires(on())
            .cost(Duration::from_secs(30)),
        Mutation::new("sync", "join", Context::Child)
            .moves("run_state", "INIT", "SYNC")
            .requires(on()),
        image("discover", "UNKNOWN", "IDLE"),
        image("start", "IDLE", "ACTIVE"),
        image("stop", "ACTIVE", "IDLE").disruptive(),
    ]
}

fn document(entries: Vec<(&str, Value)>) -> Document {
    // Each node's document comes from its own parsing: nothing is shared beforehand.
    let entries = entries.into_iter().map(|(path, value)| (Path::known(path), value)).collect();
    Document::from_entries(entries).unwrap()
}

fn cfg(n: usize) -> Document {
    document(vec![
        ("phys_state", "ON".into()),
        ("run_state", "SYNC".into()),
        ("image_state", "ACTIVE".into()),
        ("net.boot.mac", format!("52:54:00:{:02x}:{:02x}:01", n >> 8, n & 255).into()),
        ("net.boot.address", format!("10.{}.{}.1/8", n >> 8, n & 255).into()),
        ("power.driver", "qemu".into()),
        ("location.rack", format!("r{}", n / 40).into()),
        ("images.web.digest", format!("sha256:{}", "0".repeat(64)).into()),
        ("images.web.kind", "plain".into()),
    ])
}

fn dsc(n: usize) -> Vec<Change> {
    let dsc = document(vec![
        ("phys_state", "ON".into()),
        ("boot_state", "INIT".into()),
        ("run_state", "SYNC".into()),
        ("image_state", "ACTIVE".into()),
        ("images.web.digest", format!("sha256:{}", "0".repeat(64)).into()),
        ("images.web.state", "running".into()),
        ("layer0.started", i64::try_from(n).unwrap().into()),
        ("layer0.pid", 1.into()),
        ("layer0.load", 0.into()),
        ("net.boot.mac", format!("52:54:00:{:02x}:{:02x}:01", n >> 8, n & 255).into()),
        ("net.boot.address", format!("10.{}.{}.1/8", n >> 8, n & 255).into()),
    ]);
    dsc.iter()
        .map(|(path, value)| Change { path: path.clone(), value: Some(value.clone()) })
        .collect()
}

/// Memory of this process that is really there, in bytes (proc(5), statm: the second field, in
/// pages of 4 KiB).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{{\"name\":\"{name}\",\"value\":{value:.0},\"unit\":\"{unit}\"}}");
}

/// Inputs per second, the median of several rounds.
fn rate(engine: &mut Engine, mut input: impl FnMut(usize, usize) -> Input) -> f64 {
    let mut out: Vec<Output> = Vec::new();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let inputs: Vec<Input> = (0..BATCH).map(|i| input(round, i)).collect();
            let began = Instant::now();
            for input in inputs {
                engine.step(Millis(2), input, &mut out);
                out.clear();
            }
            BATCH as f64 / began.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

fn main() {
    let registry = registry();
    let set = Arc::new(ModuleSet::new(&registry, mutations()).unwrap());
    let names: Vec<NodeId> = (0..NODES).map(|n| NodeId::new(&format!("n{n}")).unwrap()).collect();
    let by: Arc<str> = "bench".into();
    let mut engine = Engine::new(Settings::default(), Arc::clone(&set), registry);
    let mut out = Vec::new();

    let before = resident();
    for (n, node) in names.iter().enumerate() {
        let (node, by) = (node.clone(), Arc::clone(&by));
        engine.step(Millis(1), Input::Configure { node, cfg: Some(cfg(n)), by }, &mut out);
        out.clear();
    }
    engine.step(Millis(1), Input::Tick, &mut out);
    drop(std::mem::take(&mut out));
    for (n, node) in names.iter().enumerate() {
        let (node, by) = (node.clone(), Arc::clone(&by));
        engine.step(Millis(1), Input::Discover { node, changes: dsc(n), by }, &mut out);
        out.clear();
    }
    let grown = resident().saturating_sub(before);
    say("engine.bytes_per_node", grown as f64 / NODES as f64, "B");
    assert_eq!(engine.summary().by_status.get("converged"), Some(&NODES));

    let load = Path::known("layer0.load");
    let discover = |i: usize, change: Change| Input::Discover {
        node: names[i % NODES].clone(),
        changes: vec![change],
        by: Arc::clone(&by),
    };
    let same = Change::set(Path::known("run_state"), "SYNC");
    say("engine.inputs_unchanged", rate(&mut engine, |_, i| discover(i, same.clone())), "1/s");
    let one = rate(&mut engine, |round, i| {
        let value = i64::try_from(1 + round * BATCH + i).unwrap();
        discover(i, Change::set(load.clone(), value))
    });
    say("engine.inputs_one_fact", one, "1/s");
    // Every node in turn loses its image and has it again: state, policy and journal take part.
    let variable = rate(&mut engine, |_, i| {
        let value = if (i / NODES).is_multiple_of(2) { "IDLE" } else { "ACTIVE" };
        discover(i, Change::set(Path::known("image_state"), value))
    });
    say("engine.inputs_one_variable", variable, "1/s");
    say("engine.policy_lookups", lookups(&set, &engine, &names), "1/s");
}

fn lookups(set: &Arc<ModuleSet>, engine: &Engine, names: &[NodeId]) -> f64 {
    let mut policies = PolicyCache::default();
    let costs = Costs::declared();
    let nodes: Vec<_> = names
        .iter()
        .filter_map(|name| engine.node(name))
        .map(|view| {
            let (goal, facts) = (set.goal(view.cfg), set.facts(view.cfg, view.dsc));
            (policies.find(set, goal, facts, &costs), kraken_plan::State(0))
        })
        .collect();
    let began = Instant::now();
    let mut sum = Duration::ZERO;
    for _ in 0..1000 {
        for (policy, state) in &nodes {
            if let Some(kraken_plan::Step::Take { cost_to_go, .. }) =
                policies.next(*policy, std::hint::black_box(*state))
            {
                sum += cost_to_go;
            }
        }
    }
    assert!(!sum.is_zero());
    (nodes.len() * 1000) as f64 / began.elapsed().as_secs_f64()
}
