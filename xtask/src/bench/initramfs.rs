//! What a machine loads to become a node, without the kernel modules that its kernel decides on.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Bench, Goal, Reference, Row, Samples};
use crate::error::Error;
use crate::node_build;
use crate::run::{cargo, check, command, target};

pub(crate) const BENCH: Bench =
    Bench { name: "initramfs", about: "the size of Layer 0 without kernel modules", run };

const BUDGET_MIB: f64 = 6.0;
const BUSYBOX: &str = "/bin/busybox";
const MIB: f64 = 1024.0 * 1024.0;

/// Layer 0 as it is shipped.
pub(super) struct Layer0 {
    /// Where `vmlinuz`, `initramfs.img` and `minos.json` are.
    pub(super) dir: PathBuf,
}

/// Builds it with the release binary. Kernel packages are kept where the demo keeps its own.
pub(super) fn build() -> Result<Layer0, Error> {
    let node = node_build::build()?;
    check(cargo().args(["build", "--release", "--package", "layercake"]))?;
    let target = target();
    let dir = target.join("bench/minos");
    let mut build = command("timeout", ["600"]);
    build.arg(target.join("release/layercake"));
    // Its machines are virtual, and this kernel is a third of the other one.
    build.args(["minos", "build", "--kernel-package", "linux-image-cloud-amd64"]);
    build.args(["--profile", "virtual", "--out"]).arg(&dir);
    build.arg("--node").arg(node).arg("--cache").arg(target.join("demo/packages"));
    check(&mut build)?;
    Ok(Layer0 { dir })
}

fn run() -> Result<Vec<Row>, Error> {
    let Layer0 { dir } = build()?;
    let path = dir.join("minos.json");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let metadata: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Refused(format!("{} is not JSON: {error}", path.display())))?;
    let bytes = metadata["without_modules_bytes"].as_f64().ok_or_else(|| {
        Error::Refused(format!("{} does not say without_modules_bytes", path.display()))
    })?;
    let busybox = fs::metadata(BUSYBOX).map_err(Error::file("look at", BUSYBOX))?.len();
    Ok(vec![Row {
        name: "initramfs/without-modules".to_owned(),
        samples: Samples::exact(bytes / MIB),
        unit: "MiB",
        reference: Some(Reference {
            what: "Debian's busybox-static, not compressed".to_owned(),
            samples: Samples::exact(busybox as f64 / MIB),
        }),
        goal: Some(Goal::ValueAtMost(BUDGET_MIB)),
    }])
}
