//! The Kraken runtime: drives engine, sync and store with tokio, and hosts modules.
//!
//! An application declares what may stand in a document (a [`kraken_model::Registry`]) and what
//! its [`Module`]s can do (a [`kraken_plan::ModuleSet`]), and starts [`Kraken`]. From then on people
//! say what nodes should be, with [`Kraken::change`]; modules say what nodes are, with
//! [`Context::discover`]; and the engine has modules take the steps in between, for ever.
//!
//! A module may be a [`Service`]: then it runs only while the state of its node says so, and the planner
//! starts it when something needs it, restarts it and stops it.
//!
//! Promises: what was acknowledged is durable, and so is who wanted it; changes of what nodes should be are evaluated
//! one after the other, so that none is lost to another; a module that fails, hangs, panics, floods or lies
//! costs its own nodes' attempts and nothing else ([`Kraken::hosted`] tells how each one is); after a crash the application goes on where it was, and nodes
//! that were running are adopted, not restarted.

mod chain;
mod clock;
mod departed;
mod equipment;
mod flood;
mod health;
mod host;
mod journal;
mod keeper;
mod lessons;
mod marks;
mod module;
mod past;
mod runtime;
mod service;
mod sync;
mod tls;
mod turn;
mod views;

pub use chain::chain;
pub use clock::Clock;
pub use departed::Remembrance;
pub use health::{Health, ModuleState, ModuleStatus, Pauses};
pub use journal::Event;
pub use keeper::Keeper;
pub use kraken_engine::{Availability, Domain, FoundRunning, Group, Limit, Scope, Share};
pub use kraken_engine::{
    Cause, Command, Entry, Explanation, Failure, Mark, MarkKind, Marks, Settings, Storm, Terms,
    What,
};
pub use kraken_engine::{LimitWait, NodePlan, Outlook, Plan, PlanSummary, PlannedStep, Summary};
pub use kraken_engine::{Silence, SilencePolicy, StormView, permitted};
pub use module::{Context, Discovery, Module, Order};
pub use past::{Past, PastError, Then};
pub use runtime::{Kraken, KrakenError, Options, Tasks};
pub use service::Service;
pub use sync::{Agent, AgentError, AgentOptions, LogLine};
#[cfg(feature = "parent")]
pub use sync::{OnLog, SyncError, SyncOptions, SyncParent, ToldCfg};
pub use tls::{EXPORTER_LABEL, Identity, IdentityError, KeyPin, KeyPinError, client_config};
pub use turn::{CfgChange, Configured, Reconfigured};
pub use views::{Subscription, View, Views};
