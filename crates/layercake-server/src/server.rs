//! The server: what it is made of, and in which order it starts and ends.

use crate::api::{self, Applied, ChangedLimits, Problem, between, made};
use crate::consent::{Consent, at_start};
use crate::hardware::Hardware;
use crate::limits::{limits, storm, storm_words, unused_domains};
use crate::listen::{ListenError, Listeners};
use crate::parent::{Parent, ParentError, Setup};
use crate::world::{Pace, World};
use axum::http::StatusCode;
use kraken::{CfgChange, Keeper, Kraken, Limit};
use kraken_model::{Document, NodeId, NodeSet, Registry, counted};
use kraken_modules::Modules;
use kraken_store::{Embedded, StoreError, ValueWrite};
use layercake_boot::hosts::BootFileError;
use layercake_config::{Cluster, Diagnostic};
use layercake_image::{ImageStore, StoreError as ImageStoreError};
use layercake_schema::{Timing, module, service_state};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

/// Where in the store the cluster file is that counts.
const NAMESPACE: &str = "cluster";

/// The key of the cluster file there.
const FILE: &str = "file";

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster file to apply at the start; without, the one applied last counts.
    pub cluster: Option<PathBuf>,
    /// Where everything that lasts is kept.
    pub state: PathBuf,
    /// Where running machines and sockets are.
    pub run: PathBuf,
    /// Kernel and initramfs of Layer 0, as built by `layercake-minos`.
    pub minos: PathBuf,
    /// Where the programs are that firmware loads: iPXE, as a distribution packages it.
    pub boot_programs: PathBuf,
    /// Where the files of modules out of process are; there need not be any.
    pub modules: PathBuf,
    /// The unix socket of the API.
    pub api_socket: PathBuf,
    /// The loopback address of the API.
    pub api_listen: SocketAddr,
}

/// A server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A directory cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened or read.
    #[error("cannot open what is kept")]
    Store(#[from] StoreError),
    /// The image store cannot be opened.
    #[error("cannot open the images")]
    Images(#[from] ImageStoreError),
    /// The schemas contradict each other: a mistake in the program.
    #[error("the schemas contradict each other")]
    Schemas(#[from] kraken_model::RegistryError),
    /// The files of modules out of process were refused.
    #[error("the modules in {} were refused:\n{}", dir.display(), lines(wrong))]
    Modules {
        /// Where they are.
        dir: PathBuf,
        /// Everything that is wrong with them.
        wrong: Vec<Diagnostic>,
    },
    /// The API cannot be listened for.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The cluster file cannot be read.
    #[error("cannot read the cluster file {}", path.display())]
    ClusterFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cluster file was refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// What machines need cannot be started.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// Kernel or initramfs of Layer 0 cannot be read.
    #[error("cannot read Layer 0; make it with `layercake minos build`")]
    Minos(#[from] BootFileError),
}

/// Something in files is wrong: what, where, and what to do about it.
fn unprocessable(title: &'static str, detail: &str, wrong: &[Diagnostic]) -> Problem {
    let errors = wrong.iter().map(ToString::to_string).collect();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail).with_errors(errors)
}

/// Modules that cannot be used.
fn refused(error: ServerError) -> Problem {
    match error {
        ServerError::Modules { dir, wrong } => {
            let errors = counted(wrong.len(), "error");
            let detail = format!("{}: {errors}, nothing was changed", dir.display());
            unprocessable("modules rejected", &detail, &wrong)
        }
        error => Problem::internal("the modules cannot be read", &error),
    }
}

fn lines(wrong: &[Diagnostic]) -> String {
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A cluster file, as it was applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Kept {
    /// As it is kept in the store.
    fn as_value(&self) -> ValueWrite {
        let value = serde_json::to_vec(self).unwrap_or_default();
        ValueWrite { namespace: NAMESPACE.into(), key: FILE.into(), value: Some(value) }
    }
}

/// What is remembered of the cluster file that counts, besides what it wants of nodes.
#[derive(Default)]
struct InFile {
    groups: BTreeMap<String, NodeSet>,
    /// The nodes whose image service is to be stopped: the cfg of one that is off cannot say so.
    unattended: BTreeSet<NodeId>,
    /// The limits that hold.
    limits: Vec<Limit>,
    /// The storm guard that counts.
    storm: layercake_config::Storm,
}

impl InFile {
    fn of(cluster: Cluster, pace: Pace) -> Self {
        let limits = limits(&cluster, pace);
        let service = service_state::path(module::IMAGE);
        let is_stopped =
            |cfg: &Document| cfg.text(service.as_str()) == Some(service_state::STOPPED);
        let stopped = cluster.nodes.iter().filter(|(_, cfg)| is_stopped(cfg));
        let unattended = stopped.map(|(node, _)| node.clone()).collect();
        Self { groups: cluster.groups, unattended, limits, storm: cluster.settings.storm }
    }
}

/// What may stand in a document, and the modules out of process that were read with it.
pub(crate) struct Declared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) modules: Modules,
}

/// What the API answers from.
pub(crate) struct App {
    config: Config,
    world: Arc<dyn World>,
    declared: RwLock<Arc<Declared>>,
    keeper: Keeper,
    pub(crate) images: ImageStore,
    applying: tokio::sync::Mutex<()>,
    file: RwLock<InFile>,
    /// There is nothing to run before the first cluster file says on which network.
    parent: OnceCell<Parent>,
    stop: CancellationToken,
}

/// A server that runs.
pub struct Server {
    app: Arc<App>,
    api: tokio::task::JoinHandle<()>,
    address: SocketAddr,
}

impl Server {
    /// Starts a server: the API, and everything that machines need as soon as there is a cluster
    /// file.
    ///
    /// # Errors
    /// With what stands in the way, and what to do about it.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let (run, minos) = (config.run.clone(), config.minos.clone());
        let hardware = Hardware::new(run, minos, &config.boot_programs);
        Self::start_in(config, Arc::new(hardware)).await
    }

    /// The same in another world than that of hardware.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_in(config: Config, world: Arc<dyn World>) -> Result<Self, ServerError> {
        for path in [&config.state, &config.run] {
            make_private(path)
                .map_err(|source| ServerError::Directory { path: path.clone(), source })?;
        }
        let declared = Declared::read(&config.modules)?;
        let store = Embedded::open(config.state.join("kraken.redb"))?;
        let images = ImageStore::open(config.state.join("images"))?;
        let listeners = Listeners::open(&config.api_socket, config.api_listen).await?;
        let address = listeners.address().unwrap_or(config.api_listen);
        let app = Arc::new(App {
            world,
            declared: RwLock::new(Arc::new(declared)),
            keeper: Keeper::new(Box::new(store)),
            images,
            applying: tokio::sync::Mutex::default(),
            file: RwLock::default(),
            parent: OnceCell::new(),
            stop: CancellationToken::new(),
            config,
        });
        app.resume().await?;
        let more = app.world.routes(api::Selection(Arc::clone(&app)));
        let router = api::router(Arc::clone(&app), more);
        let api = tokio::spawn(listeners.serve(router, app.stop.clone()));
        Ok(Self { app, api, address })
    }

    /// The loopback address of the API, with the port that was had.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many nodes there are by now.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.app.parent.get().map_or(0, |parent| parent.kraken.views().len())
    }

    /// Ends the server. Machines and nodes go on as they are.
    pub async fn shutdown(self) {
        self.app.stop.cancel();
        if let Some(parent) = self.app.parent.get() {
            parent.shutdown().await;
        }
        if let Err(error) = self.api.await {
            tracing::error!(%error, "the API broke off");
        }
    }
}

impl App {
    /// Takes up the cluster file that counts: the one given, or the one applied last.
    async fn resume(&self) -> Result<(), ServerError> {
        if let Some(path) = &self.config.cluster {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ServerError::ClusterFile { path: path.clone(), source })?;
            let kept = Kept { name: path.display().to_string(), text };
            let applied = self.apply(kept, &Consent::default(), "start").await;
            return applied.map(drop).map_err(|p| ServerError::Refused(at_start(p).into()));
        }
        let Some(kept) = self.kept_cluster().await? else {
            tracing::info!("no cluster file yet: apply one with `layercake apply`");
            return Ok(());
        };
        let cluster = self.standing_cluster(&kept)?;
        self.run(&cluster).await?;
        self.compare(&cluster);
        *self.file.write().unwrap_or_else(PoisonError::into_inner) =
            InFile::of(cluster, self.pace());
        Ok(())
    }

    /// Applies a cluster file: everything in it is checked first, and nothing is changed unless
    /// all of it is good.
    pub(crate) async fn apply(
        &self,
        kept: Kept,
        consent: &Consent,
        by: &str,
    ) -> Result<Applied, Problem> {
        let _turn = self.applying().await;
        let cluster = self.checked(&kept)?;
        self.agreed(&cluster, consent).await?;
        self.commit(kept, cluster, None, by).await
    }

    /// What applying a cluster file would change. Nothing is changed.
    pub(crate) async fn diff(&self, kept: Kept) -> Result<Applied, Problem> {
        let _turn = self.applying().await;
        let cluster = self.checked(&kept)?;
        let parent = self.parent.get();
        let before = parent.map(|parent| parent.kraken.views().all()).unwrap_or_default();
        let (nodes, notes) = (between(&before, &cluster.nodes), self.notes(&cluster).await?);
        Ok(Applied { dry_run: true, nodes, notes, ..self.applied(&cluster) })
    }

    /// The nodes that there are, also before anything runs.
    pub(crate) async fn node_names(&self) -> Result<BTreeSet<NodeId>, StoreError> {
        if let Some(parent) = self.parent.get() {
            return Ok(parent.kraken.views().all().into_keys().collect());
        }
        let loaded = self.keeper.with(|store| store.load()).await?;
        Ok(loaded.cfg.into_iter().map(|(node, _)| node).collect())
    }

    /// One after the other: each is compared with what the one before left.
    pub(crate) async fn applying(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.applying.lock().await
    }

    /// A cluster file, checked.
    pub(crate) fn checked(&self, kept: &Kept) -> Result<Cluster, Problem> {
        let cluster = self.read_cluster(kept).map_err(|wrong| {
            let detail = format!("{}, nothing was changed", counted(wrong.len(), "error"));
            unprocessable("cluster file rejected", &detail, &wrong)
        })?;
        self.fits(&cluster)?;
        Ok(cluster)
    }

    /// Reads the modules out of process again, and goes over to them. Nothing changes unless all of them are
    /// good, and the cluster file that counts fits them.
    pub(crate) async fn read_modules(&self, by: &str) -> Result<(), Problem> {
        let _turn = self.applying().await;
        let declared = Declared::read(&self.config.modules).map_err(refused)?;
        let not_read = |error: StoreError| Problem::internal("cannot read what is kept", &error);
        if let Some(kept) = self.kept_cluster().await.map_err(not_read)? {
            let (_, before) = self.read_cluster_with(&self.declared(), &kept);
            let (_, mut wrong) = self.read_cluster_with(&declared, &kept);
            // What was wrong already is no matter of the modules.
            wrong.retain(|mistake| !before.contains(mistake));
            if !wrong.is_empty() {
                let errors = counted(wrong.len(), "error");
                let detail = format!(
                    "the cluster file in use does not fit these modules ({errors}), nothing was changed"
                );
                return Err(unprocessable("modules rejected", &detail, &wrong));
            }
        }
        let declared = Arc::new(declared);
        if let Some(parent) = self.parent.get() {
            parent.equip(&declared, self.pace(), by).await?;
        }
        *self.declared.write().unwrap_or_else(PoisonError::into_inner) = declared;
        Ok(())
    }

    /// What a person should know about applying a cluster, besides what changes of nodes.
    fn applied(&self, cluster: &Cluster) -> Applied {
        let mut notes = self.parent.get().map(|p| p.notes(cluster)).unwrap_or_default();
        notes.extend(unused_domains(cluster));
        let limits = self.changed_limits(cluster);
        Applied { dry_run: false, revision: 0, nodes: Vec::new(), limits, notes }
    }

    /// What applying a cluster would change of the limits, and of the storm guard.
    pub(crate) fn changed_limits(&self, cluster: &Cluster) -> ChangedLimits {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let mut changed = ChangedLimits::between(&file.limits, &limits(cluster, self.pace()));
        let storm = &cluster.settings.storm;
        if file.storm != *storm {
            changed.go.push(storm_words(&file.storm));
            changed.come.push(storm_words(storm));
        }
        changed
    }

    /// Makes a cluster what counts: its cfg, its limits and its file at once, or nothing of it. Where a revision is
    /// given, only if it is still the present one.
    pub(crate) async fn commit(
        &self,
        kept: Kept,
        cluster: Cluster,
        revision: Option<u64>,
        by: &str,
    ) -> Result<Applied, Problem> {
        self.run(&cluster).await.map_err(|error| Problem::internal("cannot start", &error))?;
        let mut applied = self.applied(&cluster);
        let change = CfgChange {
            at: revision,
            limits: Some(limits(&cluster, self.pace())),
            storm: Some(storm(&cluster, self.pace())),
            values: vec![kept.as_value()],
            ..CfgChange::whole(&cluster.nodes)
        };
        let configured = self.kraken()?.change(change, by).await?;
        applied.nodes = made(&configured.nodes);
        if !applied.nodes.is_empty() {
            applied.revision = configured.revision;
        }
        *self.file.write().unwrap_or_else(PoisonError::into_inner) =
            InFile::of(cluster, self.pace());
        Ok(applied)
    }

    /// Says for how many nodes something else is wanted than the cluster file that counts says: it is for a person
    /// to judge whether that is meant.
    fn compare(&self, cluster: &Cluster) {
        let Ok(kraken) = self.kraken() else { return };
        let other = between(&kraken.views().all(), &cluster.nodes);
        if !other.is_empty() {
            let nodes: NodeSet = other.iter().map(|node| node.name.clone()).collect();
            tracing::warn!(
                %nodes,
                "what these nodes should be is not what the cluster file says: they were switched by hand, or \
                 what it names has moved since; `layercake plan` shows what applying it again would change"
            );
        }
    }

    /// Every mutation that there is.
    pub(crate) fn mutations(&self, timing: &Timing) -> Vec<kraken_plan::Mutation> {
        self.mutations_of(&self.declared(), timing)
    }

    fn mutations_of(&self, declared: &Declared, timing: &Timing) -> Vec<kraken_plan::Mutation> {
        crate::parent::mutations(&declared.modules, timing, self.pace())
    }

    /// How fast time passes for the machines.
    pub(crate) fn pace(&self) -> Pace {
        self.world.pace()
    }

    /// What may stand in a document.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.declared().registry)
    }

    /// What is declared now.
    pub(crate) fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.declared.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts everything that machines need, the first time there is a cluster.
    async fn run(&self, cluster: &Cluster) -> Result<(), ServerError> {
        let start = || async {
            let setup = Setup {
                cluster,
                declared: self.declared(),
                keeper: self.keeper.clone(),
                images: self.images.clone(),
                run: &self.config.run,
                world: self.world.as_ref(),
            };
            Parent::start(setup).await
        };
        self.parent.get_or_try_init(start).await?;
        Ok(())
    }

    fn read_cluster(&self, kept: &Kept) -> Result<Cluster, Vec<Diagnostic>> {
        let (cluster, wrong) = self.read_cluster_with(&self.declared(), kept);
        cluster.filter(|_| wrong.is_empty()).ok_or(wrong)
    }

    /// The cluster file that counts. It was good when it was applied: what is wrong with it by a rule that
    /// came later, or since an image is gone, is said, and costs nobody else the server.
    fn standing_cluster(&self, kept: &Kept) -> Result<Cluster, ServerError> {
        let (cluster, wrong) = self.read_cluster_with(&self.declared(), kept);
        for mistake in &wrong {
            tracing::warn!(%mistake, "the cluster file that counts would be refused now");
        }
        cluster.ok_or_else(|| {
            let errors = wrong.iter().map(ToString::to_string).collect();
            let detail = "it was good when it was applied; give a good one with --cluster";
            let problem = Problem::bad_request("the cluster file is bad now", detail);
            ServerError::Refused(problem.with_errors(errors).into())
        })
    }

    fn read_cluster_with(
        &self,
        declared: &Declared,
        kept: &Kept,
    ) -> (Option<Cluster>, Vec<Diagnostic>) {
        let makes_up = self.world.makes_up_images();
        let images = crate::images::Lookup { store: &self.images, makes_up };
        // Their times do not matter here, their names do.
        let steps = self.mutations_of(declared, &Timing::default());
        let steps: Vec<&str> = steps.iter().map(|mutation| mutation.name.as_ref()).collect();
        let registry = &declared.registry;
        let context = layercake_config::Context { registry, images: &images, steps: &steps };
        layercake_config::read(&kept.name, &kept.text, &context)
    }

    /// The cluster file that was applied last.
    pub(crate) async fn kept_cluster(&self) -> Result<Option<Kept>, StoreError> {
        let kept = self.keeper.with(|store| store.get(NAMESPACE, FILE)).await?;
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes)
                .inspect_err(|error| tracing::error!(%error, "the kept cluster file is unreadable"))
                .ok()
        };
        Ok(kept.and_then(parse))
    }

    /// What runs for the machines.
    pub(crate) fn running(&self) -> Result<&Parent, Problem> {
        self.parent.get().ok_or_else(|| {
            let detail = "nothing was applied so far: `layercake apply -f cluster.yaml`";
            Problem::new(StatusCode::CONFLICT, "no cluster yet", detail)
        })
    }

    /// The application that looks after the nodes.
    pub(crate) fn kraken(&self) -> Result<&Kraken, Problem> {
        Ok(&self.running()?.kraken)
    }

    /// The nodes of a group of the cluster file.
    pub(crate) fn group(&self, name: &str) -> Option<NodeSet> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).groups.get(name).cloned()
    }

    /// The names of the groups of the cluster file.
    pub(crate) fn group_names(&self) -> Vec<String> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).groups.keys().cloned().collect()
    }

    /// Whether the cluster file wants a node's images to be looked after by nobody.
    pub(crate) fn is_unattended(&self, node: &NodeId) -> bool {
        self.file.read().unwrap_or_else(PoisonError::into_inner).unattended.contains(node)
    }

    /// The architectures of the cluster's nodes, as far as they are known.
    pub(crate) fn architectures(&self) -> BTreeSet<String> {
        let Some(parent) = self.parent.get() else { return BTreeSet::new() };
        let views = parent.kraken.views().all().into_values();
        let of = |doc: &kraken_model::Document| doc.get("arch")?.as_text().map(str::to_owned);
        views.filter_map(|view| of(&view.dsc).or_else(|| of(&view.cfg))).collect()
    }

    /// The nodes whose cfg or dsc names an image.
    pub(crate) fn image_users(&self, image: &str) -> Vec<NodeId> {
        let Ok(info) = self.images.inspect(image) else { return Vec::new() };
        let digest = info.meta.digest.to_string();
        let Some(parent) = self.parent.get() else { return Vec::new() };
        let uses = |doc: &kraken_model::Document| {
            let mut digests = doc.under("images").filter(|(p, _)| p.as_str().ends_with(".digest"));
            digests.any(|(_, value)| value.as_text() == Some(&digest))
        };
        let all = parent.kraken.views().all().into_iter();
        all.filter(|(_, view)| uses(&view.cfg) || uses(&view.dsc)).map(|(node, _)| node).collect()
    }
}

impl Declared {
    /// What the server declares, with the modules out of process that are in a directory.
    fn read(dir: &Path) -> Result<Self, ServerError> {
        let mut schemas = layercake_schema::schemas();
        // Their times do not matter here, their names do.
        let mutations = layercake_schema::mutations(&Timing::default());
        let modules = Modules::read(dir, &schemas, &mutations)
            .map_err(|wrong| ServerError::Modules { dir: dir.to_owned(), wrong })?;
        schemas.extend(modules.schemas());
        Ok(Self { registry: Arc::new(Registry::new(schemas)?), modules })
    }
}

/// Makes a directory that only root may look into: it holds keys and tokens.
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
