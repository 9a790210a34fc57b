//! An attempt that ended before its effects were seen may have had them: what was known before is not
//! good enough any more for a step that disrupts.

use crate::words::{RETRY, doc, node, orders, seconds, set_to};
use kraken_engine::{DispatchId, Engine, Failure, Input, Output, Role, Settings};
use kraken_model::{Field, Millis, Registry, Schema};
use kraken_plan::{Context, Guard, ModuleSet, Mutation};
use std::sync::Arc;

/// A node that is drained for a change of its image, and put back.
struct Drained {
    engine: Engine,
    set: Arc<ModuleSet>,
    now: Millis,
    /// What was dispatched last.
    last: Option<DispatchId>,
}

fn mutations() -> Vec<Mutation> {
    let drain = |name: &str, from: &str, to: &str| {
        let step = Mutation::new("drain", name, Context::Child).moves("drain", from, to);
        step.timeout(seconds(30)).retry(RETRY).looks_after()
    };
    vec![
        drain("discover", "UNKNOWN", "IN_USE").or_finds("DRAINED"),
        drain("drain", "IN_USE", "DRAINED"),
        drain("resume", "DRAINED", "IN_USE"),
        Mutation::new("image", "swap", Context::Child)
            .moves("image", "UPDATE", "ACTIVE")
            .requires(Guard::is("drain", "DRAINED"))
            .disruptive(),
    ]
}

impl Drained {
    fn new() -> Self {
        let field = |path, values: &[&str]| Field::variable(path, values, "a variable").unwrap();
        let fields = vec![
            field("drain", &["UNKNOWN", "IN_USE", "DRAINED"]),
            field("image", &["UNKNOWN", "ACTIVE", "UPDATE"]),
        ];
        let schema = Schema { name: "test".into(), fields };
        let registry = Arc::new(Registry::new(vec![schema]).unwrap());
        let set = Arc::new(ModuleSet::new(&registry, mutations()).unwrap());
        let settings = Settings { fresh: Vec::new(), ..Settings::new(1, Role::Parent) };
        let engine = Engine::new(settings, Arc::clone(&set), registry);
        Self { engine, set, now: Millis(1_000_000), last: None }
    }

    /// With its image as it should be, while it is being put back.
    fn being_put_back() -> Self {
        let mut this = Self::new();
        let cfg = Some(doc(&[("drain", "IN_USE"), ("image", "ACTIVE")]));
        this.input(Input::Configure { node: node("n1"), cfg, by: "test".into() });
        this.input(Input::Tick);
        let out = this.discover(&[("drain", "DRAINED"), ("image", "ACTIVE")]);
        assert_eq!(this.dispatched(&out), ["drain.resume"]);
        this
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.step(self.now, input, &mut out);
        self.last = orders(&out).pop().map(|order| order.id).or(self.last.take());
        out
    }

    fn discover(&mut self, entries: &[(&str, &str)]) -> Vec<Output> {
        let changes = set_to(entries);
        self.input(Input::Discover { node: node("n1"), changes, by: "test".into() })
    }

    fn dispatched(&self, out: &[Output]) -> Vec<String> {
        orders(out).iter().map(|order| self.set.mutation(order.mutation).name.to_string()).collect()
    }

    fn status(&self) -> &'static str {
        self.engine.node(&node("n1")).unwrap().status
    }

    fn explained(&mut self) -> String {
        self.engine.explain(&node("n1"), self.now).unwrap().to_string()
    }
}

#[test]
fn a_step_that_was_interrupted_may_have_been_taken_all_the_same() {
    let mut node = Drained::being_put_back();
    // Another image is wanted, and needs the node drained: which it may be no longer.
    let out = node.discover(&[("image", "UPDATE")]);
    assert_eq!(node.dispatched(&out), [""; 0]);
    assert!(out.iter().any(|output| matches!(output, Output::Interrupt { .. })));
    assert_eq!(node.status(), "doubtful");
    let text = node.explained();
    assert!(text.contains("drain may have been changed by an attempt that ended early"), "{text}");
    // What is found decides.
    let out = node.discover(&[("drain", "IN_USE")]);
    assert_eq!(node.dispatched(&out), ["drain.drain"]);
}

#[test]
fn what_is_found_unchanged_is_in_doubt_no_longer() {
    let mut node = Drained::being_put_back();
    node.discover(&[("image", "UPDATE")]);
    let out = node.discover(&[("image", "UPDATE")]);
    assert_eq!(node.dispatched(&out), [""; 0], "that was not in doubt");
    let out = node.discover(&[("drain", "DRAINED")]);
    assert_eq!(node.dispatched(&out), ["image.swap"]);
}

#[test]
fn so_may_one_that_failed_and_one_whose_time_was_over() {
    for is_late in [false, true] {
        let mut drained = Drained::being_put_back();
        if is_late {
            drained.now = drained.now.plus(seconds(31));
            drained.input(Input::Tick);
        } else {
            let result = Err(Failure { reason: "no".into(), permanent: false });
            let id = drained.last.clone().unwrap();
            drained.input(Input::Finished { id, result });
        }
        assert_eq!(drained.status(), "back_off");
        let out = drained.discover(&[("image", "UPDATE")]);
        assert_eq!(drained.dispatched(&out), [""; 0], "late: {is_late}");
        assert_eq!(drained.status(), "doubtful");
        let out = drained.discover(&[("drain", "DRAINED")]);
        assert_eq!(drained.dispatched(&out), ["image.swap"]);
    }
}

#[test]
fn so_may_one_that_was_under_way_when_the_parent_ended() {
    let mut drained = Drained::new();
    let cfg = Some(doc(&[("drain", "IN_USE"), ("image", "ACTIVE")]));
    drained.input(Input::Configure { node: node("n1"), cfg, by: "test".into() });
    let dsc = doc(&[("drain", "DRAINED"), ("image", "UPDATE")]);
    drained.input(Input::Restore { node: node("n1"), dsc });
    let out = drained.input(Input::Tick);
    assert_eq!(drained.dispatched(&out), [""; 0]);
    assert_eq!(drained.status(), "doubtful");
    let out = drained.discover(&[("drain", "DRAINED")]);
    assert_eq!(drained.dispatched(&out), ["image.swap"]);
}

#[test]
fn what_disrupts_nobody_is_done_in_doubt_too() {
    let mut drained = Drained::being_put_back();
    drained.discover(&[("image", "UPDATE")]);
    let cfg = Some(doc(&[("drain", "IN_USE")]));
    let out = drained.input(Input::Configure { node: node("n1"), cfg, by: "test".into() });
    assert_eq!(drained.dispatched(&out), ["drain.resume"]);
}
