//! The driver of one QEMU machine.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kraken_process::{CommandError, Run};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::accel::{self, Accel};
use super::command_line::arguments;
use super::host::QemuHost;
use super::process::Process;
use super::run_dir::RunDir;
use crate::qmp::{Connection, QmpError};
use crate::{
    BootDevice, Capabilities, Console, MachineName, Off, PowerDriver, PowerError, PowerState,
};
use layercake_types::{AccelChoice, Machine, Nic};

/// The power of one QEMU machine. A clone is the same machine.
#[derive(Debug, Clone)]
pub struct QemuMachine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: QemuHost,
    machine: Machine,
    dir: RunDir,
    /// QEMU talks to one QMP client at a time; within this process we queue here, where time is counted.
    qmp: tokio::sync::Mutex<()>,
    /// Rung when this process switched the machine.
    switched: Notify,
    /// Whether this process has seen to it that the machine is plugged into its bridge.
    plugged: AtomicBool,
}

#[async_trait]
impl PowerDriver for QemuMachine {
    fn machine(&self) -> &MachineName {
        &self.0.machine.name
    }

    fn kind(&self) -> &'static str {
        "qemu"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            graceful_off: true,
            detects_hang: true,
            next_boot: &[BootDevice::Network],
            console: true,
            reports_changes: true,
        }
    }

    async fn status(&self) -> Result<PowerState, PowerError> {
        self.0.status().await
    }

    async fn on(&self) -> Result<(), PowerError> {
        // In a task of its own, here and below: a caller who gives up half-way must not leave a machine
        // that is started but not plugged in.
        self.detached(|inner| async move {
            let _lock = inner.lock().await?;
            inner.on().await
        })
        .await
    }

    async fn off(&self, how: Off) -> Result<(), PowerError> {
        self.detached(move |inner| async move {
            let Some(process) = inner.dir.process()? else { return inner.tidy().await };
            if let Off::Graceful { deadline } = how
                && inner.powered_down(&process, deadline).await
            {
                return inner.tidy().await;
            }
            let _lock = inner.lock().await?;
            inner.end(&process).await
        })
        .await
    }

    async fn cycle(&self) -> Result<(), PowerError> {
        self.detached(|inner| async move {
            let _lock = inner.lock().await?;
            if let Some(process) = inner.dir.process()? {
                inner.end(&process).await?;
            }
            inner.on().await
        })
        .await
    }

    async fn set_next_boot(&self, device: BootDevice) -> Result<(), PowerError> {
        match device {
            // It has nothing else to boot from.
            BootDevice::Network => Ok(()),
            BootDevice::Disk => Err(PowerError::Unsupported {
                machine: self.machine().clone(),
                driver: self.kind(),
                operation: format!("boot from {device}: its machines have no disk"),
            }),
        }
    }

    async fn console(&self) -> Result<Console, PowerError> {
        let dir = &self.0.dir;
        Ok(Console { socket: dir.console_socket(), log: dir.console_log() })
    }

    async fn changed_from(&self, known: PowerState) {
        let inner = &self.0;
        let switched = inner.switched.notified();
        match inner.dir.process() {
            Ok(Some(_)) | Err(_) if known == PowerState::Off => {}
            // Nothing runs, as is known; or nothing is known, and asking again at once would not help.
            Ok(None) if known != PowerState::On && known != PowerState::Hang => switched.await,
            Ok(None) => {}
            Err(_) => switched.await,
            Ok(Some(process)) => tokio::select! {
                () = switched => {}
                _ = process.ended() => {}
                () = inner.qmp_says_otherwise(known) => {}
            },
        }
    }
}

impl QemuMachine {
    pub(super) fn new(host: QemuHost, machine: Machine, dir: RunDir) -> Self {
        Self(Arc::new(Inner {
            host,
            machine,
            dir,
            qmp: tokio::sync::Mutex::new(()),
            switched: Notify::new(),
            plugged: AtomicBool::new(false),
        }))
    }

    /// Runs an operation to its end even when the caller stops waiting for it.
    async fn detached<F, Fut>(&self, operation: F) -> Result<(), PowerError>
    where
        F: FnOnce(Arc<Inner>) -> Fut,
        Fut: Future<Output = Result<(), PowerError>> + Send + 'static,
    {
        let task = tokio::spawn(operation(Arc::clone(&self.0)));
        let done = match task.await {
            Ok(done) => done,
            Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            // Only a runtime that shuts down cancels it, and then nobody is left to hear.
            Err(_) => std::future::pending().await,
        };
        self.0.switched.notify_waiters();
        done
    }
}

impl Inner {
    fn name(&self) -> MachineName {
        self.machine.name.clone()
    }

    async fn lock(&self) -> Result<std::fs::File, PowerError> {
        self.dir.create()?;
        self.dir.lock(self.host.patience.lock).await
    }

    /// Removes what is stale, unless somebody is switching the machine right now.
    async fn tidy(&self) -> Result<(), PowerError> {
        if self.dir.pid_file().exists()
            && let Ok(_lock) = self.dir.lock(Duration::ZERO).await
            && self.dir.process()?.is_none()
        {
            self.dir.remove_stale()?;
        }
        Ok(())
    }

    async fn status(&self) -> Result<PowerState, PowerError> {
        let Some(process) = self.dir.process()? else {
            self.tidy().await?;
            return Ok(PowerState::Off);
        };
        self.plug_in_once().await;
        let socket = self.dir.qmp_socket();
        match self.ask(socket, "query-status").await {
            Ok(answer) => Ok(state_of(&answer)),
            // It may have ended while it was asked.
            Err(_) if process.has_ended().unwrap_or(false) => Ok(PowerState::Off),
            Err(source) => Err(self.qmp_error("ask for the state", source)),
        }
    }

    /// One command on a connection of its own. The limit includes waiting for our own turn.
    async fn ask(&self, socket: PathBuf, command: &str) -> Result<Value, QmpError> {
        let limit = self.host.patience.qmp;
        let conversation = async {
            let _turn = self.qmp.lock().await;
            Connection::open(&socket, limit).await?.execute(command, limit).await
        };
        timeout(limit, conversation)
            .await
            .unwrap_or_else(|_| Err(QmpError::Deadline { waiting_for: command.to_owned(), limit }))
    }

    fn qmp_error(&self, doing: &'static str, source: QmpError) -> PowerError {
        PowerError::Qmp { machine: self.name(), doing, source }
    }

    /// Returns when the machine says that it is in another state than `known`; never when it says nothing,
    /// for that is what the end of its process and polling are for.
    async fn qmp_says_otherwise(&self, known: PowerState) {
        let limit = self.host.patience.qmp;
        let watched = async {
            let mut connection = Connection::open(&self.dir.events_socket(), limit).await?;
            loop {
                // First the state, then events, so that nothing falls between two connections.
                if state_of(&connection.execute("query-status", limit).await?) != known {
                    return Ok(());
                }
                let event = connection.next_event().await?;
                tracing::debug!(machine = %self.machine.name, event, "the machine reports");
            }
        };
        if known == PowerState::Unknown {
            // It was asked a moment ago and gave no answer to compare with.
            std::future::pending::<()>().await;
        }
        let outcome: Result<(), QmpError> = watched.await;
        if let Err(error) = outcome {
            tracing::debug!(machine = %self.machine.name, %error, "no events from the machine");
            std::future::pending::<()>().await;
        }
    }

    /// Starts the machine. Call with the lock held.
    async fn on(&self) -> Result<(), PowerError> {
        if self.dir.process()?.is_some() {
            return self.plug_in().await;
        }
        self.dir.remove_stale()?;
        let accel = match self.machine.accel {
            AccelChoice::Auto => accel::detect(&self.host.program).await,
            AccelChoice::Kvm => Accel::Kvm,
            AccelChoice::Tcg => Accel::Tcg,
        };
        self.launch(accel).await?;
        let Some(process) = self.dir.process()? else {
            return Err(self.launch_error("it ended right away".to_owned(), 0));
        };
        tracing::info!(machine = %self.machine.name, pid = process.pid(), ?accel, "machine started");
        if let Err(error) = self.plug_in().await {
            // Without its network it would wait for ever; better off, and said so.
            self.end(&process).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Runs QEMU until it has become a daemon, which it does when its sockets exist.
    async fn launch(&self, accel: Accel) -> Result<(), PowerError> {
        let log = self.dir.open_log()?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let failed = |doing: &str, source| PowerError::Command {
            machine: self.name(),
            doing: doing.to_owned(),
            source,
        };
        let start = |source| CommandError::Start { program: self.host.program.clone(), source };
        let also_out = log.try_clone().map_err(|e| failed("start the machine", start(e)))?;
        let mut launcher = Command::new(&self.host.program)
            .args(arguments(&self.machine, &self.dir, accel))
            .stdin(Stdio::null())
            .stdout(also_out)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| failed("start the machine", start(source)))?;
        match timeout(self.host.patience.launch, launcher.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.launch_error(status.to_string(), log_start)),
            Ok(Err(source)) => {
                let program = self.host.program.clone();
                Err(failed("start the machine", CommandError::Wait { program, source }))
            }
            Err(_) => {
                let _ = launcher.kill().await;
                if let Some(process) = self.dir.process()? {
                    self.end(&process).await?;
                }
                let limit = self.host.patience.launch;
                Err(self.launch_error(format!("not ready after {limit:?}, killed"), log_start))
            }
        }
    }

    fn launch_error(&self, outcome: String, log_start: u64) -> PowerError {
        let program = self.host.program.clone();
        let said = self.dir.last_words(log_start);
        PowerError::Launch { machine: self.name(), program, outcome, said }
    }

    /// Plugs a machine that was found running into its bridge, once: whoever started it may have died
    /// between the two. What its power is does not depend on that.
    async fn plug_in_once(&self) {
        if !self.plugged.load(Ordering::Relaxed)
            && let Err(error) = self.plug_in().await
        {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a running machine has no network");
        }
    }

    /// The tap is QEMU's own and goes with it, so a machine that is killed leaves no interface behind. What
    /// is left to do is its bridge; the firmware needs a second before it uses the card.
    async fn plug_in(&self) -> Result<(), PowerError> {
        if let Some(Nic { bridge, tap, .. }) = &self.machine.nic {
            let args = ["link", "set", "dev", tap, "master", bridge, "up"];
            let ip = Run::new("ip", args, self.host.patience.network);
            ip.output().await.map_err(|source| PowerError::Command {
                machine: self.name(),
                doing: format!("plug interface {tap} into bridge {bridge}"),
                source,
            })?;
        }
        self.plugged.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the guest to shut down and tells whether the machine ended in time.
    async fn powered_down(&self, process: &Process, deadline: Duration) -> bool {
        let asked = self.ask(self.dir.qmp_socket(), "system_powerdown").await;
        if let Err(error) = asked {
            tracing::warn!(machine = %self.machine.name, %error, "cannot ask for a shutdown");
            return false;
        }
        matches!(timeout(deadline, process.ended()).await, Ok(Ok(())))
    }

    /// Ends exactly this process, politely first. Call with the lock held.
    async fn end(&self, process: &Process) -> Result<(), PowerError> {
        let patience = self.host.patience;
        let failed = |doing, source| {
            let pid = process.pid();
            PowerError::Process { machine: self.name(), doing, pid, source }
        };
        // Its refusal or silence does not matter: what counts is whether it ends.
        let asked = self.ask(self.dir.qmp_socket(), "quit").await;
        let gone = match asked {
            Err(QmpError::Deadline { .. }) => false,
            _ => timeout(patience.quit, process.ended()).await.is_ok(),
        };
        if !gone {
            tracing::warn!(machine = %self.machine.name, pid = process.pid(), "does not quit: killed");
            process.kill().map_err(|source| failed("kill", source))?;
            timeout(patience.kill, process.ended())
                .await
                .map_err(|_| PowerError::StillRunning {
                    machine: self.name(),
                    pid: process.pid(),
                    waited: patience.kill,
                })?
                .map_err(|source| failed("wait for", source))?;
        }
        self.plugged.store(false, Ordering::Relaxed);
        tracing::info!(machine = %self.machine.name, pid = process.pid(), "machine ended");
        self.dir.remove_stale()
    }
}

/// What QEMU's `RunState` (`qapi/run-state.json`) means for whoever wants the machine to run.
fn state_of(answer: &Value) -> PowerState {
    match answer.get("status").and_then(Value::as_str) {
        Some("running") => PowerState::On,
        // Nothing executes, and nothing will unless somebody steps in.
        Some(
            "paused" | "internal-error" | "guest-panicked" | "io-error" | "watchdog" | "shutdown"
            | "suspended" | "prelaunch" | "debug",
        ) => PowerState::Hang,
        _ => PowerState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_machine_is_on() {
        let state = |status: &str| state_of(&serde_json::json!({ "status": status }));
        assert_eq!(state("running"), PowerState::On);
        for stopped in ["paused", "internal-error", "guest-panicked", "prelaunch"] {
            assert_eq!(state(stopped), PowerState::Hang);
        }
        assert_eq!(state("inmigrate"), PowerState::Unknown);
        for lie in [serde_json::json!({}), serde_json::json!({ "status": 7 }), Value::Null] {
            assert_eq!(state_of(&lie), PowerState::Unknown);
        }
    }
}
