//! What can go wrong, one variant for each operation that failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::MachineName;
use crate::qmp::QmpError;
use kraken_process::CommandError;

/// An operation on the power of a machine that failed.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The driver has no such operation; see [`Capabilities`](crate::Capabilities).
    #[error("machine {machine}: the {driver} driver cannot {operation}")]
    Unsupported {
        /// The machine.
        machine: MachineName,
        /// The driver's name.
        driver: &'static str,
        /// What was asked for.
        operation: String,
    },
    /// The machine's run directory, or a file in it, could not be used.
    #[error("machine {machine}: cannot {doing} {}", path.display())]
    RunDir {
        /// The machine.
        machine: MachineName,
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The paths of the machine's sockets would not fit into a socket address.
    #[error(
        "machine {machine}: the socket path {} is longer than the {limit} bytes that unix(7) allows; choose a shorter run directory", path.display()
    )]
    PathTooLong {
        /// The machine.
        machine: MachineName,
        /// The path.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// Somebody else was switching this machine and did not finish.
    #[error(
        "machine {machine}: another operation has held {} for more than {waited:?}; is a second server using the same run directory?", lock.display()
    )]
    Locked {
        /// The machine.
        machine: MachineName,
        /// The lock file.
        lock: PathBuf,
        /// How long was waited for it.
        waited: Duration,
    },
    /// The machine's process could not be looked at or signalled.
    #[error("machine {machine}: cannot {doing} process {pid}")]
    Process {
        /// The machine.
        machine: MachineName,
        /// What was being done.
        doing: &'static str,
        /// With which process.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
    /// The virtual machine did not start.
    #[error("machine {machine}: {program} did not start a machine ({outcome}): {said}")]
    Launch {
        /// The machine.
        machine: MachineName,
        /// The hypervisor.
        program: PathBuf,
        /// How it ended.
        outcome: String,
        /// The last it said.
        said: String,
    },
    /// The hypervisor, or a site's own command, could not be run at all, or did not behave.
    #[error("machine {machine}: cannot {doing}")]
    Command {
        /// The machine.
        machine: MachineName,
        /// What was being done.
        doing: String,
        /// Why not.
        source: CommandError,
    },
    /// The hypervisor's control socket failed.
    #[error("machine {machine}: cannot {doing} over QMP")]
    Qmp {
        /// The machine.
        machine: MachineName,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: QmpError,
    },
    /// The machine would not end.
    #[error(
        "machine {machine}: process {pid} is still there {waited:?} after SIGKILL; look for it in state D"
    )]
    StillRunning {
        /// The machine.
        machine: MachineName,
        /// Its process.
        pid: i32,
        /// How long was waited.
        waited: Duration,
    },
}
