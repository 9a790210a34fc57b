//! What modules take out of use for the sake of others: it counts as unavailable, and is held back like
//! what it is done for.

use crate::words::*;
use kraken_engine::{Command, Failure, Input, Limit, Scope, Settings, Share, Terms};
use kraken_model::{Document, Field, Registry, Schema};
use kraken_plan::{Context, Finding, Guard, ModuleSet, Mutation, check};
use std::sync::Arc;

/// A scheduler that nodes are drained in before their firmware is changed.
fn scheduled() -> (Arc<Registry>, Arc<ModuleSet>) {
    let drained = Field::variable("drained", &["UNKNOWN", "NO", "YES"], "drained").unwrap();
    let firmware = Field::variable("firmware", &["UNKNOWN", "OLD", "NEW"], "firmware").unwrap();
    let fields = vec![drained.unavailable_with(&["YES"]), firmware];
    let registry = Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap();
    let step = |module, name, variable: &str, from: &str, to: &str| {
        let mut step = Mutation::new(module, name, Context::Child).moves(variable, from, to);
        step.looks_after = true;
        step.retry(RETRY)
    };
    let mutations = vec![
        step("drain", "look", "drained", "UNKNOWN", "NO").or_finds("YES"),
        step("drain", "empty", "drained", "NO", "YES"),
        step("drain", "fill", "drained", "YES", "NO"),
        step("firmware", "look", "firmware", "UNKNOWN", "OLD").or_finds("NEW"),
        step("firmware", "flash", "firmware", "OLD", "NEW")
            .requires(Guard::is("drained", "YES"))
            .disruptive(),
    ];
    let set = ModuleSet::new(&registry, mutations).unwrap();
    (Arc::new(registry), Arc::new(set))
}

fn new_firmware() -> Document {
    doc(&[("drained", "NO"), ("firmware", "NEW")])
}

/// Nodes in use, whose firmware is old and wanted new, before anything was done about it.
fn in_use(limits: Vec<Limit>, names: &[&str]) -> Bench {
    let mut bench = Bench::new(Settings { limits, ..Settings::default() });
    bench.goes_over(scheduled());
    for name in names {
        bench.configure(name, new_firmware());
        bench.discover(name, &[("drained", "NO"), ("firmware", "OLD")]);
    }
    bench
}

#[test]
fn looking_is_no_taking_out_of_use_and_what_is_one_needs_no_guard() {
    let (_, set) = scheduled();
    let is_disruptive = |name| set.mutation(set.mutation_named(name).unwrap()).disruptive;
    let names = ["drain.look", "drain.empty", "drain.fill"];
    assert_eq!(names.map(is_disruptive), [false, true, false]);
    let unguarded = |finding: &Finding| matches!(finding, Finding::Unguarded { .. });
    assert!(!check(&set).iter().any(unguarded), "a node may be drained whatever it does");
}

#[test]
fn no_more_nodes_are_drained_than_may_be_unavailable() {
    let one = Limit::unavailable(Share::Count(1), Scope::Disruptive);
    let mut bench = in_use(vec![one], &["n1", "n2"]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.empty"]);
    let out = bench.discover("n1", &[("drained", "YES")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 firmware.flash"], "n2 waits");
    let text = bench.explain("n2").to_string();
    let why = "n2: drain.empty waits for a limit on disruptive steps: 1 of 2 nodes are unavailable (n1) \
               and at most 1 may be, it is next";
    assert_eq!(text.lines().next(), Some(why));
    let out = bench.discover("n1", &[("firmware", "NEW")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.fill"], "n1 is still drained");
    let out = bench.discover("n1", &[("drained", "NO")]);
    assert_eq!(dispatched(&bench.set, &out), ["n2 drain.empty"]);
}

#[test]
fn who_is_meant_to_be_drained_is_not_missed() {
    let one = Limit::unavailable(Share::Count(1), Scope::Disruptive);
    let mut bench = in_use(vec![one], &["n1", "n2"]);
    bench.configure("n1", doc(&[("drained", "YES")]));
    bench.discover("n1", &[("drained", "YES")]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n2 drain.empty"]);
    bench.configure("n1", new_firmware());
    let explanation = bench.explain("n1").to_string();
    assert!(explanation.starts_with("n1: firmware.flash is under way"), "{explanation}");
}

#[test]
fn nothing_is_drained_for_what_is_frozen() {
    let mut bench = in_use(Vec::new(), &["n1"]);
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    let out = bench.tick();
    assert_eq!((dispatched(&bench.set, &out), bench.status("n1")), (vec![], "frozen"));
    bench.command(Command::Thaw { node: None });
    bench.discover("n1", &[("drained", "YES")]);
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    let out = bench.configure("n1", doc(&[("drained", "NO"), ("firmware", "OLD")]));
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.fill"], "back in use it comes at any time");
}

#[test]
fn who_may_have_been_drained_by_an_attempt_that_failed_counts_until_somebody_has_looked() {
    let one = Limit::unavailable(Share::Count(1), Scope::Disruptive);
    let mut bench = in_use(vec![one], &["n1", "n2", "n3"]);
    let order = orders(&bench.tick()).remove(0);
    let out = bench.fails(&order, "drained, and no word came back", false);
    assert_eq!((dispatched(&bench.set, &out), bench.status("n1")), (vec![], "doubtful"));
    let out = bench.pass(seconds(300));
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new());
    // It was drained indeed.
    let out = bench.discover("n1", &[("drained", "YES")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 firmware.flash"]);
    bench.discover("n1", &[("firmware", "NEW")]);
    bench.discover("n1", &[("drained", "NO")]);
    // The next one was not: it is available, and its turn is over until it is tried again.
    let order = orders(&bench.out).remove(0);
    assert_eq!(order.node, node("n2"));
    bench.fails(&order, "no such node", false);
    let out = bench.discover("n2", &[("drained", "NO")]);
    assert_eq!(dispatched(&bench.set, &out), ["n3 drain.empty"]);
}

#[test]
fn who_waits_for_nodes_that_were_given_up_is_told_so() {
    let one = Limit::unavailable(Share::Count(1), Scope::Disruptive);
    let mut bench = in_use(vec![one], &["n1", "n2"]);
    bench.tick();
    bench.discover("n1", &[("drained", "YES")]);
    // The first attempt was to drain it.
    for attempt in 2..2 + RETRY.limit.unwrap() {
        let result = Err(Failure { reason: "no tool".into(), permanent: false });
        let id = bench.id("n1", attempt);
        bench.input(Input::Finished { id, result });
        bench.discover("n1", &[("drained", "YES"), ("firmware", "OLD")]);
        bench.pass(seconds(100));
    }
    assert_eq!(bench.status("n1"), "quarantined");
    let text = bench.explain("n2").to_string();
    let why = "1 of 2 nodes are unavailable (n1) and at most 1 may be; 1 of them given up, which only a person ends";
    assert!(text.lines().next().unwrap().contains(why), "{text}");
}
