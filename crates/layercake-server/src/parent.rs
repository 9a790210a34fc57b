//! Everything that runs for the machines of a cluster.

use crate::limits::limits;
use crate::logs::Logs;
use crate::told::Told;
use crate::world::{Machines, Pace, World, WorldError};
use kraken::{Availability, Keeper, Kraken, KrakenError, Options, Settings, Storm, Tasks};
use kraken_model::{Path as Address, Registry};
use kraken_modules::Modules;
use kraken_plan::{ModuleSet, Mutation};
use kraken_store::Bounds;
use layercake_config::{Cluster, Settings as ClusterSettings};
use layercake_image::ImageStore;
use layercake_schema::{Timing, image_state};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What is needed to start.
pub(crate) struct Setup<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) registry: Arc<Registry>,
    pub(crate) modules: &'a Modules,
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
    tasks: Mutex<Option<Tasks>>,
}

impl Parent {
    /// Starts it all: nodes that were known are adopted, machines are answered.
    pub(crate) async fn start(setup: Setup<'_>) -> Result<Self, ParentError> {
        let Setup { cluster, registry, keeper, images, world, .. } = setup;
        let settings = &cluster.settings;
        let keeper = keeper.bounded(journal_bounds(settings));
        let pace = world.pace();
        let modules = module_set(&registry, setup.modules, settings, pace)?;
        let logs = Arc::new(Logs::new());
        let (told, printed) = (Told::new(Arc::clone(&registry), &modules)?, Arc::clone(&logs));
        let machines = crate::world::Setup {
            cluster,
            registry: Arc::clone(&registry),
            keeper: keeper.clone(),
            images,
            told: Arc::new(move |view| told.cfg(view)),
            on_log: Arc::new(move |node, stream, line| printed.add(node, stream, line)),
        };
        let machines = world.start(machines).await?;

        let mut hosted = machines.hosted();
        hosted.extend(setup.modules.hosted(&registry, &setup.run.join("modules")));
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
    registry: &Registry,
    modules: &Modules,
    settings: &ClusterSettings,
    pace: Pace,
) -> Result<ModuleSet, ParentError> {
    let mutations = mutations(modules, &settings.timing, pace);
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

/// How the engine behaves: what the cluster file says of limits, and the rest as it comes.
fn engine_settings(cluster: &Cluster, pace: Pace) -> Settings {
    let storm = Storm::default();
    // Nodes that are lost together are found silent one by one, as their hellos would have come.
    let settle = pace.here(storm.settle.max(cluster.settings.timing.hello * 3));
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
        storm: Storm { settle, window: pace.here(storm.window), ..storm },
        availability: Availability { as_good: vec![to_be_changed], ..usual.availability.clone() },
        ..usual
    }
}
