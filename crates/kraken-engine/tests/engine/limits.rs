//! How many at a time, and in which order.

use crate::words::*;
use kraken_engine::{Group, Input, Limit, Scope, Settings, Share, Storm};
use kraken_model::Path;
use std::sync::Arc;

fn limited(limit: Limit) -> Settings {
    Settings { limits: vec![limit], ..Settings::default() }
}

const FOUR: [&str; 4] = ["n1", "n2", "n3", "n4"];

#[test]
fn no_more_than_the_limit_are_under_way_and_the_first_that_came_is_next() {
    let mut bench =
        Bench::started(limited(Limit::at_most(2, Scope::Module("power".into()))), &FOUR);
    assert_eq!(dispatched(&bench.set, &bench.out), ["n1 power.discover", "n2 power.discover"]);
    assert_eq!(bench.status("n3"), "queued");
    let next = serde_json::to_value(&bench.explain("n3").next[0]).unwrap();
    assert!(next["waits_for"].as_str().unwrap().contains("2 of 2 under way"), "{next}");
    assert!(next["begins"].is_null() && next["done"].is_null(), "nobody knows when: {next}");
    let text = bench.explain("n4").to_string();
    assert!(text.contains("steps of power: 2 of 2 under way, 1 waits before it"), "{text}");
    let out = bench.discover("n2", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n3 power.discover"], "n2 goes to the end");
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n4 power.discover"]);
    let out = bench.discover("n3", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.on"]);
}

#[test]
fn racks_are_counted_apart() {
    let limit = Limit::at_most(1, Scope::All).per(Path::known("location.rack"));
    let mut bench = Bench::new(limited(limit));
    for (name, rack) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        let mut cfg = running();
        cfg.set(Path::known("location.rack"), rack);
        bench.configure(name, cfg);
    }
    bench.configure("n4", running());
    let out = bench.tick();
    let expected = ["n1 power.discover", "n3 power.discover", "n4 power.discover"];
    assert_eq!(dispatched(&bench.set, &out), expected);
    let text = bench.explain("n2").to_string();
    assert!(text.contains("location.rack = a"), "{text}");
}

#[test]
fn beginnings_are_spaced() {
    let limit = Limit::spaced(seconds(2), Scope::Mutation("power.on".into()));
    let mut bench = Bench::started(limited(limit), &FOUR);
    let start = bench.now;
    let mut begun = Vec::new();
    for name in FOUR {
        let out = bench.discover(name, &[("phys_state", "OFF")]);
        begun.extend(orders(&out).iter().map(|_| bench.now.since(start).as_secs()));
    }
    while begun.len() < 4 {
        let out = bench.tick();
        begun.extend(orders(&out).iter().map(|_| bench.now.since(start).as_secs()));
    }
    assert_eq!(begun, [0, 2, 4, 6]);
}

#[test]
fn a_place_is_given_back_however_the_attempt_ends() {
    let mut bench = Bench::started(limited(Limit::at_most(1, Scope::All)), &FOUR);
    let order = orders(&bench.out).remove(0);
    let out = bench.fails(&order, "no answer", false);
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.discover"]);
    let gone = kraken_engine::Input::Configure { node: node("n2"), cfg: None, by: "test".into() };
    let out = bench.input(gone);
    assert_eq!(dispatched(&bench.set, &out), ["n3 power.discover"]);
    let out = bench.pass(seconds(20));
    assert!(dispatched(&bench.set, &out).contains(&"n4 power.discover".to_owned()));
    assert_eq!(bench.engine.summary().in_flight, 1);
}

/// Four nodes that are off in cfg and on in truth: each would be switched off, which is disruptive.
fn four_to_be_switched_off(limits: Vec<Limit>) -> Bench {
    let mut bench = Bench::new(Settings { limits, ..Settings::default() });
    for name in FOUR {
        bench.configure(name, doc(&[("phys_state", "OFF"), ("location.rack", "a")]));
        bench.discover(name, &[("phys_state", "ON")]);
    }
    bench
}

#[test]
fn one_per_cent_of_four_nodes_is_one() {
    let limit = Limit::unavailable(Share::Percent(1), Scope::Disruptive);
    let mut bench = four_to_be_switched_off(vec![limit.per(Path::known("location.rack"))]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.off"]);
    let text = bench.explain("n3").to_string();
    let why = "n3: power.off waits for a limit on disruptive steps with location.rack = a: 1 of 4 \
               nodes are unavailable (n1) and at most 1 may be, 1 waits before it";
    assert_eq!(text.lines().next(), Some(why));
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.off"]);
}

#[test]
fn nodes_that_failed_by_themselves_count_and_are_mended_all_the_same() {
    let limit = Limit::unavailable(Share::Percent(50), Scope::Disruptive);
    let storm = Storm { min: 10, ..Storm::default() };
    let mut bench = Bench::new(Settings { limits: vec![limit], storm, ..Settings::default() });
    for name in ["n1", "n2"] {
        bench.configure(name, running());
        bench.discover(name, &[("phys_state", "HANG")]);
    }
    for name in ["n3", "n4"] {
        bench.configure(name, doc(&[("phys_state", "OFF")]));
        bench.discover(name, &[("phys_state", "ON")]);
    }
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover", "n2 power.recover"]);
    assert_eq!(bench.status("n3"), "queued");
    bench.configure("n2", doc(&[("phys_state", "OFF")]));
    let out = bench.discover("n2", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n3 power.off"], "n2 is as it is wanted now");
}

#[test]
fn other_limits_hold_at_once_and_whoever_waits_keeps_the_turn() {
    let mut bench = four_to_be_switched_off(vec![Limit::at_most(1, Scope::All)]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.off"]);
    bench.command(kraken_engine::Command::Hold {
        node: node("n2"),
        terms: kraken_engine::Terms::default(),
    });
    bench.command(kraken_engine::Command::Release { node: node("n2") });
    let tighter = vec![Limit::at_most(1, Scope::Disruptive)];
    assert_eq!(bench.input(Input::Limits(tighter.clone())), [], "what is under way is counted");
    assert_eq!(bench.input(Input::Limits(tighter)), []);
    let out = bench.input(Input::Limits(vec![Limit::at_most(3, Scope::Disruptive)]));
    assert_eq!(dispatched(&bench.set, &out), ["n3 power.off", "n4 power.off"]);
    let out = bench.input(Input::Limits(Vec::new()));
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.off"], "it gave its turn up when held");
}

#[test]
fn several_mutations_are_counted_together_in_a_group() {
    let nodes = ["n1", "n2", "n3"].map(node).into_iter().collect();
    let group = Arc::new(Group { name: "front".into(), nodes });
    let both = Scope::AnyOf(vec!["power.off".into(), "power.on".into()]);
    let mut bench = four_to_be_switched_off(vec![Limit::at_most(1, both).within(group)]);
    bench.configure("n2", running());
    bench.discover("n2", &[("phys_state", "OFF")]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.off", "n4 power.off"]);
    let text = bench.explain("n2").to_string();
    assert!(text.contains("power.off and power.on in front: 1 of 1 under way"), "{text}");
}
