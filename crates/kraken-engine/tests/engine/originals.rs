//! Where the original engine failed, one test each.

use crate::words::*;
use kraken_engine::{Settings, What};

#[test]
fn no_change_is_lost_in_a_burst() {
    let names: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::started(Settings::default(), &all);
    for round in 0..20 {
        for name in &names {
            bench.discover(name, &[("facts.a", &format!("{name} {round}"))]);
        }
    }
    for name in &names {
        let said = bench.engine.node(&node(name)).unwrap().dsc.text("facts.a").unwrap().to_owned();
        assert_eq!(said, format!("{name} 19"));
    }
}

#[test]
fn a_node_that_converged_and_then_changes_goes_on() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let up = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
    bench.discover("n1", &up);
    assert_eq!(bench.status("n1"), "converged");
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    let forgotten = |w: &What| matches!(w, What::Forgotten { variables } if variables.len() == 2);
    assert!(journal(&out).iter().any(forgotten), "run and image state cannot be known any more");
    let out = bench.configure("n1", doc(&[("phys_state", "OFF")]));
    assert_eq!(bench.status("n1"), "converged");
    assert!(orders(&out).is_empty());
}

#[test]
fn a_timeout_of_the_first_step_does_not_end_it_all() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let out = bench.pass(seconds(40));
    assert!(journal(&out).iter().any(|w| matches!(w, What::TimedOut { .. })));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.discover"], "tried again");
    // A hang is just a state to leave, too.
    let out = bench.discover("n1", &[("phys_state", "HANG")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
}

#[test]
fn a_module_that_hangs_keeps_no_other_node_waiting() {
    let mut bench = Bench::started(Settings::default(), &["n1", "n2"]);
    // Nobody ever answers for n1.
    for (found, next) in [("OFF", "n2 power.on"), ("ON", "n2 boot.serve")] {
        let out = bench.discover("n2", &[("phys_state", found)]);
        assert_eq!(dispatched(&bench.set, &out), [next]);
    }
    assert_eq!(bench.status("n1"), "running");
}

#[test]
fn a_boot_that_never_comes_up_does_not_cycle_for_ever() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    let mut power_cycles = 0;
    // The power obeys, the boot never comes.
    for _ in 0..200 {
        let phys =
            bench.engine.node(&node("n1")).unwrap().dsc.text("phys_state").map(str::to_owned);
        let view = bench.engine.node(&node("n1")).unwrap();
        match (view.status, view.mutation.map(AsRef::as_ref), phys.as_deref()) {
            ("running", Some("power.on"), _) => drop(bench.discover("n1", &[("phys_state", "ON")])),
            ("running", Some("power.recover"), _) => {
                power_cycles += 1;
                bench.discover("n1", &[("phys_state", "OFF")]);
            }
            ("quarantined", ..) => break,
            _ => drop(bench.tick()),
        }
    }
    assert_eq!(bench.status("n1"), "quarantined");
    assert_eq!(power_cycles, 3, "as often as the boot may be tried again");
    let text = bench.explain("n1").to_string();
    assert!(text.contains("boot.serve failed 4 times"), "{text}");
}

#[test]
fn what_changes_nothing_says_nothing() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    bench.discover("n1", &[("phys_state", "ON"), ("facts.a", "b")]);
    assert_eq!(bench.discover("n1", &[("phys_state", "ON"), ("facts.a", "b")]), []);
    assert_eq!(bench.discover("n1", &[("run_state", "UNKNOWN")]), []);
    assert_eq!(bench.configure("n1", running()), []);
    assert_eq!(bench.discover("stranger", &[("phys_state", "ON")]), []);
    assert_eq!(bench.engine.summary().counters.unknown_nodes, 1);
}

#[test]
fn what_cannot_be_known_is_not_believed() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(bench.discover("n1", &[("run_state", "SYNC")]), []);
    assert_eq!(bench.engine.summary().counters.not_knowable, 1);
}

#[test]
fn a_question_is_answered_by_whatever_is_found() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let waits = bench.explain("n1").to_string();
    assert!(waits.contains("waits for phys_state = OFF or ON (is UNKNOWN)"), "{waits}");
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    let said = journal(&out);
    assert!(said.iter().any(|w| matches!(w, What::Done { .. })), "{said:?}");
    assert!(!said.iter().any(|w| matches!(w, What::Interrupted { .. })), "{said:?}");
    assert_eq!(dispatched(&bench.set, &out), ["n1 boot.serve"]);
}
