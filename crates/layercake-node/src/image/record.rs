//! What is written down about a container, so that it survives the agent.
//!
//! Every instance has a directory, `containers/<name>/<number>/`. `instance.json` is written by the
//! image service and says what was wanted; `status.json` is written by the instance's monitor and
//! says what came of it. One writer per file, each replaced as a whole.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Circumstances, Digest, ImageName, ImageSpec};

/// One container: a name, and which of the containers that had this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The image's name on this node.
    pub name: ImageName,
    /// Counts up with every container of that name.
    pub number: u64,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.number)
    }
}

/// The states of a container.
///
/// `Created` (mounts and namespaces are up, the program waits for its start) -> `Running` ->
/// `Stopping` (asked to stop) -> gone; or `Running` -> `Exited` (ended by itself, with a status) or
/// `Dead` (killed, or lost).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Everything is prepared, the program does not run yet.
    Created,
    /// The main process runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// The main process ended by itself.
    Exited,
    /// The main process was killed or lost.
    Dead,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw it.
    Unknown,
}

impl Exit {
    /// Of a child as wait(2) reports it.
    #[must_use]
    pub fn of(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// The state that a container is in after this.
    #[must_use]
    pub fn state(self) -> ContainerState {
        match self {
            Self::Code(_) => ContainerState::Exited,
            Self::Signal(_) | Self::Unknown => ContainerState::Dead,
        }
    }
}

/// A process that cannot be taken for another one which has its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the kernel did (proc(5), stat field 22).
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_ticks = start_ticks(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/pid/stat")
        })?;
        Ok(Self { pid, start_ticks })
    }

    /// The calling process.
    pub fn own() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// A descriptor of the process, or `None` when it is gone (or only a zombie is left).
    pub fn open(self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The number may have been given to another process before the descriptor was opened;
        // once it is open, the start time cannot change behind it.
        match Self::of(self.pid) {
            Ok(now) if now == self => Ok(Some(pidfd)),
            _ => Ok(None),
        }
    }
}

/// Field 22 of /proc/pid/stat. The second field, the name, may hold blanks and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// `instance.json`: what the service wanted when it made the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The wanted image.
    pub spec: ImageSpec,
    /// How often it was started again after it ended without being asked to.
    pub restarts: u32,
    /// The image that ran under this name before; it is kept for a quick return.
    pub previous: Option<Digest>,
    /// How the container ended that this one was started in place of, for the same reason.
    #[serde(default)]
    pub last_exit: Option<String>,
}

/// `status.json`: what the monitor knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where the container is.
    pub state: ContainerState,
    /// Its monitor.
    pub monitor: ProcessId,
    /// Its main process, once there is one.
    pub main: Option<ProcessId>,
    /// When the main process was started.
    pub started_unix_ms: Option<u64>,
    /// The same, on the clock that never jumps.
    pub started_monotonic_ns: Option<u64>,
    /// When it ended, on that clock.
    pub exited_monotonic_ns: Option<u64>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// What was seen around its end.
    #[serde(default)]
    pub circumstances: Circumstances,
}

/// Names of an instance's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDir(pub PathBuf);

impl InstanceDir {
    /// `instance.json`.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("instance.json")
    }

    /// `status.json`.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// Where the container's writable layer is.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }

    /// Where the container's root is put together.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

/// Writes a record so that a reader sees the old one or the new one, never half of one.
pub fn write_record<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let json = serde_json::to_vec(record)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, json)?;
    fs::rename(&temporary, path)
}

/// Reads a record.
pub fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Nanoseconds on the clock that never jumps and is the same in every process.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_an_awkward_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(start_ticks("12 (a"), None);
        assert_eq!(start_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_not_taken_for_another_with_its_number() {
        let own = ProcessId::own().unwrap();
        assert!(own.open().unwrap().is_some());
        let other = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(other.open().unwrap().is_none());
    }
}
