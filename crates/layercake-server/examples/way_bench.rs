//! Measures what a whole way costs in the real runtime, through modules that do at once what they are asked
//! for: CPU time of the process for each of 10,000 nodes; and the first policy for Layercake's mutations.
//! Prints one JSON object a line: name, value, unit. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/obedient.rs"]
mod obedient;

use async_trait::async_trait;
use kraken::{Context, Failure, Keeper, Kraken, Module, Options, Order, Settings};
use kraken_model::{Change, Document, Field, NodeId, Path, Registry, Schema};
use kraken_plan::{Context as Taker, Costs, Guard, ModuleSet, Mutation, Policy, State};
use kraken_store::Memory;
use layercake_schema::{Timing, image_state, phys_state, run_state, service_state};
use obedient::Obedient;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The one that the server has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: usize = 10_000;

/// How long nothing happens before the nodes are counted.
const QUIET: Duration = Duration::from_millis(50);

/// So little CPU time in that while is nothing: a timer, and a look at the clock.
const IDLE: Duration = Duration::from_millis(1);

/// All nodes' own part: as soon as one is in sync its images are idle, and then they run.
struct Nodes;

#[async_trait]
impl Module for Nodes {
    fn name(&self) -> &str {
        layercake_schema::module::IMAGE
    }

    fn discovers(&self, path: &Path) -> bool {
        path.is_under("services")
    }

    async fn run(&self, context: Context) {
        let mut changes = context.subscribe();
        loop {
            let changed = tokio::select! {
                changed = changes.changed() => changed,
                () = context.stop.cancelled() => return,
            };
            for (node, view) in changed {
                let Some(view) = view else { continue };
                let next = match view.dsc.text(image_state::PATH) {
                    None if view.dsc.text(run_state::PATH) == Some(run_state::SYNC) => {
                        image_state::IDLE
                    }
                    Some(image_state::IDLE) => image_state::ACTIVE,
                    _ => continue,
                };
                // Who looks after images is told with the first word of them, as nodes do.
                let service = Change::set(service_state::path(self.name()), service_state::RUNNING);
                let change = Change::set(Path::known(image_state::PATH), next);
                context.discover(&node, vec![service, change]).await;
            }
        }
    }

    async fn take(&self, _: &Order, _: &Context) -> Result<(), Failure> {
        Err(Failure { reason: "a node does this by itself".to_owned(), permanent: true })
    }
}

fn four_steps() -> (Registry, Vec<Mutation>, Document) {
    let fields = vec![
        Field::variable("phys_state", &["UNKNOWN", "OFF", "ON"], "").unwrap(),
        Field::variable("run_state", &["UNKNOWN", "INIT", "SYNC"], "").unwrap(),
    ];
    let registry = Registry::new(vec![Schema { name: "bench".into(), fields }]).unwrap();
    let step = |name, variable, from, to| {
        Mutation::new("instant", name, Taker::Child).moves(variable, from, to)
    };
    let on = || Guard::is("phys_state", "ON");
    let mutations = vec![
        step("discover", "phys_state", "UNKNOWN", "OFF"),
        step("on", "phys_state", "OFF", "ON"),
        step("boot", "run_state", "UNKNOWN", "INIT").requires(on()),
        step("join", "run_state", "INIT", "SYNC").requires(on()),
    ];
    let mut cfg = Document::new();
    cfg.set(Path::known("phys_state"), "ON");
    cfg.set(Path::known("run_state"), "SYNC");
    (registry, mutations, cfg)
}

fn layercake() -> (Registry, Vec<Mutation>, Document) {
    let registry = Registry::new(layercake_schema::schemas()).unwrap();
    let mut cfg = Document::new();
    for (path, value) in [
        (phys_state::PATH, phys_state::POWER_ON),
        (run_state::PATH, run_state::SYNC),
        (image_state::PATH, image_state::ACTIVE),
        ("power.driver", "exec"),
        ("arch", "x86_64"),
    ] {
        cfg.set(Path::known(path), value);
    }
    (registry, layercake_schema::mutations(&Timing::default()), cfg)
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{{\"name\":\"way.{name}\",\"value\":{value:.4},\"unit\":\"{unit}\"}}");
}

/// The CPU time for each node from being known to being as it should, in microseconds.
async fn way((registry, mutations, cfg): (Registry, Vec<Mutation>, Document)) -> f64 {
    let modules = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
    let mut hosted: Vec<Arc<dyn Module>> = Vec::new();
    if modules.mutation_named("image.start").is_some() {
        hosted.push(Arc::new(Nodes));
    }
    for name in ["instant", "power", "boot", "sync"] {
        hosted.push(Arc::new(Obedient(name, Arc::clone(&modules))));
    }
    let options = Options {
        registry: Arc::new(registry),
        modules: Arc::clone(&modules),
        hosted,
        keeper: Keeper::new(Box::new(Memory::default())),
        settings: Settings::default(),
    };
    let (kraken, tasks) = Kraken::start(options).await.unwrap();
    let writes = |n| (NodeId::new(&format!("n{n:05}")).unwrap(), Some(cfg.clone()));
    let writes: Vec<_> = (0..NODES).map(writes).collect();
    let began = cpu();
    kraken.configure(writes, "bench").await.unwrap();
    let took = loop {
        // Counting all nodes costs time too, and so does following what happens: it is done only when
        // nothing was done for a moment.
        let before = cpu();
        tokio::time::sleep(QUIET).await;
        let now = cpu();
        if now - before < IDLE && count(&kraken, &modules, &cfg) == NODES {
            break now - began;
        }
    };
    kraken.stop();
    tasks.ended().await;
    took.as_secs_f64() * 1e6 / NODES as f64
}

fn count(kraken: &Kraken, set: &ModuleSet, cfg: &Document) -> usize {
    let goal = set.goal(cfg);
    let views = kraken.views().all();
    views.values().filter(|view| set.fulfils(set.state(&view.dsc), goal)).count()
}

/// How long the first policy takes for Layercake's own mutations, in milliseconds.
fn cold() -> f64 {
    let (registry, mutations, cfg) = layercake();
    let set = Arc::new(ModuleSet::new(&registry, mutations).unwrap());
    let facts = set.facts(&cfg, &Document::new());
    let began = Instant::now();
    let mut policy = Policy::new(&set, set.goal(&cfg), facts, &Costs::declared());
    assert!(!policy.path(State::default()).is_empty());
    began.elapsed().as_secs_f64() * 1000.0
}

fn main() {
    // A virtual machine's host gives memory when it is first touched, which takes longer than all that is
    // measured here, and happens to whoever comes first.
    drop(std::hint::black_box(vec![1_u8; 256 << 20]));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    say("layercake_cold", cold(), "ms");
    say("four_steps", runtime().block_on(way(four_steps())), "us");
    say("layercake", runtime().block_on(way(layercake())), "us");
}
