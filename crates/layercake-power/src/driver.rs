//! The trait that every way of switching a machine implements, and its vocabulary.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::{MachineName, PowerError};

/// What is known of a machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// No power: nothing executes.
    Off,
    /// Powered and executing, as far as the controller can tell.
    On,
    /// Powered, but the controller itself says that nothing executes any more (a paused or crashed
    /// virtual machine). A controller that merely does not answer is an error, not a hang.
    Hang,
    /// The controller answers, but not with a state that can be relied on.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Hang => "hang",
            Self::Unknown => "unknown",
        })
    }
}

/// How to switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Ask the operating system to shut down and wait; when it has not by the deadline, cut the power.
    Graceful {
        /// How long the operating system may take.
        deadline: Duration,
    },
    /// Cut the power now.
    Hard,
}

/// What a machine starts from next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    /// The network (PXE).
    Network,
    /// Its first disk.
    Disk,
}

impl fmt::Display for BootDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Disk => "disk",
        })
    }
}

/// Where a machine's console can be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// A unix stream socket: bytes of the console both ways, one reader at a time.
    pub socket: PathBuf,
    /// Everything the console said since the machine was switched on, also while nobody was attached.
    pub log: PathBuf,
}

/// What a driver can do for its machine, so that callers need not find out by failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `off(Graceful)` is understood.
    pub graceful_off: bool,
    /// [`PowerState::Hang`] can be told from [`PowerState::On`].
    pub detects_hang: bool,
    /// `set_next_boot` accepts these.
    pub next_boot: &'static [BootDevice],
    /// `console` gives somewhere to attach.
    pub console: bool,
    /// Changes are noticed when they happen; otherwise by asking from time to time.
    pub reports_changes: bool,
}

/// Control over the power of one machine.
///
/// Implementations are cheap to create and hold no lock or connection between calls.
#[async_trait]
pub trait PowerDriver: Send + Sync + fmt::Debug {
    /// The machine this object switches.
    fn machine(&self) -> &MachineName;

    /// The driver's name, as in the cluster file's `power.driver`.
    fn kind(&self) -> &'static str;

    /// What the other methods can be expected to do.
    fn capabilities(&self) -> Capabilities;

    /// Asks the controller for the state now.
    async fn status(&self) -> Result<PowerState, PowerError>;

    /// Switches on. Succeeds at once when the machine is on.
    async fn on(&self) -> Result<(), PowerError>;

    /// Switches off. Succeeds at once when the machine is off.
    async fn off(&self, how: Off) -> Result<(), PowerError>;

    /// Off and on again, cold: nothing in the machine's memory survives. A machine that was off is on
    /// afterwards.
    async fn cycle(&self) -> Result<(), PowerError>;

    /// Chooses what the next start boots from.
    async fn set_next_boot(&self, device: BootDevice) -> Result<(), PowerError>;

    /// Where the console is. The place stays the same whether or not the machine is on.
    async fn console(&self) -> Result<Console, PowerError>;

    /// Returns as soon as the state may be something else than `known`; at once when it already may.
    ///
    /// `Unknown` means that asking just failed; then only what is certain ends the wait, such as the end of
    /// a process, for everything else will fail again.
    ///
    /// Being about a level and not an edge, it cannot miss a change between two calls. The caller asks
    /// for [`status`](Self::status) afterwards. A driver that cannot tell never returns, and the caller
    /// polls. Cancel-safe.
    async fn changed_from(&self, known: PowerState) {
        let _ = known;
        std::future::pending::<()>().await;
    }
}
