//! A process that cannot be mistaken for another.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A live process, held by a pidfd: its id may be used again, the pidfd never means another.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Opens the process `pid` if it is alive and its arguments satisfy `is_ours`.
    ///
    /// The arguments are read after the pidfd is open and believed only if the process is alive after that,
    /// so they are the arguments of the process that is held.
    pub(super) fn find(
        pid: i32,
        is_ours: impl FnOnce(&[&[u8]]) -> bool,
    ) -> io::Result<Option<Self>> {
        // What a file says may be no process id at all, and `from_raw` panics below zero.
        let Some(raw) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else { return Ok(None) };
        let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let arguments = match fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(arguments) => arguments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let arguments: Vec<&[u8]> = arguments.split(|&b| b == 0).collect();
        if !is_ours(&arguments) || has_ended(&pidfd)? {
            return Ok(None);
        }
        // Deprecated because a type may lie about its descriptor; an `OwnedFd` cannot, and the replacement
        // is unsafe.
        #[allow(deprecated)]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Some(Self { pid, pidfd }))
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGKILL. Succeeds when the process has ended already.
    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn has_ended(&self) -> io::Result<bool> {
        has_ended(self.pidfd.get_ref())
    }

    /// Returns when the process has ended. Cancel-safe.
    pub(super) async fn ended(&self) -> io::Result<()> {
        // A pidfd becomes readable when its process ends, and stays so (pidfd_open(2)).
        self.pidfd.readable().await.map(drop)
    }
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut fds, Some(&now))? == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_process_is_found_by_its_arguments_and_its_end_is_seen_before_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("600.25").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Between fork and exec the arguments are still ours.
        let process = loop {
            let found = Process::find(pid, |args| args.contains(&&b"600.25"[..])).unwrap();
            if let Some(found) = found {
                break found;
            }
        };
        assert!(Process::find(pid, |args| args.contains(&&b"7"[..])).unwrap().is_none());
        assert!(!process.has_ended().unwrap());
        process.kill().unwrap();
        process.ended().await.unwrap();
        // A zombie now: ended, although its id still exists.
        assert!(Process::find(pid, |_| true).unwrap().is_none());
        child.wait().unwrap();
        process.kill().unwrap();
    }
}
