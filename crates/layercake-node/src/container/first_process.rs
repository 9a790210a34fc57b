//! The first process of a plain container: starts the program and reaps what it leaves behind.
//!
//! The kernel ignores signals to a first process that has no handler for them, and hands it every
//! orphan. Programs are not written for either, so they run as its child.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::program::Program;
use super::{Message, Stage, StageFailure, send};
use crate::image::{Exit, monotonic_ns};

/// Runs the program until it ends, and ends what it left behind. When [`Message::Ended`] is sent,
/// nothing else of the container runs: its ports are free, and the next one can start while the
/// kernel still takes the namespaces of this one apart.
pub(super) fn run(program: &Program, socket: &mut UnixStream) -> Result<ExitCode, StageFailure> {
    let child = program.spawn()?;
    let main = Pid::from_child(&child);
    let started =
        Message::Started { inner_pid: main.as_raw_nonzero().get(), monotonic_ns: monotonic_ns() };
    send(socket, &started).stage("report the start")?;
    let exit = reap_until(main).stage("wait for the program")?;
    let ended_ns = monotonic_ns();
    end_the_rest();
    // The monitor may be gone; then nobody asks how it ended.
    let _ = send(socket, &Message::Ended { exit, monotonic_ns: ended_ns });
    Ok(ExitCode::SUCCESS)
}

fn reap_until(main: Pid) -> rustix::io::Result<Exit> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => return Ok(exit_of(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Kills every other process of the namespace and reaps it.
fn end_the_rest() {
    // It fails when there is nothing to kill (kill(2), ESRCH).
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL);
    while matches!(
        rustix::process::wait(WaitOptions::empty()),
        Ok(_) | Err(rustix::io::Errno::INTR)
    ) {}
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}
