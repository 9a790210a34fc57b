//! Steps of a node that wait for its parent.
//!
//! A node plans by itself, from what it knows. What disrupts it takes only when its parent says so,
//! which knows the limits, the holds and the rest of the cluster: `permitted.image.swap = true` in its
//! cfg. Guards of other steps that look at what the node does not know (a variable of a module that
//! runs on the parent) are judged by the parent too: `withheld.image.start = true`.

use crate::{Timing, mutations, node_owns, phys_state, run_state};
use kraken_model::Path;
use kraken_plan::{Context, Guard, Mutation};

/// Under this address a node is told which disruptive mutation it may take.
pub const PERMITTED: &str = "permitted";

/// The address at which a node is told that a mutation is withheld.
#[must_use]
pub fn withheld(mutation: &Mutation) -> Path {
    Path::known(&format!("withheld.{}", mutation.name))
}

/// Whether a node itself knows the value at an address, so that it can judge guards on it.
#[must_use]
pub fn node_knows(path: &Path) -> bool {
    [phys_state::PATH, run_state::PATH].contains(&path.as_str()) || node_owns(path)
}

/// Every mutation, as a node plans with them: those that it takes by itself, disrupting nobody, heed
/// what is withheld.
#[must_use]
pub fn node_mutations(timing: &Timing) -> Vec<Mutation> {
    let mut all = mutations(timing);
    for mutation in all.iter_mut().filter(|m| m.context == Context::Node && !m.disruptive) {
        let guard = Guard::wanted(withheld(mutation).as_str(), true);
        mutation.excludes.push(guard);
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::document;
    use kraken_model::{Document, Registry, Side};
    use kraken_plan::ModuleSet;

    #[test]
    fn a_node_takes_no_step_that_is_withheld_and_all_others() {
        let registry = Registry::new(crate::schemas()).unwrap();
        let set = ModuleSet::new(&registry, node_mutations(&Timing::default())).unwrap();
        let dsc = document(&[
            ("phys_state", "POWER_ON"),
            ("run_state", "SYNC"),
            ("services.image.state", "RUNNING"),
            ("image_state", "IDLE"),
        ]);
        let start = set.mutation_named("image.start").unwrap();
        let mut cfg = document(&[("image_state", "ACTIVE")]);
        let applies = |cfg: &Document| set.applies(start, set.state(&dsc), set.facts(cfg, &dsc));
        assert!(applies(&cfg));
        cfg.set(withheld(set.mutation(start)), true);
        assert_eq!(registry.validate(Side::Cfg, &cfg), []);
        assert!(!applies(&cfg));
        cfg.remove("withheld.image.start");
        cfg.set(Path::known("withheld.image.swap"), true);
        assert!(applies(&cfg));
    }
}
