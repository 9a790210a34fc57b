//! The services of a node: what runs on it only while something needs it.

use crate::{Timing, module, run_state};
use kraken_plan::{Guard, Retry, Service};

/// The services that a node has, by the names of their modules.
pub const SERVICES: &[&str] = &[module::IMAGE];

/// Whether a service runs. Written by the node.
pub mod service_state {
    pub use kraken_plan::service::{ERROR, RUNNING, STOPPED, UNKNOWN};

    /// The address of the variable, for the service of a name.
    #[must_use]
    pub fn path(name: &str) -> kraken_model::Path {
        kraken_plan::Service::path(name, "state")
    }
}

/// The image service. While it is stopped, system images run on as they are, and nobody looks after them:
/// none is started, changed or stopped, and what becomes of them is not known.
#[must_use]
pub fn image_service(timing: &Timing) -> Service {
    Service::new(module::IMAGE, "Whether the node looks after its system images")
        .requires(Guard::is(run_state::PATH, run_state::SYNC))
        .timeout(timing.service)
        .retry(Retry { base: timing.retry, cap: timing.retry_cap, limit: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Timing, document, mutations, schemas};
    use kraken_model::{Path, Registry};
    use kraken_plan::{Costs, ModuleSet, Policy};
    use std::sync::Arc;

    const SERVICE: &str = "services.image.state";

    /// The steps of a node that has joined.
    fn way(cfg: &[(&str, &str)], dsc: &[(&str, &str)]) -> Vec<String> {
        let registry = Registry::new(schemas()).unwrap();
        let set = Arc::new(ModuleSet::new(&registry, mutations(&Timing::default())).unwrap());
        let mut cfg = document(cfg);
        cfg.set(Path::known("power.driver"), "qemu");
        let mut dsc = document(dsc);
        for (path, value) in [("phys_state", "POWER_ON"), ("run_state", "SYNC")] {
            dsc.set(Path::known(path), value);
        }
        let (goal, facts) = (set.goal(&cfg), set.facts(&cfg, &dsc));
        let mut policy = Policy::new(&set, goal, facts, &Costs::default());
        policy.path(set.state(&dsc)).iter().map(|id| set.mutation(*id).name.to_string()).collect()
    }

    #[test]
    fn the_image_service_is_started_for_what_is_wanted_of_images() {
        let start = ["service.start-image", "image.discover"];
        assert_eq!(way(&[("image_state", "IDLE")], &[(SERVICE, "STOPPED")]), start);
        assert_eq!(way(&[("run_state", "SYNC")], &[(SERVICE, "STOPPED")]), [""; 0]);
    }

    #[test]
    fn the_image_service_is_stopped_by_cfg_and_takes_no_image_with_it() {
        let runs = [(SERVICE, "RUNNING"), ("image_state", "ACTIVE")];
        assert_eq!(way(&[(SERVICE, "STOPPED")], &runs), ["service.stop-image"]);
        let late = [(SERVICE, "RUNNING"), ("image_state", "UPDATE"), ("busy", "BUSY")];
        assert_eq!(way(&[(SERVICE, "STOPPED")], &late), ["service.stop-image"]);
    }

    #[test]
    fn stopping_the_image_service_is_no_way_round_what_is_forbidden() {
        let late = [(SERVICE, "RUNNING"), ("image_state", "UPDATE"), ("busy", "BUSY")];
        assert_eq!(way(&[("image_state", "ACTIVE")], &late), [""; 0]);
    }

    #[test]
    fn a_node_whose_image_service_is_stopped_can_be_switched_off() {
        let way = way(&[("phys_state", "POWER_OFF")], &[(SERVICE, "STOPPED")]);
        let first = ["service.start-image", "image.discover"];
        assert_eq!(way[..2], first);
        assert_eq!(way[way.len() - 2..], ["sync.leave", "power.off"]);
    }
}
