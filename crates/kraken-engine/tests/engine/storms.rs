//! One fault must not reboot a cluster; and what operators stop stays stopped.

use crate::words::*;
use kraken_engine::{Command, Input, Settings, Storm, Terms, What};

const UP: [(&str, &str); 3] =
    [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];

fn fleet() -> (Bench, Vec<String>) {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let storm = Storm { min: 3, ..Storm::default() };
    let settings = Settings { storm, ..Settings::default() };
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::started(settings, &all);
    for name in &names {
        bench.discover(name, &UP);
        assert_eq!(bench.status(name), "converged");
    }
    (bench, names)
}

#[test]
fn many_nodes_lost_at_once_are_not_rebooted_until_they_are_back() {
    let (mut bench, names) = fleet();
    let mut out = Vec::new();
    for name in &names[..5] {
        out.extend(bench.discover(name, &[("run_state", "ERROR")]));
    }
    assert!(journal(&out).contains(&What::StormHold { lost: 3, nodes: 10, domain: None }));
    out.extend(bench.pass(seconds(3600)));
    assert!(orders(&out).is_empty(), "not even long after the window");
    assert_eq!(bench.status("n0"), "storm_hold");
    let text = bench.explain("n0").to_string();
    assert!(text.contains("5 of 10 nodes silent since"), "{text}");
    for name in &names[..3] {
        bench.discover(name, &[("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    }
    assert!(!bench.engine.summary().storm);
    assert_eq!(bench.status("n4"), "settling", "it may be about to come back too");
    bench.discover("n4", &[("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    let out = bench.pass(seconds(60));
    assert_eq!(dispatched(&bench.set, &out), ["n3 power.off"], "the one that stays away");
}

#[test]
fn many_nodes_that_are_lost_still_after_a_restart_are_not_rebooted_either() {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let storm = Storm { min: 3, ..Storm::default() };
    let mut bench = Bench::new(Settings { storm, epoch: 2, ..Settings::default() });
    for (n, name) in names.iter().enumerate() {
        bench.configure(name, running());
        let run = if n < 5 { "ERROR" } else { "SYNC" };
        let dsc = doc(&[("phys_state", "ON"), ("run_state", run)]);
        bench.input(Input::Restore { node: node(name), dsc });
    }
    bench.tick();
    let mut out = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let run = if n < 5 { "ERROR" } else { "SYNC" };
        out.extend(bench.discover(name, &[("phys_state", "ON"), ("run_state", run)]));
    }
    out.extend(bench.pass(seconds(3600)));
    assert!(orders(&out).is_empty(), "{:?}", dispatched(&bench.set, &out));
    assert_eq!(bench.status("n0"), "storm_hold");
    for name in &names[..4] {
        bench.discover(name, &[("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    }
    assert_eq!(bench.status("n4"), "settling");
    let out = bench.command(Command::Release { node: node("n4") });
    assert_eq!(dispatched(&bench.set, &out), ["n4 power.off"], "somebody knows that it stays away");
}

#[test]
fn a_single_node_that_is_lost_is_rebooted_after_a_moment() {
    let (mut bench, _) = fleet();
    assert!(orders(&bench.discover("n0", &[("run_state", "ERROR")])).is_empty());
    assert_eq!(bench.status("n0"), "settling");
    let out = bench.pass(seconds(10));
    assert_eq!(dispatched(&bench.set, &out), ["n0 power.off"]);
}

#[test]
fn an_operator_overrules_a_storm_for_one_node_or_for_all() {
    let (mut bench, names) = fleet();
    for name in &names[..5] {
        bench.discover(name, &[("run_state", "ERROR")]);
    }
    let out = bench.command(Command::Release { node: node("n1") });
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.off"]);
    let out = bench.command(Command::Thaw { node: None });
    assert_eq!(orders(&out).len(), 4);
}

#[test]
fn what_an_operator_says_of_one_lost_node_does_not_give_up_the_others() {
    let (mut bench, names) = fleet();
    for name in &names[1..5] {
        bench.discover(name, &[("run_state", "ERROR")]);
    }
    bench.pass(seconds(60));
    let is_kept =
        |bench: &mut Bench| bench.engine.summary().storm && bench.status("n4") == "storm_hold";
    bench.configure("n1", doc(&[("phys_state", "OFF")]));
    assert!(is_kept(&mut bench), "nobody wants n1 back");
    let out = bench.input(Input::Configure { node: node("n3"), cfg: None, by: "operator".into() });
    assert!(orders(&out).is_empty() && is_kept(&mut bench), "n3 is not there any more");
    let out = bench.command(Command::Release { node: node("n2") });
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.off"]);
    assert!(is_kept(&mut bench), "n2 alone may pass");
    let out = bench.discover("n2", &[("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    assert!(orders(&out).is_empty() && is_kept(&mut bench), "one is back, three are not");
    let out = bench.discover("n4", &[("run_state", "SYNC"), ("image_state", "ACTIVE")]);
    assert!(journal(&out).iter().any(|what| matches!(what, What::StormOver { .. })));
}

#[test]
fn what_steps_bring_about_is_no_storm() {
    let (mut bench, names) = fleet();
    for name in &names {
        bench.discover(name, &[("image_state", "IDLE")]);
        // Wanted still: only the step that is waited for makes it leave.
        bench.configure(name, doc(&[("run_state", "INIT")]));
        bench.discover(name, &[("run_state", "INIT")]);
    }
    assert!(!bench.engine.summary().storm);
    assert_eq!(bench.engine.summary().lost, 0);
}

#[test]
fn a_freeze_stops_what_is_disruptive_and_nothing_else() {
    let (mut bench, _) = fleet();
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    bench.discover("n0", &[("phys_state", "HANG")]);
    assert_eq!(bench.status("n0"), "frozen");
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    assert!(bench.explain("n0").to_string().contains("frozen by operator"));
    bench.pass(seconds(10));
    let out = bench.command(Command::Thaw { node: None });
    assert_eq!(dispatched(&bench.set, &out), ["n0 power.recover"]);
}

#[test]
fn a_held_node_is_left_alone_and_says_so() {
    let (mut bench, _) = fleet();
    bench.command(Command::Hold { node: node("n0"), terms: Terms::default() });
    let out = bench.discover("n0", &[("phys_state", "OFF")]);
    assert!(orders(&out).is_empty());
    assert!(bench.explain("n0").to_string().contains("held by operator"));
    let out = bench.command(Command::Release { node: node("n0") });
    assert_eq!(dispatched(&bench.set, &out), ["n0 power.on"]);
}
