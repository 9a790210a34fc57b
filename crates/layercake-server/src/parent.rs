//! Everything that runs for the machines of a cluster.

use crate::logs::Logs;
use crate::tickets::SyncTickets;
use kraken::{
    Identity, IdentityError, Keeper, Kraken, KrakenError, Limit, Options, Scope, Settings, Storm,
    Tasks,
};
use kraken::{SyncError, SyncOptions, SyncParent};
use kraken_model::{Path as Address, Registry};
use kraken_plan::{Effect, ModuleSet};
use kraken_store::StoreError;
use layercake_boot::hosts::BootFileError;
use layercake_boot::{
    BootConfig, BootFile, BootHandle, BootModule, BootService, Hosts, Material, StartError,
};
use layercake_config::{Cluster, Settings as ClusterSettings};
use layercake_image::{ImageStore, ServeCounters};
use layercake_power::{PowerModule, QemuHost};
use layercake_schema::phys_state;
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
    pub(crate) settings: &'a ClusterSettings,
    pub(crate) cluster: &'a str,
    pub(crate) registry: Arc<Registry>,
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
        let Setup { settings, registry, keeper, images, .. } = setup;
        let network = &settings.network;
        let modules = ModuleSet::new(&registry, layercake_schema::mutations(&settings.timing))
            .map_err(|p| {
                ParentError::Mutations(
                    p.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                )
            })?;
        let identity = identity(&keeper).await?;
        let at = SocketAddr::from((network.server, SYNC_PORT));
        let logs = Arc::new(Logs::new());
        let options = sync_options(settings, at, &logs, &registry);
        let sync = SyncParent::bind(options, &identity, keeper.clone()).await?;

        let (hosts, hosts_seen) = watch::channel(Arc::new(Hosts::default()));
        let (events, events_in) = mpsc::channel(layercake_boot::service::EVENT_CHANNEL_PLACES);
        let served = Arc::new(ServeCounters::default());
        let mut config = BootConfig::new(&network.interface, network.server);
        config.http_port = network.http_port.get();
        config.routes = layercake_image::router(images, Arc::clone(&served));
        let material = Material {
            cluster: setup.cluster.to_owned(),
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

        let options = Options {
            registry,
            modules: Arc::new(modules),
            hosted: vec![power.clone(), boot.clone(), sync.clone()],
            keeper,
            settings: engine_settings(settings),
        };
        let (kraken, tasks) = Kraken::start(options).await?;
        tracing::info!(
            cluster = setup.cluster,
            nodes = kraken.views().len(),
            "looking after nodes"
        );
        Ok(Self {
            cluster: setup.cluster.to_owned(),
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
        if cluster.settings != self.settings {
            notes.push(format!("network, timing or limits have changed: that {restart}"));
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
    registry: &Arc<Registry>,
) -> SyncOptions {
    let (logs, registry) = (Arc::clone(logs), Arc::clone(registry));
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
        }],
        on_log: Arc::new(move |node, stream, line| logs.add(node, stream, line)),
    }
}

/// How the engine behaves: what the cluster file says of limits, and the rest as it comes.
fn engine_settings(settings: &ClusterSettings) -> Settings {
    let power_on = || Scope::Mutation("power.on".into());
    let at_once = settings.limits.power_on_at_once.map(|n| Limit::at_most(n, power_on()));
    let every = settings.limits.power_on_every.map(|pause| Limit::spaced(pause, power_on()));
    // Nodes that are lost together are found silent one by one, as their hellos would have come.
    let settle = Storm::default().settle.max(settings.timing.hello * 3);
    Settings {
        limits: at_once.into_iter().chain(every).collect(),
        storm: Storm { settle, ..Storm::default() },
        ..Settings::default()
    }
}
