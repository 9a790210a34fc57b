//! What steps take is learned, by kind of hardware.

use crate::words::*;
use kraken_engine::{Cause, Entry, Input, Output, Role, Settings};
use kraken_model::Path;

fn settings() -> Settings {
    Settings { kinds: vec![Path::known("facts.platform")], ..Settings::new(1, Role::Parent) }
}

/// A fleet of two kinds, of which one takes its time to switch on.
fn fleet() -> Bench {
    let names: Vec<String> = (0..12).map(|n| format!("n{n:02}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::started(settings(), &all);
    for (n, name) in names.iter().enumerate() {
        let platform = if n % 2 == 0 { "slow" } else { "quick" };
        bench.discover(name, &[("facts.platform", platform)]);
        bench.discover(name, &[("phys_state", "OFF")]);
    }
    bench.pass(seconds(1));
    names
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|name| drop(bench.discover(name, &[("phys_state", "ON")])));
    bench.pass(seconds(14));
    names.iter().step_by(2).for_each(|name| drop(bench.discover(name, &[("phys_state", "ON")])));
    bench
}

fn expected_to_switch_on(bench: &mut Bench, platform: &str) -> (u64, String) {
    bench.configure("new", running());
    bench.discover("new", &[("facts.platform", platform), ("phys_state", "OFF")]);
    let explained = bench.explain("new");
    let on = explained.next.iter().find(|step| step.mutation.as_ref() == "power.on").unwrap();
    (on.takes_ms / 1000, explained.to_string())
}

#[test]
fn what_a_step_took_on_one_kind_is_expected_of_the_next_node_of_that_kind() {
    let (slow, text) = expected_to_switch_on(&mut fleet(), "slow");
    assert_eq!(slow, 15);
    assert!(text.contains("(took 15.0 s, give or take 0.0 s, in 6 runs)"), "{text}");
    assert_eq!(expected_to_switch_on(&mut fleet(), "quick").0, 1);
    let (unknown, text) = expected_to_switch_on(&mut fleet(), "never seen");
    assert_eq!(unknown, 3, "as declared");
    assert!(!text.contains("give or take"), "{text}");
}

#[test]
fn what_others_took_moves_the_end_that_is_expected() {
    let mut bench = Bench::started(settings(), &["n1"]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    bench.discover("n1", &[("phys_state", "ON")]);
    let before = bench.explain("n1").next.len();
    // A hundred boots that take longer than declared: the way is the same, its times are not.
    let whole = |bench: &mut Bench| {
        let explained = bench.explain("n1");
        explained.next.last().unwrap().done.unwrap().since(explained.at)
    };
    let at_first = whole(&mut bench);
    for n in 0..100 {
        let name = format!("m{n}");
        bench.configure(&name, running());
        bench.discover(&name, &[("phys_state", "ON")]);
    }
    bench.pass(seconds(50));
    for n in 0..100 {
        bench.discover(&format!("m{n}"), &[("run_state", "INIT")]);
    }
    bench.discover("n1", &[("run_state", "INIT")]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    bench.discover("n1", &[("phys_state", "ON")]);
    assert_eq!(bench.explain("n1").next.len(), before);
    assert!(whole(&mut bench) >= at_first + seconds(25), "{:?}", whole(&mut bench));
}

/// What the rest of the way was expected to cost when a step was dispatched, in milliseconds.
fn cost_to_go(out: &[Output]) -> u64 {
    let cost = |output: &Output| match output {
        Output::Journal(Entry { cause: Some(Cause::Plan { cost_to_go_ms }), .. }) => {
            Some(*cost_to_go_ms)
        }
        _ => None,
    };
    out.iter().find_map(cost).expect("a step was dispatched")
}

#[test]
fn failures_on_a_kind_make_a_step_dear_for_all_of_it() {
    let mut bench = Bench::started(settings(), &[]);
    let off = |bench: &mut Bench, name: &str| {
        bench.configure(name, running());
        bench.discover(name, &[("phys_state", "OFF")])
    };
    let at_first = cost_to_go(&off(&mut bench, "n0"));
    for n in 1..10 {
        let order = orders(&off(&mut bench, &format!("n{n}"))).remove(0);
        bench.pass(seconds(10));
        bench.fails(&order, "no answer", false);
    }
    let at_last = cost_to_go(&off(&mut bench, "last"));
    assert!(at_last > at_first + 30_000, "{at_first} and then {at_last}");
}

#[test]
fn what_was_learned_is_known_after_a_restart_too() {
    let lessons = fleet().engine.lessons();
    let text = serde_json::to_string(&lessons).unwrap();
    let mut bench = Bench::new(settings());
    bench.input(Input::Recall(serde_json::from_str(&text).unwrap()));
    bench.input(Input::Tick);
    assert_eq!(bench.engine.lessons(), lessons);
    let (slow, text) = expected_to_switch_on(&mut bench, "slow");
    assert_eq!(slow, 15);
    assert!(text.contains("(took 15.0 s, give or take 0.0 s, in 6 runs)"), "{text}");
}

#[test]
fn what_was_learned_of_other_steps_and_kinds_is_left_behind() {
    let lesson = |kind: &str, mutation: &str, mean: f64| {
        serde_json::json!({"kind": {kind: "x"}, "mutation": mutation,
            "record": {"done": 9, "failed": 0, "mean_ms": mean, "variance": 0.0, "lost_ms": 0.0,
                       "failing": 0.0}})
    };
    let lessons = serde_json::json!([
        lesson("facts.platform", "power.on", 7000.0),
        lesson("facts.platform", "gone.step", 7000.0),
        lesson("facts.other", "power.on", 7000.0),
        lesson("facts.platform", "power.off", -1.0),
    ]);
    let mut bench = Bench::new(settings());
    bench.input(Input::Recall(serde_json::from_value(lessons).unwrap()));
    assert_eq!(bench.engine.lessons().len(), 1);
    bench.input(Input::Tick);
    assert_eq!(expected_to_switch_on(&mut bench, "x").0, 7);
}
