//! What a whole parent costs with 100,000 children on real sockets.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Reference, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "parent", about: "a parent with 100,000 children on real sockets", run };

/// One takes about five minutes.
const RUNS: usize = 1;

/// Sealed hellos for each second of a core.
const MIN_HELLOS: f64 = 100.0;

/// So many children at a hello every ten seconds take less than half a core.
const MAX_LOAD: f64 = 0.5;

/// Memory for cfg and dsc of a node.
const MAX_KIB: f64 = 2.0;

fn run() -> Result<Vec<Row>, Error> {
    let figures = run_in_turn(&[build("layercake-server", "parent_bench")?], RUNS)?;
    let row = |name: &str, figure: &str, by: f64, unit, goal| {
        Ok::<_, Error>(Row {
            name: format!("parent/{name}"),
            samples: samples(&figures, &format!("parent.{figure}.100000"), by)?,
            unit,
            reference: None,
            goal,
        })
    };
    let echo = Reference {
        what: "the kernel alone: as many bytes taken and given back by the batch".to_owned(),
        samples: samples(&figures, "parent.echo.0", 1e3)?,
    };
    let hellos =
        row("hellos-100000", "hellos", 1e3, "thousand/s", Some(Goal::ValueAtLeast(MIN_HELLOS)))?;
    Ok(vec![
        Row { reference: Some(echo), ..hellos },
        row("load-100000", "load", 1.0, "cores", Some(Goal::ValueAtMost(MAX_LOAD)))?,
        row("wrongly-dead-100000", "wrongly_dead", 1.0, "nodes", Some(Goal::ValueAtMost(0.0)))?,
        row("hellos-lost-100000", "hellos_lost", 1.0, "hellos", None)?,
        row("join-100000", "join", 1.0, "µs of one core", None)?,
        row(
            "memory-of-cfg-and-dsc",
            "memory_of_cfg_and_dsc",
            1.0,
            "KiB",
            Some(Goal::ValueAtMost(MAX_KIB)),
        )?,
        row("memory-of-engine-and-views", "memory_of_engine_and_views", 1.0, "KiB", None)?,
        row("memory", "memory", 1.0, "KiB", None)?,
    ])
}
