//! Simulated machines behind the real server: for demonstrations, training, and tests of whatever
//! uses the API.
//!
//! In: the machines of `layercake-sim`, a seed, and a [`Pace`](layercake_server::Pace). Out: a
//! [`World`](layercake_server::World) for a server whose engine, planner, journal, store and API are
//! the ones that ship; the file of a [`cluster`] to begin with; and [`Fault`]s to switch on, under
//! `/v1/sim` of the API.
//!
//! Everything that machines, controllers, agents and their network do is decided in `kraken-sim` and
//! `layercake-sim`, which know no clock. Here is what moves them by the clock, and what is between
//! them and the server: one thread with the field of machines, and three modules (power, boot, sync)
//! that hand it orders. Nothing is on a network, and nothing needs root.

mod api;
mod chaos;
mod cluster;
mod driver;
mod fault;
mod ledger;
mod module;
mod world;

pub use api::{Added, FaultRequest, SimStatus};
pub use chaos::MOST_PER_HOUR;
pub use cluster::{MOST_NODES, cluster};
pub use fault::{Kind, Target, UnknownKind};
pub use ledger::Fault;
pub use world::Simulation;
