//! After a restart: what runs is left alone until it was heard.

use crate::words::*;
use kraken_engine::{Command, Input, Role, Settings, Terms, What};

fn restarted(dsc: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(Settings::new(2, Role::Parent));
    bench.configure("n1", running());
    bench.input(Input::Restore { node: node("n1"), dsc: doc(dsc) });
    bench
}

#[test]
fn nothing_is_dispatched_before_the_first_tick() {
    let mut bench = Bench::new(Settings::default());
    assert!(orders(&bench.configure("n1", running())).is_empty());
    assert_eq!(bench.status("n1"), "loading");
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.discover"]);
}

#[test]
fn what_was_kept_is_not_journalled_again() {
    let mut bench = Bench::new(Settings::default());
    assert_eq!(journal(&bench.configure("n1", running())), []);
    assert_eq!(
        journal(&bench.command(Command::Freeze { node: None, terms: Terms::default() })),
        []
    );
    bench.tick();
    assert_eq!(
        bench.engine.summary().freeze.map(|mark| mark.by.to_string()).as_deref(),
        Some("operator")
    );
}

#[test]
fn a_running_node_is_adopted_without_a_single_step() {
    let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
    let mut bench = restarted(&all);
    assert!(orders(&bench.tick()).is_empty());
    bench.discover("n1", &[("phys_state", "ON")]);
    let out = bench.discover("n1", &[("run_state", "SYNC")]);
    assert_eq!(journal(&out), [What::Adopted]);
    assert!(orders(&out).is_empty());
    assert_eq!(bench.status("n1"), "converged");
}

#[test]
fn stale_knowledge_holds_disruptive_steps_until_it_is_confirmed() {
    let mut bench = restarted(&[("phys_state", "HANG")]);
    assert!(orders(&bench.tick()).is_empty());
    assert_eq!(bench.status("n1"), "stale");
    let text = bench.explain("n1").to_string();
    assert!(text.contains("phys_state is known from before the restart only"), "{text}");
    let out = bench.discover("n1", &[("phys_state", "HANG")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
}

#[test]
fn stale_knowledge_does_not_hold_a_boot_that_was_under_way() {
    let mut bench = restarted(&[("phys_state", "ON"), ("run_state", "INIT")]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 sync.join"]);
}

#[test]
fn a_deadline_alone_does_not_confirm_what_is_stale() {
    let mut bench = restarted(&[("phys_state", "ON"), ("run_state", "INIT")]);
    bench.tick();
    let out = bench.pass(seconds(61));
    assert!(journal(&out).iter().any(|w| matches!(w, What::TimedOut { .. })));
    assert!(orders(&out).is_empty(), "the power module was not heard yet");
    assert_eq!(bench.status("n1"), "stale");
}

#[test]
fn what_is_forgotten_needs_no_confirmation() {
    let mut bench = restarted(&[("phys_state", "ON"), ("run_state", "SYNC")]);
    bench.tick();
    let out = bench.discover("n1", &[("phys_state", "HANG")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
}

#[test]
fn a_late_answer_of_an_earlier_epoch_changes_nothing() {
    let mut bench = Bench::started(Settings::new(2, Role::Parent), &["n1"]);
    let order = orders(&bench.out).remove(0);
    let mut late = order.clone();
    late.id.epoch = 1;
    assert_eq!(bench.fails(&late, "old", true), []);
    late.id = bench.id("n1", 7);
    assert_eq!(bench.fails(&late, "other attempt", true), []);
    assert_eq!(bench.engine.summary().counters.late_answers, 2);
    assert_eq!(bench.status("n1"), "running");
}

#[test]
fn a_node_that_comes_back_is_not_confused_with_its_earlier_life() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let old = orders(&bench.out).remove(0);
    bench.input(Input::Configure { node: node("n1"), cfg: None, by: "test".into() });
    let new = orders(&bench.configure("n1", running())).remove(0);
    assert_ne!(old.id, new.id);
    assert_eq!(bench.fails(&old, "late", true), []);
}
