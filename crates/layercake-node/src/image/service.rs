//! The service itself: from what is wanted to what runs.

mod error;
mod state;
mod swap;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layercake_seed::{ImageBase, Seed};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::assess::{Failure, ImageState, Observation, assess};
use super::fetch::{Fetch, FetchError, Progress};
use super::kernel::{Kernel, Linux};
use super::machine_id::machine_id;
use super::objects::Objects;
use super::replacements::Replacements;
use super::tail::{self, ImageLine};
use super::{Digest, ImageName, ImageSpec, InstanceDir, InstanceId, Store};
use crate::monitor::LogLimits;
pub use error::{Failures, ServiceError};
use state::Containers;

/// The most images at once; a node runs a handful.
pub const MAX_IMAGES: usize = 64;
/// How many log lines wait for a reader before the log file alone holds them.
const LINES_WAITING: usize = 256;

/// Where things are, and what may be used.
pub struct ServiceConfig {
    /// Images, mounts and records lie below this directory; `/run/layercake` on a node.
    pub state_root: PathBuf,
    /// Containers' cgroups lie below this one; `/sys/fs/cgroup/layercake` on a node.
    pub cgroup_root: PathBuf,
    /// The node binary, which is also monitor and container; `/proc/self/exe` on a node.
    pub program: PathBuf,
    /// Where images come from.
    pub image_base: ImageBase,
    /// The resolver file that containers get.
    pub resolv_conf: PathBuf,
    /// The node's machine id, which containers get too: [`super::machine_id`].
    pub machine_id: String,
    /// The node's addresses, for the hosts file of containers.
    pub addresses: Vec<IpAddr>,
    /// How much output of a container is kept.
    pub log_limits: LogLimits,
    /// Told about every piece of an image that arrives.
    pub on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl ServiceConfig {
    /// As it is on the node of a seed.
    #[must_use]
    pub fn of_node(seed: &Seed) -> Self {
        Self {
            state_root: "/run/layercake".into(),
            cgroup_root: "/sys/fs/cgroup/layercake".into(),
            program: "/proc/self/exe".into(),
            image_base: seed.image_base.clone(),
            resolv_conf: "/etc/resolv.conf".into(),
            machine_id: machine_id(&seed.cluster, &seed.node),
            addresses: seed.interfaces.iter().map(|interface| interface.address.ip()).collect(),
            log_limits: LogLimits::default(),
            on_progress: Arc::new(|_| {}),
        }
    }

    /// Where a container's record and mounts are.
    pub(super) fn instance_dir(&self, id: &InstanceId) -> InstanceDir {
        let dir = self.state_root.join("containers").join(id.name.as_str());
        InstanceDir(dir.join(id.number.to_string()))
    }
}

/// A container that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Under which name.
    pub name: ImageName,
    /// From which image.
    pub digest: Digest,
    /// The image that it took over from, if one was running.
    pub replaced: Option<Digest>,
    /// How long the old main process took to stop, from the signal on.
    pub stop_ns: Option<u64>,
    /// From the end of the old main process to the start of the new one: the time in which
    /// nothing ran, and which is ours to keep short.
    pub gap_ns: Option<u64>,
}

/// What a reconcile did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Images that were brought here.
    pub fetched: Vec<Digest>,
    /// Containers that were started.
    pub started: Vec<Started>,
    /// Names that are not wanted any more and were stopped.
    pub stopped: Vec<ImageName>,
    /// Names that ran as wanted already.
    pub kept: Vec<ImageName>,
    /// Images that were removed from memory.
    pub collected: Vec<Digest>,
}

/// The image service of one node. Cheap to clone; all clones are the same service.
#[derive(Clone)]
pub struct ImageService {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<ServiceConfig>,
    store: Store,
    /// One reconcile at a time.
    turn: tokio::sync::Mutex<()>,
    closing: CancellationToken,
    objects: Arc<Mutex<Objects>>,
    containers: Containers,
    /// Which images may be there to replace those that are not wanted any more.
    replacements: Mutex<Replacements>,
    /// What was there when each step began that somebody waits for, the latest last.
    under_way: Mutex<Vec<(u64, Vec<Observation>)>>,
    last_failure: Mutex<Option<Failure>>,
    /// Counts observable changes.
    changes: watch::Sender<u64>,
}

/// A lock whose holder panicked: the node goes on with what it protects, which is replaced as a
/// whole by every writer.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageService {
    /// Opens the service on the real kernel, adopts running containers and removes what an
    /// earlier run left half-way. Needs a tokio runtime.
    pub fn open(config: ServiceConfig) -> Result<Self, ServiceError> {
        Self::open_on(config, Arc::new(Linux))
    }

    /// The same on another kernel.
    pub fn open_on(config: ServiceConfig, kernel: Arc<dyn Kernel>) -> Result<Self, ServiceError> {
        let images = config.state_root.join("images");
        let store = Store::open(images.clone())
            .map_err(|source| ServiceError::State { path: images, source })?;
        let config = Arc::new(config);
        let objects = Objects::new(Arc::clone(&config), kernel, store.clone());
        let inner = Arc::new(Inner {
            config,
            store,
            turn: tokio::sync::Mutex::new(()),
            closing: CancellationToken::new(),
            objects: Arc::new(Mutex::new(objects)),
            containers: Containers::default(),
            replacements: Mutex::default(),
            under_way: Mutex::default(),
            last_failure: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        inner.adopt()?;
        Ok(Self { inner })
    }

    /// Makes exactly the wanted images run. One that cannot run keeps no other from it.
    ///
    /// Runs to its end even when the caller stops waiting; a second call waits for the first. As long as the caller
    /// waits this is one step: [`Self::image_state`] is that of before, and not of the middle of it.
    pub async fn reconcile(&self, want: &[ImageSpec]) -> Result<Report, ServiceError> {
        let _step = Step::begin(&self.inner);
        let (inner, want) = (Arc::clone(&self.inner), want.to_vec());
        let work = tokio::spawn(async move { inner.reconcile(want).await });
        work.await.map_err(ServiceError::Interrupted)?
    }

    /// Starts again what is wanted and does not run, and leaves alone what runs, also where something else is wanted in
    /// its place: to change that is another step, which may have to wait until nobody uses the node.
    ///
    /// When just this want was tried before and failed, the change had begun, and is gone on with.
    pub async fn restart(&self, want: &[ImageSpec]) -> Result<Report, ServiceError> {
        if self.last_failure().is_some_and(|failure| failure.want == want) {
            return self.reconcile(want).await;
        }
        let mut running = self.observe();
        running.retain(Observation::is_up);
        let instead = |spec: &ImageSpec| running.iter().find(|seen| seen.name == spec.name);
        let kept = |spec: &ImageSpec| instead(spec).map_or(spec, |seen| &seen.spec).clone();
        let mut want: Vec<ImageSpec> = want.iter().map(kept).collect();
        for seen in &running {
            if !want.iter().any(|spec| spec.name == seen.name) {
                want.push(seen.spec.clone());
            }
        }
        self.reconcile(&want).await
    }

    /// Gives up what is being fetched, and waits for the end of what cannot be given up half-way. From
    /// then on it does nothing, and what runs runs on; another service may be opened in its place.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        drop(self.inner.turn.lock().await);
    }

    /// Brings images here without running them, so that a later swap needs no fetch.
    pub async fn prefetch(&self, want: &[ImageSpec]) -> Result<Vec<Digest>, ServiceError> {
        let _turn = self.inner.turn.lock().await;
        let mut failures = Failures::default();
        let fetched = self.inner.fetch_all(want, &mut failures).await?;
        failures.of.into_values().next().map_or(Ok(fetched), Err)
    }

    /// Every container as it is now.
    #[must_use]
    pub fn observe(&self) -> Vec<Observation> {
        self.inner.containers.observe()
    }

    /// The node's `image_state` in view of what is wanted.
    #[must_use]
    pub fn image_state(&self, want: &[ImageSpec]) -> ImageState {
        let before = lock(&self.inner.under_way).last().map(|(_, seen)| seen.clone());
        let seen = before.unwrap_or_else(|| self.observe());
        assess(want, &seen, lock(&self.inner.last_failure).as_ref())
    }

    /// What the last reconcile failed with, if it did.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        lock(&self.inner.last_failure).clone()
    }

    /// Changes whenever [`Self::observe`] may say something new.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// The lines that containers write from now on. A slow reader loses none until the log file
    /// has been replaced twice. Ends when the receiver is dropped.
    pub fn follow_logs(&self) -> io::Result<mpsc::Receiver<ImageLine>> {
        let (sender, receiver) = mpsc::channel(LINES_WAITING);
        let logs = self.inner.config.state_root.join("logs");
        let tail = tail::Tail::open(&logs)?;
        tokio::spawn(tail.run(sender));
        Ok(receiver)
    }
}

impl Inner {
    async fn reconcile(self: Arc<Self>, want: Vec<ImageSpec>) -> Result<Report, ServiceError> {
        let _turn = self.turn.lock().await;
        if self.closing.is_cancelled() {
            return Err(ServiceError::Closed);
        }
        let result = self.bring_about(&want).await;
        *lock(&self.last_failure) = result.as_ref().err().map(|error| Failure {
            images: error.images(),
            reason: error.reason(),
            want,
        });
        self.changed();
        result
    }

    async fn bring_about(self: &Arc<Self>, want: &[ImageSpec]) -> Result<Report, ServiceError> {
        check_together(want)?;
        self.blocking(|objects| objects.sweep()).await?.map_err(ServiceError::Sweep)?;
        let mut failures = Failures::default();
        for spec in want {
            let refused = spec.refusal.clone();
            let reason = refused.or_else(|| spec.check().err().map(|error| error.to_string()));
            if let Some(reason) = reason {
                let name = spec.name.clone();
                failures.add(name.clone(), ServiceError::Refused { name, reason });
            }
        }
        let fetched = self.fetch_all(want, &mut failures).await?;
        let mut report = Report { fetched, ..Report::default() };
        self.swap(want, &mut failures, &mut report).await;
        // Also after a failure: what is neither wanted nor running only takes memory.
        let collected = self.collect(want, true);
        if !failures.of.is_empty() {
            report.collected = collected.unwrap_or_default();
            return Err(ServiceError::Images { failures, done: Box::new(report) });
        }
        report.collected = collected?;
        Ok(report)
    }

    async fn fetch_all(
        &self,
        want: &[ImageSpec],
        failures: &mut Failures,
    ) -> Result<Vec<Digest>, ServiceError> {
        let mut fetched = Vec::new();
        let mut missing: Vec<&ImageSpec> = want.iter().collect();
        missing
            .retain(|spec| !failures.of.contains_key(&spec.name) && !self.store.has(spec.digest));
        if !missing.is_empty() {
            self.collect(want, true)?;
        }
        for spec in missing {
            if self.store.has(spec.digest) {
                continue;
            }
            let mut result = self.fetch_unless_closing(spec).await?;
            if matches!(result, Err(FetchError::NoRoom { .. })) {
                // The previous image is a comfort, the wanted one is needed.
                self.collect(want, false)?;
                result = self.fetch_unless_closing(spec).await?;
            }
            let (name, digest) = (spec.name.clone(), spec.digest);
            match result {
                Ok(()) => fetched.push(digest),
                Err(source) => {
                    failures.add(name.clone(), ServiceError::Fetch { name, digest, source });
                }
            }
        }
        Ok(fetched)
    }

    /// What was received stays, and is taken up by the next fetch.
    async fn fetch_unless_closing(
        &self,
        spec: &ImageSpec,
    ) -> Result<Result<(), FetchError>, ServiceError> {
        tokio::select! {
            fetched = self.fetch(spec) => Ok(fetched),
            () = self.closing.cancelled() => Err(ServiceError::Closed),
        }
    }

    async fn fetch(&self, spec: &ImageSpec) -> Result<(), FetchError> {
        let fetch = Fetch {
            base: &self.config.image_base,
            store: &self.store,
            digest: spec.digest,
            size: spec.size,
            on_progress: &*self.config.on_progress,
        };
        fetch.run().await
    }

    fn collect(
        &self,
        want: &[ImageSpec],
        keep_previous: bool,
    ) -> Result<Vec<Digest>, ServiceError> {
        let mut keep: BTreeSet<Digest> = want.iter().map(|spec| spec.digest).collect();
        keep.extend(self.containers.digests(keep_previous));
        self.store.collect(&keep).map_err(|source| ServiceError::State {
            path: self.config.state_root.join("images"),
            source,
        })
    }

    /// Runs kernel work off the threads that serve the network.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Objects) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let objects = Arc::clone(&self.objects);
        let done = tokio::task::spawn_blocking(move || work(&mut lock(&objects)));
        done.await.map_err(ServiceError::Interrupted)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A step that somebody waits for.
struct Step {
    inner: Arc<Inner>,
    number: u64,
}

impl Step {
    fn begin(inner: &Arc<Inner>) -> Self {
        let before = inner.containers.observe();
        let mut under_way = lock(&inner.under_way);
        let number = under_way.last().map_or(0, |(last, _)| last + 1);
        under_way.push((number, before));
        drop(under_way);
        Self { inner: Arc::clone(inner), number }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        lock(&self.inner.under_way).retain(|(number, _)| *number != self.number);
        self.inner.changed();
    }
}

fn check_together(want: &[ImageSpec]) -> Result<(), ServiceError> {
    if want.len() > MAX_IMAGES {
        return Err(ServiceError::Want(format!("{} are more than {MAX_IMAGES}", want.len())));
    }
    let mut names = BTreeSet::new();
    for spec in want {
        if !names.insert(&spec.name) {
            return Err(ServiceError::Want(format!("two have the name {}", spec.name)));
        }
    }
    Ok(())
}
