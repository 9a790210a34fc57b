//! From the container's pipes to its log, until the container has ended.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::log::{Lines, RotatingLog};
use super::{Container, Ended, next_message};
use crate::container::Message;
use crate::image::{Exit, monotonic_ns};

/// One pipe or terminal of the container; `None` once it is closed.
struct Output {
    fd: Option<OwnedFd>,
    lines: Lines,
}

/// Writes the log until the container's first process has ended.
pub(super) fn until_the_end(mut container: Container, mut log: RotatingLog) -> Ended {
    let outputs = std::mem::take(&mut container.outputs);
    let mut outputs: Vec<Output> = outputs
        .into_iter()
        .map(|(stream, fd)| Output { fd: Some(fd), lines: Lines::new(stream) })
        .collect();
    for fd in outputs.iter().filter_map(|output| output.fd.as_ref()) {
        // Without this a read could wait for output while the end goes unseen; the poll below
        // only reads what is there, so a failure costs nothing but that.
        let _ = rustix::io::ioctl_fionbio(fd, true);
    }
    let mut ended = match pidfd_open(Pid::from_child(&container.child), PidfdFlags::empty()) {
        Ok(first) => loop {
            if let Some(ended) = wait_for_something(&first, &mut container, &mut outputs, &mut log)
            {
                break ended;
            }
        },
        Err(_) => end_of_first_process(&mut container),
    };
    // All writers are dead: what is in the pipes now is all there will ever be.
    for output in &mut outputs {
        drain(output, &mut log);
        output.lines.finish(&mut log);
    }
    ended.last_lines = log.last_lines();
    ended
}

/// Sleeps until there is output or the end, and returns the end.
fn wait_for_something(
    first: &OwnedFd,
    container: &mut Container,
    outputs: &mut [Output],
    log: &mut RotatingLog,
) -> Option<Ended> {
    let socket = container.socket_is_open.then_some(&container.socket);
    let mut fds = vec![PollFd::new(first, PollFlags::IN)];
    fds.extend(
        outputs.iter().filter_map(|o| o.fd.as_ref()).map(|fd| PollFd::new(fd, PollFlags::IN)),
    );
    fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(_) => return Some(end_of_first_process(container)),
    }
    let first_ended = !fds[0].revents().is_empty();
    let socket_speaks =
        container.socket_is_open && fds.last().is_some_and(|fd| !fd.revents().is_empty());
    for output in outputs {
        drain(output, log);
    }
    if socket_speaks {
        match next_message(container) {
            // The first process is about to end as well. It is left to init, so that the end is
            // known before the kernel has taken the namespaces apart.
            Ok(Some(Message::Ended { exit, monotonic_ns })) => {
                return Some(Ended::new(exit, monotonic_ns));
            }
            // It ended without a word, which its pidfd tells next.
            _ => container.socket_is_open = false,
        }
    }
    first_ended.then(|| end_of_first_process(container))
}

/// How the first process itself ended: systemd always, the first process of a plain container only
/// when it was killed.
fn end_of_first_process(container: &mut Container) -> Ended {
    let seen_ns = monotonic_ns();
    let status = container.child.wait();
    match next_message(container) {
        Ok(Some(Message::Ended { exit, monotonic_ns })) => Ended::new(exit, monotonic_ns),
        _ => Ended::new(status.map_or(Exit::Unknown, Exit::of), seen_ns),
    }
}

/// How much is taken from one output before the others have their turn: a program that writes
/// without end must not keep the monitor from seeing its end.
const READS_PER_TURN: usize = 64;

fn drain(output: &mut Output, log: &mut RotatingLog) {
    let mut buffer = [0; 16 * 1024];
    for _ in 0..READS_PER_TURN {
        let Some(fd) = &output.fd else { return };
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => output.fd = None,
            Ok(read) => output.lines.push(&buffer[..read], log),
            Err(Errno::AGAIN) => return,
            Err(Errno::INTR) => {}
            Err(_) => output.fd = None,
        }
    }
}
