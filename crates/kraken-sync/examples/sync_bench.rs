//! What a parent costs: sealed hellos handled per second on one core, and memory per child.
//!
//! Prints one JSON object a line. Only the parent's work is timed; the children seal beforehand.
//! Run with `cargo run --release -p kraken-sync --example sync_bench`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use kraken_model::{Document, Millis, NodeId, Path};
use kraken_sync::{
    Child, ChildInput, ChildOutput, KeyRole, Parent, ParentInput, ParentOutput, ParentSettings,
    Secret, SessionKeys,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 20;

fn main() {
    for children in [10_000, 100_000] {
        let (per_second, bytes) = measure(children);
        println!(
            r#"{{"name":"sync_hellos","children":{children},"value":{per_second:.0},"unit":"hello/s/core"}}"#
        );
        let load = children as f64 / 10.0 / per_second;
        println!(
            r#"{{"name":"sync_load_at_10s_hellos","children":{children},"value":{load:.3},"unit":"core"}}"#
        );
        println!(
            r#"{{"name":"sync_memory","children":{children},"value":{bytes},"unit":"byte/child"}}"#
        );
    }
}

/// Hellos a second, and bytes a child.
fn measure(count: usize) -> (f64, usize) {
    let mut parent = Parent::new(ParentSettings::default());
    let mut cfg = Document::new();
    cfg.set(Path::known("run_state"), "SYNC");
    let mut now = Millis(1_000_000);
    let before = resident_bytes();
    let welcomes: Vec<_> = (0..count)
        .map(|index| {
            let keys = SessionKeys::derive(&exported(index), KeyRole::Parent);
            let node = NodeId::new(&format!("node-{index}")).unwrap();
            parent.admit(now, &node, keys, cfg.clone(), Secret::new([0; 32]))
        })
        .collect();
    let bytes = resident_bytes().saturating_sub(before) / count;
    let mut children = Vec::with_capacity(count);
    let mut said = Vec::new();
    let mut first = Vec::with_capacity(count);
    for (index, welcome) in welcomes.iter().enumerate() {
        let mut child = Child::new(index as u64);
        let keys = SessionKeys::derive(&exported(index), KeyRole::Child);
        child.joined(now, keys, welcome, &mut said);
        first.extend(datagrams(&mut said));
        children.push(child);
    }
    let from = SocketAddr::from(([127, 0, 0, 1], 7));
    let mut answers = handle(&mut parent, now, from, &mut first).1;
    let (mut spent, mut handled) = (Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        for (child, mut answer) in children.iter_mut().zip(answers.drain(..)) {
            child.step(now, ChildInput::Datagram { bytes: &mut answer }, &mut said);
        }
        said.clear();
        now = now.plus(Duration::from_millis(11_500));
        let mut hellos = Vec::with_capacity(count);
        for child in &mut children {
            child.step(now, ChildInput::Tick, &mut said);
            hellos.extend(datagrams(&mut said));
        }
        let (took, next) = handle(&mut parent, now, from, &mut hellos);
        (spent, handled, answers) = (spent + took, handled + hellos.len(), next);
        assert_eq!(answers.len(), count, "one answer for each hello");
    }
    (handled as f64 / spent.as_secs_f64(), bytes)
}

fn exported(index: usize) -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&(index as u64).to_be_bytes());
    secret
}

fn datagrams(said: &mut Vec<ChildOutput>) -> impl Iterator<Item = Vec<u8>> {
    said.drain(..).filter_map(|output| match output {
        ChildOutput::Send { bytes } => Some(bytes),
        _ => None,
    })
}

fn handle(
    parent: &mut Parent,
    now: Millis,
    from: SocketAddr,
    datagrams: &mut [Vec<u8>],
) -> (Duration, Vec<Vec<u8>>) {
    let mut answers = Vec::with_capacity(datagrams.len());
    let mut out = Vec::new();
    let started = Instant::now();
    for bytes in datagrams {
        parent.step(now, ParentInput::Datagram { from, bytes }, &mut out);
        for output in out.drain(..) {
            if let ParentOutput::Send { bytes, .. } = output {
                answers.push(bytes);
            }
        }
    }
    (started.elapsed(), answers)
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
