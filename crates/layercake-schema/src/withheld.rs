//! Steps of a node that wait for something that only its parent knows.
//!
//! A node plans by itself, from what it knows. Guards that look at anything else (`busy`, a variable
//! of a module that runs on the parent) are judged by the parent, which tells the node the outcome
//! with its cfg: `withheld.image.swap = true`.

use crate::{Timing, mutations, node_owns, phys_state, run_state};
use kraken_model::Path;
use kraken_plan::{Context, Guard, Mutation};

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

/// Every mutation, as a node plans with them: those that it takes itself heed what is withheld.
#[must_use]
pub fn node_mutations(timing: &Timing) -> Vec<Mutation> {
    let mut all = mutations(timing);
    for mutation in all.iter_mut().filter(|mutation| mutation.context == Context::Node) {
        let guard = Guard::wanted(withheld(mutation).as_str(), true);
        mutation.excludes.push(guard);
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::{Document, Registry, Side};
    use kraken_plan::ModuleSet;

    fn document(values: &[(&str, &str)]) -> Document {
        let mut document = Document::new();
        for (path, value) in values {
            document.set(Path::known(path), *value);
        }
        document
    }

    #[test]
    fn a_node_takes_no_step_that_is_withheld_and_all_others() {
        let registry = Registry::new(crate::schemas()).unwrap();
        let set = ModuleSet::new(&registry, node_mutations(&Timing::default())).unwrap();
        let dsc = document(&[
            ("phys_state", "POWER_ON"),
            ("run_state", "SYNC"),
            ("services.image.state", "RUNNING"),
            ("image_state", "UPDATE"),
        ]);
        let swap = set.mutation_named("image.swap").unwrap();
        let mut cfg = document(&[("image_state", "ACTIVE")]);
        let applies = |cfg: &Document| set.applies(swap, set.state(&dsc), set.facts(cfg, &dsc));
        assert!(applies(&cfg));
        cfg.set(withheld(set.mutation(swap)), true);
        assert_eq!(registry.validate(Side::Cfg, &cfg), []);
        assert!(!applies(&cfg));
        cfg.remove("withheld.image.swap");
        cfg.set(Path::known("withheld.image.start"), true);
        assert!(applies(&cfg));
    }
}
