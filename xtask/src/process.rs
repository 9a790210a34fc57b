//! Processes of others, without ever mistaking one for another.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process by id and start: ids are used again, but not within the same clock tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start (`/proc/<pid>/stat`, field 22).
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// The process that has this id now; none when it has ended, even if nobody waited for it.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may hold anything.
        let (_, after_name) = stat.rsplit_once(") ")?;
        let mut fields = after_name.split(' ');
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // Field 22 of the whole line; the state was field 3.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, start_ticks })
    }

    /// Whether it lives.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// What it runs, for people.
    pub(crate) fn command(self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        let mut short: String = text.trim().chars().take(80).collect();
        if short.is_empty() {
            short.push_str("(no command line)");
        }
        short
    }

    /// Kills it, as the kernel does when memory runs out: at once, without a word. False when it has ended.
    pub(crate) fn kill(self) -> bool {
        self.open().is_some_and(|pidfd| pidfd_send_signal(pidfd, Signal::KILL).is_ok())
    }

    /// A handle that stays with this process.
    fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the handle is open: if it is still the one, the handle is of the one.
        self.is_alive().then_some(pidfd)
    }
}

/// Ends processes: asks all, waits for all together, then kills those that are left and waits again.
/// Returns those that live on.
pub(crate) fn end_all(processes: &[Identity], grace: Duration) -> Vec<Identity> {
    let held: Vec<_> = processes.iter().filter_map(|p| Some((*p, p.open()?))).collect();
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(5))] {
        for (_, pidfd) in &held {
            let _ = pidfd_send_signal(pidfd, signal);
        }
        let deadline = Instant::now() + patience;
        for (_, pidfd) in &held {
            wait_until(pidfd, deadline);
        }
    }
    held.into_iter().map(|(process, _)| process).filter(|process| process.is_alive()).collect()
}

/// Waits until the process has ended, or the deadline.
fn wait_until(pidfd: &OwnedFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(limit) = Timespec::try_from(left) else { return };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let _ = poll(&mut fds, Some(&limit));
}

/// Every process for which `wanted` holds, except this one.
pub(crate) fn all(wanted: impl Fn(&Path) -> bool) -> Vec<Identity> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<i32>().ok()?, entry.path())))
        .filter(|(pid, path)| *pid != own && wanted(path))
        .filter_map(|(pid, _)| Identity::of(pid))
        .collect()
}

/// Every process in the network namespace with this inode.
pub(crate) fn in_network_namespace(inode: u64) -> Vec<Identity> {
    all(|proc| fs::metadata(proc.join("ns/net")).is_ok_and(|meta| meta.ino() == inode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_ignores_the_request_is_killed_and_a_stranger_is_left_alone() {
        let mut stubborn = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; exec sleep 600"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = stubborn.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let identity = Identity::of(i32::try_from(stubborn.id()).unwrap()).unwrap();

        let reused = Identity { start_ticks: identity.start_ticks + 1, ..identity };
        assert!(end_all(&[reused], Duration::ZERO).is_empty());
        assert!(identity.is_alive(), "a process with the same id but another start was ended");

        assert!(end_all(&[identity], Duration::from_millis(100)).is_empty());
        assert!(!identity.is_alive());
        stubborn.wait().unwrap();
    }
}
