//! What an administrator reads at three in the morning, word for word.

use crate::words::*;
use kraken_engine::Input;
use kraken_engine::{Command, Group, Limit, Role, Scope, Settings, Share, Storm, Terms};
use kraken_model::{Document, Path};
use std::sync::Arc;

/// Compares what is said of a node, line by line.
#[track_caller]
fn says(bench: &mut Bench, name: &str, expected: &[&str]) {
    let text = bench.explain(name).to_string();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

fn off() -> Document {
    doc(&[("phys_state", "OFF")])
}

/// A node that is on and should be off, which is disruptive.
fn to_be_switched_off(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.configure("n1", off());
    bench.discover("n1", &[("phys_state", "ON")]);
    bench.input(Input::Tick);
    bench
}

#[test]
fn a_node_on_its_way() {
    let mut bench = Bench::new(Settings::default());
    bench.configure("n1", running());
    let loading = "n1: the engine is starting";
    assert_eq!(bench.explain("n1").to_string().lines().next(), Some(loading));
    bench.tick();
    bench.now = bench.now.plus(seconds(2));
    says(
        &mut bench,
        "n1",
        &[
            "n1: power.discover is under way (attempt 1, module power); waits for phys_state = OFF or ON (is UNKNOWN); gives up in 18.0 s",
            "  like this for 2.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is UNKNOWN), run_state = SYNC (is UNKNOWN)",
            "  now power.discover by its parent (phys_state: UNKNOWN -> OFF or ON), done in 1.0 s",
            "  then power.on by its parent (phys_state: OFF -> ON), done in 4.0 s",
            "  then boot.serve by its parent (run_state: UNKNOWN -> INIT), done in 24.0 s",
            "  then sync.join by its parent (run_state: INIT -> SYNC), done in 29.0 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 30.0 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 31.0 s",
        ],
    );
    bench.discover("n1", &[("phys_state", "ON")]);
    bench.input(Input::Finished { id: bench.id("n1", 2), result: Ok(()) });
    bench.now = bench.now.plus(seconds(30));
    says(
        &mut bench,
        "n1",
        &[
            "n1: boot.serve is under way (attempt 2, module boot, which says that it is done); waits for run_state = INIT (is UNKNOWN); gives up in 30.0 s",
            "  like this for 30.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), run_state = SYNC (is UNKNOWN)",
            "  now boot.serve by its parent (run_state: UNKNOWN -> INIT), should be done by now",
            "  then sync.join by its parent (run_state: INIT -> SYNC), done in 5.0 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 6.0 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 7.0 s",
        ],
    );
    bench.discover("n1", &[("run_state", "INIT")]);
    bench.discover("n1", &[("run_state", "SYNC")]);
    bench.discover("n1", &[("image_state", "IDLE")]);
    bench.now = bench.now.plus(seconds(600));
    says(
        &mut bench,
        "n1",
        &[
            "n1: waits for the node itself to take image.start",
            "  like this for 10 min",
            "  should be: image_state = ACTIVE (is IDLE)",
            "  next image.start by the node itself (image_state: IDLE -> ACTIVE), done in 1.0 s",
        ],
    );
    bench.discover("n1", &[("image_state", "ACTIVE")]);
    bench.now = bench.now.plus(seconds(90_000));
    says(&mut bench, "n1", &["n1: is as it should be"]);
}

#[test]
fn a_node_that_waits_for_its_parent() {
    let mut bench = Bench::new(Settings::new(1, Role::Node));
    bench.configure("n1", running());
    bench.discover("n1", &[("phys_state", "ON"), ("run_state", "INIT")]);
    bench.input(Input::Tick);
    says(
        &mut bench,
        "n1",
        &[
            "n1: waits for its parent to take sync.join",
            "  like this for 0.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), run_state = SYNC (is INIT)",
            "  next sync.join by its parent (run_state: INIT -> SYNC), done in 5.0 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 6.0 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 7.0 s",
        ],
    );
}

#[test]
fn a_step_that_failed_and_one_that_is_given_up() {
    let mut bench = Bench::new(Settings::default());
    bench.input(Input::Tick);
    let mut order = orders(&bench.configure("n1", running())).remove(0);
    bench.fails(&order, "the controller does not answer", false);
    bench.now = bench.now.plus(seconds(1));
    says(
        &mut bench,
        "n1",
        &[
            "n1: power.discover failed: the controller does not answer; it is tried again in 2.3 s",
            "  like this for 1.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is UNKNOWN), run_state = SYNC (is UNKNOWN)",
            "  next power.discover by its parent (phys_state: UNKNOWN -> OFF or ON), done in 5.3 s",
            "  then power.on by its parent (phys_state: OFF -> ON), done in 8.3 s",
            "  then boot.serve by its parent (run_state: UNKNOWN -> INIT), done in 28.3 s",
            "  then sync.join by its parent (run_state: INIT -> SYNC), done in 33.3 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 34.3 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 35.3 s",
        ],
    );
    order = orders(&bench.tick()).remove(0);
    bench.fails(&order, "the controller refuses the password", false);
    says(
        &mut bench,
        "n1",
        &[
            "n1: power.discover failed 2 times in a row, the last time: the controller refuses the password; it is tried again in 8.1 s",
            "  like this for 0.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is UNKNOWN), run_state = SYNC (is UNKNOWN)",
            "  next power.discover by its parent (phys_state: UNKNOWN -> OFF or ON), done in 11.1 s",
            "  then power.on by its parent (phys_state: OFF -> ON), done in 14.1 s",
            "  then boot.serve by its parent (run_state: UNKNOWN -> INIT), done in 34.1 s",
            "  then sync.join by its parent (run_state: INIT -> SYNC), done in 39.1 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 40.1 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 41.1 s",
        ],
    );
    bench.discover("n1", &[("phys_state", "OFF")]);
    bench.fails(&order, "late", false);
    let id = bench.id("n1", 3);
    let failure =
        kraken_engine::Failure { reason: "there is no such outlet".into(), permanent: true };
    bench.input(Input::Finished { id, result: Err(failure) });
    bench.now = bench.now.plus(seconds(3 * 3600));
    says(
        &mut bench,
        "n1",
        &[
            "n1: is given up: power.on failed: there is no such outlet; mend that and retry, or change its cfg",
            "  like this for 3 h",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is OFF), run_state = SYNC (is UNKNOWN)",
            "  power.discover failed 2 times in a row, the last time: the controller refuses the password; may be tried again",
        ],
    );
}

#[test]
fn a_node_that_operators_keep() {
    let mut bench = to_be_switched_off(Settings::default());
    let terms = Terms { why: Some("the chiller is down".into()), ..Terms::default() };
    bench.command(Command::Freeze { node: None, terms: terms.clone() });
    bench.configure("n2", off());
    bench.discover("n2", &[("phys_state", "ON")]);
    says(
        &mut bench,
        "n2",
        &[
            "n2: what is disruptive is frozen by operator (the chiller is down), and power.off is: thaw to go on",
            "  like this for 0.0 s",
            "  should be: phys_state = OFF (is ON)",
            "  next power.off by its parent (phys_state: ON -> OFF, disruptive), takes 3.0 s",
        ],
    );
    bench.command(Command::Hold { node: node("n2"), terms });
    says(
        &mut bench,
        "n2",
        &[
            "n2: is held by operator (the chiller is down); power.off would be next: release it to go on",
            "  like this for 0.0 s",
            "  should be: phys_state = OFF (is ON)",
            "  next power.off by its parent (phys_state: ON -> OFF, disruptive), takes 3.0 s",
            "  frozen by operator (the chiller is down)",
        ],
    );
}

#[test]
fn a_node_that_is_known_from_before_a_restart_only() {
    let mut bench = Bench::new(Settings::default());
    bench.configure("n1", off());
    let dsc = doc(&[("phys_state", "ON"), ("run_state", "ERROR")]);
    bench.input(Input::Restore { node: node("n1"), dsc });
    bench.input(Input::Tick);
    bench.now = bench.now.plus(seconds(5));
    says(
        &mut bench,
        "n1",
        &[
            "n1: run_state and phys_state are known from before the restart only; power.off is disruptive and waits until that is confirmed",
            "  like this for 5.0 s",
            "  should be: phys_state = OFF (is ON)",
            "  next power.off by its parent (phys_state: ON -> OFF, disruptive), takes 3.0 s",
        ],
    );
    bench.discover("n1", &[("phys_state", "ON")]);
    says(
        &mut bench,
        "n1",
        &[
            "n1: run_state is known from before the restart only; power.off is disruptive and waits until that is confirmed",
            "  like this for 5.0 s",
            "  should be: phys_state = OFF (is ON)",
            "  next power.off by its parent (phys_state: ON -> OFF, disruptive), takes 3.0 s",
        ],
    );
}

#[test]
fn nodes_that_were_lost() {
    let storm = Storm { min: 3, ..Storm::default() };
    let mut bench = Bench::new(Settings { storm, ..Settings::default() });
    for name in ["n1", "n2", "n3"] {
        bench.configure(name, running());
        let all = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
        bench.discover(name, &all);
    }
    bench.input(Input::Tick);
    bench.discover("n1", &[("phys_state", "HANG")]);
    bench.now = bench.now.plus(seconds(3));
    says(
        &mut bench,
        "n1",
        &[
            "n1: was just lost; power.recover follows in 7.0 s, unless others are lost too",
            "  like this for 3.0 s",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is HANG), run_state = SYNC (is UNKNOWN)",
            "  next power.recover by its parent (phys_state: HANG -> OFF, disruptive), done in 10.0 s",
            "  then power.on by its parent (phys_state: OFF -> ON), done in 13.0 s",
            "  then boot.serve by its parent (run_state: UNKNOWN -> INIT), done in 33.0 s",
            "  then sync.join by its parent (run_state: INIT -> SYNC), done in 38.0 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), done in 39.0 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), done in 40.0 s",
        ],
    );
    bench.discover("n2", &[("phys_state", "HANG")]);
    bench.discover("n3", &[("phys_state", "HANG")]);
    bench.now = bench.now.plus(seconds(300));
    says(
        &mut bench,
        "n1",
        &[
            "n1: 3 of 3 nodes silent since 1970-01-01T00:16:40Z: power.recover is held, as every disruptive step there; look for a common cause, then thaw or release",
            "  like this for 5 min",
            "  should be: image_state = ACTIVE (is UNKNOWN), phys_state = ON (is HANG), run_state = SYNC (is UNKNOWN)",
            "  next power.recover by its parent (phys_state: HANG -> OFF, disruptive), takes 3.0 s",
            "  then power.on by its parent (phys_state: OFF -> ON), takes 3.0 s",
            "  then boot.serve by its parent (run_state: UNKNOWN -> INIT), takes 20.0 s",
            "  then sync.join by its parent (run_state: INIT -> SYNC), takes 5.0 s",
            "  then image.discover by the node itself (image_state: UNKNOWN -> IDLE), takes 1.0 s",
            "  then image.start by the node itself (image_state: IDLE -> ACTIVE), takes 1.0 s",
        ],
    );
}

#[test]
fn a_node_that_waits_for_a_limit() {
    let rack = || Path::known("location.rack");
    let nodes = ["n1", "n2", "n3"].map(node).into_iter().collect();
    let group = Arc::new(Group { name: "front".into(), nodes });
    let limits = vec![Limit::at_most(1, Scope::Disruptive).within(group)];
    let mut bench = to_be_switched_off(Settings { limits, ..Settings::default() });
    for name in ["n2", "n3"] {
        let mut cfg = off();
        cfg.set(rack(), "r1");
        bench.configure(name, cfg);
        bench.discover(name, &[("phys_state", "ON")]);
    }
    bench.now = bench.now.plus(seconds(200));
    says(
        &mut bench,
        "n3",
        &[
            "n3: power.off waits for a limit on disruptive steps in front: 1 of 1 under way, 1 waits before it",
            "  like this for 3 min",
            "  should be: phys_state = OFF (is ON)",
            "  next power.off by its parent (phys_state: ON -> OFF, disruptive), takes 3.0 s",
        ],
    );
    bench.now = bench.now.plus(seconds(1));
    bench.input(Input::Limits(vec![Limit::spaced(
        seconds(30),
        Scope::Mutation("power.off".into()),
    )]));
    bench.now = bench.now.plus(seconds(10));
    let mut line = |name| bench.explain(name).to_string().lines().next().unwrap().to_owned();
    assert_eq!(
        line("n3"),
        "n3: power.off waits for a limit on power.off: 1 under way, it is next, one may begin in 20.0 s"
    );
    bench
        .input(Input::Limits(vec![Limit::unavailable(Share::Percent(10), Scope::All).per(rack())]));
    let mut line = |name| bench.explain(name).to_string().lines().next().unwrap().to_owned();
    assert_eq!(
        line("n3"),
        "n3: power.off waits for a limit on all steps with location.rack = r1: 1 of 2 nodes are unavailable (n2) and at most 1 may be, it is next"
    );
}

#[test]
fn a_node_without_a_way() {
    let mut bench = to_be_switched_off(Settings::default());
    bench.discover("n1", &[("busy", "BUSY")]);
    bench.now = bench.now.plus(seconds(119));
    says(
        &mut bench,
        "n1",
        &[
            "n1: there is no way to phys_state: ON -> OFF: power.off is not possible while busy = BUSY",
            "  like this for 119.0 s",
            "  a way opens when busy = BUSY ends",
            "  should be: phys_state = OFF (is ON)",
        ],
    );
    bench.configure("n2", doc(&[("phys_state", "OFF"), ("image_state", "ACTIVE")]));
    bench.discover("n2", &[("phys_state", "OFF")]);
    says(
        &mut bench,
        "n2",
        &[
            "n2: there is no way to image_state: UNKNOWN -> ACTIVE: boot.serve and sync.join need phys_state = ON",
            "  like this for 0.0 s",
            "  a way opens when phys_state = ON holds",
            "  should be: image_state = ACTIVE (is UNKNOWN)",
        ],
    );
    bench.configure("n3", doc(&[("phys_state", "HANG")]));
    bench.discover("n3", &[("phys_state", "OFF")]);
    says(
        &mut bench,
        "n3",
        &[
            "n3: nothing leads from here to phys_state: OFF -> HANG",
            "  like this for 0.0 s",
            "  should be: phys_state = HANG (is OFF)",
        ],
    );
}

#[test]
fn a_way_that_does_not_lead_to_everything_says_where_it_stops_and_why() {
    let mut bench = Bench::new(Settings::default());
    bench.goes_over(flashing());
    bench.configure("n1", doc(&[("phys_state", "ON"), ("adisk", "OLD")]));
    bench.discover("n1", &[("phys_state", "OFF"), ("adisk", "NEW")]);
    bench.tick();
    assert_eq!(bench.status("n1"), "running");
    let explanation = bench.explain("n1");
    let text = explanation.to_string();
    assert!(text.contains("\n  then nothing leads from here to adisk: NEW -> OLD\n"), "{text}");
    assert!(explanation.stops.is_some_and(|stops| stops.contains("adisk")));
    bench.configure("n1", doc(&[("phys_state", "ON")]));
    assert_eq!(bench.explain("n1").stops, None);
}
