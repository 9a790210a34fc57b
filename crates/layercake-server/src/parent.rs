//! Everything that runs for the machines of a cluster.

use crate::limits::limits;
use crate::logs::Logs;
use crate::tickets::SyncTickets;
use crate::told::Told;
use kraken::{
    Availability, Identity, IdentityError, Keeper, Kraken, KrakenError, Module, Options, Settings,
    Storm, Tasks,
};
use kraken::{SyncError, SyncOptions, SyncParent};
use kraken_model::{Path as Address, Registry};
use kraken_modules::Modules;
use kraken_plan::{Effect, ModuleSet, Mutation};
use kraken_store::{Bounds, StoreError};
use layercake_boot::hosts::BootFileError;
use layercake_boot::{
    BootConfig, BootFile, BootHandle, BootModule, BootService, Hosts, Material, StartError,
};
use layercake_config::{Cluster, Settings as ClusterSettings};
use layercake_image::{ImageStore, ServeCounters};
use layercake_power::{PowerModule, QemuHost};
use layercake_schema::{Timing, image_state, phys_state};
use layercake_seed::{SeedParent, ValueError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// The port on which nodes join (TCP) and are heard (UDP).
const SYNC_PORT: u16 = 8475;

/// Where in the store the parent's own things are.
const NAMESPACE: &str = "parent";

/// The key of its identity there.
const IDENTITY: &str = "identity";

/// What is needed to start.
pub(crate) struct Setup<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) registry: Arc<Registry>,
    pub(crate) modules: &'a Modules,
    pub(crate) keeper: Keeper,
    pub(crate) images: ImageStore,
    pub(crate) run: &'a Path,
    pub(crate) minos: &'a Path,
}

/// What machines need cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The mutations contradict each other: a mistake in the program.
    #[error("the mutations cannot be used: {0}")]
    Mutations(String),
    /// The schemas contradict each other: a mistake in the program.
    #[error("the schemas contradict each other")]
    Schemas(#[from] kraken_model::RegistryError),
    /// What is kept cannot be read or written.
    #[error("cannot read or write what is kept")]
    Store(#[from] StoreError),
    /// The key by which nodes know this parent cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nodes cannot join.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Machines cannot boot.
    #[error(transparent)]
    Boot(#[from] StartError),
    /// Layer 0 is not there.
    #[error("cannot read Layer 0; make it with `layercake minos build`")]
    Minos(#[from] BootFileError),
    /// An address does not fit.
    #[error("an address of the cluster file cannot be used")]
    Address(#[from] ValueError),
    /// QEMU machines have no place.
    #[error("cannot run QEMU machines")]
    Qemu(#[source] io::Error),
    /// The engine cannot start.
    #[error(transparent)]
    Kraken(#[from] KrakenError),
}

/// Everything that runs for the machines.
pub(crate) struct Parent {
    pub(crate) cluster: String,
    pub(crate) kraken: Kraken,
    pub(crate) power: Arc<PowerModule>,
    pub(crate) boot: Arc<BootModule>,
    pub(crate) logs: Arc<Logs>,
    sync: Arc<SyncParent>,
    settings: ClusterSettings,
    served: Arc<ServeCounters>,
    service: Mutex<Option<BootHandle>>,
    tasks: Mutex<Option<Tasks>>,
}

impl Parent {
    /// Starts it all: nodes that were known are adopted, machines are answered.
    pub(crate) async fn start(setup: Setup<'_>) -> Result<Self, ParentError> {
        let Setup { cluster, registry, keeper, images, .. } = setup;
        let settings = &cluster.settings;
        let keeper = keeper.bounded(journal_bounds(settings));
        let network = &settings.network;
        let modules = module_set(&registry, setup.modules, settings)?;
        let identity = identity(&keeper).await?;
        let at = SocketAddr::from((network.server, SYNC_PORT));
        let logs = Arc::new(Logs::new());
        let told = Told::new(Arc::clone(&registry), &modules)?;
        let options = sync_options(settings, at, &logs, told);
        let sync = SyncParent::bind(options, &identity, keeper.clone()).await?;

        let (hosts, hosts_seen) = watch::channel(Arc::new(Hosts::default()));
        let (events, events_in) = mpsc::channel(layercake_boot::service::EVENT_CHANNEL_PLACES);
        let served = Arc::new(ServeCounters::default());
        let mut config = BootConfig::new(&network.interface, network.server);
        config.http_port = network.http_port.get();
        config.routes = layercake_image::router(images, Arc::clone(&served));
        let material = Material {
            cluster: cluster.name.clone(),
            kernel: BootFile::read(&setup.minos.join("vmlinuz"))?,
            initramfs: BootFile::read(&setup.minos.join("initramfs.img"))?,
            parents: vec![SeedParent { addr: at }],
            parent_key: identity.pin()?.to_string().parse()?,
            image_base: format!("http://{}:{}/images", network.server, network.http_port)
                .parse()?,
        };
        let tickets = Arc::new(SyncTickets(Arc::clone(&sync)));
        let boot = Arc::new(BootModule::new(material, tickets, keeper.clone(), hosts, events_in));
        let host = QemuHost::new(setup.run.join("qemu")).map_err(ParentError::Qemu)?;
        let power = Arc::new(PowerModule::new(host));
        let service = BootService::start(config, hosts_seen, events)?;

        let mut hosted: Vec<Arc<dyn Module>> = vec![power.clone(), boot.clone(), sync.clone()];
        hosted.extend(setup.modules.hosted(&registry, &setup.run.join("modules")));
        let options = Options {
            registry,
            modules: Arc::new(modules),
            hosted,
            keeper,
            settings: engine_settings(cluster),
        };
        let (kraken, tasks) = Kraken::start(options).await?;
        tracing::info!(cluster = cluster.name, nodes = kraken.views().len(), "looking after nodes");
        Ok(Self {
            cluster: cluster.name.clone(),
            kraken,
            power,
            boot,
            logs,
            sync,
            settings: settings.clone(),
            served,
            service: Mutex::new(Some(service)),
            tasks: Mutex::new(Some(tasks)),
        })
    }

    /// What a person should know about a cluster file that is applied to what runs.
    pub(crate) fn notes(&self, cluster: &Cluster) -> Vec<String> {
        let restart = "takes effect when the server is started again";
        let mut notes = Vec::new();
        let (now, then) = (&cluster.settings, &self.settings);
        if (&now.network, &now.timing, &now.journal) != (&then.network, &then.timing, &then.journal)
        {
            notes.push(format!("network, timing or journal have changed: that {restart}"));
        }
        if cluster.name != self.cluster {
            notes.push(format!("the cluster's name has changed: that {restart}"));
        }
        notes
    }

    /// What the boot service has counted.
    pub(crate) fn boot_counters(&self) -> serde_json::Value {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = service.as_ref().map(BootHandle::counters);
        serde_json::to_value(counters).unwrap_or_default()
    }

    /// What the image service has counted.
    pub(crate) fn image_counters(&self) -> serde_json::Value {
        serde_json::to_value(self.served.snapshot()).unwrap_or_default()
    }

    /// What the sync driver has counted.
    pub(crate) fn sync_counters(&self) -> serde_json::Value {
        self.sync.counters()
    }

    /// Ends what runs here. Machines and nodes go on.
    pub(crate) async fn shutdown(&self) {
        self.kraken.stop();
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(service) = service {
            service.shutdown().await;
        }
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.ended().await;
        }
    }
}

/// Every mutation, with those of the modules out of process; what their authors may not have meant
/// is said.
fn module_set(
    registry: &Registry,
    modules: &Modules,
    settings: &ClusterSettings,
) -> Result<ModuleSet, ParentError> {
    let mutations = mutations(modules, &settings.timing);
    let set = ModuleSet::new(registry, mutations).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ParentError::Mutations(lines.join("; "))
    })?;
    for finding in kraken_plan::check(&set) {
        tracing::warn!(%finding, "look at the mutations: `layercake graph check`");
    }
    Ok(set)
}

/// Every mutation that there is.
pub(crate) fn mutations(modules: &Modules, timing: &Timing) -> Vec<Mutation> {
    let mut mutations = layercake_schema::mutations(timing);
    modules.extend(&mut mutations);
    mutations
}

/// The key by which nodes know this parent: made at the first start, kept from then on.
async fn identity(keeper: &Keeper) -> Result<Identity, ParentError> {
    let kept = keeper.with(|store| store.get(NAMESPACE, IDENTITY)).await?;
    if let Some(identity) = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(identity);
    }
    let identity = Identity::generate()?;
    let bytes = serde_json::to_vec(&identity).unwrap_or_default();
    keeper.with(move |store| store.put(NAMESPACE, IDENTITY, &bytes)).await?;
    Ok(identity)
}

fn sync_options(
    settings: &ClusterSettings,
    at: SocketAddr,
    logs: &Arc<Logs>,
    told: Told,
) -> SyncOptions {
    let logs = Arc::clone(logs);
    let registry = Arc::clone(told.registry());
    SyncOptions {
        address: at,
        hello: settings.timing.hello,
        silent: settings.timing.silent,
        return_within: SyncOptions::time_to_return(settings.timing.hello, settings.timing.silent),
        node_owns: Arc::new(layercake_schema::node_owns),
        is_goal: Arc::new(move |path| registry.variable(path.as_str()).is_some()),
        disproved: vec![Effect {
            variable: Address::known(phys_state::PATH),
            from: phys_state::PHYS_HANG.into(),
            to: phys_state::POWER_ON.into(),
            or: Vec::new(),
        }],
        told: Arc::new(move |view| told.cfg(view)),
        on_log: Arc::new(move |node, stream, line| logs.add(node, stream, line)),
    }
}

/// How much is remembered: what the cluster file says, and the rest as it comes.
fn journal_bounds(settings: &ClusterSettings) -> Bounds {
    let (said, rest) = (settings.journal, Bounds::default());
    Bounds {
        records: said.entries.unwrap_or(rest.records),
        bytes: said.bytes.unwrap_or(rest.bytes),
        age: said.age.unwrap_or(rest.age),
    }
}

/// How the engine behaves: what the cluster file says of limits, and the rest as it comes.
fn engine_settings(cluster: &Cluster) -> Settings {
    // Nodes that are lost together are found silent one by one, as their hellos would have come.
    let settle = Storm::default().settle.max(cluster.settings.timing.hello * 3);
    // An image that is to be changed serves until then.
    let to_be_changed = (Address::known(image_state::PATH), image_state::UPDATE.into());
    let usual = Settings::default();
    Settings {
        limits: limits(cluster),
        // What steps take is a matter of the hardware.
        kinds: ["platform", "arch"].map(Address::known).into(),
        storm: Storm { settle, ..Storm::default() },
        availability: Availability { as_good: vec![to_be_changed], ..usual.availability.clone() },
        ..usual
    }
}
