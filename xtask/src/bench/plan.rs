//! What planning costs: a policy that nobody has asked for before, and whole ways through the runtime.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Reference, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "plan", about: "policies from nothing, and whole ways of 10,000 nodes", run };

const RUNS: usize = 5;

/// A figure, its name in the examples, the reference and what it is, its unit, and what it should reach.
type Figure =
    (&'static str, &'static str, Option<(&'static str, &'static str)>, &'static str, Goal);

/// In the order in which they are shown.
const FIGURES: &[Figure] = &[
    ("layercake-cold", "way.layercake_cold", None, "ms", Goal::ValueAtMost(1.0)),
    (
        "eight-independent",
        "policy.independent_8",
        Some(("policy.independent_8_plain", "breadth first over the product of all variables")),
        "ms",
        Goal::ValueAtMost(5.0),
    ),
    (
        "chain-of-twelve",
        "policy.chain_12",
        Some(("policy.chain_12_plain", "breadth first, which a chain does not lead astray")),
        "ms",
        Goal::ValueAtMost(50.0),
    ),
    ("way-of-four-steps", "way.four_steps", None, "us of CPU a node", Goal::ValueAtMost(20.0)),
    ("way-of-layercake", "way.layercake", None, "us of CPU a node", Goal::ValueAtMost(40.0)),
];

fn run() -> Result<Vec<Row>, Error> {
    let programs = [build("kraken-plan", "policy_bench")?, build("layercake-server", "way_bench")?];
    let figures = run_in_turn(&programs, RUNS)?;
    let row = |(name, ours, plain, unit, goal): &Figure| {
        let reference = plain.map(|(plain, what)| {
            let samples = samples(&figures, plain, 1.0)?;
            Ok::<_, Error>(Reference { what: what.to_owned(), samples })
        });
        Ok(Row {
            name: format!("plan/{name}"),
            samples: samples(&figures, ours, 1.0)?,
            unit,
            reference: reference.transpose()?,
            goal: Some(*goal),
        })
    };
    FIGURES.iter().map(row).collect()
}
