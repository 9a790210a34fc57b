//! What will be found out about a node once its cfg is another.

use crate::image_state::{ACTIVE, ERROR, IDLE, PATH, UNKNOWN, UPDATE};
use crate::specification;
use kraken_model::{Change, Document, Path};
use kraken_plan::Foresight;

/// What a node will find out about itself when its cfg changes: how the images that run compare with those that
/// are wanted then. Without this a plan would not see the swap that follows, nor that a change which is taken back
/// half-way costs nothing where it was not done yet.
///
/// A step of the image service that is `under_way` for the cfg before goes on, so that it is what comes out of
/// it that is compared.
#[must_use]
pub fn foreseen(
    before: &Document,
    after: &Document,
    dsc: &Document,
    under_way: Option<&str>,
) -> Foresight {
    let (was, wanted) = (specifications(before), specifications(after));
    let Some(now) = dsc.text(PATH).filter(|now| *now != UNKNOWN && wanted != was) else {
        return Foresight::default();
    };
    let ends = under_way.and_then(|step| state_after(step, &was, &wanted));
    let then = ends.unwrap_or_else(|| image_state(&wanted, dsc));
    let changes = (then != now).then(|| Change::set(Path::known(PATH), then));
    Foresight { changes: changes.into_iter().collect(), goes_on: ends.is_some() }
}

/// The state of the images when a step has ended that was begun for what was wanted before. Nothing: the step does
/// not change what runs.
fn state_after(
    step: &str,
    was: &[(&str, String)],
    wanted: &[(&str, String)],
) -> Option<&'static str> {
    let comes = match step {
        "image.start" | "image.swap" | "image.restart" => was,
        "image.stop" | "image.clear" | "image.drop" => &[],
        _ => return None,
    };
    Some(match comes {
        [] => IDLE,
        _ if comes == wanted => ACTIVE,
        _ => UPDATE,
    })
}

/// The images that a cfg wants, in the order of their names, with their specifications.
fn specifications(cfg: &Document) -> Vec<(&str, String)> {
    cfg.names("images").into_iter().map(|name| (name, specification(cfg, name))).collect()
}

/// The state that a node gives its images when these are wanted and what it last told of them is so.
fn image_state(wanted: &[(&str, String)], dsc: &Document) -> &'static str {
    let told = |name: &str, key: &str| dsc.text(&format!("images.{name}.{key}"));
    let is_there = |name: &str| matches!(told(name, "state"), Some("running" | "stopping"));
    let matches =
        |(name, spec): &&(&str, String)| told(name, "specification") == Some(spec.as_str());
    // What was wanted before and has ended is wanted still: that is no state of rest.
    let has_ended = |(name, _): &(&str, String)| told(name, "state") != Some("running");
    if wanted.iter().filter(matches).any(has_ended) {
        return ERROR;
    }
    let known = dsc.names("images");
    let is_wanted = |name: &str| wanted.iter().any(|(wanted, _)| *wanted == name);
    let is_any_there = known.iter().any(|name| is_there(name));
    let is_other_there = known.iter().any(|name| is_there(name) && !is_wanted(name));
    match (wanted.is_empty(), is_any_there) {
        (_, false) => IDLE,
        (false, true) if wanted.iter().all(|image| matches(&image)) && !is_other_there => ACTIVE,
        (_, true) => UPDATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    fn cfg(images: &[(&str, &str)]) -> Document {
        let mut cfg = Document::new();
        for (name, digest) in images {
            cfg.set(Path::known(&format!("images.{name}.digest")), *digest);
            cfg.set(Path::known(&format!("images.{name}.reference")), format!("{name}:{digest}"));
        }
        cfg
    }

    /// What a node tells that has a state and runs what this cfg wants.
    fn runs(state: &str, cfg: &Document) -> Document {
        let mut dsc = document(&[(PATH, state)]);
        for name in cfg.names("images") {
            let spec = specification(cfg, name);
            dsc.set(Path::known(&format!("images.{name}.specification")), spec);
            dsc.set(Path::known(&format!("images.{name}.state")), "running");
        }
        dsc
    }

    fn to(state: &str) -> Vec<Change> {
        vec![Change::set(Path::known(PATH), state)]
    }

    fn foreseen(before: &Document, after: &Document, dsc: &Document) -> Vec<Change> {
        super::foreseen(before, after, dsc, None).changes
    }

    #[test]
    fn only_another_image_on_a_node_that_runs_one_is_foreseen_to_be_changed() {
        let (one, two) = (cfg(&[("web", "a")]), cfg(&[("web", "b")]));
        let mut renamed = one.clone();
        renamed.set(Path::known("images.web.reference"), "web:2");
        let active = runs(ACTIVE, &one);
        assert_eq!(foreseen(&one, &two, &active), to(UPDATE));
        assert_eq!(foreseen(&one, &Document::new(), &active), to(UPDATE));
        assert_eq!(foreseen(&one, &cfg(&[("web", "a"), ("db", "c")]), &active), to(UPDATE));
        assert_eq!(foreseen(&one, &renamed, &active), []);
        assert_eq!(foreseen(&one, &one, &active), []);
        assert_eq!(foreseen(&one, &two, &document(&[(PATH, IDLE)])), []);
        assert_eq!(foreseen(&one, &two, &Document::new()), [], "nothing is known of it");
    }

    #[test]
    fn a_change_that_is_taken_back_before_it_was_done_is_foreseen_to_cost_nothing() {
        let (one, two) = (cfg(&[("web", "a")]), cfg(&[("web", "b")]));
        let waiting = runs(UPDATE, &one);
        assert_eq!(foreseen(&two, &one, &waiting), to(ACTIVE));
        assert_eq!(foreseen(&two, &cfg(&[("web", "c")]), &waiting), []);
        assert_eq!(foreseen(&two, &one, &runs(ACTIVE, &two)), to(UPDATE), "it was done here");
        let mut port = one.clone();
        port.set(Path::known("images.web.env.PORT"), "81");
        assert_eq!(
            foreseen(&port, &one, &waiting),
            to(ACTIVE),
            "the same digest with another port"
        );
    }

    #[test]
    fn a_step_that_is_under_way_for_the_cfg_before_is_foreseen_to_come_to_its_end() {
        let (one, two) = (cfg(&[("web", "a")]), cfg(&[("web", "b")]));
        let swaps =
            |after: &Document, step| super::foreseen(&two, after, &runs(UPDATE, &one), Some(step));
        let back = swaps(&one, "image.swap");
        assert!(
            back.goes_on && back.changes.is_empty(),
            "to UPDATE, from which it is swapped back"
        );
        assert_eq!(swaps(&two, "image.swap"), Foresight::default());
        let dropped = swaps(&one, "image.drop");
        assert!(dropped.goes_on);
        assert_eq!(dropped.changes, to(IDLE));
        assert!(!swaps(&one, "sync.leave").goes_on);
    }

    #[test]
    fn an_image_that_failed_is_not_started_in_place_of_another_one() {
        let (one, two) = (cfg(&[("web", "a")]), cfg(&[("web", "b")]));
        let mut failed = runs(ERROR, &one);
        failed.set(Path::known("images.web.state"), "failed");
        assert_eq!(foreseen(&one, &two, &failed), to(IDLE));
        assert_eq!(foreseen(&two, &one, &failed), []);
    }
}
