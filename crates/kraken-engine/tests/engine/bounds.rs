//! Whatever happens, no limit is ever exceeded: counted anew, from nothing but what the engine says.

use crate::words::*;
use kraken_engine::{Command, Engine, Group, Input, Limit, Order, Output, Scope, Settings, Share};
use kraken_engine::{Storm, Terms, What};
use kraken_model::{Document, Millis, NodeId, NodeSet, Path, Side, merge};
use kraken_plan::Mutation;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const NODES: usize = 8;

#[derive(Clone, Debug)]
enum Act {
    Find(usize, &'static str, &'static str),
    Want(usize, bool, &'static str),
    Remove(usize),
    Fail(usize),
    Hold(usize, bool),
    Pass(u64),
    Limits(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let n = || 0..NODES;
    let found = prop_oneof![
        Just(("phys_state", "OFF")),
        Just(("phys_state", "ON")),
        Just(("phys_state", "HANG")),
        Just(("run_state", "INIT")),
        Just(("run_state", "SYNC")),
        Just(("run_state", "ERROR")),
        Just(("image_state", "ACTIVE")),
        Just(("image_state", "IDLE")),
    ];
    let rack = prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        8 => (n(), found).prop_map(|(n, (path, value))| Act::Find(n, path, value)),
        2 => (n(), any::<bool>(), rack).prop_map(|(n, on, rack)| Act::Want(n, on, rack)),
        1 => n().prop_map(Act::Remove),
        2 => n().prop_map(Act::Fail),
        1 => (n(), any::<bool>()).prop_map(|(n, on)| Act::Hold(n, on)),
        3 => (0_u64..30_000).prop_map(Act::Pass),
        1 => (0_usize..3).prop_map(Act::Limits),
    ]
}

fn group() -> Arc<Group> {
    let nodes: NodeSet = (0..5).map(|n| node(&format!("n{n}"))).collect();
    Arc::new(Group { name: "five".into(), nodes })
}

/// Three sets of limits, between which the cluster changes.
fn limits(which: usize) -> Vec<Limit> {
    let rack = || Path::known("location.rack");
    match which {
        0 => vec![
            Limit::at_most(2, Scope::All).per(rack()),
            Limit::spaced(seconds(3), Scope::Mutation("power.on".into())),
            Limit::unavailable(Share::Percent(25), Scope::Disruptive),
        ],
        1 => vec![
            Limit::at_most(1, Scope::AnyOf(vec!["power.on".into(), "power.off".into()])),
            Limit::unavailable(Share::Count(2), Scope::Disruptive).per(rack()),
            Limit::spaced(seconds(3), Scope::Mutation("power.on".into())),
        ],
        _ => vec![
            Limit { in_flight: Some(3), ..Limit::unavailable(Share::Percent(40), Scope::All) }
                .within(group()),
        ],
    }
}

/// A step under way, and the cfg under which it counts.
struct Step {
    mutation: Arc<Mutation>,
    cfg: Document,
}

/// What somebody knows who listens to the engine and to nobody else.
struct Listener {
    bench: Bench,
    limits: Vec<Limit>,
    cfg: BTreeMap<NodeId, Document>,
    dsc: BTreeMap<NodeId, Document>,
    under_way: BTreeMap<NodeId, Step>,
    orders: BTreeMap<NodeId, Order>,
    /// When a step began last, by mutation, as far as a limit has seen it.
    began: BTreeMap<Arc<str>, Millis>,
}

impl Listener {
    fn new() -> Self {
        let storm = Storm { min: usize::MAX, ..Storm::default() };
        let settings = Settings { limits: limits(0), storm, ..Settings::default() };
        let mut this = Self {
            bench: Bench::new(settings),
            limits: limits(0),
            cfg: BTreeMap::new(),
            dsc: BTreeMap::new(),
            under_way: BTreeMap::new(),
            orders: BTreeMap::new(),
            began: BTreeMap::new(),
        };
        for n in 0..NODES {
            this.want(n, true, if n < 4 { "a" } else { "b" });
        }
        this.input(Input::Tick);
        this
    }

    fn want(&mut self, n: usize, is_on: bool, rack: &str) {
        let goal = if is_on { running() } else { doc(&[("phys_state", "OFF")]) };
        let cfg = merge(&goal, &doc(&[("location.rack", rack)]));
        self.input(Input::Configure { node: name(n), cfg: Some(cfg), by: "test".into() });
    }

    fn take(&mut self, act: Act) {
        match act {
            Act::Find(n, path, value) => {
                let changes = set_to(&[(path, value)]);
                self.input(Input::Discover { node: name(n), changes, by: "test".into() });
            }
            Act::Want(n, is_on, rack) => self.want(n, is_on, rack),
            Act::Remove(n) => {
                self.input(Input::Configure { node: name(n), cfg: None, by: "test".into() });
            }
            Act::Fail(n) => {
                let Some(order) = self.orders.get(&name(n)).cloned() else { return };
                let failure = kraken_engine::Failure { reason: "no".into(), permanent: false };
                self.input(Input::Finished { id: order.id, result: Err(failure) });
            }
            Act::Hold(n, true) => {
                self.command(Command::Hold { node: name(n), terms: Terms::default() });
            }
            Act::Hold(n, false) => self.command(Command::Release { node: name(n) }),
            Act::Pass(millis) => self.pass(millis),
            Act::Limits(which) if self.limits == limits(which) => {
                assert_eq!(self.bench.input(Input::Limits(limits(which))), []);
            }
            Act::Limits(which) => {
                self.limits = limits(which);
                // A limit that was not there has seen nothing begin.
                if self.limits.iter().all(|limit| limit.spacing.is_zero()) {
                    self.began.clear();
                }
                for (node, step) in &mut self.under_way {
                    step.cfg = self.cfg[node].clone();
                }
                self.input(Input::Limits(limits(which)));
            }
        }
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command { command, by: "test".into() });
    }

    fn pass(&mut self, millis: u64) {
        let until = Millis(self.bench.now.0 + millis);
        while let Some(at) = self.bench.engine.next_deadline().filter(|at| *at <= until) {
            self.bench.now = self.bench.now.max(at);
            self.input(Input::Tick);
        }
        self.bench.now = until;
    }

    fn input(&mut self, input: Input) {
        for output in self.bench.input(input) {
            self.hear(output);
        }
    }

    fn hear(&mut self, output: Output) {
        match output {
            Output::Changed { node, side, changes } => {
                let docs = if side == Side::Cfg { &mut self.cfg } else { &mut self.dsc };
                docs.entry(node).or_default().apply(&changes);
            }
            Output::Journal(entry) => match entry.what {
                What::Done { .. }
                | What::Failed { .. }
                | What::TimedOut { .. }
                | What::Interrupted { .. } => {
                    self.under_way.remove(entry.node.as_ref().unwrap());
                }
                What::Removed => drop(self.cfg.remove(entry.node.as_ref().unwrap())),
                _ => {}
            },
            Output::Dispatch(order) => self.begins(order),
            _ => {}
        }
    }

    fn begins(&mut self, order: Order) {
        let mutation = Arc::clone(self.bench.set.mutation(order.mutation));
        let was_away = self.limits.iter().map(|l| self.is_away(l, &order.node)).collect::<Vec<_>>();
        let cfg = self.cfg[&order.node].clone();
        let step = Step { mutation: Arc::clone(&mutation), cfg };
        self.under_way.insert(order.node.clone(), step);
        for (limit, was_away) in self.limits.iter().zip(was_away) {
            self.check(limit, &order.node, &mutation, was_away);
        }
        if self.limits.iter().any(|l| !l.spacing.is_zero() && is_about(l, &mutation)) {
            self.began.insert(Arc::clone(&mutation.name), self.bench.now);
        }
        self.orders.insert(order.node.clone(), order);
    }

    fn check(&self, limit: &Limit, node: &NodeId, mutation: &Mutation, was_away: bool) {
        let mine = self.count_of(limit, node, &self.cfg[node]);
        if !is_about(limit, mutation) || mine.is_none() {
            return;
        }
        if let Some(at_most) = limit.in_flight {
            let of_limit = self.under_way.iter().filter(|(id, step)| {
                is_about(limit, &step.mutation) && self.count_of(limit, id, &step.cfg) == mine
            });
            assert!(of_limit.count() <= at_most as usize, "{limit:?}");
        }
        if let Some(last) = self.began.get(&mutation.name).filter(|_| !limit.spacing.is_zero()) {
            assert!(self.bench.now.since(*last) >= limit.spacing, "{limit:?}");
        }
        if let Some(share) = limit.unavailable.filter(|_| !was_away) {
            let members: Vec<&NodeId> = self
                .cfg
                .iter()
                .filter(|(id, cfg)| self.count_of(limit, id, cfg) == mine)
                .map(|(id, _)| id)
                .collect();
            let away = members.iter().filter(|id| self.is_away(limit, id)).count();
            let at_most = share.of(u32::try_from(members.len()).unwrap()) as usize;
            assert!(away <= at_most, "{away} of {} nodes are away: {limit:?}", members.len());
        }
    }

    /// Under what a node counts: nothing means that the limit is not about it.
    fn count_of(&self, limit: &Limit, node: &NodeId, cfg: &Document) -> Option<String> {
        if limit.nodes.as_ref().is_some_and(|group| !group.nodes.contains(node)) {
            return None;
        }
        match &limit.per {
            None => Some(String::new()),
            Some(fact) => cfg.text(fact.as_str()).map(str::to_owned),
        }
    }

    fn is_away(&self, limit: &Limit, node: &NodeId) -> bool {
        let (cfg, nothing) = (&self.cfg[node], Document::new());
        let dsc = self.dsc.get(node).unwrap_or(&nothing);
        let differs =
            |path: &&str| cfg.text(path).is_some_and(|wanted| dsc.text(path) != Some(wanted));
        ["run_state", "image_state"].iter().any(differs)
            || self.under_way.get(node).is_some_and(|step| is_about(limit, &step.mutation))
    }
}

fn name(n: usize) -> NodeId {
    node(&format!("n{n}"))
}

fn is_about(limit: &Limit, mutation: &Mutation) -> bool {
    match &limit.of {
        Scope::All => true,
        Scope::Disruptive => mutation.disruptive,
        Scope::Module(module) => *module == mutation.module,
        Scope::Mutation(name) => *name == mutation.name,
        Scope::AnyOf(names) => names.contains(&mutation.name),
    }
}

/// Whoever waits for a limit and could go, goes.
fn nobody_waits_for_nothing(engine: &mut Engine, now: Millis) {
    let names: Vec<NodeId> =
        engine.nodes().filter(|v| v.status == "queued").map(|v| v.id.clone()).collect();
    for id in names {
        let status = engine.explain(&id, now).unwrap().status;
        let kraken_engine::Status::Queued {
            in_flight,
            at_most,
            unavailable,
            not_before,
            before,
            ..
        } = status
        else {
            panic!("{status:?}")
        };
        let is_full = at_most.is_some_and(|n| in_flight >= n)
            || unavailable.is_some_and(|u| u.now >= u.at_most)
            || not_before.is_some();
        assert!(is_full || before > 0, "{id} waits for nothing: {status:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]
    #[test]
    fn whatever_happens_no_limit_is_exceeded_and_nobody_waits_for_nothing(
        acts in proptest::collection::vec(act(), 0..120)
    ) {
        let mut listener = Listener::new();
        for act in acts {
            listener.take(act);
            let now = listener.bench.now;
            nobody_waits_for_nothing(&mut listener.bench.engine, now);
        }
    }
}
