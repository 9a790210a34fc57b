//! Network boot for machines that are known.
//!
//! **For**: a machine that was switched on and asks its network "who am I, and what do I run?".
//!
//! **In**: a table of [`Host`]s, published as an immutable snapshot through a
//! [`watch`](tokio::sync::watch) channel, and packets from machines.
//!
//! **Out**: addresses (DHCP), boot programs and the node's iPXE script (TFTP), kernel, initramfs and
//! seed (HTTP), and a bounded channel of [`BootEvent`]s from which the engine learns how far a boot
//! has come.
//!
//! The way of one machine:
//!
//! ```text
//! firmware --DHCP--> address + iPXE (TFTP, or HTTP for UEFI HTTP boot)
//! iPXE     --DHCP--> address + tftp://server/boot/<node>.ipxe
//!          --TFTP--> the script           ScriptServed
//!          --HTTP--> /boot/<node>/kernel, initramfs, seed     ... SeedServed { boot_id }
//! ```
//!
//! **Promises**
//!
//! - Only machines of the table are answered, and a node's script and seed go to that node's own
//!   address alone. Everyone else is counted and reported, at a limited rate.
//! - A host whose plan is [`BootPlan::Idle`] gets its address and nothing to boot.
//! - So does a machine whose firmware is of another architecture than its node; it is reported.
//! - Everything from the network is hostile: sizes, connections, transfers, memory of senders and
//!   retries are bounded by documented constants; no input panics.
//! - The protocols ([`dhcp::handle`], [`tftp::Transfer`], [`http::parse_range`]) hold no socket,
//!   clock or thread; the drivers around them only move bytes.
//! - No machine waits for what is not there: booting machines are told that no proxyDHCP and no IPv6
//!   router will answer (see [`ndp`]).
//! - A server that is restarted in the middle of a boot does not lose the boot: the script repeats
//!   what failed until it succeeds (see [`script`]).

pub mod arch;
mod cfg;
pub mod dhcp;
pub mod events;
pub mod firmwares;
pub mod hosts;
pub mod http;
mod module;
pub mod ndp;
pub mod programs;
mod progress;
mod report;
pub mod script;
pub mod service;
mod socket;
pub mod tftp;

pub use arch::Arch;
pub use events::{BootEvent, CounterSnapshot, Reporter};
pub use hosts::{BootFile, BootId, BootPlan, Host, Hosts, MacAddr, Seed};
pub use module::{BootModule, Material, Ticket, Tickets};
pub use service::{BootConfig, BootHandle, BootService, StartError};
