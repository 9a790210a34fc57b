//! Everything that runs for the machines of a cluster.

use crate::api::Problem;
use crate::limits::{limits, silence, storm};
use crate::logs::Logs;
use crate::server::Declared;
use crate::told::Told;
use crate::world::{Machines, Pace, World, WorldError};
use kraken::{Availability, FoundRunning, Keeper, Kraken, KrakenError, Options, Settings};
use kraken::{Remembrance, SyncOptions, Tasks};
use kraken_model::Path as Address;
use kraken_modules::{Modules, Running};
use kraken_plan::{Guard, ModuleSet, Mutation};
use kraken_store::Bounds;
use layercake_config::{Cluster, Settings as ClusterSettings};
use layercake_image::ImageStore;
use layercake_schema::{FOUND_RUNNING, Timing, claim, image_state, module, phys_state};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What is needed to start.
pub(crate) struct Setup<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) declared: Arc<Declared>,
    pub(crate) keeper: Keeper,
    pub(crate) images: ImageStore,
    pub(crate) run: &'a Path,
    pub(crate) world: &'a dyn World,
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
    /// The machines cannot be looked after.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The engine cannot start.
    #[error(transparent)]
    Kraken(#[from] KrakenError),
}

/// Everything that runs for the machines.
pub(crate) struct Parent {
    pub(crate) cluster: String,
    pub(crate) kraken: Kraken,
    pub(crate) machines: Box<dyn Machines>,
    pub(crate) logs: Arc<Logs>,
    settings: ClusterSettings,
    /// What nodes are told.
    told: Arc<RwLock<Told>>,
    /// Where the sockets of modules are.
    run: PathBuf,
    /// The modules out of process.
    running: Mutex<Running>,
    tasks: Mutex<Option<Tasks>>,
}

impl Parent {
    /// Starts it all: nodes that were known are adopted, machines are answered.
    pub(crate) async fn start(setup: Setup<'_>) -> Result<Self, ParentError> {
        let Setup { cluster, declared, keeper, images, world, .. } = setup;
        let registry = Arc::clone(&declared.registry);
        let settings = &cluster.settings;
        let keeper = keeper.bounded(journal_bounds(settings)).remembering(remembrance(settings));
        let pace = world.pace();
        let modules = module_set(&declared, settings, pace)?;
        let logs = Arc::new(Logs::new());
        let printed = Arc::clone(&logs);
        let told = Told::new(Arc::clone(&registry), &modules)?;
        let told = Arc::new(RwLock::new(told));
        let tells = Arc::clone(&told);
        let machines = crate::world::Setup {
            cluster,
            registry: Arc::clone(&registry),
            keeper: keeper.clone(),
            images,
            told: Arc::new(move |view| {
                tells.read().unwrap_or_else(PoisonError::into_inner).cfg(view)
            }),
            on_log: Arc::new(move |node, stream, line| printed.add(node, stream, line)),
        };
        let machines = world.start(machines).await?;

        let run = setup.run.join("modules");
        let running = declared.modules.running(&registry, &run, None);
        let mut hosted = machines.hosted();
        hosted.extend(running.modules());
        let options = Options {
            registry,
            modules: Arc::new(modules),
            hosted,
            keeper,
            settings: engine_settings(cluster, pace),
        };
        let (kraken, tasks) = Kraken::start(options).await?;
        tracing::info!(cluster = cluster.name, nodes = kraken.views().len(), "looking after nodes");
        Ok(Self {
            cluster: cluster.name.clone(),
            kraken,
            machines,
            logs,
            settings: settings.clone(),
            told,
            run,
            running: Mutex::new(running),
            tasks: Mutex::new(Some(tasks)),
        })
    }

    /// Goes over to other modules out of process.
    pub(crate) async fn equip(
        &self,
        declared: &Declared,
        pace: Pace,
        by: &str,
    ) -> Result<(), Problem> {
        let unusable = |error: ParentError| Problem::internal("the modules cannot be used", &error);
        let set = module_set(declared, &self.settings, pace).map_err(unusable)?;
        let registry = Arc::clone(&declared.registry);
        let told = Told::new(Arc::clone(&registry), &set);
        let told = told.map_err(|error| unusable(error.into()))?;
        let running = {
            let before = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            declared.modules.running(&registry, &self.run, Some(&before))
        };
        let mut hosted = self.machines.hosted();
        hosted.extend(running.modules());
        // Nodes are told by the new rules before anything follows from the new modules.
        let before = self.tell(told);
        if let Err(error) = self.kraken.equip(registry, Arc::new(set), hosted, by).await {
            self.tell(before);
            return Err(error.into());
        }
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
        Ok(())
    }

    fn tell(&self, told: Told) -> Told {
        std::mem::replace(&mut self.told.write().unwrap_or_else(PoisonError::into_inner), told)
    }

    /// What a person should know about a cluster file that is applied to what runs.
    pub(crate) fn notes(&self, cluster: &Cluster) -> Vec<String> {
        let restart = "takes effect when the server is started again";
        let mut notes = Vec::new();
        let (now, then) = (&cluster.settings, &self.settings);
        let at_start =
            |s: &ClusterSettings| (s.network.clone(), s.timing.clone(), s.journal, s.removed);
        if at_start(now) != at_start(then) {
            notes.push(format!("network, timing, journal or removed have changed: that {restart}"));
        }
        if cluster.name != self.cluster {
            notes.push(format!("the cluster's name has changed: that {restart}"));
        }
        notes
    }

    /// Ends what runs here. Machines and nodes go on.
    pub(crate) async fn shutdown(&self) {
        self.kraken.stop();
        self.machines.shutdown().await;
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.ended().await;
        }
    }
}

/// Every mutation, with those of the modules out of process; what their authors may not have meant
/// is said.
fn module_set(
    declared: &Declared,
    settings: &ClusterSettings,
    pace: Pace,
) -> Result<ModuleSet, ParentError> {
    let mutations = mutations(&declared.modules, &settings.timing, pace);
    let set = ModuleSet::new(&declared.registry, mutations).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ParentError::Mutations(lines.join("; "))
    })?;
    for finding in kraken_plan::check(&set) {
        tracing::warn!(%finding, "look at the mutations: `layercake graph check`");
    }
    Ok(set)
}

/// Every mutation that there is.
pub(crate) fn mutations(modules: &Modules, timing: &Timing, pace: Pace) -> Vec<Mutation> {
    let mut mutations = layercake_schema::mutations(timing);
    mutations.iter_mut().for_each(|mutation| pace.apply(mutation));
    // Those of other processes do not depend on the machines' time.
    modules.extend(&mut mutations);
    mutations
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

/// How long nodes are remembered that were taken away: what the cluster file says, and the rest as it comes.
fn remembrance(settings: &ClusterSettings) -> Remembrance {
    let (said, rest) = (settings.removed, Remembrance::default());
    Remembrance { keep: said.keep.unwrap_or(rest.keep), nodes: said.nodes.unwrap_or(rest.nodes) }
}

/// How the engine behaves: what the cluster file says of limits, and the rest as it comes.
fn engine_settings(cluster: &Cluster, pace: Pace) -> Settings {
    // An image that is to be changed serves until then.
    let to_be_changed = (Address::known(image_state::PATH), image_state::UPDATE.into());
    let usual = Settings::default();
    // A node that was told to change its image before a restart of the server may have done so since.
    let fresh = usual.fresh.iter().cloned().chain([Address::known(image_state::PATH)]).collect();
    Settings {
        limits: limits(cluster, pace),
        // What steps take is a matter of the hardware.
        kinds: ["platform", "arch"].map(Address::known).into(),
        fresh,
        found_running: Some(found_running(&cluster.settings.timing, pace)),
        restart: Some(layercake_schema::restart()),
        storm: storm(cluster, pace),
        silence: Some(silence()),
        availability: Availability { as_good: vec![to_be_changed], ..usual.availability.clone() },
        ..usual
    }
}

/// How it is told that a machine was found running, and how long its node may take to be heard.
fn found_running(timing: &Timing, pace: Pace) -> FoundRunning {
    FoundRunning {
        variable: Address::known(phys_state::PATH),
        runs: [phys_state::POWER_ON, phys_state::PHYS_HANG].map(Into::into).into(),
        found: phys_state::PHYS_FOUND.into(),
        seen_by: vec![module::POWER.into()],
        claim: Address::known(claim::PATH),
        awaited: claim::AWAITED.into(),
        granted: claim::GRANTED.into(),
        patience: pace.here(SyncOptions::time_to_return(timing.hello, timing.silent)),
        left: Guard::wanted(FOUND_RUNNING, layercake_schema::FoundRunning::Leave.word()),
    }
}
