//! Signals by number, the real-time ones included: systemd is told to halt by one.

use std::os::fd::AsFd;

use rustix::io;
use rustix::process::{Signal, pidfd_send_signal};

/// The number of a signal that one process may send to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalNumber(i32);

impl SignalNumber {
    /// Asks a process to end.
    pub const TERM: Self = Self(15);
    /// Ends a process.
    pub const KILL: Self = Self(9);
    /// `SIGRTMIN+3`, by which a container's systemd is told to halt (systemd(1), "Signals").
    /// glibc's `SIGRTMIN` is 34; the two below it belong to its threads.
    pub const SYSTEMD_HALT: Self = Self(37);

    /// `None` for what is no signal, or one that the C library keeps for its own threads.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (matches!(number, 1..=31 | 34..=64)).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// Sends a signal to the process behind `pidfd`, which cannot be another one by mistake.
pub fn signal_process(pidfd: impl AsFd, signal: SignalNumber) -> io::Result<()> {
    // SAFETY: the number names a signal the kernel knows, and none of those that the C library
    // uses inside a process (see `SignalNumber::new`); it is only passed on to the kernel.
    let signal = unsafe { Signal::from_raw_unchecked(signal.0) };
    pidfd_send_signal(pidfd, signal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_real_time_signal_reaches_the_process() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        signal_process(&pidfd, SignalNumber::SYSTEMD_HALT).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(37));
    }

    #[test]
    fn signals_of_the_c_library_cannot_be_named() {
        assert!([0, 32, 33, 65, -1].into_iter().all(|number| SignalNumber::new(number).is_none()));
    }
}
