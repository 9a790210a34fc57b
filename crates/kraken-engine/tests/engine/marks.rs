//! Holds, freezes and uses: who, why, until when, and how they end by themselves.

use crate::words::*;
use kraken_engine::{Cause, Command, Entry, Input, MarkKind, Output, Settings, Terms, What};
use kraken_model::Millis;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn terms(why: &str, until: Option<Millis>) -> Terms {
    Terms { why: Some(why.into()), until, ..Terms::default() }
}

fn hold(name: &str, terms: Terms) -> Command {
    Command::Hold { node: node(name), terms }
}

fn entries(out: &[Output]) -> Vec<Entry> {
    let entry = |output: &Output| match output {
        Output::Journal(entry) => Some(entry.clone()),
        _ => None,
    };
    out.iter().filter_map(entry).collect()
}

/// A machine that is off and switched on as soon as nothing is against it.
fn off(name: &str) -> Bench {
    let mut bench = Bench::started(Settings::default(), &[]);
    bench.configure(name, doc(&[("phys_state", "OFF")]));
    bench.discover(name, &[("phys_state", "OFF"), ("busy", "FREE")]);
    bench
}

#[test]
fn a_hold_says_who_why_and_until_when_and_ends_by_itself() {
    let mut bench = off("n1");
    let until = bench.now.plus(MINUTE);
    let terms = terms("replacing a DIMM", Some(until));
    let out = bench.command(hold("n1", terms.clone()));
    assert_eq!(journal(&out), [What::Held { terms: terms.clone() }]);
    assert_eq!(journal(&bench.command(hold("n1", terms))), [], "said twice is said once");
    let out = bench.configure("n1", running());
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new());
    let text = bench.explain("n1").to_string();
    assert!(
        text.contains("held by operator (replacing a DIMM) until 1970-01-01T00:17:40Z"),
        "{text}"
    );
    assert_eq!(
        bench.engine.node(&node("n1")).unwrap().marks.hold.as_ref().unwrap().by.as_ref(),
        "operator"
    );

    assert_eq!(bench.pass(MINUTE - Duration::from_millis(1)), []);
    let out = bench.pass(Duration::from_millis(1));
    let released = &entries(&out)[0];
    assert_eq!((&released.what, released.by.as_ref()), (&What::Released, "engine"));
    assert_eq!(released.cause, Some(Cause::Expired { by: "operator".into(), until }));
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
}

#[test]
fn a_hold_lets_the_step_under_way_end_and_says_that_nothing_follows() {
    let mut bench = off("n1");
    let out = bench.configure("n1", running());
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.on"]);
    bench.command(hold("n1", terms("a new DIMM", None)));
    let explained = bench.explain("n1");
    let text = explained.to_string();
    assert!(text.contains("power.on is under way"), "{text}");
    let more = "held by operator (a new DIMM): nothing more is done until it is released";
    assert!(text.contains(more), "{text}");
    let ends: Vec<bool> = explained.next.iter().map(|step| step.done.is_some()).collect();
    assert!(ends.len() > 1 && ends[0] && !ends[1..].contains(&true), "{text}");
    let out = bench.discover("n1", &[("phys_state", "ON")]);
    assert_eq!(dispatched(&bench.set, &out), Vec::<String>::new());
}

#[test]
fn the_later_word_counts_and_the_earlier_time_is_void() {
    let mut bench = off("n1");
    let soon = bench.now.plus(MINUTE);
    bench.command(hold("n1", terms("short", Some(soon))));
    bench.command(hold("n1", terms("for long", None)));
    assert_eq!(bench.pass(10 * MINUTE), []);
    assert_eq!(bench.explain("n1").marks.hold.unwrap().terms.why.as_deref(), Some("for long"));
    let out = bench.command(Command::Release { node: node("n1") });
    assert_eq!(entries(&out)[0].by.as_ref(), "operator");
}

#[test]
fn a_frozen_node_is_not_disrupted_and_the_others_are() {
    let mut bench = Bench::started(Settings::default(), &["n1", "n2"]);
    for name in ["n1", "n2"] {
        bench.discover(name, &[("phys_state", "ON"), ("run_state", "INIT")]);
    }
    let frozen = Command::Freeze { node: Some(node("n1")), terms: terms("a demo", None) };
    assert_eq!(journal(&bench.command(frozen)), [What::Frozen { terms: terms("a demo", None) }]);
    for name in ["n1", "n2"] {
        bench.discover(name, &[("phys_state", "HANG")]);
    }
    assert_eq!((bench.status("n1"), bench.status("n2")), ("frozen", "running"));
    let text = bench.explain("n1").to_string();
    assert!(text.contains("frozen by operator (a demo)"), "{text}");
    assert_eq!(journal(&bench.command(Command::Thaw { node: None })), [], "that is of everything");
    let out = bench.command(Command::Thaw { node: Some(node("n1")) });
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
}

#[test]
fn a_freeze_of_everything_ends_when_its_time_is_over() {
    let mut bench = off("n1");
    let until = bench.now.plus(MINUTE);
    bench.command(Command::Freeze { node: None, terms: terms("work on the power", Some(until)) });
    bench.discover("n1", &[("phys_state", "HANG")]);
    assert_eq!(bench.status("n1"), "frozen");
    let out = bench.pass(MINUTE);
    assert_eq!(journal(&out)[0], What::Thawed);
    assert_eq!(entries(&out)[0].node, None);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
    assert_eq!(bench.engine.summary().freeze, None);
}

#[test]
fn a_use_is_discovered_and_over_when_its_time_is() {
    let mut bench = off("n1");
    let until = bench.now.plus(MINUTE);
    let said = terms("job 4711", Some(until));
    let out = bench.command(Command::Busy { node: node("n1"), terms: said.clone() });
    let changes = set_to(&[("busy", "BUSY")]);
    assert_eq!(journal(&out), [What::Busy { terms: said }, What::Discovered { changes }]);
    bench.discover("n1", &[("phys_state", "HANG")]);
    let text = bench.explain("n1").to_string();
    assert!(text.contains("in use by operator (job 4711)"), "{text}");
    let out = bench.pass(MINUTE);
    let changes = set_to(&[("busy", "FREE")]);
    assert_eq!(journal(&out)[..2], [What::Free, What::Discovered { changes }]);
    assert_eq!(dispatched(&bench.set, &out), ["n1 power.recover"]);
}

#[test]
fn a_node_that_is_found_free_is_no_longer_said_to_be_in_use() {
    let mut bench = off("n1");
    bench.command(Command::Busy { node: node("n1"), terms: Terms::default() });
    let out = bench.discover("n1", &[("busy", "FREE")]);
    let ended = entries(&out).into_iter().find(|entry| entry.what == What::Free).unwrap();
    assert_eq!(ended.by.as_ref(), "test");
    assert!(bench.explain("n1").marks.get(MarkKind::Busy).is_none());
    bench.command(Command::Busy { node: node("n1"), terms: Terms::default() });
    let out = bench.command(Command::Free { node: node("n1") });
    assert!(journal(&out).contains(&What::Free));
}

#[test]
fn what_ended_while_nobody_ran_ends_at_the_start_and_is_told() {
    let mut bench = Bench::new(Settings::default());
    bench.configure("n1", doc(&[("phys_state", "OFF")]));
    let past = Millis(bench.now.0 - 1);
    let everything = Command::Freeze { node: None, terms: terms("old", Some(past)) };
    for command in [hold("n1", terms("old", Some(past))), everything] {
        assert_eq!(journal(&bench.command(command)), [], "it was told when it was made");
    }
    bench.input(Input::Tick);
    let out = bench.pass(Duration::ZERO);
    let said = journal(&out);
    assert!(said.contains(&What::Thawed) && said.contains(&What::Released), "{said:?}");
    assert_eq!(bench.engine.summary().freeze, None);
    assert!(bench.engine.node(&node("n1")).unwrap().marks.is_empty());
}
