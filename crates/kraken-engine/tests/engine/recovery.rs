//! A node that is not heard is recovered as its policy says, and not again and again.

use crate::words::*;
use kraken_engine::{Command, Input, Output, Settings, Silence, Status, Unrecovered, What};
use kraken_model::{Document, NodeId, Path, Value};
use std::collections::BTreeMap;

const UP: [(&str, &str); 3] =
    [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];

fn settings() -> Settings {
    let silence = Silence {
        variable: Path::known("run_state"),
        lost: "ERROR".into(),
        seen: ["INIT", "SYNC"].map(Into::into).into(),
        stuck: (Path::known("phys_state"), "HANG".into()),
        policy: Path::known("facts.silence"),
        tried: Path::known("recovered"),
        recoveries: 1,
        likely: "the network between server and node".into(),
    };
    Settings { silence: Some(silence), ..Settings::default() }
}

fn of_policy(policy: &str) -> Document {
    let mut cfg = running();
    cfg.set(Path::known("facts.silence"), policy);
    cfg
}

/// A machine whose power can be switched, and which nobody hears any more.
struct CutOff {
    bench: Bench,
    /// Every step that was dispatched.
    steps: Vec<String>,
}

impl CutOff {
    fn new(cfg: Document) -> Self {
        let mut bench = Bench::new(settings());
        bench.configure("n1", cfg);
        bench.input(Input::Tick);
        bench.discover("n1", &UP);
        assert_eq!(bench.status("n1"), "converged");
        bench.discover("n1", &[("run_state", "ERROR")]);
        Self { bench, steps: Vec::new() }
    }

    /// Does what is wanted of its power, for hours.
    fn goes_on(&mut self) {
        let mut out = self.bench.out.clone();
        for _ in 0..1000 {
            let orders = orders(&out);
            self.steps.extend(dispatched(&self.bench.set, &out));
            out = match orders.first() {
                Some(order) => match &*self.bench.set.mutation(order.mutation).name {
                    "power.off" | "power.recover" => self.is("OFF"),
                    "power.on" => self.is("ON"),
                    _ => self.bench.tick(),
                },
                None => self.bench.tick(),
            };
            if out.is_empty() {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.steps);
    }

    fn is(&mut self, power: &str) -> Vec<Output> {
        self.bench.discover("n1", &[("phys_state", power)])
    }

    fn cuts(&self) -> usize {
        self.steps.iter().filter(|s| s.ends_with("power.off") || s.ends_with("recover")).count()
    }

    fn retry(&mut self) {
        self.bench.out = self.bench.command(Command::Retry { node: node("n1") });
    }

    fn tried(&self) -> Option<i64> {
        let view = self.bench.engine.node(&node("n1")).unwrap();
        view.dsc.get("recovered").and_then(Value::as_int)
    }
}

#[test]
fn a_node_that_nobody_hears_is_recovered_once_and_then_waits_for_a_person() {
    let mut cut = CutOff::new(running());
    cut.goes_on();
    assert_eq!(cut.steps, ["n1 power.off", "n1 power.on", "n1 boot.serve"]);
    assert_eq!((cut.bench.status("n1"), cut.tried()), ("unheard", Some(1)));
    let text = cut.bench.explain("n1").to_string();
    let wanted = "n1: is not heard since 1970-01-01T00:16:40Z, phys_state is HANG; it was recovered once, 60.0 s ago, and \
                  was not seen since: most likely the network between server and node; power.recover \
                  waits for a person: look there, and retry to have it recovered once more\n";
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.contains("boot.serve failed: its effects were not discovered in time"), "{text}");
    // Once more, when somebody says so, and then not again.
    cut.retry();
    assert!(journal(&cut.bench.out).contains(&What::Retried));
    cut.goes_on();
    assert_eq!(cut.steps[3..], ["n1 power.recover", "n1 power.on", "n1 boot.serve"]);
    assert_eq!((cut.bench.status("n1"), cut.cuts()), ("unheard", 2));
    // Once it is heard, everything is as if nothing had been.
    let up = [("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")];
    cut.bench.discover("n1", &up);
    assert_eq!((cut.bench.status("n1"), cut.tried()), ("converged", None));
    cut.bench.out = cut.bench.discover("n1", &[("run_state", "ERROR")]);
    cut.goes_on();
    assert_eq!(cut.cuts(), 3);
}

#[test]
fn a_node_whose_policy_is_to_wait_or_to_ask_is_left_alone_until_a_person_says_otherwise() {
    for (policy, why) in [("wait", Unrecovered::Wait), ("ask", Unrecovered::Ask)] {
        let mut cut = CutOff::new(of_policy(policy));
        cut.goes_on();
        assert_eq!((cut.steps.len(), cut.bench.status("n1")), (0, "unheard"));
        let Status::Unheard { silence, .. } = cut.bench.explain("n1").status else { panic!() };
        assert_eq!((silence.why, silence.tried), (why, 0));
        cut.retry();
        cut.goes_on();
        assert_eq!(cut.steps, ["n1 power.off", "n1 power.on", "n1 boot.serve"], "{policy}");
        assert_eq!(cut.bench.status("n1"), "unheard");
    }
    // Nothing that is not recovered by force needs a word.
    let mut cut = CutOff::new(of_policy("ask"));
    cut.bench.out = cut.is("OFF");
    cut.goes_on();
    assert_eq!(cut.steps[..2], ["n1 power.on", "n1 boot.serve"], "it has lost its power by itself");
    let mut cut = CutOff::new(of_policy("ask"));
    cut.bench.out =
        cut.bench.configure("n1", doc(&[("phys_state", "OFF"), ("facts.silence", "ask")]));
    assert_eq!(dispatched(&cut.bench.set, &cut.bench.out), ["n1 power.off"], "a person wants that");
    let mut cut = CutOff::new(of_policy("ask"));
    cut.bench.out = cut.bench.configure("n1", of_policy("recover"));
    cut.goes_on();
    assert_eq!(cut.cuts(), 1, "the policy that counts is that of now");
}

#[test]
fn a_first_boot_that_does_not_come_is_tried_once_more() {
    let mut bench = Bench::new(settings());
    bench.configure("n1", running());
    bench.input(Input::Tick);
    let mut boot = CutOff { bench, steps: Vec::new() };
    boot.bench.out = boot.is("OFF");
    boot.goes_on();
    let twice =
        ["n1 power.on", "n1 boot.serve", "n1 power.recover", "n1 power.on", "n1 boot.serve"];
    assert_eq!(boot.steps, twice);
    assert_eq!(boot.bench.status("n1"), "unheard");
    assert!(boot.bench.explain("n1").to_string().contains("boot.serve failed 2 times in a row"));
}

#[test]
fn what_was_seen_to_boot_may_be_recovered_again_as_often_as_steps_may_fail() {
    let mut cut = CutOff::new(running());
    let mut out = cut.bench.out.clone();
    for _ in 0..200 {
        let orders = orders(&out);
        cut.steps.extend(dispatched(&cut.bench.set, &out));
        let name = orders.first().map(|order| cut.bench.set.mutation(order.mutation).name.clone());
        out = match name.as_deref() {
            Some("power.off" | "power.recover") => cut.is("OFF"),
            Some("power.on") => cut.is("ON"),
            Some("boot.serve") => cut.bench.discover("n1", &[("run_state", "INIT")]),
            _ => cut.bench.tick(),
        };
        if out.is_empty() {
            break;
        }
    }
    assert_eq!(cut.bench.status("n1"), "quarantined", "it boots, and never joins");
    assert_eq!(cut.cuts(), 4);
}

#[test]
fn recoveries_that_fail_are_tried_again_and_only_one_that_is_done_counts() {
    let mut cut = CutOff::new(running());
    let mut out = cut.bench.out.clone();
    for _ in 0..2 {
        let order = orders(&out).remove(0);
        cut.bench.fails(&order, "error 42", false);
        assert_eq!(cut.bench.status("n1"), "back_off");
        out = cut.bench.tick();
    }
    assert_eq!(dispatched(&cut.bench.set, &out), ["n1 power.off"]);
    assert_eq!(cut.tried(), None);
    cut.is("OFF");
    assert_eq!(cut.tried(), Some(1));
}

#[test]
fn a_restart_of_the_server_is_no_reason_to_recover_a_node_again() {
    let mut cut = CutOff::new(running());
    cut.goes_on();
    let kept = cut.bench.engine.node(&node("n1")).unwrap().dsc.clone();
    let mut bench = Bench::new(Settings { epoch: 2, ..settings() });
    bench.configure("n1", running());
    bench.input(Input::Restore { node: node("n1"), dsc: kept });
    bench.tick();
    bench.discover("n1", &[("phys_state", "HANG")]);
    let out = bench.pass(seconds(100_000));
    assert!(orders(&out).is_empty(), "{:?}", dispatched(&bench.set, &out));
    assert_eq!(bench.status("n1"), "unheard");
    let text = bench.explain("n1").to_string();
    assert!(
        text.starts_with("n1: is not heard, phys_state is HANG; it was recovered once and was"),
        "{text}"
    );
}

#[test]
fn a_plan_says_what_waits_for_a_person() {
    for (policy, why) in [
        ("ask", "its policy is to ask"),
        ("wait", "its policy is to wait until it is heard"),
        ("recover", "it was recovered already, in vain"),
    ] {
        let mut cut = CutOff::new(of_policy(policy));
        cut.goes_on();
        let mut wanted = of_policy(policy);
        wanted.set(Path::known("facts.more"), "yes");
        let all: BTreeMap<NodeId, Document> = [(node("n1"), wanted.clone())].into();
        let plan = cut.bench.engine.outlook().plan(&all, &[]);
        assert_eq!((plan.nodes[0].steps.len(), plan.summary.disrupted), (0, 0), "{policy}");
        let stops = plan.nodes[0].stops.clone().unwrap();
        assert!(stops.ends_with(why) && stops.contains("waits for a person"), "{stops}");
        let out = cut.bench.configure("n1", wanted);
        assert!(orders(&out).is_empty(), "and it does");
    }
    let cut = CutOff::new(of_policy("ask"));
    let all: BTreeMap<NodeId, Document> = [(node("n1"), of_policy("recover"))].into();
    let plan = cut.bench.engine.outlook().plan(&all, &[]);
    assert_eq!(plan.nodes[0].steps[0], "power.off".into(), "by the policy that would count then");
}
