//! A small cluster's vocabulary: power, run state, image, and whether the node is in use.

use kraken_engine::{Command, DispatchId, Engine, Failure, Input, Order, Output, Settings, What};
use kraken_model::{Change, Document, Field, Format, Kind, Millis, NodeId, Path, Registry, Schema};
use kraken_model::{Side, Value};
use kraken_plan::{Context, Guard, ModuleSet, Mutation, Retry};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const RETRY: Retry =
    Retry { base: seconds_const(5), cap: seconds_const(60), limit: Some(4) };

const fn seconds_const(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn registry() -> Arc<Registry> {
    registry_with(&[])
}

/// The same, with more variables.
pub(crate) fn registry_with(more: &[Field]) -> Arc<Registry> {
    let text = Kind::Text(Format::Any);
    let mut fields = vec![
        Field::variable("phys_state", &["UNKNOWN", "OFF", "ON", "HANG", "FOUND"], "power").unwrap(),
        Field::variable("run_state", &["UNKNOWN", "INIT", "SYNC", "ERROR"], "run").unwrap(),
        Field::variable("image_state", &["UNKNOWN", "IDLE", "ACTIVE"], "image").unwrap(),
        Field::variable("busy", &["UNKNOWN", "FREE", "BUSY"], "in use").unwrap(),
        Field::new("location.rack", text.clone(), &[Side::Cfg], "rack").unwrap(),
        Field::new("facts.*", text, &[Side::Cfg, Side::Dsc], "facts").unwrap(),
        Field::new("recovered", Kind::Int { min: 0, max: i64::MAX }, &[Side::Dsc], "how often")
            .unwrap(),
    ];
    fields.extend(more.iter().cloned());
    Arc::new(Registry::new(vec![Schema { name: "test".into(), fields }]).unwrap())
}

pub(crate) fn mutations() -> Vec<Mutation> {
    let on = || Guard::is("phys_state", "ON");
    let power = |name: &str, from: &str, to: &str| {
        Mutation::new("power", name, Context::Child)
            .moves("phys_state", from, to)
            .timeout(seconds(20))
            .cost(seconds(3))
            .retry(RETRY)
    };
    let image = |name: &str, from: &str, to: &str| {
        Mutation::new("image", name, Context::Node)
            .moves("image_state", from, to)
            .requires(Guard::is("run_state", "SYNC"))
    };
    vec![
        power("discover", "UNKNOWN", "OFF").or_finds("ON").retry(Retry { limit: None, ..RETRY }),
        power("on", "OFF", "ON"),
        power("off", "ON", "OFF")
            .excludes(Guard::is("run_state", "SYNC"))
            .excludes(Guard::is("busy", "BUSY"))
            .disruptive(),
        power("recover", "HANG", "OFF").excludes(Guard::is("busy", "BUSY")).disruptive(),
        Mutation::new("boot", "serve", Context::Child)
            .moves("run_state", "UNKNOWN", "INIT")
            .requires(on())
            .timeout(seconds(60))
            .on_timeout("phys_state", "HANG")
            .cost(seconds(20))
            .retry(RETRY),
        Mutation::new("sync", "join", Context::Child)
            .moves("run_state", "INIT", "SYNC")
            .requires(on())
            .timeout(seconds(60))
            .on_timeout("phys_state", "HANG")
            .cost(seconds(5))
            .retry(RETRY),
        Mutation::new("sync", "leave", Context::Node)
            .moves("run_state", "SYNC", "INIT")
            .requires(Guard::is("image_state", "IDLE"))
            .excludes(Guard::is("busy", "BUSY")),
        image("discover", "UNKNOWN", "IDLE"),
        image("start", "IDLE", "ACTIVE"),
        image("stop", "ACTIVE", "IDLE").excludes(Guard::is("busy", "BUSY")).disruptive(),
    ]
}

pub(crate) fn set() -> Arc<ModuleSet> {
    Arc::new(ModuleSet::new(&registry(), mutations()).unwrap())
}

/// A disk to be flashed, which is looked at before everything else and has nothing to do with the rest.
pub(crate) fn disk() -> (Field, [Mutation; 2]) {
    let disk = Field::variable("adisk", &["UNKNOWN", "OLD", "NEW"], "its firmware").unwrap();
    let step =
        |name| Mutation::new("adisk", name, Context::Child).timeout(seconds(20)).retry(RETRY);
    let look = step("look").moves("adisk", "UNKNOWN", "OLD").or_finds("NEW");
    let flash = step("flash").excludes(Guard::is("busy", "BUSY")).disruptive();
    (disk, [look, flash.moves("adisk", "OLD", "NEW")])
}

/// The vocabulary with that disk.
pub(crate) fn flashing() -> (Arc<Registry>, Arc<ModuleSet>) {
    let (disk, steps) = disk();
    let registry = registry_with(&[disk]);
    let all = steps.into_iter().chain(mutations()).collect();
    let set = ModuleSet::new(&registry, all).unwrap();
    (registry, Arc::new(set))
}

/// What runs, with a disk that is flashed.
pub(crate) fn running_flashed() -> Document {
    let mut cfg = running();
    cfg.set(Path::known("adisk"), "NEW");
    cfg
}

/// The vocabulary with a module more: what runs on a node is drained before its image is stopped.
pub(crate) fn draining() -> (Arc<Registry>, Arc<ModuleSet>) {
    draining_with(&[], [])
}

/// The same, with more variables and mutations.
pub(crate) fn draining_with(
    more: &[Field],
    steps: impl IntoIterator<Item = Mutation>,
) -> (Arc<Registry>, Arc<ModuleSet>) {
    // Its address lies between others, so that every bit behind it is another one.
    let drained = Field::variable("drained", &["UNKNOWN", "NO", "YES"], "drained").unwrap();
    let fields: Vec<Field> = std::iter::once(drained).chain(more.iter().cloned()).collect();
    let registry = registry_with(&fields);
    let drain = |name: &str, from: &str, to: &str| {
        Mutation::new("drain", name, Context::Child)
            .moves("drained", from, to)
            .timeout(seconds(20))
            .retry(Retry { limit: None, ..RETRY })
    };
    let mut all: Vec<Mutation> = steps.into_iter().chain(mutations()).collect();
    let stop = all.iter_mut().find(|mutation| *mutation.name == *"image.stop").unwrap();
    stop.requires.push(Guard::is("drained", "YES"));
    // In front of all others, so that every number is another one.
    all.splice(0..0, [drain("look", "UNKNOWN", "NO").or_finds("YES"), drain("empty", "NO", "YES")]);
    let set = ModuleSet::new(&registry, all).unwrap();
    (registry, Arc::new(set))
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn doc(entries: &[(&str, &str)]) -> Document {
    let entries = entries.iter().map(|(p, v)| (Path::known(p), Value::from(*v))).collect();
    Document::from_entries(entries).unwrap()
}

pub(crate) fn running() -> Document {
    doc(&[("phys_state", "ON"), ("run_state", "SYNC"), ("image_state", "ACTIVE")])
}

pub(crate) fn set_to(entries: &[(&str, &str)]) -> Vec<Change> {
    entries.iter().map(|(p, v)| Change::set(Path::known(p), *v)).collect()
}

/// An engine with its clock, and what it said last.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) set: Arc<ModuleSet>,
    pub(crate) now: Millis,
    pub(crate) epoch: u64,
    pub(crate) out: Vec<Output>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        let (epoch, set) = (settings.epoch, set());
        let engine = Engine::new(settings, Arc::clone(&set), registry());
        Self { engine, set, now: Millis(1_000_000), epoch, out: Vec::new() }
    }

    /// An engine that has started, with these nodes, all of them wanted running.
    pub(crate) fn started(settings: Settings, names: &[&str]) -> Self {
        let mut bench = Self::new(settings);
        let mut out = Vec::new();
        for name in names {
            out.extend(bench.configure(name, running()));
        }
        out.extend(bench.input(Input::Tick));
        bench.out = out;
        bench
    }

    pub(crate) fn input(&mut self, input: Input) -> Vec<Output> {
        self.out.clear();
        self.engine.step(self.now, input, &mut self.out);
        self.out.clone()
    }

    pub(crate) fn configure(&mut self, name: &str, cfg: Document) -> Vec<Output> {
        self.input(Input::Configure { node: node(name), cfg: Some(cfg), by: "test".into() })
    }

    pub(crate) fn discover(&mut self, name: &str, entries: &[(&str, &str)]) -> Vec<Output> {
        let changes = set_to(entries);
        self.input(Input::Discover { node: node(name), changes, by: "test".into() })
    }

    pub(crate) fn command(&mut self, command: Command) -> Vec<Output> {
        self.input(Input::Command { command, by: "operator".into() })
    }

    pub(crate) fn fails(&mut self, order: &Order, reason: &str, permanent: bool) -> Vec<Output> {
        let result = Err(Failure { reason: reason.into(), permanent });
        self.input(Input::Finished { id: order.id.clone(), result })
    }

    /// Goes over to other modules.
    pub(crate) fn goes_over(
        &mut self,
        (registry, set): (Arc<Registry>, Arc<ModuleSet>),
    ) -> Vec<Output> {
        self.set = Arc::clone(&set);
        self.input(Input::Modules { set, registry, by: "operator".into() })
    }

    /// Lets time pass until the engine has something to say, or waits for nothing any more.
    pub(crate) fn tick(&mut self) -> Vec<Output> {
        while let Some(at) = self.engine.next_deadline() {
            self.now = self.now.max(at);
            let out = self.input(Input::Tick);
            if !out.is_empty() {
                return out;
            }
        }
        Vec::new()
    }

    /// Lets a time pass, with every tick that the engine wants on the way.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Output> {
        let until = self.now.plus(time);
        let mut out = Vec::new();
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            out.extend(self.input(Input::Tick));
        }
        self.now = until;
        out
    }

    pub(crate) fn status(&self, name: &str) -> &'static str {
        self.engine.node(&node(name)).unwrap().status
    }

    pub(crate) fn explain(&mut self, name: &str) -> kraken_engine::Explanation {
        self.engine.explain(&node(name), self.now).unwrap()
    }

    pub(crate) fn id(&self, name: &str, attempt: u32) -> DispatchId {
        DispatchId { epoch: self.epoch, node: node(name), attempt }
    }
}

/// The steps that were dispatched, as `node mutation`.
pub(crate) fn dispatched(set: &ModuleSet, out: &[Output]) -> Vec<String> {
    orders(out).iter().map(|o| format!("{} {}", o.node, set.mutation(o.mutation).name)).collect()
}

pub(crate) fn orders(out: &[Output]) -> Vec<Order> {
    let order = |output: &Output| match output {
        Output::Dispatch(order) => Some(order.clone()),
        _ => None,
    };
    out.iter().filter_map(order).collect()
}

pub(crate) fn journal(out: &[Output]) -> Vec<What> {
    let what = |output: &Output| match output {
        Output::Journal(entry) => Some(entry.what.clone()),
        _ => None,
    };
    out.iter().filter_map(what).collect()
}
