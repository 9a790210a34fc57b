//! The machine itself: how fast it is, and how much it is disturbed. Read this row before any other.

use std::hint::black_box;
use std::time::Instant;

use super::{Bench, Row, Samples};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "machine", about: "the speed and the calm of this machine", run };

const RUNS: usize = 15;
/// Large enough that a run takes tens of milliseconds.
const STEPS: u64 = 20_000_000;

fn run() -> Result<Vec<Row>, Error> {
    let samples = Samples::take(RUNS, || Ok::<_, Error>(one_core()))?;
    let name = "machine/xorshift".to_owned();
    Ok(vec![Row { name, samples, unit: "million/s", reference: None, goal: None }])
}

/// Dependent steps of a generator: no memory, no system calls, nothing but one core.
fn one_core() -> f64 {
    let started = Instant::now();
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
    STEPS as f64 / started.elapsed().as_secs_f64() / 1e6
}
