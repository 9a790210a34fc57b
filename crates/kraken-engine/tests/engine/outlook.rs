//! What would be done if cfg were another, and that the same is done when it is.

use crate::words::*;
use kraken_engine::{Command, Limit, NodePlan, Plan, Scope, Settings, Share, Storm, Terms};
use kraken_model::{Document, NodeId};
use kraken_plan::Foresight;
use std::collections::BTreeMap;

const FOUR: [&str; 4] = ["n1", "n2", "n3", "n4"];

fn off() -> Document {
    doc(&[("phys_state", "OFF")])
}

/// Four nodes that are off and should be.
fn four_that_are_off(limits: Vec<Limit>) -> Bench {
    let mut bench = Bench::new(Settings { limits, ..Settings::default() });
    for name in FOUR {
        bench.configure(name, off());
        bench.discover(name, &[("phys_state", "OFF")]);
    }
    bench.tick();
    bench
}

fn all(cfg: &Document) -> BTreeMap<NodeId, Document> {
    FOUR.iter().map(|name| (node(name), cfg.clone())).collect()
}

fn plan(bench: &Bench, cfg: &BTreeMap<NodeId, Document>, limits: &[Limit]) -> Plan {
    bench.engine.outlook().plan(cfg, limits)
}

fn steps(node: &NodePlan) -> Vec<&str> {
    node.steps.iter().map(AsRef::as_ref).collect()
}

const UP: [&str; 5] = ["power.on", "boot.serve", "sync.join", "image.discover", "image.start"];

#[test]
fn what_is_planned_is_what_is_done_once_it_is_applied() {
    let mut bench = four_that_are_off(Vec::new());
    let mut cfg = all(&off());
    cfg.insert(node("n2"), running());
    let plan = plan(&bench, &cfg, &[]);
    assert_eq!(plan.nodes.len(), 1, "the others stay as they are");
    assert_eq!(steps(&plan.nodes[0]), UP);
    assert_eq!((plan.nodes[0].takes_ms, plan.nodes[0].done_ms), (30_000, Some(30_000)));
    assert_eq!(plan.steps["boot.serve"].effects, ["run_state: UNKNOWN -> INIT"]);
    let out = bench.configure("n2", running());
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.on"]);
    let ahead: Vec<String> =
        bench.explain("n2").next.iter().map(|step| step.mutation.to_string()).collect();
    assert_eq!(ahead, UP);
}

#[test]
fn limits_make_the_whole_take_longer_than_its_longest_way() {
    let bench = four_that_are_off(Vec::new());
    let free = plan(&bench, &all(&running()), &[]).summary;
    assert_eq!((free.nodes, free.moving, free.disrupted), (4, 4, 0));
    assert_eq!((free.longest_ms, free.done_ms, free.limits.len()), (30_000, 30_000, 0));
    let one = Limit::at_most(1, Scope::Mutation("boot.serve".into()));
    let spaced = Limit::spaced(seconds(2), Scope::Mutation("power.on".into()));
    let kept = plan(&bench, &all(&running()), &[one, spaced]);
    assert_eq!(kept.summary.longest_ms, 30_000);
    // Three seconds to be on, then four boots of twenty seconds one after the other, then the rest.
    assert_eq!(kept.summary.done_ms, 3_000 + 4 * 20_000 + 7_000);
    let waits = kept.summary.limits.iter().map(|w| (w.limit.as_str(), w.steps, w.longest_ms));
    assert_eq!(waits.collect::<Vec<_>>(), [("boot.serve", 3, 54_000), ("power.on", 3, 6_000)]);
    let done: Vec<_> = kept.nodes.iter().map(|node| node.done_ms).collect();
    assert_eq!(done, [Some(30_000), Some(50_000), Some(70_000), Some(90_000)]);
}

#[test]
fn disruption_is_named_and_a_share_of_the_nodes_is_kept_available() {
    let mut bench = four_that_are_off(Vec::new());
    for name in FOUR {
        bench.configure(name, doc(&[("phys_state", "ON")]));
        bench.discover(name, &[("phys_state", "ON")]);
    }
    let limit = Limit::unavailable(Share::Percent(50), Scope::Disruptive);
    let plan = plan(&bench, &all(&off()), &[limit]);
    assert_eq!(plan.summary.disrupted, 4);
    assert_eq!(plan.disruption(&plan.nodes[0]), ["power.off".into()]);
    assert_eq!(plan.summary.done_ms, 6_000, "two, and two more");
    assert_eq!(plan.summary.limits[0].limit, "disruptive steps");
}

#[test]
fn whatever_would_stop_it_is_said() {
    let mut bench = four_that_are_off(Vec::new());
    bench.command(Command::Hold { node: node("n1"), terms: Terms::default() });
    bench.configure("n2", doc(&[("phys_state", "ON")]));
    bench.discover("n2", &[("phys_state", "ON"), ("busy", "BUSY")]);
    bench.configure("n3", doc(&[("phys_state", "ON")]));
    bench.discover("n3", &[("phys_state", "ON")]);
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    let mut cfg = all(&off());
    cfg.insert(node("n1"), running());
    cfg.remove("n4");
    let plan = plan(&bench, &cfg, &[]);
    let stops: Vec<_> = plan.nodes.iter().map(|n| n.stops.as_deref().unwrap_or("-")).collect();
    assert_eq!(
        stops,
        [
            "it is held: release it to go on",
            "there is no way to phys_state: ON -> OFF: power.off is not possible while busy = BUSY",
            "power.off is disruptive, and that is frozen: thaw to go on",
            "-",
        ]
    );
    assert!(plan.nodes.iter().all(|node| node.steps.is_empty()));
    assert_eq!((plan.summary.stopping, plan.summary.moving), (3, 0));
}

#[test]
fn what_failed_on_a_node_counts_for_as_long_as_its_cfg_stays() {
    let mut bench = four_that_are_off(Vec::new());
    let out = bench.configure("n1", running());
    bench.fails(&orders(&out)[0], "no such card", true);
    let other = |n: u32| {
        let mut cfg = all(&off());
        cfg.insert(node("n1"), if n == 0 { running() } else { doc(&[("phys_state", "ON")]) });
        cfg.insert(node("n2"), running());
        cfg
    };
    let same = plan(&bench, &other(0), &[]);
    assert_eq!((same.nodes.len(), same.summary.others), (1, 0), "n1 has no way left");
    let changed = plan(&bench, &other(1), &[]);
    assert_eq!(steps(&changed.nodes[0]), ["power.on"], "a change of cfg begins anew");
}

#[test]
fn a_plan_says_for_which_nodes_it_no_longer_holds() {
    let mut bench = four_that_are_off(Vec::new());
    let cfg = all(&running());
    let then = plan(&bench, &cfg, &[]);
    let outdated = |then: &Plan, now: &Plan| {
        let lines = then.outdated(now).into_iter().map(|(node, why)| format!("{node}: {why}"));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(outdated(&then, &plan(&bench, &cfg, &[])), Vec::<String>::new());
    bench.discover("n1", &[("phys_state", "ON")]);
    bench.configure("n2", running());
    bench.discover("n3", &[("phys_state", "HANG")]);
    let now = plan(&bench, &cfg, &[]);
    assert_eq!(
        outdated(&then, &now),
        [
            "n1: it was to begin with power.on, now boot.serve",
            "n2: nothing about it would change any more",
            "n3: it was to begin with power.on, now power.recover",
        ]
    );
    let back = outdated(&now, &then);
    assert!(back.contains(&"n2: it was not in the plan".to_owned()), "{back:?}");
}

#[test]
fn a_plan_is_the_same_after_it_was_written_and_read() {
    let bench = four_that_are_off(Vec::new());
    let plan = plan(&bench, &all(&running()), &[Limit::at_most(1, Scope::All)]);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn nothing_disruptive_is_planned_in_a_storm() {
    let storm = Storm { min: 2, ..Storm::default() };
    let mut bench = Bench::new(Settings { storm, ..Settings::default() });
    for name in FOUR {
        bench.configure(name, running());
        let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
        bench.discover(name, &all);
    }
    bench.tick();
    for name in FOUR {
        bench.discover(name, &[("phys_state", "HANG")]);
    }
    let plan = plan(&bench, &all(&off()), &[]);
    let stops = plan.nodes[0].stops.as_deref();
    let held = "power.recover is disruptive, and held: 4 of 4 nodes silent since ";
    assert!(stops.is_some_and(|stops| stops.starts_with(held)), "{stops:?}");
    assert_eq!(plan.summary.disrupted, 0);
}

#[test]
fn what_will_only_be_found_out_then_is_planned_with_when_it_is_foreseen() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let up = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
    bench.discover("n1", &up);
    let mut other = running();
    other.set(kraken_model::Path::known("facts.wish"), "another");
    let cfg = BTreeMap::from([(node("n1"), other)]);
    let mut outlook = bench.engine.outlook();
    assert_eq!(outlook.plan(&cfg, &[]).summary.moving, 0, "nothing is known to be wrong");
    outlook.foresee(&cfg, |before, after, _, under_way| {
        assert!(before.text("facts.wish").is_none() && after.text("facts.wish").is_some());
        assert_eq!(under_way, None);
        Foresight { changes: set_to(&[("image_state", "IDLE")]), goes_on: false }
    });
    let plan = outlook.plan(&cfg, &[]);
    assert_eq!(plan.nodes[0].steps, ["image.start".into()]);
}

#[test]
fn a_step_that_is_under_way_is_planned_to_its_end_also_in_a_freeze() {
    let mut bench = four_that_are_off(Vec::new());
    for name in ["n1", "n2"] {
        bench.configure(name, doc(&[("phys_state", "ON")]));
        bench.discover(name, &[("phys_state", "ON")]);
    }
    bench.configure("n1", off());
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    let mut cfg = all(&off());
    cfg.insert(node("n1"), doc(&[("phys_state", "OFF"), ("facts.wish", "another")]));
    let plan = plan(&bench, &cfg, &[]);
    let planned: Vec<_> = plan.nodes.iter().map(|n| (steps(n), n.stops.is_some())).collect();
    assert_eq!(planned, [(vec!["power.off"], false), (vec![], true)], "n1 has begun, n2 has not");
}

#[test]
fn a_step_of_the_nodes_own_that_goes_on_all_the_same_is_planned_first() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let mut other = running();
    other.set(kraken_model::Path::known("facts.wish"), "another");
    let cfg = BTreeMap::from([(node("n1"), other)]);
    bench.discover("n1", &[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "IDLE")]);
    let mut outlook = bench.engine.outlook();
    outlook.foresee(&cfg, |_, _, _, under_way| {
        assert_eq!(under_way, Some("image.start"));
        Foresight { changes: Vec::new(), goes_on: true }
    });
    assert_eq!(steps(&outlook.plan(&cfg, &[]).nodes[0]), ["image.start", "image.start"]);
}
