//! What waits in one module keeps no other one from its part.

use crate::words::*;
use kraken_engine::{Command, Limit, Scope, Settings, What};
use kraken_model::{Field, Registry, Schema};
use kraken_plan::{Context, Guard, ModuleSet, Mutation};
use std::sync::Arc;

/// A bench whose nodes have a disk to be flashed.
fn bench(settings: Settings, names: &[&str]) -> Bench {
    let mut bench = Bench::new(settings);
    bench.goes_over(crate::words::flashing());
    names.iter().for_each(|name| drop(bench.configure(name, running_flashed())));
    bench.tick();
    bench
}

#[test]
fn a_module_that_fails_again_and_again_does_not_keep_a_node_from_its_power() {
    let mut bench = bench(Settings::default(), &["n1"]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    let id = bench.id("n1", 1);
    let out = bench.input(kraken_engine::Input::Finished {
        id,
        result: Err(kraken_engine::Failure { reason: "no such tool".into(), permanent: false }),
    });
    assert!(journal(&out).iter().any(|what| matches!(what, What::Failed { .. })), "{out:?}");
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    // Nor is it called back when the other one is tried again.
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    assert!(!dispatched(&bench.set, &out).is_empty(), "{}", bench.explain("n1"));
}

#[test]
fn what_is_frozen_does_not_keep_a_node_from_what_is_not() {
    let mut bench = bench(Settings::default(), &["n1"]);
    bench.command(Command::Freeze { node: None, terms: Default::default() });
    bench.discover("n1", &[("phys_state", "OFF")]);
    let out = bench.discover("n1", &[("adisk", "OLD")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    let out = bench.command(Command::Thaw { node: None });
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new(), "one step at a time");
    assert_eq!(bench.status("n1"), "running");
}

#[test]
fn what_failed_is_tried_again_in_time_although_something_else_is_frozen() {
    let mut bench = bench(Settings::default(), &["n1"]);
    bench.command(Command::Freeze { node: None, terms: Default::default() });
    bench.discover("n1", &[("phys_state", "OFF")]);
    let order = orders(&bench.discover("n1", &[("adisk", "OLD")])).remove(0);
    let out = bench.fails(&order, "no answer", false);
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new());
    // Nobody says anything: it is time alone.
    let out = bench.pass(seconds(9));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
}

#[test]
fn who_waits_at_a_limit_does_something_else_and_keeps_its_turn() {
    let flashes = Limit::at_most(1, Scope::Mutation("adisk.flash".into()));
    let settings = Settings { limits: vec![flashes], ..Settings::default() };
    let mut bench = bench(settings, &["n1", "n2", "n3"]);
    for (name, next) in [("n1", "adisk.flash"), ("n2", "power.on"), ("n3", "power.on")] {
        bench.discover(name, &[("phys_state", "OFF")]);
        let out = bench.discover(name, &[("adisk", "OLD")]);
        assert_eq!(dispatched(&bench.set, &out), [format!("{name} {next}")]);
    }
    // While both are busy with something else, nobody is kept waiting for them.
    let out = bench.discover("n1", &[("adisk", "NEW")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    let out = bench.discover("n3", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n3 adisk.flash"]);
    let out = bench.discover("n2", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n2 boot.serve"]);
    let out = bench.discover("n3", &[("adisk", "NEW")]);
    assert_eq!(dispatched(&bench.set, &out), ["n3 boot.serve"]);
    let out = bench.discover("n2", &[("run_state", "INIT")]);
    assert_eq!(dispatched(&bench.set, &out), ["n2 adisk.flash"]);
}

/// Two parts that have to be new before the whole is up: whichever comes first, it takes as long.
fn two_parts(of_node: Context) -> (Arc<Registry>, Arc<ModuleSet>) {
    let field = |path, values: &[&str]| Field::variable(path, values, "a part").unwrap();
    let fields = vec![
        field("left", &["UNKNOWN", "OLD", "NEW"]),
        field("right", &["UNKNOWN", "OLD", "NEW"]),
        field("whole", &["UNKNOWN", "DOWN", "UP"]),
    ];
    let registry = Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap();
    let step = |module, context, variable: &str, from: &str, to: &str| {
        Mutation::new(module, "go", context).moves(variable, from, to).retry(RETRY)
    };
    let up = step("whole", Context::Child, "whole", "DOWN", "UP");
    let mutations = vec![
        step("left", of_node, "left", "OLD", "NEW").disruptive(),
        step("right", Context::Child, "right", "OLD", "NEW"),
        up.requires(Guard::is("left", "NEW")).requires(Guard::is("right", "NEW")),
    ];
    let set = ModuleSet::new(&registry, mutations).unwrap();
    (Arc::new(registry), Arc::new(set))
}

#[test]
fn while_one_step_is_frozen_what_could_as_well_come_first_is_done() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(two_parts(Context::Child));
    bench.configure("n1", doc(&[("whole", "UP")]));
    bench.command(Command::Freeze { node: None, terms: Default::default() });
    bench.discover("n1", &[("left", "OLD"), ("right", "OLD"), ("whole", "DOWN")]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 right.go"]);
    let out = bench.discover("n1", &[("right", "NEW")]);
    assert_eq!((dispatched(&bench.set, &out), bench.status("n1")), (vec![], "frozen"));
    let out = bench.command(Command::Thaw { node: None });
    assert_eq!(dispatched(&bench.set, &out), ["n1 left.go"]);
    let out = bench.discover("n1", &[("left", "NEW")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 whole.go"]);
}

#[test]
fn two_never_work_on_the_same_group() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(two_parts(Context::Node));
    bench.configure("n1", doc(&[("whole", "UP")]));
    bench.discover("n1", &[("left", "OLD"), ("right", "OLD"), ("whole", "DOWN")]);
    bench.tick();
    let permitted = bench.engine.node(&node("n1")).unwrap().permitted.cloned();
    assert_eq!(permitted.as_deref(), Some("left.go"));
    let out = bench.pass(seconds(10));
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new());
}

/// Firmware that is flashed when the node is drained, which takes as long as jobs run; and a lamp.
fn drained_by_itself() -> (Arc<Registry>, Arc<ModuleSet>) {
    let field = |path, values: &[&str]| Field::variable(path, values, "a part").unwrap();
    let fields = vec![
        field("drained", &["UNKNOWN", "NO", "GOING", "YES"]).unavailable_with(&["GOING", "YES"]),
        field("firmware", &["UNKNOWN", "OLD", "NEW"]),
        field("lamp", &["UNKNOWN", "OFF", "ON"]),
    ];
    let registry = Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap();
    let step = |module, name, context, variable: &str, from: &str, to: &str| {
        Mutation::new(module, name, context).moves(variable, from, to).retry(RETRY)
    };
    let flash = step("firmware", "flash", Context::Child, "firmware", "OLD", "NEW");
    let mutations = vec![
        step("drain", "begin", Context::Child, "drained", "NO", "GOING"),
        step("drain", "wait", Context::Itself, "drained", "GOING", "YES").cost(seconds(60)),
        step("drain", "end", Context::Child, "drained", "YES", "NO"),
        flash.requires(Guard::is("drained", "YES")).disruptive(),
        step("lamp", "on", Context::Child, "lamp", "OFF", "ON"),
    ];
    let set = ModuleSet::new(&registry, mutations).unwrap();
    (Arc::new(registry), Arc::new(set))
}

#[test]
fn what_comes_by_itself_is_waited_for_while_everything_else_goes_on() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(drained_by_itself());
    let cfg = || doc(&[("drained", "NO"), ("firmware", "NEW"), ("lamp", "ON")]);
    bench.configure("n1", cfg());
    bench.discover("n1", &[("drained", "NO"), ("firmware", "OLD"), ("lamp", "OFF")]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.begin"]);
    let out = bench.discover("n1", &[("drained", "GOING")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 lamp.on"]);
    bench.discover("n1", &[("lamp", "ON")]);
    assert_eq!(bench.status("n1"), "happens");
    let text = bench.explain("n1").to_string();
    let why = "n1: waits for drained = YES (is GOING), which comes by itself (drain.wait)";
    assert_eq!(text.lines().next(), Some(why));
    // A limit of time there is none, and nothing is done about it.
    let out = bench.pass(seconds(100_000));
    assert_eq!((out, bench.status("n1")), (vec![], "happens"));
    let out = bench.discover("n1", &[("drained", "YES")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 firmware.flash"]);
}

#[test]
fn how_long_what_comes_by_itself_takes_is_learned() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(drained_by_itself());
    bench.tick();
    let begin = |bench: &mut Bench, name| {
        bench.configure(name, doc(&[("drained", "NO"), ("firmware", "NEW")]));
        bench.discover(name, &[("drained", "GOING"), ("firmware", "OLD")]);
    };
    for name in ["n1", "n2", "n3", "n4"] {
        begin(&mut bench, name);
        bench.pass(seconds(1_000));
        bench.discover(name, &[("drained", "YES")]);
    }
    begin(&mut bench, "n5");
    let next = bench.explain("n5").next;
    assert_eq!((&*next[0].mutation, next[0].takes_ms), ("drain.wait", 1_000_000));
}

#[test]
fn who_changes_his_mind_need_not_wait_for_what_comes_by_itself() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(drained_by_itself());
    bench.configure("n1", doc(&[("drained", "NO"), ("firmware", "NEW")]));
    bench.discover("n1", &[("drained", "GOING"), ("firmware", "OLD")]);
    bench.tick();
    assert_eq!(bench.status("n1"), "happens");
    bench.configure("n1", doc(&[("drained", "YES"), ("lamp", "ON")]));
    let out = bench.discover("n1", &[("lamp", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 lamp.on"]);
}

#[test]
fn who_loses_what_else_is_needed_gets_it_back_before_what_comes_by_itself_has_come() {
    let field = |path, values: &[&str]| Field::variable(path, values, "a part").unwrap();
    let fields = vec![
        field("drained", &["UNKNOWN", "GOING", "YES"]),
        field("power", &["UNKNOWN", "OFF", "ON"]),
        field("whole", &["UNKNOWN", "OLD", "NEW"]),
    ];
    let registry = Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap();
    let step = |module, context, variable: &str, from: &str, to: &str| {
        Mutation::new(module, "go", context).moves(variable, from, to).retry(RETRY)
    };
    let swap = step("whole", Context::Child, "whole", "OLD", "NEW");
    let mutations = vec![
        step("drain", Context::Itself, "drained", "GOING", "YES").cost(seconds(3_600)),
        step("power", Context::Child, "power", "OFF", "ON"),
        swap.requires(Guard::is("drained", "YES")).requires(Guard::is("power", "ON")),
    ];
    let set = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
    let mut bench = Bench::new(Settings::default());
    bench.goes_over((Arc::new(registry), set));
    bench.configure("n1", doc(&[("whole", "NEW")]));
    bench.discover("n1", &[("drained", "GOING"), ("power", "ON"), ("whole", "OLD")]);
    bench.tick();
    assert_eq!(bench.status("n1"), "happens");
    let out = bench.discover("n1", &[("power", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.go"]);
}
