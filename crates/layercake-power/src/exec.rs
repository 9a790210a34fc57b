//! Power through a site's own command.
//!
//! The command is run as `<command> <verb> <machine>`, without a shell, with `PATH` and `LANG=C` as its
//! whole environment:
//!
//! | verb | expected |
//! |---|---|
//! | `status` | exit 0 and one line: `on`, `off`, `hang` or `unknown` |
//! | `on`, `off`, `cycle` | exit 0 when the command was taken, also when there was nothing to do |
//!
//! Anything else is a failure, reported with the last the command wrote to its standard error. A command that
//! does not end in time is killed with everything it started.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::{
    BootDevice, Capabilities, CommandError, Console, MachineName, Off, PowerDriver, PowerError,
    PowerState,
};

/// The most that is read of a command's output. An answer is a word.
const MAX_OUTPUT_BYTES: usize = 4096;
/// How much of its last words an error repeats.
const SAID_BYTES: usize = 512;
/// What `status` may answer.
const STATES: &str = "on, off, hang or unknown";

/// The `power.exec.*` facts of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program, with its full path.
    pub command: PathBuf,
    /// Seconds that one run may take.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u32,
}

fn default_timeout_seconds() -> u32 {
    30
}

/// The power of one machine, switched by a command.
#[derive(Debug, Clone)]
pub struct ExecMachine {
    machine: MachineName,
    config: ExecConfig,
}

impl ExecMachine {
    /// The power of `machine` through `config`.
    ///
    /// # Errors
    /// When the command is not given with its full path: what a relative one means would depend on where
    /// the server was started.
    pub fn new(machine: MachineName, config: ExecConfig) -> Result<Self, PowerError> {
        if config.command.is_absolute() {
            return Ok(Self { machine, config });
        }
        let source = std::io::Error::other("power.exec.command is not an absolute path");
        let source = CommandError::Start { program: config.command, source };
        Err(PowerError::Command { machine, doing: "use the power command".to_owned(), source })
    }

    async fn call(&self, verb: &str) -> Result<String, PowerError> {
        let limit = Duration::from_secs(self.config.timeout_seconds.into());
        let args = [verb, self.machine.as_str()];
        run(Run::new(&self.config.command, args, limit)).await.map_err(|e| self.failed(verb, e))
    }

    fn failed(&self, verb: &str, source: CommandError) -> PowerError {
        let doing = format!("run the power command for {verb:?}");
        PowerError::Command { machine: self.machine.clone(), doing, source }
    }

    fn unsupported(&self, operation: impl Into<String>) -> PowerError {
        let (machine, operation) = (self.machine.clone(), operation.into());
        PowerError::Unsupported { machine, driver: self.kind(), operation }
    }
}

#[async_trait]
impl PowerDriver for ExecMachine {
    fn machine(&self) -> &MachineName {
        &self.machine
    }

    fn kind(&self) -> &'static str {
        "exec"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            graceful_off: false,
            detects_hang: true,
            next_boot: &[],
            console: false,
            reports_changes: false,
        }
    }

    async fn status(&self) -> Result<PowerState, PowerError> {
        let answer = self.call("status").await?;
        match answer.strip_suffix('\n').unwrap_or(&answer) {
            "on" => Ok(PowerState::On),
            "off" => Ok(PowerState::Off),
            "hang" => Ok(PowerState::Hang),
            "unknown" => Ok(PowerState::Unknown),
            _ => {
                let program = self.config.command.clone();
                let said = last_words(answer.as_bytes(), SAID_BYTES);
                let source = CommandError::Answer { program, said, expected: STATES };
                Err(self.failed("status", source))
            }
        }
    }

    async fn on(&self) -> Result<(), PowerError> {
        self.call("on").await.map(drop)
    }

    async fn off(&self, how: Off) -> Result<(), PowerError> {
        match how {
            Off::Hard => self.call("off").await.map(drop),
            Off::Graceful { .. } => Err(self.unsupported("shut down gracefully")),
        }
    }

    async fn cycle(&self) -> Result<(), PowerError> {
        self.call("cycle").await.map(drop)
    }

    async fn set_next_boot(&self, device: BootDevice) -> Result<(), PowerError> {
        Err(self.unsupported(format!("choose to boot from {device}")))
    }

    async fn console(&self) -> Result<Console, PowerError> {
        Err(self.unsupported("attach a console"))
    }
}

/// One run of a program.
pub(crate) struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    limit: Duration,
}

impl Run {
    pub(crate) fn new<A: AsRef<OsStr>>(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { program: program.into(), args, limit }
    }
}

/// Kills a command with everything it started, unless it was disarmed.
struct GroupGuard(Option<Pid>);

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // The leader is not reaped yet, so its id, and the group's, cannot be another's.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a program to its end and returns its standard output. Killed when the caller stops waiting.
pub(crate) async fn run(run: Run) -> Result<String, CommandError> {
    let Run { program, args, limit } = run;
    let mut child = Command::new(&program)
        .args(args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LANG", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a shell script's children can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CommandError::Start { program: program.clone(), source })?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut guard = GroupGuard(leader);
    let Ok(ended) = tokio::time::timeout(limit, finish(&mut child)).await else {
        return Err(CommandError::Timeout { program, limit });
    };
    let ended = ended.map_err(|source| CommandError::Wait { program: program.clone(), source })?;
    let Some((status, stdout, stderr)) = ended else {
        return Err(CommandError::TooMuchOutput { program, limit: MAX_OUTPUT_BYTES });
    };
    guard.0 = None;
    if !status.success() {
        let said = last_words(&stderr, SAID_BYTES);
        return Err(CommandError::Failed { program, outcome: status.to_string(), said });
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

type Ended = (std::process::ExitStatus, Vec<u8>, Vec<u8>);

/// `None` when it wrote too much.
async fn finish(child: &mut Child) -> std::io::Result<Option<Ended>> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = tokio::try_join!(read_bounded(out), read_bounded(err))?;
    let (Some(out), Some(err)) = (out, err) else { return Ok(None) };
    Ok(Some((child.wait().await?, out, err)))
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(Some(bytes)) };
    pipe.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() <= MAX_OUTPUT_BYTES).then_some(bytes))
}

/// The end of what a program wrote, on one line and without control characters.
pub(crate) fn last_words(bytes: &[u8], limit: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(limit)..];
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join("; ").replace(|c: char| c.is_control(), " ");
    if line.is_empty() { "it said nothing".to_owned() } else { line }
}
