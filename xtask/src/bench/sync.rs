//! What children cost their parent: sealed hellos on one core.

use super::examples::{build, run_in_turn, samples};
use super::{Bench, Goal, Reference, Row};
use crate::error::Error;

pub(crate) const BENCH: Bench =
    Bench { name: "sync", about: "hellos that one core of a parent answers", run };

const RUNS: usize = 3;
/// So many children at a hello every ten seconds take less than half a core.
const MAX_LOAD: f64 = 0.5;

fn run() -> Result<Vec<Row>, Error> {
    let programs = [build("kraken-sync", "sync_bench")?, build("kraken-sync", "seal_bench")?];
    let figures = run_in_turn(&programs, RUNS)?;
    let mut rows = Vec::new();
    for children in [10_000, 100_000] {
        rows.push(Row {
            name: format!("sync/hellos-{children}"),
            samples: samples(&figures, &format!("sync_hellos.{children}"), 1e3)?,
            unit: "thousand/s",
            reference: Some(Reference {
                what: "opening and sealing 64 bytes, nothing else".to_owned(),
                samples: samples(&figures, "seal.pairs", 1e3)?,
            }),
            goal: None,
        });
    }
    rows.push(Row {
        name: "sync/load-100000".to_owned(),
        samples: samples(&figures, "sync_load_at_10s_hellos.100000", 1.0)?,
        unit: "cores",
        reference: None,
        goal: Some(Goal::ValueAtMost(MAX_LOAD)),
    });
    Ok(rows)
}
