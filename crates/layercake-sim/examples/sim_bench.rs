//! Measures fleets from unknown to ACTIVE, on one core, simulator included; prints one JSON object
//! a line: name, value, unit. Meaningful in a release build only.
#![allow(clippy::print_stdout)]

use kraken_model::Millis;
use kraken_sim::{Plan, Random, run_then};
use layercake_sim::Layercake;
use std::time::Duration;

/// What a server is shipped with: most of what is simulated runs in one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMALL: usize = 1_000;
const LARGE: usize = 100_000;

/// What a simulated node takes of memory, with its parent's part and all that is on its way.
const BYTES: usize = 8 << 10;

/// Nodes of 100,000 say hello as often as the goal for such fleets says.
const HELLO: Duration = Duration::from_secs(10);

/// How long each fleet is simulated at least. The more nodes there are, the later the last of them is up:
/// without this, each of many would be simulated for longer than each of few.
const LASTS: Millis = Millis(150_000);

/// What this process had of a processor, in seconds: what others do on the machine does not count.
fn processor() -> f64 {
    let had = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    had.tv_sec as f64 + had.tv_nsec as f64 / 1e9
}

/// How long a fleet takes, in seconds of one core, and how many events that were.
fn measure(nodes: usize) -> (f64, u64) {
    let app = Layercake::new(HELLO).without_limits().polled_every(HELLO);
    let plan = Plan {
        seed: 1,
        nodes,
        happenings: Vec::new(),
        faults_end: LASTS,
        converged_by: Millis(3_600_000),
        is_checked: false,
        bug: None,
        trace: 0,
    };
    let began = processor();
    run_then(app, plan, |outcome| {
        let took = processor() - began;
        assert_eq!(outcome.violation, None);
        (took, outcome.events)
    })
}

/// How long it takes to read a line of memory that lies anywhere in so many bytes, in nanoseconds: each
/// line says where the next one is, so that no two are read at once.
fn latency(bytes: usize) -> f64 {
    const STEPS: u32 = 3_000_000;
    let mut lines = vec![[0_u64; 8]; bytes / 64];
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut random = Random::new(1);
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    for (at, next) in order.iter().zip(order.iter().cycle().skip(1)) {
        lines[*at][0] = *next as u64;
    }
    let began = processor();
    let end = (0..STEPS).fold(0, |at, _| lines[at as usize][0]);
    let took = processor() - began;
    std::hint::black_box(end);
    took / f64::from(STEPS) * 1e9
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{{\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\"}}");
}

fn main() {
    // A virtual machine's host gives memory when it is first touched, which takes long, and happens to
    // whoever comes first.
    drop(std::hint::black_box(vec![1_u8; 1200 << 20]));
    // One size alone, to look at it more closely.
    if let Some(nodes) = std::env::args().nth(1).and_then(|text| text.parse().ok()) {
        let (took, events) = measure(nodes);
        say("sim.per_node", took / nodes as f64 * 1e6, "us");
        say("sim.events_per_node", events as f64 / nodes as f64, "");
        return;
    }
    // Small ones several times: one takes too short a time to be measured well.
    let small = (0..5).map(|_| measure(SMALL).0).fold(f64::INFINITY, f64::min);
    let (large, events) = measure(LARGE);
    say("sim.memory_1000", latency(SMALL * BYTES), "ns");
    say("sim.memory_100000", latency(LARGE * BYTES), "ns");
    say("sim.active_1000", small, "s");
    say("sim.active_100000", large, "s");
    say("sim.per_node_1000", small / SMALL as f64 * 1e6, "us");
    say("sim.per_node_100000", large / LARGE as f64 * 1e6, "us");
    say("sim.events_100000", events as f64, "");
}
