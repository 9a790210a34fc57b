//! The Layercake server: everything that a parent runs, in one process.
//!
//! In: a cluster file, a directory for what lasts, one for what runs, and Layer 0 as built by
//! `layercake-minos`. Out: machines that run what the file says, and an HTTP API ([`api`]) on a unix
//! socket and on loopback.
//!
//! Promises: nothing is acknowledged that is not durable; ending the server, by whatever means,
//! leaves machines and nodes as they are, and the next start takes them up again.

pub mod api;
mod consent;
mod fit;
mod hardware;
mod images;
mod limits;
mod listen;
mod logs;
mod parent;
mod planning;
mod server;
mod tickets;
mod told;
mod world;

pub use hardware::Hardware;
pub use layercake_power::Console;
pub use server::{Config, Server, ServerError};
pub use world::{Counters, Machines, Pace, Setup, World, WorldError};
