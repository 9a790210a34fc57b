//! What only virtual machines show: from the start of the kernel to a node in sync, and the gap of a swap.

use std::process::Command;
use std::time::Instant;

use super::{Bench, Goal, Reference, Row, Samples};
use crate::demo;
use crate::error::Error;
use crate::run::check;

pub(crate) const BENCH: Bench =
    Bench { name: "lab", about: "kernel start to SYNC, and the gap of a swap, on a lab node", run };

const RUNS: usize = 5;
/// Times what a bare busybox needs to bring up the same network on the same kernel.
const START_BUDGET: f64 = 1.5;
const GAP_BUDGET_MS: f64 = 50.0;
const MILLIS: f64 = 1000.0;

fn run() -> Result<Vec<Row>, Error> {
    let figures = demo::measure(RUNS)?;
    let samples = |values: &[f64], by: f64| {
        let mut values = values.iter();
        Samples::take(values.len(), || Ok::<_, Error>(values.next().map_or(0.0, |v| v / by)))
    };
    let process = Samples::take(RUNS * 4, start_of_a_process)?;
    Ok(vec![
        Row {
            name: "lab/kernel-to-sync".to_owned(),
            samples: samples(&figures.sync_ms, MILLIS)?,
            unit: "s",
            reference: Some(Reference {
                what: "busybox initramfs, same kernel and network, first ping answered".to_owned(),
                samples: samples(&figures.busybox_ms, MILLIS)?,
            }),
            goal: Some(Goal::RatioAtMost(START_BUDGET)),
        },
        Row {
            name: "lab/swap-gap".to_owned(),
            samples: samples(&figures.gap_us, MILLIS)?,
            unit: "ms",
            reference: Some(Reference {
                what: "unshare and exec of busybox on this machine, not emulated".to_owned(),
                samples: process,
            }),
            goal: Some(Goal::ValueAtMost(GAP_BUDGET_MS)),
        },
        Row {
            name: "lab/three-nodes-active".to_owned(),
            samples: Samples::exact(figures.three_active.as_secs_f64()),
            unit: "s",
            reference: None,
            goal: Some(Goal::ValueAtMost(300.0)),
        },
    ])
}

/// In milliseconds: a process in namespaces of its own, from start to end.
fn start_of_a_process() -> Result<f64, Error> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--uts", "--ipc", "--fork", "/bin/busybox", "true"]);
    let started = Instant::now();
    check(&mut command)?;
    Ok(started.elapsed().as_secs_f64() * MILLIS)
}
