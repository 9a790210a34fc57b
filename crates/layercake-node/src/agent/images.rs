//! The image module: what the engine asks of the image service, and what it is told.

use crate::image::{ContainerState, Digest, ImageName, ImageService, ImageSpec, Kind, Observation};
use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order};
use kraken_model::{Change, Document, NodeId, Path, Value};
use layercake_schema::image_state;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Why the images are not as configured.
const REASON: &str = "image_reason";

/// The longest reason that is told, in characters.
const MAX_REASON: usize = 1000;

/// Runs the images of this node.
pub(super) struct ImageModule {
    node: NodeId,
    service: ImageService,
    /// How long nothing ran at the last change of each image, in microseconds.
    gaps_us: Mutex<BTreeMap<String, i64>>,
}

impl ImageModule {
    pub(super) fn new(node: NodeId, service: ImageService) -> Self {
        Self { node, service, gaps_us: Mutex::default() }
    }

    /// Reports how the images are, in view of what cfg wants now.
    async fn report(&self, context: &Context) {
        let view = context.views().get(&self.node).unwrap_or_default();
        let mut now = BTreeMap::new();
        for seen in self.service.observe() {
            describe(&seen, &mut now);
        }
        for (name, gap) in self.gaps_us.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if now.contains_key(&format!("images.{name}.state")) {
                now.insert(format!("images.{name}.gap_us"), (*gap).into());
            }
        }
        let failure = self.service.last_failure();
        let state = match wanted(&self.node, &view.cfg) {
            Ok(want) => {
                let failure = failure.filter(|failure| failure.want == want);
                if let Some(failure) = failure {
                    now.insert(REASON.to_owned(), told(&failure.reason));
                    if let Some(image) = failure.image {
                        now.insert(format!("images.{image}.reason"), told(&failure.reason));
                    }
                }
                self.service.image_state(&want).as_str()
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
        context.discover(&self.node, changes).await;
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
}

/// The images that a cfg wants to run.
fn wanted(node: &NodeId, cfg: &Document) -> Result<Vec<ImageSpec>, String> {
    cfg.names("images").into_iter().map(|name| spec(node, cfg, name)).collect()
}

fn spec(node: &NodeId, cfg: &Document, name: &str) -> Result<ImageSpec, String> {
    let fact = |key: &str| cfg.get(&format!("images.{name}.{key}"));
    let missing = |key: &str| format!("images.{name}.{key} is missing or not right");
    let digest: Digest = fact("digest")
        .and_then(Value::as_text)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| missing("digest"))?;
    let size = fact("size").and_then(Value::as_int).and_then(|size| u64::try_from(size).ok());
    let words = fact("command").and_then(Value::as_list).unwrap_or_default();
    let command = words.iter().filter_map(Value::as_text).map(str::to_owned).collect();
    let label: ImageName = name.parse().map_err(|_| format!("{name} cannot name an image"))?;
    let size = size.ok_or_else(|| missing("size"))?;
    let mut spec = ImageSpec::plain(label, digest, size, command);
    if fact("kind").and_then(Value::as_text) == Some("systemd") {
        spec.kind = Kind::Systemd;
    }
    let below = format!("images.{name}.env");
    let env = cfg
        .names(&below)
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), cfg.text(&format!("{below}.{key}"))?.to_owned())));
    spec.env = env.collect();
    // A system image is the node to whoever logs in, whatever it was called where it was built.
    spec.hostname = Some(node.to_string());
    spec.check().map_err(|error| error.to_string())?;
    Ok(spec)
}

#[async_trait]
impl Module for ImageModule {
    fn name(&self) -> &str {
        layercake_schema::module::IMAGE
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == REASON || path.is_under("images")
    }

    async fn run(&self, context: Context) {
        let mut subscription = context.subscribe();
        let mut changes = self.service.changes();
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
            self.report(&context).await;
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let fail = |reason: String| Failure { reason, permanent: false };
        let want = match order.mutation.as_ref() {
            "image.discover" => {
                self.report(context).await;
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
        let done = self.service.reconcile(&want).await;
        for started in done.iter().flat_map(|report| &report.started) {
            if let Some(gap) = started.gap_ns.and_then(|ns| i64::try_from(ns / 1000).ok()) {
                let mut gaps = self.gaps_us.lock().unwrap_or_else(PoisonError::into_inner);
                gaps.insert(started.name.to_string(), gap);
            }
        }
        self.report(context).await;
        done.map(drop).map_err(|error| fail(error.reason()))
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
        let refused =
            wanted(&NodeId::new("n1").unwrap(), &Document::from_json(&cfg).unwrap()).unwrap_err();
        assert_eq!(refused, "images.web.digest is missing or not right");
    }
}
