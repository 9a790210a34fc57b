//! The modules as the server hosts them: each hands its orders to the field, and waits.

use crate::driver::{Ask, Shared};
use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order};
use kraken_engine::DispatchId;
use kraken_model::Path;
use kraken_sim::Ordered;
use layercake_schema::{module, node_owns, phys_state, run_state};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The modules that a parent has.
pub(crate) const NAMES: [&str; 3] = [module::POWER, module::BOOT, module::SYNC];

/// One of them.
pub(crate) struct SimModule {
    pub(crate) name: &'static str,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) shared: Arc<Shared>,
}

/// Says that an order is dropped, unless it was answered.
struct Interrupt<'a> {
    id: Option<DispatchId>,
    shared: &'a Shared,
}

impl Drop for Interrupt<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shared.interrupt(id);
        }
    }
}

fn broken_off<T>(_: T) -> Failure {
    Failure { reason: "the simulation has ended".to_owned(), permanent: true }
}

#[async_trait]
impl Module for SimModule {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }

    /// As the real ones.
    fn discovers(&self, path: &Path) -> bool {
        match self.name {
            module::POWER => path.as_str() == "power.reason",
            module::SYNC => {
                [run_state::PATH, phys_state::PATH].contains(&path.as_str()) || node_owns(path)
            }
            _ => false,
        }
    }

    async fn run(&self, context: Context) {
        let begin = Ask::Begin { module: self.name, context: Box::new(context.clone()) };
        if self.asks.send(begin).await.is_ok() {
            context.stop.cancelled().await;
        }
    }

    async fn take(&self, order: &Order, _context: &Context) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        let Order { id, mutation, cfg, dsc, deadline, .. } = order.clone();
        let mut interrupt = Interrupt { id: Some(id.clone()), shared: &self.shared };
        let order = Box::new(Ordered { id, mutation, cfg, dsc, deadline });
        self.asks.send(Ask::Order { order, reply }).await.map_err(broken_off)?;
        let result = answer.await.map_err(broken_off)?;
        interrupt.id = None;
        result
    }
}
