//! The image module: what the engine asks of the image service, and what it is told.
//!
//! It is a service of the node. While it does not run, containers run on: each has a monitor of its own.

use crate::container::own_architecture;
use crate::image::{
    ContainerState, Digest, DigestError, ImageName, ImageService, ImageSpec, ImageState, Kind,
    Observation, ServiceError,
};
use async_trait::async_trait;
use kraken::{Context, Failure, LogLine, Module, Order, Service};
use kraken_model::{Change, Document, NodeId, Path, Value};
use layercake_schema::image_state;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Why the images are not as configured.
const REASON: &str = "image_reason";

/// The longest reason that is told, in characters.
const MAX_REASON: usize = 1000;

/// How the image service is opened.
pub(super) type Open = Arc<dyn Fn() -> Result<ImageService, ServiceError> + Send + Sync>;

/// Runs the images of this node.
pub(super) struct ImageModule {
    node: NodeId,
    how: Open,
    /// Held while it is being opened, also when nobody waits for that any more: there is never more than one.
    turn: Arc<tokio::sync::Mutex<()>>,
    service: Mutex<Option<ImageService>>,
    /// Where the lines go that containers print.
    lines: mpsc::Sender<LogLine>,
    /// How long nothing ran at the last change of each image, in microseconds.
    gaps_us: Mutex<BTreeMap<String, i64>>,
}

impl ImageModule {
    pub(super) fn new(node: NodeId, how: Open, lines: mpsc::Sender<LogLine>) -> Self {
        let (turn, service, gaps_us) = Default::default();
        Self { node, how, turn, service, lines, gaps_us }
    }

    /// Ends all images in order, whether the service runs or not.
    pub(super) async fn end_images(&self) -> Result<(), ServiceError> {
        self.close().await;
        self.open_anew().await?.reconcile(&[]).await.map(drop)
    }

    fn opened(&self) -> Option<ImageService> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open_anew(&self) -> Result<ImageService, ServiceError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let how = Arc::clone(&self.how);
        // Leftovers that have to be removed may take a while.
        let opening = tokio::task::spawn_blocking(move || {
            let opened = how();
            drop(turn);
            opened
        });
        opening.await.map_err(ServiceError::Interrupted)?
    }

    /// Reports how the images are, in view of what cfg wants now.
    async fn report(&self, service: &ImageService, context: &Context) {
        context.discover(&self.node, self.found(service, context)).await;
    }

    /// How the images are, in view of what cfg wants now.
    fn found(&self, service: &ImageService, context: &Context) -> Vec<Change> {
        let view = context.views().get(&self.node).unwrap_or_default();
        let mut now = BTreeMap::new();
        for seen in service.observe() {
            describe(&seen, &mut now);
        }
        for (name, gap) in self.gaps_us.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if now.contains_key(&format!("images.{name}.state")) {
                now.insert(format!("images.{name}.gap_us"), (*gap).into());
            }
        }
        let state = match wanted(&self.node, &view.cfg) {
            Ok(want) => {
                let state = service.image_state(&want);
                if state == ImageState::Error {
                    blame(service, &want, &mut now);
                }
                state.as_str()
            }
            Err(reason) => {
                now.insert(REASON.to_owned(), told(&reason));
                image_state::ERROR
            }
        };
        now.insert(image_state::PATH.to_owned(), state.into());
        let gone = view.dsc.under("images").map(|(path, _)| path.as_str()).chain([REASON]);
        let gone: Vec<Path> =
            gone.filter(|path| !now.contains_key(*path)).map(Path::known).collect();
        let mut changes: Vec<Change> = gone.into_iter().map(Change::remove).collect();
        for (path, value) in now {
            match Path::new(&path) {
                Ok(path) => changes.push(Change { path, value: Some(value) }),
                Err(error) => tracing::error!(%error, "an image cannot be told of"),
            }
        }
        changes
    }

    /// Reports whenever there may be something new, until the service is to stop.
    async fn watch(&self, service: &ImageService, context: &Context) {
        let mut subscription = context.subscribe();
        let mut changes = service.changes();
        let mut cfg = Document::new();
        loop {
            // Both are cancel-safe, and either is a reason to look at everything.
            tokio::select! {
                () = context.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                changed = subscription.changed() => {
                    // What was reported comes back as a change; only another cfg is news.
                    let now = changed.into_iter().last().and_then(|(_, view)| view);
                    let now = now.map(|view| view.cfg).unwrap_or_default();
                    if now == cfg {
                        continue;
                    }
                    cfg = now;
                }
            }
            self.report(service, context).await;
        }
    }

    /// Passes what containers print on to the parent, until the service is to stop.
    async fn forward(&self, service: &ImageService, context: &Context) {
        let mut printed = match service.follow_logs() {
            Ok(printed) => printed,
            Err(error) => {
                tracing::error!(%error, "what images print cannot be followed");
                return;
            }
        };
        let forward = async {
            while let Some(line) = printed.recv().await {
                let stream = line.name.as_str().into();
                if self.lines.send(LogLine { stream, line: line.line.text }).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = forward => {}
            () = context.stop.cancelled() => {}
        }
    }
}

/// Says why the images are not as they should be, of each that has a part in it and in one line.
fn blame(service: &ImageService, want: &[ImageSpec], now: &mut BTreeMap<String, Value>) {
    let failure = service.last_failure().filter(|failure| failure.want == want);
    let mut reasons = Vec::new();
    if let Some(failure) = failure {
        for (image, reason) in &failure.images {
            now.insert(format!("images.{image}.reason"), told(reason));
            // There may be none of it, which is just what is to be told.
            now.entry(format!("images.{image}.state")).or_insert_with(|| "failed".into());
        }
        reasons.push(failure.reason);
    }
    for seen in service.observe().iter().filter(|seen| !seen.is_satisfied()) {
        let is_wanted = want.iter().any(|spec| spec.name == seen.name);
        if let Some(reason) = seen.reason.as_ref().filter(|_| is_wanted) {
            reasons.push(format!("image {}: {reason}", seen.name));
        }
    }
    if !reasons.is_empty() {
        now.insert(REASON.to_owned(), told(&reasons.join("; ")));
    }
}

fn told(reason: &str) -> Value {
    let words = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    words.take(MAX_REASON).collect::<String>().into()
}

fn describe(seen: &Observation, now: &mut BTreeMap<String, Value>) {
    let state = match seen.state {
        ContainerState::Created => "starting",
        ContainerState::Running => "running",
        ContainerState::Stopping => "stopping",
        ContainerState::Exited => "exited",
        ContainerState::Dead => "failed",
    };
    let name = seen.name.as_str();
    let mut tell = |key: &str, value: Value| now.insert(format!("images.{name}.{key}"), value);
    tell("state", state.into());
    tell("digest", seen.digest.to_string().into());
    tell("specification", seen.spec.specification.as_str().into());
    tell("restarts", i64::from(seen.restarts).into());
    if let Some(pid) = seen.pid {
        tell("pid", i64::from(pid).into());
    }
    if let Some(started) = seen.started_unix_ms.and_then(|ms| i64::try_from(ms).ok()) {
        tell("started", started.into());
    }
    if let Some(reason) = &seen.reason {
        tell("reason", told(reason));
    }
    if let Some(last_exit) = &seen.last_exit {
        tell("last_exit", told(last_exit));
    }
}

/// The images that a cfg wants to run. One that this node cannot run is among them, with the reason.
fn wanted(node: &NodeId, cfg: &Document) -> Result<Vec<ImageSpec>, String> {
    let machine = own_architecture();
    let spec = |name: &str| {
        let label: ImageName = name.parse().map_err(|_| format!("{name} cannot name an image"))?;
        Ok(spec(node, cfg, &label, &machine).unwrap_or_else(|reason| {
            let nothing = Digest::new([0; 32]);
            let mut refused = ImageSpec::plain(label, nothing, 0, Vec::new());
            refused.refusal = Some(reason);
            refused
        }))
    };
    cfg.names("images").into_iter().map(spec).collect()
}

fn spec(
    node: &NodeId,
    cfg: &Document,
    label: &ImageName,
    machine: &str,
) -> Result<ImageSpec, String> {
    let image = layercake_types::image(cfg, label.as_str()).map_err(|refused| {
        refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    })?;
    let digest: Digest = image.digest.parse().map_err(|error: DigestError| error.to_string())?;
    let mut spec = ImageSpec::plain(image.name, digest, image.size, image.command);
    if image.systemd {
        spec.kind = Kind::Systemd;
    }
    spec.env = image.env;
    // A system image is the node to whoever logs in, whatever it was called where it was built.
    spec.hostname = Some(node.to_string());
    spec.specification = layercake_schema::specification(cfg, label.as_str());
    spec.check().map_err(|error| error.to_string())?;
    match cfg.text(&format!("images.{label}.arch")) {
        Some(built_for) if !layercake_schema::runs_on(built_for, machine) => Err(format!(
            "it is built for {built_for}, and this node is {machine}; import it for {machine}, or \
             give the node another image"
        )),
        _ => Ok(spec),
    }
}

#[async_trait]
impl Module for ImageModule {
    fn name(&self) -> &str {
        layercake_schema::module::IMAGE
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == REASON || path.is_under("images")
    }

    fn service(&self) -> Option<&dyn Service> {
        Some(self)
    }

    async fn run(&self, context: Context) {
        let Some(service) = self.opened() else { return };
        tokio::join!(self.watch(&service, &context), self.forward(&service, &context));
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let fail = |reason: String| Failure { reason, permanent: false };
        let service = self.opened().ok_or_else(|| fail("the image service does not run".into()))?;
        let want = match order.mutation.as_ref() {
            "image.discover" => {
                self.report(&service, context).await;
                return Ok(());
            }
            "image.start" | "image.swap" | "image.restart" => {
                wanted(&order.node, &order.cfg).map_err(fail)?
            }
            "image.stop" | "image.clear" | "image.drop" => Vec::new(),
            other => {
                let reason = format!("the image module does not know {other}");
                return Err(Failure { reason, permanent: true });
            }
        };
        let done = match order.mutation.as_ref() {
            "image.restart" => service.restart(&want).await,
            _ => service.reconcile(&want).await,
        };
        let report = match &done {
            Ok(report) => Some(report),
            Err(ServiceError::Images { done, .. }) => Some(&**done),
            Err(_) => None,
        };
        for started in report.into_iter().flat_map(|report| &report.started) {
            if let Some(gap) = started.gap_ns.and_then(|ns| i64::try_from(ns / 1000).ok()) {
                let mut gaps = self.gaps_us.lock().unwrap_or_else(PoisonError::into_inner);
                gaps.insert(started.name.to_string(), gap);
            }
        }
        self.report(&service, context).await;
        done.map(drop).map_err(|error| fail(error.reason()))
    }
}

#[async_trait]
impl Service for ImageModule {
    fn node(&self) -> &NodeId {
        &self.node
    }

    async fn open(&self, context: &Context) -> Result<Vec<Change>, Failure> {
        let opened = self.open_anew().await;
        let service =
            opened.map_err(|error| Failure { reason: error.reason(), permanent: false })?;
        let found = self.found(&service, context);
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
        Ok(found)
    }

    async fn close(&self) {
        if let Some(service) = self.opened() {
            service.close().await;
            *self.service.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cfg_wants_becomes_a_specification() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let cfg = serde_json::json!({"images": {"web": {
            "digest": digest, "size": 4096, "kind": "plain",
            "command": ["/bin/httpd", "-f"], "env": {"HOME": "/"},
        }}});
        let want =
            wanted(&NodeId::new("n1").unwrap(), &Document::from_json(&cfg).unwrap()).unwrap();
        assert_eq!(want.len(), 1);
        assert_eq!(want[0].command, ["/bin/httpd", "-f"]);
        assert_eq!(want[0].env["HOME"], "/");
        assert_eq!(want[0].digest.to_string(), digest);
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_address() {
        let cfg = serde_json::json!({"images": {"web": {"size": 1}}});
        let want =
            wanted(&NodeId::new("n1").unwrap(), &Document::from_json(&cfg).unwrap()).unwrap();
        let refusal = want[0].refusal.as_deref();
        assert!(refusal.is_some_and(|why| why.starts_with("images.web.digest: it is missing")));
    }

    #[test]
    fn an_image_for_another_machine_is_refused_beside_those_that_are_not() {
        let own = own_architecture();
        let other = if own == "x86_64" { "aarch64" } else { "x86_64" };
        let image = |arch: Option<&str>| {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let mut image = serde_json::json!({"digest": digest, "size": 1, "command": ["/a"]});
            if let Some(arch) = arch {
                image["arch"] = arch.into();
            }
            image
        };
        let images = serde_json::json!({
            "a": image(Some(&own)), "b": image(Some(other)), "c": image(None),
        });
        let cfg = Document::from_json(&serde_json::json!({"images": images})).unwrap();
        let want = wanted(&NodeId::new("n1").unwrap(), &cfg).unwrap();
        let refusals: Vec<_> = want.iter().map(|spec| spec.refusal.as_deref()).collect();
        let words = format!("it is built for {other}, and this node is {own}");
        assert_eq!((refusals[0], refusals[2]), (None, None));
        assert!(refusals[1].unwrap().starts_with(&words), "{refusals:?}");
        // What an image is built for is no other image: nothing is swapped because it is told now.
        assert_eq!(want[0].digest, want[2].digest);
    }

    const SEED: &str = r#"{
        "version": 1, "node": "n1", "cluster": "lab", "boot_id": "b-1",
        "interfaces": [{"mac": "52:54:00:ab:cd:01", "address": "10.7.0.11/24"}],
        "parents": [{"addr": "10.7.0.1:7171"}],
        "parent_key_sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "join_token": "5e0c7f0e5e0c7f0e5e0c7f0e5e0c7f0e",
        "image_base": "http://10.7.0.1:8080/images"
    }"#;

    #[tokio::test]
    async fn what_cannot_run_is_told_of_each_image_and_of_all_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let seed = layercake_seed::Seed::parse(SEED.as_bytes()).unwrap();
        let mut config = crate::image::ServiceConfig::of_node(&seed);
        config.state_root = dir.path().join("run");
        config.cgroup_root = dir.path().join("cgroup");
        let service = ImageService::open(config).unwrap();
        let cfg = serde_json::json!({"images": {"db": {"size": 1}, "web": {"size": 1}}});
        let cfg = Document::from_json(&cfg).unwrap();
        let want = wanted(&NodeId::new("n1").unwrap(), &cfg).unwrap();
        assert_eq!(service.image_state(&want), ImageState::Idle, "nothing was tried yet");
        service.reconcile(&want).await.unwrap_err();
        assert_eq!(service.image_state(&want), ImageState::Error);
        let mut now = BTreeMap::new();
        blame(&service, &want, &mut now);
        let text = |path: &str| now[path].as_text().unwrap();
        for image in ["db", "web"] {
            assert_eq!(text(&format!("images.{image}.state")), "failed");
            let reason = text(&format!("images.{image}.reason"));
            assert!(reason.starts_with(&format!("image {image}: ")), "{reason}");
            assert!(text(REASON).contains(reason), "{}", text(REASON));
        }
        let mut other = BTreeMap::new();
        blame(&service, &[], &mut other);
        assert_eq!(other, BTreeMap::new(), "it says nothing about another want");
        assert_eq!(service.image_state(&[]), ImageState::Idle);
    }
}
