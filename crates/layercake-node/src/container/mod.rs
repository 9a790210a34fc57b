//! The role `container`: turns itself into a container.
//!
//! A single-threaded process that the monitor starts as the first of a new process namespace. It
//! reads a [`ContainerSpec`] from its standard input (a socket), leaves the other namespaces, puts
//! its root together, says [`Message::Prepared`] and waits for one byte. Only then does the
//! program start: everything slow is done while the old container still runs.
//!
//! Each stage that fails is reported by name with the kernel's reason; the process then ends, and
//! with it its namespaces and mounts.

mod capabilities;
mod executable;
mod first_process;
mod identity;
mod inside;
mod mounts;
mod program;
mod root;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use layercake_sys::Namespaces;
use rustix::process::{DumpableBehavior, Signal};
use serde::{Deserialize, Serialize};

pub use executable::own_architecture;

use crate::image::{Exit, ImageSpec, Kind, SpecError};

/// The largest [`ContainerSpec`] that is read: the image's, a resolver file and a few paths.
pub const MAX_CONTAINER_SPEC_BYTES: usize = 256 * 1024;

/// What a container is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// What is run.
    pub image: ImageSpec,
    /// The mounted root that becomes `/`.
    pub root: PathBuf,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// Content of `/etc/resolv.conf`, if the node has one.
    pub resolv_conf: Option<String>,
    /// The node's machine id, machine-id(5).
    pub machine_id: String,
    /// The node's addresses, under which it is known by its name.
    pub addresses: Vec<IpAddr>,
    /// The terminal that becomes `/dev/console`.
    pub console: Option<PathBuf>,
}

impl ContainerSpec {
    /// Reads and checks a specification.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        if bytes.len() > MAX_CONTAINER_SPEC_BYTES {
            return Err(SpecError::TooLarge(bytes.len()));
        }
        let spec: Self = serde_json::from_slice(bytes).map_err(SpecError::Json)?;
        spec.image.check()?;
        Ok(spec)
    }
}

/// Entry for fuzzing: any bytes are refused or read, never a panic.
pub fn fuzz_container_spec(data: &[u8]) {
    let _ = ContainerSpec::parse(data);
}

/// What a container says to its monitor, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Everything is there; one byte starts the program.
    Prepared,
    /// The program runs. (A systemd image says so by closing the socket: it *is* systemd now.)
    Started {
        /// Its number in the container.
        inner_pid: i32,
        /// When, on the clock that never jumps.
        monotonic_ns: u64,
    },
    /// The program ended.
    Ended {
        /// How.
        exit: Exit,
        /// When.
        monotonic_ns: u64,
    },
    /// A stage failed; nothing more follows.
    Failed(StageFailure),
}

/// A stage on the way to a running container that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {stage}: {reason}")]
pub struct StageFailure {
    /// What was tried, as it follows "cannot".
    pub stage: String,
    /// The kernel's reason.
    pub reason: String,
    /// Its number, if it came from the kernel.
    pub errno: Option<i32>,
}

impl StageFailure {
    /// A stage and the error that ended it.
    pub fn new(stage: impl Into<String>, error: &io::Error) -> Self {
        Self { stage: stage.into(), reason: error.to_string(), errno: error.raw_os_error() }
    }
}

/// Names the stage that a result belongs to.
pub(crate) trait Stage<T> {
    /// What follows "cannot" when it failed.
    fn stage(self, stage: impl Into<String>) -> Result<T, StageFailure>;
}

impl<T, E: Into<io::Error>> Stage<T> for Result<T, E> {
    fn stage(self, stage: impl Into<String>) -> Result<T, StageFailure> {
        self.map_err(|error| StageFailure::new(stage, &error.into()))
    }
}

/// Writes one message.
pub(crate) fn send<T: Serialize>(socket: &mut impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Reads one line of at most [`MAX_CONTAINER_SPEC_BYTES`]; `None` when the other side is gone.
pub(crate) fn receive_line(socket: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    socket.take(MAX_CONTAINER_SPEC_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        None => Ok(None),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a message without an end")),
    }
}

/// The role's entry: `layercake-node container`, with a socket as standard input.
#[must_use]
pub fn run() -> ExitCode {
    let Ok(mut socket) = take_socket() else { return ExitCode::FAILURE };
    match become_container(&mut socket) {
        Ok(code) => code,
        Err(failure) => {
            // When nobody listens any more, there is nobody to tell.
            let _ = send(&mut socket, &Message::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket away from standard input, so that the program finds `/dev/null` there and does
/// not inherit the socket.
pub(crate) fn take_socket() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

fn become_container(socket: &mut UnixStream) -> Result<ExitCode, StageFailure> {
    let mut input = BufReader::new(socket.try_clone().stage("duplicate the socket")?);
    let line = receive_line(&mut input).stage("read what to run")?.unwrap_or_default();
    let spec = ContainerSpec::parse(&line).map_err(io::Error::other).stage("read what to run")?;

    // Whatever happens to the monitor, the container does not outlive it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .stage("bind the container to its monitor")?;
    // A program in the container must not look into this process, whose memory and root are the
    // node's until the last stage.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .stage("close this process to others")?;
    rustix::process::setsid().stage("start a session")?;
    // Unlike its monitor it has no claim to be spared when memory runs out.
    std::fs::write("/proc/self/oom_score_adj", "0")
        .stage("count as an image when memory runs out")?;
    std::fs::write(spec.cgroup.join("cgroup.procs"), "0")
        .stage(format!("enter the cgroup {}", spec.cgroup.display()))?;
    layercake_sys::unshare(Namespaces {
        mount: true,
        pid: false,
        uts: true,
        ipc: true,
        cgroup: true,
    })
    .stage("leave the node's namespaces")?;
    for lacks in root::enter(&spec)? {
        // Among what the image itself prints: there whoever looks after it will see it.
        let _ = writeln!(io::stderr(), "layercake: {lacks}");
    }
    let program = program::Program::find(&spec.image)?;

    send(socket, &Message::Prepared).stage("report to the monitor")?;
    let mut go = [0; 1];
    if input.read(&mut go).stage("wait for the start")? == 0 {
        // The service changed its mind, or died: nothing was started, nothing is left.
        return Ok(ExitCode::FAILURE);
    }
    capabilities::limit(spec.image.kind).stage("give up capabilities")?;
    match spec.image.kind {
        Kind::Plain => first_process::run(&program, socket),
        Kind::Systemd => Err(program.replace_this_process()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_beyond_the_limit_is_refused() {
        let huge = vec![b'x'; MAX_CONTAINER_SPEC_BYTES + 2];
        assert!(receive_line(&mut huge.as_slice()).is_err());
        assert_eq!(receive_line(&mut b"".as_slice()).unwrap(), None);
        assert_eq!(receive_line(&mut b"a\nb".as_slice()).unwrap(), Some(b"a".to_vec()));
    }
}
