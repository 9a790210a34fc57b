//! The power module: what the engine asks of power, and what it is told.

use crate::{
    ExecMachine, MachineName, Off, PowerDriver, PowerError, PowerState, QemuHost, Watch, watch,
};
use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order, chain};
use kraken_model::{Change, Document, NodeId, Path};
use layercake_schema::phys_state;
use layercake_types::{InvalidName, Power, Refusal, boot_interface};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};

/// How often a machine is asked for its power when nothing tells of changes.
const POLL: Duration = Duration::from_secs(5);

/// How long a machine that hung stays without power, so that its memory and cards forget.
const COLD: Duration = Duration::from_secs(2);

/// Why a machine's power cannot be told at the moment.
const REASON: &str = "power.reason";

/// Switches the machines of all nodes that say how they are switched.
#[derive(Debug)]
pub struct PowerModule {
    host: QemuHost,
}

/// A node says nothing, or nothing sensible, of how it is switched.
#[derive(Debug, thiserror::Error)]
enum DriverError {
    #[error("node {0} has no power.driver")]
    None(NodeId),
    #[error("node {node}: {}", all(refused))]
    Refused { node: NodeId, refused: Vec<Refusal> },
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Power(#[from] PowerError),
}

impl PowerModule {
    /// A power module whose QEMU machines live on `host`.
    #[must_use]
    pub fn new(host: QemuHost) -> Self {
        Self { host }
    }

    /// The power of a node, as its cfg says.
    ///
    /// # Errors
    /// With what is missing or wrong in the cfg, for a person.
    pub fn driver(&self, node: &NodeId, cfg: &Document) -> Result<Arc<dyn PowerDriver>, String> {
        self.driver_of(node, cfg).map_err(|error| error.to_string())
    }

    fn driver_of(
        &self,
        node: &NodeId,
        cfg: &Document,
    ) -> Result<Arc<dyn PowerDriver>, DriverError> {
        let refuse = |refused| DriverError::Refused { node: node.clone(), refused };
        match layercake_types::power(node, cfg).map_err(refuse)? {
            Some(Power::Qemu(machine)) => Ok(Arc::new(self.host.machine(machine)?)),
            Some(Power::Exec(config)) => {
                let name: MachineName = node.as_str().parse()?;
                Ok(Arc::new(ExecMachine::new(name, config)?))
            }
            None => Err(DriverError::None(node.clone())),
        }
    }
}

fn all(refused: &[Refusal]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What of a cfg decides how a node is switched: when that changes, it is watched anew.
fn switched_by(cfg: &Document) -> Document {
    let net = format!("net.{}", boot_interface(cfg));
    let entries = cfg.under("power").chain(cfg.under(&net));
    let mut part = Document::new();
    for (path, value) in entries {
        part.set(path.clone(), value.clone());
    }
    part
}

#[async_trait]
impl Module for PowerModule {
    fn name(&self) -> &str {
        "power"
    }

    fn discovers(&self, path: &Path) -> bool {
        path.as_str() == REASON
    }

    async fn run(&self, context: Context) {
        let mut subscription = context.subscribe();
        let mut watches = JoinSet::new();
        let mut watched: HashMap<NodeId, (Document, AbortHandle)> = HashMap::new();
        loop {
            let changed = tokio::select! {
                changed = subscription.changed() => changed,
                () = context.stop.cancelled() => return,
            };
            while watches.try_join_next().is_some() {}
            for (node, view) in changed {
                let part = view.as_ref().map(|view| switched_by(&view.cfg));
                if watched.get(&node).map(|(part, _)| part) == part.as_ref() {
                    continue;
                }
                if let Some((_, old)) = watched.remove(&node) {
                    old.abort();
                }
                let Some(part) = part else { continue };
                match self.driver_of(&node, &part) {
                    Ok(driver) => {
                        let watching = follow(node.clone(), driver, context.clone());
                        watched.insert(node, (part, watches.spawn(watching)));
                    }
                    Err(DriverError::None(_)) => {}
                    Err(error) => {
                        let reason = Change::set(Path::known(REASON), error.to_string());
                        context.discover(&node, vec![reason]).await;
                    }
                }
            }
        }
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let fail = |reason: String| Failure { reason, permanent: false };
        let driver = self.driver(&order.node, &order.cfg).map_err(fail)?;
        let done = match order.mutation.as_ref() {
            // What is looks different by itself, or does not; all that is to be done is to look.
            "power.discover" | "power.recheck" | "power.settle" => Ok(()),
            "power.on" => driver.on().await,
            "power.off" | "power.cut" => driver.off(Off::Hard).await,
            // Whatever was found running there ends: as with one that hangs, its memory and cards forget.
            "power.recover" | "power.take-over" | "power.reclaim" => {
                let done = driver.off(Off::Hard).await;
                tokio::time::sleep(COLD).await;
                done
            }
            other => return Err(Failure { reason: unknown(other), permanent: true }),
        };
        done.map_err(|error| fail(chain(&error)))?;
        // Looked at, not assumed; and the one place where a hang that is over is known to be over.
        let state = driver.status().await.map_err(|error| fail(chain(&error)))?;
        report(&order.node, state, context).await;
        Ok(())
    }
}

fn unknown(mutation: &str) -> String {
    format!("the power module does not know {mutation}")
}

async fn report(node: &NodeId, state: PowerState, context: &Context) {
    let value = match state {
        PowerState::Off => phys_state::POWER_OFF,
        PowerState::On => phys_state::POWER_ON,
        PowerState::Hang => phys_state::PHYS_HANG,
        PowerState::Unknown => return,
    };
    let changes = vec![
        Change::set(Path::known(phys_state::PATH), value),
        Change::remove(Path::known(REASON)),
    ];
    context.discover(node, changes).await;
}

/// Reports every change of one machine's power.
async fn follow(node: NodeId, driver: Arc<dyn PowerDriver>, context: Context) {
    let mut before = PowerState::Unknown;
    let mut states: Watch = watch(driver, POLL);
    while let Some(state) = states.next().await {
        match state {
            // A machine that was declared to hang has power, of course. It is on again only when
            // somebody switched it, or when the hypervisor had said itself that it hung.
            Ok(PowerState::On) if before != PowerState::Hang && hangs(&node, &context) => {
                report(&node, PowerState::Hang, &context).await;
            }
            Ok(state) => {
                before = state;
                report(&node, state, &context).await;
            }
            // What is not known now was known before: a dead controller must not end what runs.
            Err(error) => {
                let reason = Change::set(Path::known(REASON), chain(&error));
                context.discover(&node, vec![reason]).await;
            }
        }
    }
}

fn hangs(node: &NodeId, context: &Context) -> bool {
    let view = context.views().get(node);
    view.is_some_and(|view| view.dsc.text(phys_state::PATH) == Some(phys_state::PHYS_HANG))
}
