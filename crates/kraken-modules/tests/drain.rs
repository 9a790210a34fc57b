//! The example as an administrator uses it: a node is drained before its image is changed, and put
//! back afterwards. The images are a stand-in, the scheduler is the script of the example.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use kraken::{
    Context, Failure, Keeper, Kraken, Module, Options, Order, Settings, Tasks, View, What,
};
use kraken_model::{Change, Document, Field, Format, Kind, NodeId, Path, Registry, Schema, Side};
use kraken_modules::Modules;
use kraken_plan::{Context as Taker, ModuleSet, Mutation, check};
use kraken_store::Memory;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

const DIGEST: &str = "images.web.digest";

/// Swaps images at once, and notes how the scheduler thought of the node when it did.
#[derive(Default)]
struct Images {
    /// What runs. Held until what is said of it is in the queue, so that what is said last is so.
    runs: tokio::sync::Mutex<Option<String>>,
    swapped: Mutex<Vec<Option<String>>>,
    /// What the scheduler keeps of the node while it is drained.
    drained: Option<PathBuf>,
}

#[async_trait]
impl Module for Images {
    fn name(&self) -> &str {
        "image"
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == DIGEST
    }

    async fn run(&self, context: Context) {
        let mut subscription = context.subscribe();
        loop {
            let changed = tokio::select! {
                changed = subscription.changed() => changed,
                () = context.stop.cancelled() => return,
            };
            for (node, view) in changed {
                let Some(View { cfg, .. }) = view else { continue };
                let runs = self.runs.lock().await;
                if let Some(digest) = runs.as_deref() {
                    let is_wanted = cfg.text(DIGEST) == Some(digest);
                    let state = if is_wanted { "ACTIVE" } else { "UPDATE" };
                    let state = Change::set(Path::known("image_state"), state);
                    context.discover(&node, vec![state]).await;
                }
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        if *order.mutation == *"image.swap" {
            if let Some(drained) = &self.drained {
                assert!(drained.exists(), "swapped while the scheduler gives it work");
            }
            let known = context.views().get(&order.node).unwrap().dsc;
            self.swapped.lock().unwrap().push(known.text("drain_state").map(str::to_owned));
        }
        let mut runs = self.runs.lock().await;
        *runs = order.cfg.text(DIGEST).map(str::to_owned);
        let digest = Change::set(Path::known(DIGEST), order.cfg.text(DIGEST).unwrap());
        let active = Change::set(Path::known("image_state"), "ACTIVE");
        context.discover(&order.node, vec![digest, active]).await;
        Ok(())
    }
}

fn application() -> (Vec<Schema>, Vec<Mutation>) {
    let both = &[Side::Cfg, Side::Dsc];
    let values = ["UNKNOWN", "ACTIVE", "UPDATE"];
    let fields = vec![
        Field::variable("image_state", &values, "how the images are").unwrap(),
        Field::new("images.*.digest", Kind::Text(Format::Any), both, "which image").unwrap(),
    ];
    let step = |name, from| {
        Mutation::new("image", name, Taker::Child).moves("image_state", from, "ACTIVE")
    };
    let mutations = vec![step("start", "UNKNOWN"), step("swap", "UPDATE").disruptive()];
    (vec![Schema { name: "images".into(), fields }], mutations)
}

/// The example, copied so that the scheduler's files are gone with the test, and in more of a hurry.
fn example(dir: &std::path::Path) {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/drain");
    let text = std::fs::read_to_string(from.join("drain.yaml")).unwrap();
    std::fs::write(dir.join("drain.yaml"), text.replace("every: 10s", "every: 200ms")).unwrap();
    // Copied by another process: what this one has open for writing cannot be run.
    let copied = std::process::Command::new("cp").arg(from.join("scheduler")).arg(dir).status();
    assert!(copied.unwrap().success());
}

async fn start(dir: &std::path::Path, images: Arc<Images>) -> (Kraken, Tasks) {
    let (mut schemas, mut mutations) = application();
    let modules = Modules::read(dir, &schemas, &mutations).unwrap();
    schemas.extend(modules.schemas());
    modules.extend(&mut mutations);
    let registry = Arc::new(Registry::new(schemas).unwrap());
    let set = ModuleSet::new(&registry, mutations).unwrap();
    let findings: Vec<String> = check(&set).iter().map(ToString::to_string).collect();
    // The stand-in only ever changes images; what the example declares is in order.
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("once image_state is ACTIVE"), "{findings:?}");
    let mut hosted = modules.hosted(&registry, dir);
    hosted.push(images);
    let keeper = Keeper::new(Box::new(Memory::default()));
    let modules = Arc::new(set);
    let options = Options { registry, modules, hosted, keeper, settings: Settings::default() };
    Kraken::start(options).await.unwrap()
}

fn cfg(digest: &str) -> Document {
    let mut cfg = Document::new();
    for (path, value) in [("drain_state", "IN_USE"), ("image_state", "ACTIVE"), (DIGEST, digest)] {
        cfg.set(Path::known(path), value);
    }
    cfg
}

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

async fn until(kraken: &Kraken, what: &str, so: impl Fn(&Document) -> bool) {
    let mut subscription = kraken.views().subscribe();
    let seen = tokio::time::timeout(PATIENCE, async {
        while !kraken.views().get(&node()).is_some_and(|view| so(&view.dsc)) {
            subscription.changed().await;
        }
    });
    if seen.await.is_err() {
        let explained = kraken.explain(&node()).await.unwrap().to_string();
        panic!("{what}: {:?}\n{explained}\n{:?}", kraken.views().get(&node()), kraken.hosted());
    }
}

fn is(dsc: &Document, path: &str, value: &str) -> bool {
    dsc.text(path) == Some(value)
}

async fn dispatched(kraken: &Kraken) -> Vec<String> {
    let events = kraken.events(1, 10_000, Some(node())).await.unwrap();
    let steps = events.into_iter().filter_map(|event| match event.entry.what {
        What::Dispatched { mutation, .. } => Some(mutation.to_string()),
        _ => None,
    });
    steps.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_before_its_image_is_changed_and_put_back_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    example(dir.path());
    let images = Arc::new(Images::default());
    let (kraken, tasks) = start(dir.path(), Arc::clone(&images)).await;
    kraken.configure(vec![(node(), Some(cfg("one")))], "test").await.unwrap();
    let in_use = |dsc: &Document| is(dsc, "drain_state", "IN_USE");
    until(&kraken, "not in use", |dsc| in_use(dsc) && is(dsc, DIGEST, "one")).await;

    // A job runs while another image is wanted: the node is drained, and the image waits for the job.
    let job = dir.path().join("state/n1.job.7");
    std::fs::write(&job, "").unwrap();
    kraken.configure(vec![(node(), Some(cfg("two")))], "test").await.unwrap();
    until(&kraken, "not draining", |dsc| is(dsc, "drain_state", "DRAINING")).await;
    let explained = kraken.explain(&node()).await.unwrap().to_string();
    assert!(explained.contains("which comes by itself (drain.wait)"), "{explained}");
    assert!(images.swapped.lock().unwrap().is_empty(), "swapped under a job");

    std::fs::remove_file(job).unwrap();
    until(&kraken, "not put back", |dsc| in_use(dsc) && is(dsc, DIGEST, "two")).await;
    assert_eq!(*images.swapped.lock().unwrap(), [Some("DRAINED".to_owned())]);
    let steps = dispatched(&kraken).await;
    let wanted = ["drain.drain", "image.swap", "drain.undrain"];
    assert!(steps.ends_with(&wanted.map(str::to_owned)), "{steps:?}");
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_just_being_put_back_is_drained_anew_before_another_image() {
    let dir = tempfile::tempdir().unwrap();
    example(dir.path());
    let drained = dir.path().join("state/n1.drained");
    let images = Arc::new(Images { drained: Some(drained.clone()), ..Images::default() });
    let (kraken, tasks) = start(dir.path(), Arc::clone(&images)).await;
    kraken.configure(vec![(node(), Some(cfg("0")))], "test").await.unwrap();
    until(&kraken, "not running", |dsc| is(dsc, DIGEST, "0")).await;
    for image in ["1", "2", "3", "4"] {
        kraken.configure(vec![(node(), Some(cfg(image)))], "test").await.unwrap();
        until(&kraken, "not changed", |dsc| is(dsc, DIGEST, image)).await;
        // Another image is wanted while the scheduler has it back, and nobody was told so yet.
        let put_back = tokio::time::timeout(PATIENCE, async {
            while drained.exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        put_back.await.unwrap();
    }
    let in_use = |dsc: &Document| is(dsc, "drain_state", "IN_USE");
    until(&kraken, "not put back", |dsc| in_use(dsc) && is(dsc, DIGEST, "4")).await;
    let failed = kraken.events(1, 10_000, Some(node())).await.unwrap().into_iter();
    let failed: Vec<_> =
        failed.filter(|event| matches!(event.entry.what, What::Failed { .. })).collect();
    assert!(failed.is_empty(), "{failed:?}");
    kraken.stop();
    tasks.ended().await;
}
