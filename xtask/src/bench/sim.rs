//! What a whole simulated fleet costs: engine, planner, sync and every node's own, on one core.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Reference, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "sim", about: "a fleet of 100,000 nodes from unknown to running", run };

/// Each takes about a minute.
const RUNS: usize = 3;

fn run() -> Result<Vec<Row>, Error> {
    let figures = run_in_turn(&[build("layercake-sim", "sim_bench")?], RUNS)?;
    let per_node = samples(&figures, "sim.per_node_100000", 1.0)?;
    let of_few = samples(&figures, "sim.per_node_1000", 1.0)?;
    Ok(vec![
        Row {
            name: "sim/active-100000".to_owned(),
            samples: samples(&figures, "sim.active_100000", 1.0)?,
            unit: "s of one core",
            reference: None,
            goal: Some(Goal::ValueAtMost(60.0)),
        },
        Row {
            name: "sim/per-node-100000".to_owned(),
            samples: per_node,
            unit: "µs of one core",
            reference: Some(Reference {
                what: "the same for a node among 1,000".to_owned(),
                samples: of_few,
            }),
            goal: Some(Goal::RatioAtMost(1.5)),
        },
        // Beside the row above: a small fleet is in the caches, a large one is not, and so much slower
        // is memory then.
        Row {
            name: "sim/memory-100000".to_owned(),
            samples: samples(&figures, "sim.memory_100000", 1.0)?,
            unit: "ns to read anywhere in as much memory",
            reference: Some(Reference {
                what: "the same for the memory of 1,000 nodes".to_owned(),
                samples: samples(&figures, "sim.memory_1000", 1.0)?,
            }),
            goal: None,
        },
    ])
}
