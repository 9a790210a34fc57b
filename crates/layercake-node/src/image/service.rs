//! The service itself: from what is wanted to what runs.

mod state;
mod swap;

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layercake_seed::ImageBase;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::assess::{Failure, ImageState, Observation, assess};
use super::fetch::{Fetch, FetchError, Progress};
use super::kernel::{Kernel, Linux};
use super::objects::{BuildError, Objects};
use super::tail::{self, ImageLine};
use super::{Digest, ImageName, ImageSpec, InstanceDir, InstanceId, Store};
use crate::monitor::LogLimits;
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
    /// How much output of a container is kept.
    pub log_limits: LogLimits,
    /// Told about every piece of an image that arrives.
    pub on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl ServiceConfig {
    /// As it is on a node.
    #[must_use]
    pub fn of_node(image_base: ImageBase) -> Self {
        Self {
            state_root: "/run/layercake".into(),
            cgroup_root: "/sys/fs/cgroup/layercake".into(),
            program: "/proc/self/exe".into(),
            image_base,
            resolv_conf: "/etc/resolv.conf".into(),
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

/// Why what is wanted does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The want itself cannot be right.
    #[error("the wanted images cannot be run together: {0}")]
    Want(String),
    /// An image could not be brought here.
    #[error("image {name}: cannot fetch {digest}")]
    Fetch {
        /// Under which name it is wanted.
        name: ImageName,
        /// Which image.
        digest: Digest,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// A container could not be prepared. What ran before still runs.
    #[error("image {name}: cannot prepare the container")]
    Prepare {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// A prepared container did not start.
    #[error("image {name}: cannot start the container")]
    Start {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// A container could not be stopped or taken down.
    #[error("image {name}: cannot stop the container")]
    Stop {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// What an earlier run left could not be removed.
    #[error("cannot remove what an earlier run left")]
    Sweep(#[source] BuildError),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service was closed before the work was done.
    #[error("the image service was closed")]
    Closed,
    /// The work was given up because the process ends, or a defect stopped it.
    #[error("the image service was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl ServiceError {
    /// The image that it is about.
    #[must_use]
    pub fn image(&self) -> Option<&ImageName> {
        match self {
            Self::Fetch { name, .. }
            | Self::Prepare { name, .. }
            | Self::Start { name, .. }
            | Self::Stop { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The whole story in one line, for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
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
            last_failure: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        inner.adopt()?;
        Ok(Self { inner })
    }

    /// Makes exactly the wanted images run.
    ///
    /// Runs to its end even when the caller stops waiting; a second call waits for the first.
    pub async fn reconcile(&self, want: &[ImageSpec]) -> Result<Report, ServiceError> {
        let (inner, want) = (Arc::clone(&self.inner), want.to_vec());
        let work = tokio::spawn(async move { inner.reconcile(want).await });
        work.await.map_err(ServiceError::Interrupted)?
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
        self.inner.fetch_all(want).await
    }

    /// Every container as it is now.
    #[must_use]
    pub fn observe(&self) -> Vec<Observation> {
        self.inner.containers.observe()
    }

    /// The node's `image_state` in view of what is wanted.
    #[must_use]
    pub fn image_state(&self, want: &[ImageSpec]) -> ImageState {
        assess(want, &self.observe(), lock(&self.inner.last_failure).as_ref())
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
            image: error.image().cloned(),
            reason: error.reason(),
            want,
        });
        self.changed();
        result
    }

    async fn bring_about(self: &Arc<Self>, want: &[ImageSpec]) -> Result<Report, ServiceError> {
        check_together(want)?;
        self.blocking(|objects| objects.sweep()).await?.map_err(ServiceError::Sweep)?;
        let mut report = Report { fetched: self.fetch_all(want).await?, ..Report::default() };
        let done = self.swap(want, &mut report).await;
        // Also after a failure: what is neither wanted nor running only takes memory.
        report.collected = self.collect(want, true)?;
        done.map(|()| report)
    }

    async fn fetch_all(&self, want: &[ImageSpec]) -> Result<Vec<Digest>, ServiceError> {
        let mut fetched = Vec::new();
        if want.iter().any(|spec| !self.store.has(spec.digest)) {
            self.collect(want, true)?;
        }
        for spec in want.iter().filter(|spec| !self.store.has(spec.digest)) {
            let mut result = self.fetch_unless_closing(spec).await?;
            if matches!(result, Err(FetchError::NoRoom { .. })) {
                // The previous image is a comfort, the wanted one is needed.
                self.collect(want, false)?;
                result = self.fetch_unless_closing(spec).await?;
            }
            result.map_err(|source| ServiceError::Fetch {
                name: spec.name.clone(),
                digest: spec.digest,
                source,
            })?;
            fetched.push(spec.digest);
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

fn check_together(want: &[ImageSpec]) -> Result<(), ServiceError> {
    if want.len() > MAX_IMAGES {
        return Err(ServiceError::Want(format!("{} are more than {MAX_IMAGES}", want.len())));
    }
    let mut names = BTreeSet::new();
    for spec in want {
        spec.check().map_err(|error| ServiceError::Want(error.to_string()))?;
        if !names.insert(&spec.name) {
            return Err(ServiceError::Want(format!("two have the name {}", spec.name)));
        }
    }
    Ok(())
}
