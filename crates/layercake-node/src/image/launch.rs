//! The service's side of a monitor: start it, wait until its container is prepared, give the word.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::record::Status;
use crate::container::{StageFailure, receive_line, send};
use crate::monitor::{MonitorSpec, Report};

/// How long a container may take to prepare or to start. Mounts of memory and an exec take
/// milliseconds; under emulation and load, seconds.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// Why a container did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The monitor could not be started or spoken to.
    #[error("cannot {step} the container's monitor")]
    Monitor {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A stage in the container failed.
    #[error(transparent)]
    Stage(#[from] StageFailure),
}

/// A prepared container that waits for the word. Dropping it takes the container away.
#[derive(Debug)]
pub struct Launched {
    socket: UnixStream,
    input: BufReader<UnixStream>,
    decided: bool,
}

/// Starts a monitor and waits until its container is prepared.
pub(super) fn launch(program: &Path, spec: &MonitorSpec) -> Result<Launched, LaunchError> {
    let monitor = |step| move |source| LaunchError::Monitor { step, source };
    let (ours, theirs) = UnixStream::pair().map_err(monitor("make a socket for"))?;
    ours.set_read_timeout(Some(STEP_LIMIT)).map_err(monitor("make a socket for"))?;
    // This process has threads, and a fork of it could do nothing but exec; that is all it does.
    let ended = Command::new(program)
        .arg("monitor")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .status()
        .map_err(monitor("start"))?;
    if !ended.success() {
        return Err(monitor("start")(io::Error::other(ended.to_string())));
    }
    let input = BufReader::new(ours.try_clone().map_err(monitor("make a socket for"))?);
    let mut launched = Launched { socket: ours, input, decided: false };
    send(&mut launched.socket, spec).map_err(monitor("instruct"))?;
    match launched.next()? {
        Report::Prepared => Ok(launched),
        Report::Failed(failure) => Err(failure.into()),
        Report::Started(_) => Err(monitor("understand")(unexpected())),
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a report out of turn")
}

impl Launched {
    fn next(&mut self) -> Result<Report, LaunchError> {
        let monitor = |step| move |source| LaunchError::Monitor { step, source };
        let line = receive_line(&mut self.input).map_err(monitor("hear from"))?;
        let line = line.ok_or_else(|| monitor("hear from")(io::ErrorKind::UnexpectedEof.into()))?;
        serde_json::from_slice(&line).map_err(|error| monitor("understand")(error.into()))
    }

    /// Gives the word and waits until the program runs.
    pub fn start(mut self) -> Result<Status, LaunchError> {
        self.socket
            .write_all(b"g")
            .map_err(|source| LaunchError::Monitor { step: "give the word to", source })?;
        match self.next()? {
            Report::Started(status) => {
                self.decided = true;
                Ok(status)
            }
            Report::Failed(failure) => Err(failure.into()),
            Report::Prepared => {
                Err(LaunchError::Monitor { step: "understand", source: unexpected() })
            }
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        // The monitor sees the end of the socket and takes the container away; its own end closes
        // when it is done. Bounded by the read timeout, after which the cgroup is killed anyway.
        if self.socket.shutdown(std::net::Shutdown::Write).is_ok() {
            let _ = self.input.read_to_end(&mut Vec::new());
        }
    }
}
