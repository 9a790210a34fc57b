//! What fails is tried again ever more seldom, then given up, then another way is taken.

use crate::words::*;
use kraken_engine::{Command, Input, Role, Settings, What};
use kraken_model::Millis;
use std::sync::Arc;

/// A bench whose node n1 is off, with the attempt to switch it on under way.
fn switching_on() -> (Bench, kraken_engine::Order) {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    (bench, orders(&out).remove(0))
}

fn retry_at(what: &[What]) -> Option<Millis> {
    what.iter().find_map(|w| match w {
        What::Failed { retry_at, .. } => *retry_at,
        _ => None,
    })
}

#[test]
fn pauses_grow_and_stay_below_their_cap() {
    let (mut bench, mut order) = switching_on();
    for most in [5, 10, 20] {
        let out = bench.fails(&order, "no answer", false);
        let pause = retry_at(&journal(&out)).unwrap().since(bench.now);
        assert!(pause <= seconds(most) && pause >= seconds(most) / 2, "{pause:?} of {most} s");
        assert_eq!(bench.status("n1"), "back_off");
        assert!(bench.explain("n1").to_string().contains("no answer; it is tried again"));
        order = orders(&bench.tick()).remove(0);
    }
}

#[test]
fn what_nobody_has_in_hand_any_more_is_asked_for_again_and_has_not_failed() {
    let (mut bench, order) = switching_on();
    let gone = Input::Abandoned { id: order.id.clone(), reason: "its module is gone".into() };
    let out = bench.input(gone.clone());
    let (mutation, attempt) = (Arc::from("power.on"), order.id.attempt);
    let reason = "its module is gone".into();
    assert!(journal(&out).contains(&What::Interrupted { mutation, attempt, reason }));
    let again = orders(&out).remove(0);
    assert_eq!((again.mutation, again.id.attempt), (order.mutation, attempt + 1));
    assert!(!bench.explain("n1").to_string().contains("failed"));
    // Of the attempt before nothing counts any more.
    assert_eq!(bench.input(gone), []);
    assert_eq!(bench.fails(&order, "too late", true), []);
    assert_eq!(bench.engine.summary().counters.late_answers, 1);
}

#[test]
fn after_its_limit_the_node_is_quarantined_with_the_reason_and_released_by_retry() {
    let (mut bench, mut order) = switching_on();
    for _ in 0..3 {
        bench.fails(&order, "no answer", false);
        order = orders(&bench.tick()).remove(0);
    }
    let out = bench.fails(&order, "still no answer", false);
    let reason = "power.on failed 4 times in a row, the last time: still no answer";
    assert!(journal(&out).contains(&What::Quarantined { reason: reason.into() }));
    assert_eq!(bench.status("n1"), "quarantined");
    assert_eq!(bench.pass(seconds(86_400)), [], "futile retries have an end");
    let out = bench.command(Command::Retry { node: node("n1") });
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
}

#[test]
fn a_change_of_cfg_releases_from_quarantine() {
    let (mut bench, order) = switching_on();
    bench.fails(&order, "no such machine", true);
    assert_eq!(bench.status("n1"), "quarantined", "a permanent failure is not tried again");
    let mut cfg = running();
    cfg.set(kraken_model::Path::known("facts.bmc"), "10.0.0.9");
    let out = bench.configure("n1", cfg);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
}

#[test]
fn success_clears_what_failed_before() {
    let (mut bench, order) = switching_on();
    bench.fails(&order, "no answer", false);
    bench.tick();
    assert_eq!(bench.explain("n1").failures.len(), 1);
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    assert!(journal(&out).iter().any(|w| matches!(w, What::Done { .. })));
    assert!(bench.explain("n1").failures.is_empty());
}

#[test]
fn a_modules_ok_proves_nothing() {
    let (mut bench, order) = switching_on();
    assert_eq!(bench.input(Input::Finished { id: order.id, result: Ok(()) }), []);
    assert_eq!(bench.status("n1"), "running");
    let out = bench.tick();
    let timed_out = |w: &What| matches!(w, What::TimedOut { answered: true, .. });
    assert!(journal(&out).iter().any(timed_out));
}

#[test]
fn the_fallback_of_a_timeout_leads_to_recovery() {
    let (mut bench, _) = switching_on();
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 boot.serve"]);
    let out = bench.tick();
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
    let out = bench.discover("n1", &[("phys_state", "OFF")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
}

#[test]
fn what_is_no_longer_wanted_is_interrupted() {
    let (mut bench, order) = switching_on();
    let out = bench.configure("n1", doc(&[("phys_state", "OFF")]));
    let interrupted = |o: &kraken_engine::Output| matches!(o, kraken_engine::Output::Interrupt { id, .. } if *id == order.id);
    assert!(out.iter().any(interrupted));
    assert_eq!(bench.status("n1"), "converged");
}

#[test]
fn an_unexpected_discovery_is_just_another_state() {
    let (mut bench, _) = switching_on();
    let out = bench.discover("n1", &[("phys_state", "ON"), ("run_state", "SYNC")]);
    assert!(journal(&out).iter().any(|w| matches!(w, What::Done { .. })));
    assert_eq!(bench.status("n1"), "waits_for_node");
}

#[test]
fn what_does_not_fit_is_refused_and_the_rest_is_applied() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let out = bench.discover("n1", &[("phys_state", "LOST"), ("facts.a", "b"), ("x", "y")]);
    let refused = out.iter().find_map(|o| match o {
        kraken_engine::Output::Refused { reasons, .. } => Some(reasons.len()),
        _ => None,
    });
    assert_eq!(refused, Some(2));
    assert_eq!(bench.engine.node(&node("n1")).unwrap().dsc, &doc(&[("facts.a", "b")]));
}

#[test]
fn no_way_is_explained_by_the_guards_that_stand_in_it() {
    let mut bench = Bench::started(Settings::default(), &["n1"]);
    let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
    bench.discover("n1", &[&all[..], &[("busy", "BUSY")]].concat());
    bench.configure("n1", doc(&[("phys_state", "OFF")]));
    assert_eq!(bench.status("n1"), "no_way");
    let text = bench.explain("n1").to_string();
    assert!(text.contains("while busy = BUSY"), "{text}");
}

#[test]
fn every_entry_survives_being_written_and_read() {
    let (mut bench, order) = switching_on();
    let mut out = bench.fails(&order, "no answer", false);
    out.extend(bench.tick());
    out.extend(bench.discover("n1", &[("phys_state", "ON"), ("facts.a", "b")]));
    let mut entries = 0;
    for output in out {
        let kraken_engine::Output::Journal(entry) = output else { continue };
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<kraken_engine::Entry>(&json).unwrap(), entry, "{json}");
        entries += 1;
    }
    assert!(entries >= 4, "{entries}");
}

#[test]
fn what_is_done_and_does_not_last_is_done_again_ever_more_seldom() {
    let mut bench = Bench::started(Settings::new(1, Role::Node), &["n1"]);
    let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "IDLE")];
    let out = bench.discover("n1", &all);
    assert_eq!(dispatched(&bench.set, &out), ["n1 image.start"]);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        bench.discover("n1", &[("image_state", "ACTIVE")]);
        // It ends at once.
        let done = bench.now;
        assert!(orders(&bench.discover("n1", &[("image_state", "IDLE")])).is_empty());
        assert_eq!(bench.status("n1"), "resting");
        let text = bench.explain("n1").to_string();
        assert!(
            text.contains("image.start was done and did not last; it is taken again in"),
            "{text}"
        );
        while orders(&bench.tick()).is_empty() {}
        pauses.push(bench.now.since(done).as_secs());
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80]);
    // What held out for a while is done again at once, and another cfg is another beginning.
    bench.discover("n1", &[("image_state", "ACTIVE")]);
    bench.pass(seconds(700));
    let out = bench.discover("n1", &[("image_state", "IDLE")]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 image.start"]);
    bench.discover("n1", &[("image_state", "ACTIVE")]);
    bench.discover("n1", &[("image_state", "IDLE")]);
    assert_eq!(bench.status("n1"), "resting");
    let mut cfg = running();
    cfg.set(kraken_model::Path::known("facts.x"), "other");
    let out = bench.configure("n1", cfg);
    assert_eq!(dispatched(&bench.set, &out), ["n1 image.start"]);
}

#[test]
fn what_was_done_for_an_earlier_cfg_is_asked_for_again_as_soon_as_it_is_seen() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(flashing());
    bench.configure("n1", doc(&[("adisk", "NEW")]));
    bench.discover("n1", &[("adisk", "OLD")]);
    let first = orders(&bench.tick()).remove(0);
    // Other firmware is wanted in the middle of it; what it has by then is none of both.
    bench.configure("n1", doc(&[("adisk", "NEW"), ("facts.firmware", "2")]));
    assert_eq!(bench.discover("n1", &[("adisk", "OLD")]), []);
    let out = bench.input(Input::Finished { id: first.id, result: Ok(()) });
    let interrupted = |what: &What| matches!(what, What::Interrupted { reason, .. } if reason.contains("counts no more"));
    assert!(journal(&out).iter().any(interrupted), "{out:?}");
    let second = orders(&out).remove(0);
    assert_eq!(second.cfg.text("facts.firmware"), Some("2"));
    // This one is for the cfg that counts: it has time until what it did is seen.
    let out = bench.input(Input::Finished { id: second.id, result: Ok(()) });
    assert_eq!((out, bench.discover("n1", &[("adisk", "OLD")])), (vec![], vec![]));
    assert_eq!(bench.status("n1"), "running");
    bench.discover("n1", &[("adisk", "NEW")]);
    assert_eq!(bench.status("n1"), "converged");
}

#[test]
fn a_change_of_cfg_alone_ends_no_attempt() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(flashing());
    bench.configure("n1", doc(&[("adisk", "NEW")]));
    bench.discover("n1", &[("adisk", "OLD")]);
    let order = orders(&bench.tick()).remove(0);
    bench.configure("n1", doc(&[("adisk", "NEW"), ("facts.color", "blue")]));
    let out = bench.input(Input::Finished { id: order.id, result: Ok(()) });
    assert_eq!((out, bench.status("n1")), (vec![], "running"), "nobody has looked");
    bench.discover("n1", &[("adisk", "NEW")]);
    assert_eq!(bench.status("n1"), "converged");
}
