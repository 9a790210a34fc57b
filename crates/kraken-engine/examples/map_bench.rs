//! The plainest thing that could stand in the engine's place: a hash map from node to document, which knows
//! what is and nothing else. The engine's figures are held against it, on the same core in the same run.
//!
//! Prints one JSON object a line: name, value, unit. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use kraken_model::{Document, NodeId, Path, Value};

const NODES: usize = 10_000;
/// As many as the engine's bench times at once.
const TURNS: usize = 200_000;
/// In turn, so that a machine that is disturbed for a while is so for both.
const ROUNDS: usize = 5;

fn main() {
    let names: Vec<NodeId> = (0..NODES).map(|n| NodeId::new(&format!("n{n}")).unwrap()).collect();
    let before = resident();
    let mut map: HashMap<NodeId, Document> =
        names.iter().enumerate().map(|(n, name)| (name.clone(), document(n))).collect();
    let grown = resident().saturating_sub(before);
    say("map.bytes_per_node", grown as f64 / NODES as f64, "B");

    let (wanted, path) = (Value::from("SYNC"), Path::known("layer0.load"));
    let (mut lookups, mut sets) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        lookups.push(rate(|turn| {
            let document = &map[&names[turn % NODES]];
            assert!(black_box(document.get("run_state")) == Some(&wanted));
        }));
        sets.push(rate(|turn| {
            let document = map.get_mut(&names[turn % NODES]).unwrap();
            let value = i64::try_from(1 + round * TURNS + turn).unwrap();
            assert!(black_box(document.set(path.clone(), value)));
        }));
    }
    say("map.lookups", median(lookups), "1/s");
    say("map.sets", median(sets), "1/s");
}

/// What the engine's bench says of a node, in one document.
fn document(n: usize) -> Document {
    let address = format!("10.{}.{}.1/8", n >> 8, n & 255);
    let entries: Vec<(&str, Value)> = vec![
        ("phys_state", "ON".into()),
        ("boot_state", "INIT".into()),
        ("run_state", "SYNC".into()),
        ("image_state", "ACTIVE".into()),
        ("images.web.digest", format!("sha256:{}", "0".repeat(64)).into()),
        ("images.web.state", "running".into()),
        ("layer0.started", i64::try_from(n).unwrap().into()),
        ("layer0.load", 0.into()),
        ("net.boot.address", address.into()),
    ];
    let entries = entries.into_iter().map(|(path, value)| (Path::known(path), value)).collect();
    Document::from_entries(entries).unwrap()
}

fn rate(mut turn: impl FnMut(usize)) -> f64 {
    let began = Instant::now();
    (0..TURNS).for_each(&mut turn);
    TURNS as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{{\"name\":\"{name}\",\"value\":{value:.0},\"unit\":\"{unit}\"}}");
}

/// Memory of this process that is really there, in bytes (proc(5), statm: the second field, in pages of
/// 4 KiB).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
