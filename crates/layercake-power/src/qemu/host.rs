//! Where the machines of this host are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::QemuMachine;
use super::run_dir::RunDir;
use crate::{MachineName, PowerError};
use layercake_types::Machine;

/// How long each part of an operation may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Starting QEMU: reading ROMs from a slow disk while the host is busy.
    pub(super) launch: Duration,
    /// One QMP conversation. The main loop of a busy emulator answers within a second.
    pub(super) qmp: Duration,
    /// From `quit` to the end of the process.
    pub(super) quit: Duration,
    /// From SIGKILL to the end of the process, which may have gigabytes to unmap.
    pub(super) kill: Duration,
    /// For somebody else who is switching the same machine.
    pub(super) lock: Duration,
    /// One `ip` command.
    pub(super) network: Duration,
}

/// The QEMU machines below one run directory.
#[derive(Debug, Clone)]
pub struct QemuHost {
    pub(super) run_dir: PathBuf,
    pub(super) program: PathBuf,
    pub(super) patience: Patience,
}

impl QemuHost {
    /// Machines live below `run_dir`, an absolute path short enough for sockets (about 80 bytes).
    ///
    /// # Errors
    /// When the path is not absolute.
    pub fn new(run_dir: impl Into<PathBuf>) -> io::Result<Self> {
        let run_dir = run_dir.into();
        if !run_dir.is_absolute() {
            let message = format!("the run directory {} is not absolute", run_dir.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let patience = Patience {
            launch: Duration::from_secs(30),
            qmp: Duration::from_secs(5),
            quit: Duration::from_secs(5),
            kill: Duration::from_secs(10),
            lock: Duration::from_secs(60),
            network: Duration::from_secs(10),
        };
        Ok(Self { run_dir, program: "qemu-system-x86_64".into(), patience })
    }

    /// Uses another hypervisor binary than the `qemu-system-x86_64` of `PATH`.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Waits at most `limit` for each QMP conversation and for the end after `quit`, instead of 5 s.
    #[must_use]
    pub fn with_qmp_limit(mut self, limit: Duration) -> Self {
        self.patience.qmp = limit;
        self.patience.quit = limit;
        self
    }

    /// The power of one machine, on or off, started by this process or another.
    ///
    /// # Errors
    /// When the paths of the machine's sockets would be too long.
    pub fn machine(&self, machine: Machine) -> Result<QemuMachine, PowerError> {
        let dir = RunDir::new(&self.run_dir, &machine.name)?;
        Ok(QemuMachine::new(self.clone(), machine, dir))
    }

    /// The machines that have a directory here, by name. A machine that is not in the cluster file any more
    /// may still be among them, and on.
    ///
    /// # Errors
    /// When the run directory cannot be read. One that does not exist holds no machines.
    pub fn machines(&self) -> io::Result<Vec<MachineName>> {
        let entries = match fs::read_dir(&self.run_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(Ok(name)) = entry.file_name().to_str().map(str::parse)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directory all of this is in.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }
}
