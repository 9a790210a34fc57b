//! Real machines: switched, booted from the network, and in touch.

use crate::tickets::SyncTickets;
use crate::world::{Counters, Machines, Setup, World, WorldError};
use async_trait::async_trait;
use kraken::{Identity, Keeper, Module, SyncOptions, SyncParent};
use kraken_model::{Document, NodeId, Path as Address};
use kraken_plan::Effect;
use layercake_boot::{
    Arch, BootConfig, BootFile, BootHandle, BootModule, BootService, Hosts, Material,
    dhcp::BootPrograms, programs::read_programs,
};
use layercake_image::ServeCounters;
use layercake_power::{Console, PowerModule, QemuHost};
use layercake_schema::phys_state;
use layercake_seed::SeedParent;
use layercake_types::SYNC_PORT;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Where in the store the parent's own things are.
const NAMESPACE: &str = "parent";

/// The key of its identity there.
const IDENTITY: &str = "identity";

/// The machines that stand in racks, and the virtual ones of this host.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Where running machines are.
    pub run: PathBuf,
    /// Kernel and initramfs of Layer 0, as built by `layercake-minos`.
    pub minos: PathBuf,
    /// What firmware loads.
    programs: Arc<BootPrograms>,
    /// What is wrong with them, for people.
    news: Vec<String>,
}

impl Hardware {
    /// Reads the boot programs, and warns of what is missing among them: without them machines get an
    /// address and nothing to boot.
    #[must_use]
    pub fn new(run: PathBuf, minos: PathBuf, boot_programs: &Path) -> Self {
        let read = read_programs(boot_programs);
        let kernel = BootFile::read(&minos.join("vmlinuz")).ok();
        let arch = kernel.and_then(|kernel| Arch::of_kernel(kernel.bytes()));
        let missing = read.missing(arch.or_else(|| Arch::from_word(std::env::consts::ARCH)));
        let mut news: Vec<String> = read.left_out.iter().map(|e| crate::api::chain(e)).collect();
        if !missing.is_empty() {
            news.push(format!(
                "machines with this firmware get an address and nothing to boot, since {} has no boot \
                 program for it: {}; {}",
                boot_programs.display(),
                missing.join(", "),
                layercake_boot::programs::REMEDY,
            ));
        }
        news.iter().for_each(|news| tracing::warn!("{news}"));
        Self { run, minos, programs: Arc::new(read.found), news }
    }
}

/// What looks after them.
struct Services {
    power: Arc<PowerModule>,
    boot: Arc<BootModule>,
    sync: Arc<SyncParent>,
    served: Arc<ServeCounters>,
    service: Mutex<Option<BootHandle>>,
}

#[async_trait]
impl World for Hardware {
    async fn start(&self, setup: Setup<'_>) -> Result<Box<dyn Machines>, WorldError> {
        let network = &setup.cluster.settings.network;
        let identity = identity(&setup.keeper).await?;
        let at = SocketAddr::from((network.server, SYNC_PORT));
        let options = sync_options(&setup, at);
        let sync = SyncParent::bind(options, &identity, setup.keeper.clone()).await?;

        let (hosts, hosts_seen) = watch::channel(Arc::new(Hosts::default()));
        let (events, events_in) = mpsc::channel(layercake_boot::service::EVENT_CHANNEL_PLACES);
        let served = Arc::new(ServeCounters::default());
        let mut config = BootConfig::new(&network.interface, network.server);
        config.http_port = network.http_port.get();
        config.programs = Arc::clone(&self.programs);
        config.routes = layercake_image::router(setup.images.clone(), Arc::clone(&served));
        let material = Material {
            cluster: setup.cluster.name.clone(),
            kernel: BootFile::read(&self.minos.join("vmlinuz"))?,
            initramfs: BootFile::read(&self.minos.join("initramfs.img"))?,
            parents: vec![SeedParent { addr: at }],
            parent_key: identity.pin()?.to_string().parse()?,
            image_base: format!("http://{}:{}/images", network.server, network.http_port)
                .parse()?,
        };
        let tickets = Arc::new(SyncTickets(Arc::clone(&sync)));
        let boot = BootModule::new(material, tickets, setup.keeper.clone(), hosts, events_in)
            .with_news(self.news.clone());
        let host = QemuHost::new(self.run.join("qemu")).map_err(WorldError::Qemu)?;
        let power = Arc::new(PowerModule::new(host));
        let service = BootService::start(config, hosts_seen, events)?;
        let (boot, service) = (Arc::new(boot), Mutex::new(Some(service)));
        Ok(Box::new(Services { power, boot, sync, served, service }))
    }
}

#[async_trait]
impl Machines for Services {
    fn hosted(&self) -> Vec<Arc<dyn Module>> {
        vec![self.power.clone(), self.boot.clone(), self.sync.clone()]
    }

    fn counters(&self) -> Counters {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = service.as_ref().map(BootHandle::counters);
        Counters {
            boot: serde_json::to_value(boot).unwrap_or_default(),
            images: serde_json::to_value(self.served.snapshot()).unwrap_or_default(),
            sync: self.sync.counters(),
            news: serde_json::to_value(self.boot.news()).unwrap_or_default(),
        }
    }

    async fn console(&self, node: &NodeId, cfg: &Document) -> Result<Console, String> {
        let driver = self.power.driver(node, cfg)?;
        driver.console().await.map_err(|error| crate::api::chain(&error))
    }

    async fn shutdown(&self) {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(service) = service {
            service.shutdown().await;
        }
    }
}

/// The key by which nodes know this parent: made at the first start, kept from then on.
async fn identity(keeper: &Keeper) -> Result<Identity, WorldError> {
    let kept = keeper.with(|store| store.get(NAMESPACE, IDENTITY)).await?;
    if let Some(identity) = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(identity);
    }
    let identity = Identity::generate()?;
    let bytes = serde_json::to_vec(&identity).unwrap_or_default();
    keeper.with(move |store| store.put(NAMESPACE, IDENTITY, &bytes)).await?;
    Ok(identity)
}

/// What a node that is heard disproves of the power of its machine.
fn disproved(from: &str) -> Effect {
    let variable = Address::known(phys_state::PATH);
    Effect { variable, from: from.into(), to: phys_state::POWER_ON.into(), or: Vec::new() }
}

fn sync_options(setup: &Setup<'_>, at: SocketAddr) -> SyncOptions {
    let timing = &setup.cluster.settings.timing;
    SyncOptions {
        address: at,
        hello: timing.hello,
        silent: timing.silent,
        return_within: SyncOptions::time_to_return(timing.hello, timing.silent),
        node_owns: Arc::new(layercake_schema::node_owns),
        disproved: [phys_state::PHYS_HANG, phys_state::PHYS_FOUND].map(disproved).into(),
        told: Arc::clone(&setup.told),
        on_log: Arc::clone(&setup.on_log),
    }
}
