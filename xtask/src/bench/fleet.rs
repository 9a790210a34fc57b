//! What a large fleet costs a server: to be made, and to be taken up again.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "fleet", about: "100,000 nodes through the API, and a server's restart", run };

const RUNS: usize = 3;

/// A figure, its name in the bench, and how many seconds it may take.
const FIGURES: &[(&str, &str, Option<f64>)] = &[
    ("create-100000", "fleet.create", Some(10.0)),
    ("restart-100000", "fleet.restart", Some(5.0)),
    ("history-of-one", "fleet.history", None),
    ("past-of-all", "fleet.past_of_all", None),
];

fn run() -> Result<Vec<Row>, Error> {
    let figures = run_in_turn(&[build("layercake-server", "fleet_bench")?], RUNS)?;
    let row = |(name, ours, goal): &(&str, &str, Option<f64>)| {
        Ok(Row {
            name: format!("fleet/{name}"),
            samples: samples(&figures, ours, 1.0)?,
            unit: "s",
            reference: None,
            goal: goal.map(Goal::ValueAtMost),
        })
    };
    FIGURES.iter().map(row).collect()
}
