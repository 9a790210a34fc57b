//! What one core does for a fleet: inputs, policy look-ups, memory.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Reference, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "engine", about: "inputs and memory of the engine at 10,000 nodes", run };

const RUNS: usize = 5;
const MILLION: f64 = 1e6;
const KIB: f64 = 1024.0;

/// A figure, the figure of the plain map that it is held against, and what it should reach.
type Figure = (&'static str, &'static str, &'static str, f64, &'static str, Option<Goal>);

/// In the order in which they are shown. The map only knows what is: it checks, journals and decides
/// nothing. So a ratio says how much of the plainest speed is left after all that.
const FIGURES: &[Figure] = &[
    (
        "unchanged",
        "engine.inputs_unchanged",
        "map.lookups",
        MILLION,
        "million/s",
        Some(Goal::ValueAtLeast(1.0)),
    ),
    (
        "one-fact",
        "engine.inputs_one_fact",
        "map.sets",
        MILLION,
        "million/s",
        Some(Goal::ValueAtLeast(0.3)),
    ),
    (
        "one-variable",
        "engine.inputs_one_variable",
        "map.sets",
        MILLION,
        "million/s",
        Some(Goal::ValueAtLeast(0.3)),
    ),
    ("policy-lookups", "engine.policy_lookups", "map.lookups", MILLION, "million/s", None),
    (
        "memory-per-node",
        "engine.bytes_per_node",
        "map.bytes_per_node",
        KIB,
        "KiB",
        Some(Goal::ValueAtMost(2.0)),
    ),
];

fn run() -> Result<Vec<Row>, Error> {
    let programs = [build("kraken-engine", "engine_bench")?, build("kraken-engine", "map_bench")?];
    let figures = run_in_turn(&programs, RUNS)?;
    let row = |(name, ours, plain, by, unit, goal): &Figure| {
        let what = match *plain {
            "map.lookups" => "a look-up in a plain hash map of documents",
            "map.sets" => "a value set in a plain hash map of documents",
            _ => "one document a node in a plain hash map; the engine has two",
        };
        Ok(Row {
            name: format!("engine/{name}"),
            samples: samples(&figures, ours, *by)?,
            unit,
            reference: Some(Reference {
                what: what.to_owned(),
                samples: samples(&figures, plain, *by)?,
            }),
            goal: *goal,
        })
    };
    FIGURES.iter().map(row).collect()
}
