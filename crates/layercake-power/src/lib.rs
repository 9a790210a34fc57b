//! Power control: one trait for everything that can switch a machine on and off.
//!
//! **In**: the name of a machine and how to reach its power (a [`QemuConfig`] or an [`ExecConfig`]).
//! **Out**: an object that implements [`PowerDriver`] for that one machine, and a [`Watch`] that tells
//! when its power changed without being asked to.
//!
//! What is promised:
//!
//! - Every operation is idempotent and ends by a deadline. `on` of a machine that is on, and `off` of one
//!   that is off, do nothing and succeed.
//! - An object is one machine. A machine whose controller hangs, drips or lies costs its own operations
//!   a deadline and nobody else's anything.
//! - `Ok` says that the controller took the command; what the machine then *is* comes from
//!   [`PowerDriver::status`]. A driver that cannot tell answers [`PowerState::Unknown`] or an error, never
//!   a guess.
//! - Drivers keep no state that has to survive. A new process with the same configuration finds the same
//!   machines, because everything it needs is where the machines are.

mod driver;
mod error;
mod exec;
mod module;
pub mod qemu;
pub mod qmp;
mod watch;

pub use driver::{BootDevice, Capabilities, Console, Off, PowerDriver, PowerState};
pub use error::PowerError;
pub use exec::ExecMachine;
pub use kraken_process::CommandError;
pub use layercake_types::{ExecConfig, MacAddress, Machine, MachineName, QemuConfig};
pub use module::PowerModule;
pub use qemu::{QemuHost, QemuMachine};
pub use watch::{Watch, watch};
