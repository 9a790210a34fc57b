//! Steps that nodes take by themselves: what disrupts nobody they just do, for the rest they ask.

use crate::words::*;
use kraken_engine::{Command, Input, Limit, Output, Role, Scope, Settings, Share, Terms, What};
use kraken_model::{Document, Path};

/// Wanted with nothing running, so that it has to stop its images.
fn idle() -> Document {
    doc(&[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "IDLE")])
}

/// Nodes that run, under a limit on steps that disrupt.
fn cluster(limits: Vec<Limit>) -> Bench {
    let names = ["n1", "n2", "n3", "n4"];
    let mut settings = Settings { limits, ..Settings::new(1, Role::Parent) };
    // Images that are to be stopped run until then.
    settings.availability.as_good = vec![(Path::known("image_state"), "ACTIVE".into())];
    let mut bench = Bench::started(settings, &names);
    for name in names {
        let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
        bench.discover(name, &all);
    }
    bench
}

fn permitted(bench: &Bench, name: &str) -> Option<String> {
    bench.engine.node(&node(name)).unwrap().permitted.map(ToString::to_string)
}

fn told(out: &[Output]) -> Vec<String> {
    let node = |output: &Output| match output {
        Output::Permitted { node } => Some(node.to_string()),
        _ => None,
    };
    out.iter().filter_map(node).collect()
}

#[test]
fn a_node_is_permitted_what_disrupts_and_that_is_an_attempt_like_any_other() {
    let mut bench = cluster(Vec::new());
    let out = bench.configure("n1", idle());
    assert_eq!(told(&out), ["n1"]);
    assert!(orders(&out).is_empty(), "nobody else takes it");
    assert_eq!(permitted(&bench, "n1").as_deref(), Some("image.stop"));
    assert_eq!(bench.status("n1"), "running");
    let out = bench.discover("n1", &[("image_state", "IDLE")]);
    assert_eq!(told(&out), ["n1"]);
    assert!(journal(&out).iter().any(|what| matches!(what, What::Done { .. })));
    assert_eq!((permitted(&bench, "n1"), bench.status("n1")), (None, "converged"));
    // What disrupts nobody needs no word.
    bench.configure("n1", running());
    assert_eq!((permitted(&bench, "n1"), bench.status("n1")), (None, "waits_for_node"));
}

#[test]
fn limits_hold_for_what_nodes_take_by_themselves() {
    let one = Limit::at_most(1, Scope::Disruptive);
    let half = Limit::unavailable(Share::Percent(50), Scope::Disruptive);
    for (limit, at_once) in [(one, 1), (half, 2)] {
        let mut bench = cluster(vec![limit]);
        let names = ["n1", "n2", "n3", "n4"];
        names.iter().for_each(|name| drop(bench.configure(name, idle())));
        let mut stopped = 0;
        while stopped < names.len() {
            let go: Vec<&str> =
                names.into_iter().filter(|name| permitted(&bench, name).is_some()).collect();
            assert_eq!(go.len(), at_once.min(names.len() - stopped));
            for name in go {
                bench.discover(name, &[("image_state", "IDLE")]);
                stopped += 1;
            }
        }
    }
}

#[test]
fn whoever_is_held_or_in_use_or_not_known_afresh_is_permitted_nothing() {
    let mut bench = cluster(Vec::new());
    bench.command(Command::Hold { node: node("n1"), terms: Terms::default() });
    bench.configure("n1", idle());
    assert_eq!((permitted(&bench, "n1"), bench.status("n1")), (None, "held"));
    let freeze = Command::Freeze { node: Some(node("n2")), terms: Terms::default() };
    bench.command(freeze);
    bench.configure("n2", idle());
    assert_eq!((permitted(&bench, "n2"), bench.status("n2")), (None, "frozen"));

    let mut bench = Bench::new(Settings::new(2, Role::Parent));
    bench.configure("n1", idle());
    bench.input(Input::Restore { node: node("n1"), dsc: running() });
    bench.tick();
    assert_eq!((permitted(&bench, "n1"), bench.status("n1")), (None, "stale"));
    bench.discover("n1", &[("phys_state", "ON"), ("run_state", "SYNC")]);
    assert_eq!(permitted(&bench, "n1").as_deref(), Some("image.stop"));
}

#[test]
fn a_permission_that_is_not_used_ends_and_others_have_their_turn() {
    let mut bench = cluster(vec![Limit::at_most(1, Scope::Disruptive)]);
    bench.configure("n1", idle());
    bench.configure("n2", idle());
    assert_eq!((permitted(&bench, "n2"), bench.status("n2")), (None, "queued"));
    let out = bench.pass(seconds(61));
    assert_eq!(told(&out), ["n1", "n2"]);
    assert_eq!((permitted(&bench, "n1"), bench.status("n1")), (None, "back_off"));
    assert_eq!(permitted(&bench, "n2").as_deref(), Some("image.stop"));
}

#[test]
fn a_node_that_has_a_parent_waits_for_its_word_and_then_goes_on_without() {
    let under = Path::known("facts");
    let settings = Settings { permitted_under: Some(under), ..Settings::new(1, Role::Node) };
    let mut bench = Bench::started(settings, &["n1"]);
    bench.discover("n1", &[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    let out = bench.configure("n1", idle());
    assert!(orders(&out).is_empty());
    assert_eq!(bench.status("n1"), "unpermitted");
    let text = bench.explain("n1").to_string();
    assert!(text.contains("image.stop is disruptive and waits for the parent's permission"));

    let mut cfg = idle();
    cfg.set(kraken_engine::permitted(&Path::known("facts"), "image.stop"), true);
    let out = bench.configure("n1", cfg);
    assert_eq!(dispatched(&bench.set, &out), ["n1 image.stop"]);
    // It has begun: half an image serves nobody.
    let out = bench.configure("n1", idle());
    assert!(!out.iter().any(|output| matches!(output, Output::Interrupt { .. })));
    assert_eq!(bench.status("n1"), "running");
}
