//! What a node is told to be: what its own program understands, which disruptive step it may take, and
//! which of its other steps wait for something that only the parent knows.

use kraken::View;
use kraken_model::{Document, Path, Registry, RegistryError, Side};
use kraken_plan::{Context, Guard, ModuleSet};
use layercake_schema::{PERMITTED, node_knows, withheld};
use std::sync::Arc;

/// A step of nodes that they take without being permitted to, and what only the parent can judge of it.
struct Step {
    withheld: Path,
    /// It finds something out: that is no step which a hold forbids.
    discovers: bool,
    requires: Vec<Guard>,
    excludes: Vec<Guard>,
}

/// Makes of a cfg what a node is told.
pub(crate) struct Told {
    /// What a node's program understands.
    node: Registry,
    /// What there is besides, from modules on the parent.
    all: Arc<Registry>,
    /// Where a node is told what it may.
    permitted: Path,
    steps: Vec<Step>,
}

impl Told {
    pub(crate) fn new(all: Arc<Registry>, set: &ModuleSet) -> Result<Self, RegistryError> {
        let is_ours = |guard: &&Guard| guard.side == Side::Dsc && !node_knows(&guard.path);
        // What is configured under a name that the node does not understand is not told either.
        let node = Registry::new(layercake_schema::schemas())?;
        let is_strange = |guard: &&Guard| node.field(guard.path.as_str()).is_none();
        let ours = |guards: &[Guard]| -> Vec<Guard> {
            guards.iter().filter(|g| is_ours(g) || is_strange(g)).cloned().collect()
        };
        let discovers = |id| set.variables().iter().any(|v| v.discovered_by.contains(&id));
        let steps = set
            .mutations()
            .filter(|(_, m)| m.context == Context::Node && !m.disruptive)
            .map(|(id, mutation)| Step {
                withheld: withheld(mutation),
                discovers: discovers(id),
                requires: ours(&mutation.requires),
                excludes: ours(&mutation.excludes),
            })
            .collect();
        Ok(Self { node, all, permitted: Path::known(PERMITTED), steps })
    }

    /// What a node is told to be.
    pub(crate) fn cfg(&self, view: &View) -> Document {
        // Shared with everybody who has it, unless something is different.
        let wanted = view.passing.as_ref().unwrap_or(&view.cfg);
        let mut cfg = wanted.clone();
        for (path, _) in wanted.iter() {
            if self.node.field(path.as_str()).is_none() {
                cfg.remove(path.as_str());
            }
        }
        if let Some(step) = &view.permitted {
            cfg.set(kraken::permitted(&self.permitted, step), true);
        }
        let holds = |guard: &Guard| guard.holds_in(&self.all, wanted, &view.dsc);
        for step in &self.steps {
            let is_held = view.held && !step.discovers;
            if is_held || !step.requires.iter().all(holds) || step.excludes.iter().any(holds) {
                cfg.set(step.withheld.clone(), true);
            }
        }
        cfg
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_modules::Modules;
    use layercake_schema::Timing;

    fn told(modules: &str) -> Told {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(modules);
        let (mut schemas, mut mutations) =
            (layercake_schema::schemas(), layercake_schema::mutations(&Timing::default()));
        let modules = Modules::read(&dir, &schemas, &mutations).unwrap();
        schemas.extend(modules.schemas());
        modules.extend(&mut mutations);
        let registry = Arc::new(Registry::new(schemas).unwrap());
        let set = ModuleSet::new(&registry, mutations).unwrap();
        Told::new(registry, &set).unwrap()
    }

    fn view(cfg: &[(&str, &str)], dsc: &[(&str, &str)]) -> View {
        let document = |values: &[(&str, &str)]| {
            let mut document = Document::new();
            for (path, value) in values {
                document.set(Path::known(path), *value);
            }
            document
        };
        View { cfg: document(cfg), dsc: document(dsc), ..View::default() }
    }

    fn withheld_of(cfg: &Document) -> Vec<&str> {
        cfg.under("withheld").map(|(path, _)| path.as_str()).collect()
    }

    #[test]
    fn a_node_in_use_is_told_to_disturb_nobody() {
        let told = told("nowhere");
        let cfg = [("image_state", "ACTIVE")];
        let free = view(&cfg, &[("run_state", "SYNC")]);
        assert_eq!(told.cfg(&free), free.cfg);
        let busy = told.cfg(&view(&cfg, &[("run_state", "SYNC"), ("busy", "BUSY")]));
        let withheld = withheld_of(&busy);
        assert!(withheld.is_empty(), "what disrupts has to be permitted anyway: {withheld:?}");
    }

    #[test]
    fn a_held_node_is_told_what_is_wanted_and_to_do_nothing() {
        let told = told("nowhere");
        let held = view(&[("image_state", "ACTIVE")], &[("run_state", "SYNC")]);
        let cfg = told.cfg(&View { held: true, ..held });
        assert_eq!(cfg.text("image_state"), Some("ACTIVE"));
        let withheld = withheld_of(&cfg);
        for step in ["image.start", "image.restart", "service.start-image"] {
            assert!(withheld.contains(&&*format!("withheld.{step}")), "{step}: {withheld:?}");
        }
        for step in ["image.discover", "service.discover-image"] {
            assert!(!withheld.contains(&&*format!("withheld.{step}")), "to look is no step");
        }
        assert_eq!(told.node.validate(Side::Cfg, &cfg), []);
    }

    #[test]
    fn a_node_is_told_what_it_may_and_that_fits_what_it_understands() {
        let told = told("nowhere");
        let view = view(&[("image_state", "ACTIVE")], &[("run_state", "SYNC")]);
        assert_eq!(told.cfg(&view), view.cfg);
        let cfg = told.cfg(&View { permitted: Some("image.swap".into()), ..view });
        assert_eq!(cfg.get("permitted.image.swap"), Some(&true.into()));
        assert_eq!(told.node.validate(Side::Cfg, &cfg), []);
    }

    #[test]
    fn a_node_heeds_guards_that_it_cannot_judge_and_hears_nothing_of_what_they_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = "module: licence\nvariables: {licence: {values: [UNKNOWN, NONE, VALID]}}\n\
                    discover: {command: [\"/bin/true\"]}\n\
                    guards: {image.start: {requires: [licence = VALID]}}\n";
        std::fs::write(dir.path().join("licence.yaml"), file).unwrap();
        let told = told(dir.path().to_str().unwrap());
        let cfg = [("licence", "VALID"), ("image_state", "ACTIVE")];
        for state in [None, Some("NONE")] {
            let dsc: Vec<_> = state.map(|state| ("licence", state)).into_iter().collect();
            let cfg = told.cfg(&view(&cfg, &dsc));
            assert_eq!(withheld_of(&cfg), ["withheld.image.start"], "{state:?}");
            assert_eq!(told.node.validate(Side::Cfg, &cfg), []);
        }
        let valid = told.cfg(&view(&cfg, &[("licence", "VALID")]));
        assert_eq!(valid, view(&[("image_state", "ACTIVE")], &[]).cfg);
    }
}
