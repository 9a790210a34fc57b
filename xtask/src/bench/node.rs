//! What a thousand machines load at once: the size of the node binary.

use std::fs;
use std::path::Path;

use super::{Bench, Goal, Reference, Row, Samples};
use crate::error::Error;
use crate::node_build;

pub(crate) const BENCH: Bench =
    Bench { name: "node", about: "the size of the static node binary", run };

/// The budget of the whole initramfs without kernel modules. The binary is nearly all of it, and is held
/// to the same number before compression.
const BUDGET_MIB: f64 = 6.0;
const BUSYBOX: &str = "/bin/busybox";

fn run() -> Result<Vec<Row>, Error> {
    let reference = Reference {
        what: "Debian's busybox-static".to_owned(),
        samples: size(Path::new(BUSYBOX))?,
    };
    Ok(vec![Row {
        name: "node/binary".to_owned(),
        samples: size(&node_build::build()?)?,
        unit: "MiB",
        reference: Some(reference),
        goal: Some(Goal::ValueAtMost(BUDGET_MIB)),
    }])
}

fn size(path: &Path) -> Result<Samples, Error> {
    let bytes = fs::metadata(path).map_err(Error::file("look at", path))?.len();
    Ok(Samples::exact(bytes as f64 / f64::from(1 << 20)))
}
