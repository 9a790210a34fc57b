//! Services: hosted modules that run only while the state of their node says so.
//!
//! The planner is in charge. The module `service` takes its steps, and a host for each service
//! starts and stops it, one step after the other, and says what became of it: one that panics or ends
//! by itself is found to be ERROR, which is a state to plan from like any other.

mod host;

use crate::clock::Clock;
use crate::host::Hosted;
use crate::module::{Context, Module, Order};
use async_trait::async_trait;
pub(crate) use host::ServiceHost;
use host::{Asked, Life};
use kraken_engine::Failure;
use kraken_model::{Change, NodeId};
use kraken_plan::service::{Ask, SERVICE};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// How many steps wait for one service: one is under way, and those before it were given up.
const WAITING: usize = 4;

/// What a module is besides when it is a service: it runs on one node, and whether it does is state of that
/// node, declared by a [`kraken_plan::Service`] of the module's name.
///
/// It is opened, then [`Module::run`] runs until `context.stop` is cancelled, then it is closed, and
/// all of that again when it is started again. A step of the module that comes while it does not run
/// should fail.
#[async_trait]
pub trait Service: Send + Sync {
    /// The node that it runs on.
    fn node(&self) -> &NodeId;

    /// Makes ready to run, and says what it finds: that is told together with its running. Dropped
    /// when the step is interrupted or its time is over.
    ///
    /// # Errors
    /// With the reason, for a person, when it cannot run.
    async fn open(&self, _context: &Context) -> Result<Vec<Change>, Failure> {
        Ok(Vec::new())
    }

    /// Lets go of what it opened, also after it broke off. What it has the node do goes on. It may be
    /// dropped, and is called once more before it is opened again.
    async fn close(&self) {}
}

/// The module that takes the steps of all services of an application.
pub(crate) struct Services {
    by_name: BTreeMap<Arc<str>, Handle>,
    clock: Clock,
}

/// One service, as others see it.
struct Handle {
    node: NodeId,
    asked: mpsc::Sender<Asked>,
    life: Arc<Mutex<Life>>,
}

impl Services {
    /// The services among the modules that are hosted, and whoever starts and stops each.
    pub(crate) fn of(hosted: &[Hosted], clock: Clock) -> (Self, Vec<ServiceHost>) {
        let mut services = Self { by_name: BTreeMap::new(), clock };
        let mut hosts = Vec::new();
        for one in hosted {
            let Some(node) = one.module.service().map(|service| service.node().clone()) else {
                continue;
            };
            let name: Arc<str> = one.module.name().into();
            let (asked, asked_in) = mpsc::channel(WAITING);
            let life = Arc::new(Mutex::new(Life::default()));
            hosts.push(ServiceHost::new(one.clone(), node.clone(), asked_in, Arc::clone(&life)));
            services.by_name.insert(name, Handle { node, asked, life });
        }
        (services, hosts)
    }

    /// What the services of a node are now.
    pub(crate) fn on(&self, node: &NodeId) -> Vec<Change> {
        let own = self.by_name.iter().filter(|(_, handle)| handle.node == *node);
        own.flat_map(|(name, handle)| {
            handle.life.lock().unwrap_or_else(PoisonError::into_inner).changes(name)
        })
        .collect()
    }
}

#[async_trait]
impl Module for Services {
    fn name(&self) -> &str {
        SERVICE
    }

    async fn take(&self, order: &Order, _context: &Context) -> Result<(), Failure> {
        let wanted = Ask::of(&order.mutation)
            .and_then(|(ask, name)| Some((ask, self.by_name.get(name)?)))
            .filter(|(_, handle)| handle.node == order.node);
        let Some((ask, handle)) = wanted else {
            let reason = format!("no service here that {} is about", order.mutation);
            return Err(Failure { reason, permanent: true });
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked { ask, deadline: self.clock.instant(order.deadline), answer };
        let ended = || Failure { reason: "the application has ended".to_owned(), permanent: false };
        handle.asked.send(asked).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}
