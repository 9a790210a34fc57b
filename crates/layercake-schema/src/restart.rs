//! A restart: power off, and on again.

use crate::{POWER_CUT, SERVICES, image_state, phys_state, run_state, service_state};
use kraken_model::Path;
use kraken_plan::Restart;

/// A restart leads through power off. Its images are stopped and Layer 0 leaves before; hard, the power is cut
/// whatever runs.
#[must_use]
pub fn restart() -> Restart {
    let services = SERVICES.iter().map(|name| service_state::path(name));
    let states = [run_state::PATH, image_state::PATH].map(Path::known);
    Restart {
        off: (Path::known(phys_state::PATH), phys_state::POWER_OFF.into()),
        drops: states.into_iter().chain(services).collect(),
        hard: (Path::known(POWER_CUT), true.into()),
    }
}
