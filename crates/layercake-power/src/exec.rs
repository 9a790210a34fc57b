//! Power through a site's own command.
//!
//! The command is run as `<command> <verb> <machine>`, without a shell, with `PATH` and `LANG=C` as its
//! whole environment:
//!
//! | verb | expected |
//! |---|---|
//! | `status` | exit 0 and one word: `on`, `off`, `hang` or `unknown`; white space around it does not count |
//! | `on`, `off`, `cycle` | exit 0 when the command was taken, also when there was nothing to do |
//!
//! Anything else is a failure, reported with the last the command wrote to its standard error. A command that
//! does not end in time is killed with everything it started. Its answer counts when it has ended, whatever it
//! started in the background.

use std::time::Duration;

use async_trait::async_trait;
use kraken_process::{CommandError, Run};

use crate::{
    BootDevice, Capabilities, Console, ExecConfig, MachineName, Off, PowerDriver, PowerError,
    PowerState,
};

/// How much of an answer an error repeats, in characters.
const SAID_CHARS: usize = 100;
/// What `status` may answer.
const STATES: &str = "one word: on, off, hang or unknown";

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
        let Err(wrong) = config.check() else { return Ok(Self { machine, config }) };
        let source = CommandError::Start {
            program: config.command,
            source: std::io::Error::other(format!("power.exec.command: {wrong}")),
        };
        Err(PowerError::Command { machine, doing: "use the power command".to_owned(), source })
    }

    async fn call(&self, verb: &str) -> Result<String, PowerError> {
        let limit = Duration::from_secs(self.config.timeout_seconds.into());
        let args = [verb, self.machine.as_str()];
        Run::new(&self.config.command, args, limit).output().await.map_err(|e| self.failed(verb, e))
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
        match answer.trim() {
            "on" => Ok(PowerState::On),
            "off" => Ok(PowerState::Off),
            "hang" => Ok(PowerState::Hang),
            "unknown" => Ok(PowerState::Unknown),
            _ => {
                let program = self.config.command.clone();
                // Shown escaped, with the white space that hides in it.
                let said = answer.chars().take(SAID_CHARS).collect();
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
