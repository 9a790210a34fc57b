//! Restarts: an intent that waits, can be withdrawn, and leads through off back to what cfg wants.

use crate::words::*;
use kraken_engine::{Command, Limit, Scope, Settings, Share, Terms, What};
use kraken_model::{Document, Path};
use kraken_plan::Restart;
use std::collections::BTreeMap;

const UP: [(&str, &str); 4] =
    [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE"), ("busy", "FREE")];

fn settings(limits: Vec<Limit>) -> Settings {
    let restart = Restart {
        off: (Path::known("phys_state"), "OFF".into()),
        drops: vec![Path::known("run_state"), Path::known("image_state")],
        hard: (Path::known("facts.hard"), "yes".into()),
    };
    Settings { restart: Some(restart), limits, ..Settings::default() }
}

/// Nodes that run as they should.
fn up(names: &[&str], limits: Vec<Limit>) -> Bench {
    let mut bench = Bench::started(settings(limits), names);
    for name in names {
        bench.configure(name, running());
        bench.discover(name, &UP);
        assert_eq!(bench.status(name), "converged");
    }
    bench
}

fn restart(name: &str) -> Command {
    Command::Restart { node: node(name), terms: Terms::default() }
}

fn permitted(bench: &Bench, name: &str) -> Option<String> {
    bench.engine.node(&node(name)).unwrap().permitted.map(ToString::to_string)
}

/// What a node does until nothing runs on it any more.
fn stops(bench: &mut Bench, name: &str) {
    assert_eq!(permitted(bench, name).as_deref(), Some("image.stop"));
    bench.discover(name, &[("image_state", "IDLE")]);
    let out = bench.discover(name, &[("run_state", "INIT")]);
    assert_eq!(dispatched(&bench.set, &out), [format!("{name} power.off")]);
}

#[test]
fn a_restart_stops_what_runs_switches_off_and_comes_back_and_forgets_nothing_before() {
    let mut bench = up(&["n1"], Vec::new());
    let out = bench.command(restart("n1"));
    assert_eq!(journal(&out)[0], What::RestartAsked { terms: Terms::default() });
    let view = bench.engine.node(&node("n1")).unwrap();
    assert_eq!((view.cfg, view.wanted.text("phys_state")), (&running(), Some("OFF")));
    assert_eq!(view.dsc.text("image_state"), Some("ACTIVE"), "nothing has happened yet");
    stops(&mut bench, "n1");
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert!(journal(&out).contains(&What::Restarted));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    let view = bench.engine.node(&node("n1")).unwrap();
    assert!(view.marks.is_empty());
    assert_eq!(view.wanted, &running());
    assert_eq!(journal(&bench.command(restart("n1"))).len(), 2, "it is off: that was the restart");
}

#[test]
fn a_restart_waits_for_whoever_uses_a_node_and_for_a_freeze() {
    let mut bench = up(&["n1"], Vec::new());
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    bench.discover("n1", &[("busy", "BUSY")]);
    bench.command(restart("n1"));
    assert_eq!((bench.status("n1"), permitted(&bench, "n1")), ("no_way", None));
    let text = bench.explain("n1").to_string();
    assert!(text.contains("restart requested by operator"), "{text}");
    bench.discover("n1", &[("busy", "FREE")]);
    assert_eq!((bench.status("n1"), permitted(&bench, "n1")), ("frozen", None));
    bench.command(Command::Thaw { node: None });
    stops(&mut bench, "n1");
}

#[test]
fn a_restart_can_be_withdrawn_and_ends_when_it_has_waited_for_too_long() {
    let mut bench = up(&["n1"], Vec::new());
    bench.command(restart("n1"));
    bench.discover("n1", &[("image_state", "IDLE")]);
    let out = bench.command(Command::WithdrawRestart { node: node("n1") });
    assert!(journal(&out).contains(&What::RestartWithdrawn));
    assert_eq!(bench.status("n1"), "waits_for_node", "the image is started again");
    bench.discover("n1", &[("image_state", "ACTIVE")]);
    assert_eq!(bench.status("n1"), "converged");

    bench.discover("n1", &[("busy", "BUSY")]);
    let until = Some(bench.now.plus(seconds(60)));
    let terms = Terms { until, ..Terms::default() };
    bench.command(Command::Restart { node: node("n1"), terms });
    let out = bench.pass(seconds(60));
    assert!(journal(&out).contains(&What::RestartWithdrawn));
    assert_eq!(bench.status("n1"), "converged");
}

#[test]
fn what_cfg_wants_meanwhile_counts_after_the_restart() {
    let mut bench = up(&["n1"], Vec::new());
    bench.command(restart("n1"));
    let only_on = doc(&[("phys_state", "ON")]);
    bench.configure("n1", only_on.clone());
    let view = bench.engine.node(&node("n1")).unwrap();
    assert_eq!((view.cfg, view.wanted.text("phys_state")), (&only_on, Some("OFF")));
    stops(&mut bench, "n1");
    bench.discover("n1", &[("phys_state", "OFF")]);
    bench.discover("n1", &[("phys_state", "ON")]);
    assert_eq!(bench.status("n1"), "converged");
}

#[test]
fn a_node_that_is_restarted_counts_as_unavailable_until_it_is_back() {
    let limit = Limit::unavailable(Share::Count(1), Scope::Disruptive);
    let mut bench = up(&["n1", "n2"], vec![limit]);
    bench.command(restart("n1"));
    bench.command(restart("n2"));
    stops(&mut bench, "n1");
    bench.discover("n1", &[("phys_state", "OFF")]);
    for step in [("phys_state", "ON"), ("run_state", "SYNC")] {
        assert_eq!((bench.status("n2"), permitted(&bench, "n2")), ("queued", None), "{step:?}");
        bench.discover("n1", &[step]);
    }
    bench.discover("n1", &[("image_state", "ACTIVE")]);
    stops(&mut bench, "n2");
}

#[test]
fn a_plan_goes_through_off_and_back() {
    let mut bench = up(&["n1"], Vec::new());
    bench.command(Command::Freeze { node: None, terms: Terms::default() });
    bench.command(restart("n1"));
    let mut other: Document = running();
    other.set(Path::known("facts.wish"), "another");
    let cfg = BTreeMap::from([(node("n1"), other)]);
    let stopped = bench.engine.outlook().plan(&cfg, &[]);
    assert!(stopped.nodes[0].steps.is_empty() && stopped.nodes[0].stops.is_some());
    bench.command(Command::Thaw { node: None });
    let plan = bench.engine.outlook().plan(&cfg, &[]);
    let steps: Vec<&str> = plan.nodes[0].steps.iter().map(AsRef::as_ref).collect();
    let down = ["image.stop", "sync.leave", "power.off"];
    let up = ["power.on", "boot.serve", "sync.join", "image.discover", "image.start"];
    assert_eq!(steps, [&down[..], &up[..]].concat());
}
