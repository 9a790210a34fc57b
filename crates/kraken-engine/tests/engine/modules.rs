//! Modules that come and go while everything goes on.

use crate::words::*;
use kraken_engine::{Input, Limit, Scope, Settings, What};

const UP: [(&str, &str); 3] =
    [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];

/// A bench with a node that runs, and is to run no image.
fn stopping(settings: Settings) -> Bench {
    let mut bench = Bench::started(settings, &["n1"]);
    bench.discover("n1", &UP);
    assert_eq!(bench.status("n1"), "converged");
    bench
}

#[test]
fn a_module_that_comes_has_its_part_in_the_way_from_then_on() {
    let mut bench = stopping(Settings::default());
    let out = bench.goes_over(draining());
    let added = ["drain.look", "drain.empty"].map(Into::into).to_vec();
    assert_eq!(journal(&out), [What::Modules { added, removed: Vec::new() }], "and no more");
    assert_eq!(bench.status("n1"), "converged");
    let idle = doc(&[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "IDLE")]);
    let out = bench.configure("n1", idle);
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.look"]);
    let out = bench.discover("n1", &[("drained", "NO")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 drain.empty"]);
    bench.discover("n1", &[("drained", "YES")]);
    let permitted = bench.engine.node(&node("n1")).unwrap().permitted.cloned();
    assert_eq!(permitted.as_deref(), Some("image.stop"));
}

#[test]
fn what_a_module_that_goes_was_doing_is_interrupted_and_what_it_knew_forgotten() {
    let mut bench = stopping(Settings::default());
    bench.goes_over(draining());
    let idle = doc(&[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "IDLE")]);
    bench.configure("n1", idle);
    let out = bench.discover("n1", &[("drained", "NO")]);
    let order = orders(&out).remove(0);
    let out = bench.goes_over((registry(), set()));
    let what = journal(&out);
    let interrupted =
        |w: &What| matches!(w, What::Interrupted { mutation, .. } if **mutation == *"drain.empty");
    assert!(what.iter().any(interrupted), "{what:?}");
    assert!(
        what.contains(&What::Forgotten { variables: vec![kraken_model::Path::known("drained")] })
    );
    let view = bench.engine.node(&node("n1")).unwrap();
    assert_eq!(view.dsc.get("drained"), None);
    assert_eq!(view.permitted.map(AsRef::as_ref), Some("image.stop"), "nothing stands in its way");
    // The module's answer comes late.
    let out = bench.input(Input::Finished { id: order.id, result: Ok(()) });
    assert_eq!(out, []);
}

#[test]
fn what_is_under_way_goes_on_under_its_limits() {
    let limits = vec![Limit::at_most(1, Scope::All)];
    let settings = Settings { limits, ..Settings::default() };
    let mut bench = Bench::started(settings, &["n1", "n2"]);
    bench.discover("n1", &[("phys_state", "OFF")]);
    let order = orders(&bench.discover("n2", &[("phys_state", "OFF")])).remove(0);
    assert_eq!((bench.status("n1"), bench.status("n2")), ("running", "queued"));
    let out = bench.goes_over(draining());
    assert_eq!(dispatched(&bench.set, &out), [""; 0], "the place is still taken");
    assert_eq!((bench.status("n1"), bench.status("n2")), ("running", "queued"));
    let on = bench.engine.node(&node("n1")).unwrap().mutation.cloned();
    assert_eq!(on.as_deref(), Some("power.on"), "by its name, whatever its number");
    bench.input(Input::Finished { id: order.id, result: Ok(()) });
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    let done = |w: &What| matches!(w, What::Done { mutation, .. } if **mutation == *"power.on");
    assert!(journal(&out).iter().any(done));
    assert_eq!(dispatched(&bench.set, &out), ["n2 power.on"], "who waited is next");
}

#[test]
fn what_failed_and_what_was_learned_stays() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let mut order = orders(&bench.discover("n1", &[("phys_state", "OFF")])).remove(0);
    for _ in 0..2 {
        bench.fails(&order, "no answer", false);
        order = orders(&bench.tick()).remove(0);
    }
    bench.fails(&order, "no answer", false);
    assert_eq!(bench.status("n1"), "back_off");
    let (lessons, before) = (bench.engine.lessons(), bench.explain("n1").to_string());
    bench.goes_over(draining());
    assert_eq!(bench.status("n1"), "back_off");
    assert_eq!(bench.explain("n1").to_string(), before);
    assert_eq!(bench.engine.lessons(), lessons);
    bench.goes_over((registry(), set()));
    assert_eq!(bench.engine.lessons(), lessons);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"], "and is tried again");
}
