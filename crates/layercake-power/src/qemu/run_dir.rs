//! The directory of one machine.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::process::Process;
use crate::{MachineName, PowerError};
use layercake_types::uuid_of;

/// `sun_path` is 108 bytes with its final zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// How often to look whether a lock is free. Switching a machine takes tens of milliseconds.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Logs larger than this are put aside when the machine starts; one older one is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// How much of the hypervisor's last words an error repeats.
const SAID_BYTES: usize = 2048;

/// Paths of one machine, and what is done with them.
#[derive(Debug, Clone)]
pub(super) struct RunDir {
    machine: MachineName,
    path: PathBuf,
}

impl RunDir {
    /// `run_dir` must be absolute: QEMU as a daemon changes to `/`.
    pub(super) fn new(run_dir: &Path, machine: &MachineName) -> Result<Self, PowerError> {
        let this = Self { machine: machine.clone(), path: run_dir.join(machine.as_str()) };
        let longest = this.console_socket();
        if longest.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
            let machine = machine.clone();
            return Err(PowerError::PathTooLong { machine, path: longest, limit: MAX_SOCKET_PATH });
        }
        Ok(this)
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }
    pub(super) fn qmp_socket(&self) -> PathBuf {
        self.path.join("qmp.sock")
    }
    pub(super) fn events_socket(&self) -> PathBuf {
        self.path.join("events.sock")
    }
    pub(super) fn console_socket(&self) -> PathBuf {
        self.path.join("console.sock")
    }
    pub(super) fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }
    pub(super) fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    /// Makes the directory, for us alone: whoever can open the sockets owns the machine.
    pub(super) fn create(&self) -> Result<(), PowerError> {
        let make = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            if fs::symlink_metadata(&self.path)?.is_symlink() {
                return Err(io::Error::other("it is a symbolic link"));
            }
            fs::set_permissions(&self.path, Permissions::from_mode(0o700))
        };
        make().map_err(|source| self.failed("create", self.path.clone(), source))
    }

    /// Takes the machine's lock; it is free again when the file is dropped, or its holder dies.
    pub(super) async fn lock(&self, limit: Duration) -> Result<File, PowerError> {
        let path = self.path.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| self.failed("open", path.clone(), source))?;
        let deadline = Instant::now() + limit;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(self.failed("lock", path, source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let machine = self.machine.clone();
                    return Err(PowerError::Locked { machine, lock: path, waited: limit });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
            }
        }
    }

    /// The machine's process, if it lives.
    pub(super) fn process(&self) -> Result<Option<Process>, PowerError> {
        let path = self.pid_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("read", path, source)),
        };
        // QEMU writes the file in one call, but creates it first: empty means not yet, or never.
        let Ok(pid) = text.trim().parse::<i32>() else { return Ok(None) };
        let uuid = uuid_of(&self.machine);
        let is_ours = |args: &[&[u8]]| {
            has_pair(args, b"-pidfile", path.as_os_str().as_bytes())
                && has_pair(args, b"-uuid", uuid.as_bytes())
        };
        Process::find(pid, is_ours).map_err(|source| PowerError::Process {
            machine: self.machine.clone(),
            doing: "look at",
            pid,
            source,
        })
    }

    /// Removes what a machine that died without a chance to tidy up left. Call with the lock held and
    /// no process.
    ///
    /// The pid file goes last: while it is there, the rest may be stale.
    pub(super) fn remove_stale(&self) -> Result<(), PowerError> {
        let sockets = [self.qmp_socket(), self.events_socket(), self.console_socket()];
        if !self.pid_file().exists() {
            return Ok(());
        }
        for path in sockets.into_iter().chain([self.pid_file()]) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts large logs aside and opens the hypervisor's.
    pub(super) fn open_log(&self) -> Result<File, PowerError> {
        for log in [self.console_log(), self.qemu_log()] {
            if fs::metadata(&log).is_ok_and(|meta| meta.len() > MAX_LOG_BYTES) {
                let aside = log.with_extension("log.1");
                fs::rename(&log, &aside).map_err(|source| self.failed("rename", log, source))?;
            }
        }
        let path = self.qemu_log();
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| self.failed("open", path, source))
    }

    /// The last words in the hypervisor's log, on one line.
    pub(super) fn last_words(&self, since_byte: u64) -> String {
        let log = fs::read(self.qemu_log()).unwrap_or_default();
        let since = usize::try_from(since_byte).unwrap_or(0).min(log.len());
        kraken_process::last_words(&log[since..], SAID_BYTES)
    }

    fn failed(&self, doing: &'static str, path: PathBuf, source: io::Error) -> PowerError {
        PowerError::RunDir { machine: self.machine.clone(), doing, path, source }
    }
}

fn has_pair(args: &[&[u8]], name: &[u8], value: &[u8]) -> bool {
    args.windows(2).any(|pair| pair[0] == name && pair[1] == value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn name() -> MachineName {
        "n1".parse().unwrap()
    }

    #[test]
    fn a_run_directory_too_long_for_a_socket_is_refused_before_anything_starts() {
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        assert!(matches!(RunDir::new(&long, &name()), Err(PowerError::PathTooLong { .. })));
    }

    #[tokio::test]
    async fn a_pid_file_of_another_process_is_stale_and_cleaned() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = RunDir::new(tmp.path(), &name()).unwrap();
        dir.create().unwrap();
        assert_eq!(fs::metadata(&dir.path).unwrap().permissions().mode() & 0o777, 0o700);
        for content in [std::process::id().to_string(), "-1".into(), "".into(), "x".into()] {
            fs::write(dir.pid_file(), content).unwrap();
            fs::write(dir.qmp_socket(), "").unwrap();
            assert!(dir.process().unwrap().is_none());
            dir.remove_stale().unwrap();
            assert!(!dir.qmp_socket().exists() && !dir.pid_file().exists());
        }
    }

    #[tokio::test]
    async fn a_lock_is_exclusive_and_free_after_its_holder() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = RunDir::new(tmp.path(), &name()).unwrap();
        dir.create().unwrap();
        let held = dir.lock(Duration::ZERO).await.unwrap();
        let refused = dir.lock(Duration::from_millis(50)).await;
        assert!(matches!(refused, Err(PowerError::Locked { .. })));
        drop(held);
        dir.lock(Duration::ZERO).await.unwrap();
    }
}
