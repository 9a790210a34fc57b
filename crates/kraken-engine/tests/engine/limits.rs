//! How many at a time, and in which order.

use crate::words::*;
use kraken_engine::{Limit, Scope, Settings};
use kraken_model::Path;

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
    let text = bench.explain("n4").to_string();
    assert!(text.contains("steps of power: 2/2 under way, 1 before it"), "{text}");
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
