//! Machines that are found running: nothing is done about them before their nodes had time to be heard,
//! and nothing without a word after that.

use crate::words::*;
use kraken_engine::{Command, Engine, FoundRunning, Input, Limit, Output, Scope, Settings, What};
use kraken_engine::{Role, Terms};
use kraken_model::{Change, Document, Field, Path};
use kraken_plan::{Context, Guard, ModuleSet, Mutation};
use std::sync::Arc;

/// How long a node may take to be heard.
const PATIENCE: u64 = 90;

fn settings(limits: Vec<Limit>) -> Settings {
    let found_running = FoundRunning {
        variable: Path::known("phys_state"),
        runs: vec!["ON".into(), "HANG".into()],
        found: "FOUND".into(),
        seen_by: vec!["power".into()],
        claim: Path::known("claim"),
        awaited: "AWAITED".into(),
        granted: "GRANTED".into(),
        patience: seconds(PATIENCE),
        left: Guard::wanted("facts.found", "leave"),
    };
    let found_running = Some(found_running);
    Settings { found_running, limits, ..Settings::new(1, Role::Parent) }
}

fn engine(settings: Settings) -> Bench {
    let claim = Field::variable("claim", &["UNKNOWN", "AWAITED", "GRANTED"], "claim").unwrap();
    let registry = registry_with(&[claim]);
    let take = |name| {
        let step = Mutation::new("power", name, Context::Child).timeout(seconds(20)).disruptive();
        step.moves("phys_state", "FOUND", "OFF").excludes(Guard::is("busy", "BUSY"))
    };
    let mut all = mutations();
    all.push(take("take-over").requires(Guard::is("claim", "GRANTED")));
    let policy = Guard::wanted("facts.found", "reboot");
    all.push(take("reclaim").requires(policy).excludes(Guard::is("claim", "AWAITED")));
    let discover = all.iter_mut().find(|m| *m.name == *"power.discover").unwrap();
    *discover = discover.clone().or_finds("FOUND");
    let set = Arc::new(ModuleSet::new(&registry, all).unwrap());
    let mut bench = Bench::new(settings.clone());
    bench.engine = Engine::new(settings, Arc::clone(&set), registry);
    bench.set = set;
    bench
}

/// An engine with a node whose machine is about to be looked at.
fn bench(policy: &str, limits: Vec<Limit>) -> Bench {
    let mut bench = engine(settings(limits));
    bench.configure("n1", wanted(policy));
    bench.input(Input::Tick);
    bench
}

fn wanted(policy: &str) -> Document {
    let mut cfg = running();
    cfg.set(Path::known("facts.found"), policy);
    cfg
}

fn says(bench: &mut Bench, by: &str, values: &[(&str, &str)]) -> Vec<Output> {
    let changes = set_to(values);
    bench.input(Input::Discover { node: node("n1"), changes, by: by.into() })
}

fn is(bench: &Bench, path: &str) -> Option<String> {
    bench.engine.node(&node("n1")).unwrap().dsc.text(path).map(str::to_owned)
}

fn take_over(bench: &mut Bench) -> Vec<Output> {
    bench.command(Command::TakeOver { node: node("n1") })
}

#[test]
fn a_machine_that_is_switched_on_from_here_is_ours() {
    let mut bench = bench("ask", Vec::new());
    let out = says(&mut bench, "power", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    let out = says(&mut bench, "power", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 boot.serve"]);
    assert_eq!((is(&bench, "phys_state"), is(&bench, "claim")), (Some("ON".into()), None));
}

#[test]
fn one_that_is_found_running_and_not_heard_is_never_touched_without_a_word() {
    for state in ["ON", "HANG"] {
        let mut bench = bench("ask", Vec::new());
        let out = says(&mut bench, "power", &[("phys_state", state)]);
        assert_eq!(orders(&out), [], "{state}");
        assert_eq!(is(&bench, "phys_state").as_deref(), Some("FOUND"));
        assert_eq!(bench.status("n1"), "awaited");
        let text = bench.explain("n1").to_string();
        assert!(text.contains("had time to be heard, in 90.0 s"), "{text}");
        let out = bench.pass(seconds(PATIENCE - 1));
        assert_eq!((orders(&out), bench.status("n1")), (vec![], "awaited"));
        let out = bench.pass(seconds(2));
        assert_eq!((orders(&out), bench.status("n1")), (vec![], "found_running"));
        assert!(journal(&out).contains(&What::FoundRunning));
        let text = bench.explain("n1").to_string();
        assert!(text.contains("left alone until a person takes the machine over"), "{text}");
        // Whatever else is seen of its power, and however long it takes.
        for state in ["HANG", "ON"] {
            assert_eq!(orders(&says(&mut bench, "power", &[("phys_state", state)])), []);
        }
        assert_eq!(orders(&bench.pass(seconds(100_000))), []);
        assert_eq!(bench.status("n1"), "found_running");
    }
}

#[test]
fn a_node_that_is_heard_is_adopted_as_it_is() {
    for heard_after in [0, 20, 100_000] {
        let mut bench = bench("ask", Vec::new());
        says(&mut bench, "power", &[("phys_state", "ON")]);
        let mut out = bench.pass(seconds(heard_after));
        let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
        out.extend(says(&mut bench, "sync", &all));
        out.extend(bench.pass(seconds(1_000)));
        assert_eq!(orders(&out), [], "heard after {heard_after} s");
        assert_eq!((bench.status("n1"), is(&bench, "claim")), ("converged", None));
    }
}

#[test]
fn what_proves_that_nothing_runs_there_is_enough() {
    let mut bench = bench("ask", Vec::new());
    says(&mut bench, "power", &[("phys_state", "ON")]);
    let out = says(&mut bench, "power", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    assert_eq!(is(&bench, "claim"), None);
    let mut bench = self::bench("ask", Vec::new());
    says(&mut bench, "power", &[("phys_state", "ON")]);
    // Its firmware asked for something to boot.
    let out = says(&mut bench, "boot", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 boot.serve"]);
    assert_eq!(is(&bench, "claim"), None);
}

#[test]
fn a_word_of_a_person_takes_it_over_under_all_that_holds_disruption_back() {
    let mut bench = bench("ask", Vec::new());
    says(&mut bench, "power", &[("phys_state", "ON")]);
    let freeze = Command::Freeze { node: None, terms: Terms::default() };
    bench.command(freeze);
    let out = take_over(&mut bench);
    assert_eq!(journal(&out)[0], What::TakenOver);
    assert_eq!((orders(&out), bench.status("n1")), (vec![], "frozen"));
    let out = bench.command(Command::Thaw { node: None });
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.take-over"]);
    let out = says(&mut bench, "power", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    assert_eq!(is(&bench, "claim"), None, "the word was for what ran then");
}

#[test]
fn a_word_about_a_machine_that_was_not_found_running_says_nothing() {
    let mut bench = bench("ask", Vec::new());
    says(&mut bench, "power", &[("phys_state", "OFF")]);
    assert_eq!(take_over(&mut bench), []);
    says(&mut bench, "power", &[("phys_state", "ON")]);
    assert_eq!((take_over(&mut bench), is(&bench, "claim")), (vec![], None));
}

#[test]
fn the_cluster_file_may_have_it_rebooted_or_left_and_change_its_mind() {
    let mut bench = bench("reboot", Vec::new());
    let out = says(&mut bench, "power", &[("phys_state", "ON")]);
    assert_eq!((orders(&out), bench.status("n1")), (vec![], "awaited"), "not at once");
    let out = bench.pass(seconds(PATIENCE));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.reclaim"]);

    let mut bench = self::bench("leave", Vec::new());
    says(&mut bench, "power", &[("phys_state", "ON")]);
    let out = bench.pass(seconds(PATIENCE));
    assert_eq!((orders(&out), bench.status("n1")), (vec![], "left_running"));
    assert!(!journal(&out).contains(&What::FoundRunning), "nobody is asked");
    bench.configure("n1", wanted("ask"));
    assert_eq!(bench.status("n1"), "found_running");
    let out = bench.configure("n1", wanted("reboot"));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.reclaim"]);
}

#[test]
fn limits_hold_for_taking_over_as_for_all_that_is_disruptive() {
    let mut bench = engine(settings(vec![Limit::at_most(1, Scope::Disruptive)]));
    for name in ["n1", "n2"] {
        bench.configure(name, wanted("reboot"));
    }
    bench.input(Input::Tick);
    for name in ["n1", "n2"] {
        let (node, changes) = (node(name), set_to(&[("phys_state", "ON")]));
        bench.input(Input::Discover { node, changes, by: "power".into() });
    }
    let out = bench.pass(seconds(PATIENCE));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.reclaim"]);
    assert_eq!(bench.status("n2"), "queued");
}

#[test]
fn a_restart_loses_neither_what_was_found_nor_what_was_said() {
    for (claim, status) in [(None, "found_running"), (Some("AWAITED"), "awaited")] {
        let mut bench = engine(settings(Vec::new()));
        bench.configure("n1", wanted("ask"));
        let mut kept = doc(&[("phys_state", "FOUND")]);
        claim.map(|claim| kept.apply(&[Change::set(Path::known("claim"), claim)]));
        bench.input(Input::Restore { node: node("n1"), dsc: kept });
        bench.input(Input::Tick);
        assert_eq!(bench.status("n1"), status);
        says(&mut bench, "power", &[("phys_state", "ON")]);
        assert_eq!(
            (orders(&bench.pass(seconds(200))), bench.status("n1")),
            (vec![], "found_running")
        );
    }
    let mut bench = engine(settings(Vec::new()));
    bench.configure("n1", wanted("ask"));
    let kept = doc(&[("phys_state", "FOUND"), ("claim", "GRANTED")]);
    bench.input(Input::Restore { node: node("n1"), dsc: kept });
    bench.input(Input::Tick);
    assert_eq!(bench.status("n1"), "stale");
    let out = says(&mut bench, "power", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.take-over"]);
}

#[test]
fn what_was_known_before_a_restart_needs_no_word() {
    let mut bench = engine(settings(Vec::new()));
    bench.configure("n1", wanted("ask"));
    bench.input(Input::Restore { node: node("n1"), dsc: doc(&[("phys_state", "ON")]) });
    bench.input(Input::Tick);
    says(&mut bench, "power", &[("phys_state", "ON")]);
    assert_eq!(is(&bench, "phys_state").as_deref(), Some("ON"));
}

#[test]
fn a_plan_says_where_it_stops_and_shows_what_would_be_disrupted() {
    let mut bench = bench("ask", Vec::new());
    says(&mut bench, "power", &[("phys_state", "ON")]);
    let plan = |bench: &Bench, policy: &str| {
        let cfg = [(node("n1"), wanted(policy))].into();
        bench.engine.outlook().plan(&cfg, &[])
    };
    // Waited for still, and afterwards.
    for _ in 0..2 {
        let reboot = plan(&bench, "reboot");
        assert_eq!(&*reboot.nodes[0].steps[0], "power.reclaim");
        assert_eq!(reboot.summary.disrupted, 1);
        let leave = plan(&bench, "leave");
        let stops = leave.nodes[0].stops.as_deref().unwrap_or_default();
        assert!(stops.contains("is left as it is") && leave.nodes[0].steps.is_empty(), "{stops}");
        bench.pass(seconds(PATIENCE));
    }
    let mut cfg = wanted("ask");
    cfg.set(Path::known("location.rack"), "r1");
    let ask = bench.engine.outlook().plan(&[(node("n1"), cfg)].into(), &[]);
    let stops = ask.nodes[0].stops.as_deref().unwrap_or_default();
    assert!(stops.contains("until a person takes the machine over"), "{stops}");
    assert_eq!(ask.summary.stopping, 1);
}
