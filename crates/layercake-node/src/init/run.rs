//! The life of process 1: start the agent, reap, and one day halt.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::system::RebootCommand;

use super::console::Console;
use super::panic::report_path;
use super::supervise::{Action, Event, Supervisor};
use crate::image::{ProcessId, monotonic_ns, read_record, write_record};
use crate::monitor::killed_for_memory;

/// How the agent before this one ended, in words, for the next agent to report.
pub const AGENT_END_PATH: &str = "/run/layercake/agent-end";
/// Which process the agent is, for an init that was executed anew.
const AGENT_PATH: &str = "/run/layercake/agent.json";
/// How long the rest of the processes may take to end at a halt, after each signal.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// It is switched off.
    PowerOff,
    /// It starts again.
    Reboot,
}

impl Halt {
    /// The signal by which process 1 is asked for it. SIGTERM is what busybox and the kernel's
    /// own Ctrl-Alt-Del (SIGINT) mean by "reboot", SIGUSR2 what busybox means by "power off".
    fn signal(self) -> Signal {
        match self {
            Self::PowerOff => Signal::SIGUSR2,
            Self::Reboot => Signal::SIGTERM,
        }
    }
}

/// Asks process 1 for an orderly halt: `layercake-node poweroff`, `layercake-node reboot`.
#[must_use]
pub fn ask_to_halt(halt: Halt) -> ExitCode {
    match kill(nix::unistd::Pid::from_raw(1), halt.signal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Everything that process 1 holds.
struct Init {
    console: Console,
    signals: Option<SignalFd>,
    supervisor: Supervisor,
    agent: Option<Pid>,
    /// Processes that the kernel had killed for lack of memory when the agent was started.
    killed_before: Option<u64>,
    shell: Option<Pid>,
    halt: Option<Halt>,
}

/// Does not return, whatever happens.
pub(super) fn run_for_ever(mut console: Console) -> ! {
    // Ctrl-Alt-Del is to reach init as a signal.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    let signals = open_signals();
    if signals.is_none() {
        console.say("cannot receive signals; the machine can only be switched off from outside");
    }
    let mut init = Init {
        console,
        signals,
        supervisor: Supervisor::default(),
        agent: None,
        killed_before: killed_for_memory(),
        shell: None,
        halt: None,
    };
    init.find_agent();
    if super::kernel_was_told("layercake.shell") {
        init.start_shell();
    }
    loop {
        init.step(Event::Tick);
        init.sleep();
        init.take_signals();
        init.reap();
    }
}

fn open_signals() -> Option<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR2] {
        signals.add(signal);
    }
    signals.thread_block().ok()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}

fn now() -> Duration {
    Duration::from_nanos(monotonic_ns())
}

impl Init {
    fn step(&mut self, event: Event) {
        match self.supervisor.step(now(), event) {
            Some(Action::Start) => self.start_agent(),
            Some(Action::AskToLeave) => self.signal_agent(rustix::process::Signal::TERM),
            Some(Action::Kill) => self.signal_agent(rustix::process::Signal::KILL),
            Some(Action::Halt) => self.halt_now(),
            None => {}
        }
    }

    /// Until something happens, or the supervisor has something to do.
    fn sleep(&mut self) {
        // Without signals the loop looks by itself, once a second.
        let longest =
            if self.signals.is_some() { Duration::from_secs(3600) } else { Duration::from_secs(1) };
        let due = self.supervisor.next_tick().map(|at| at.saturating_sub(now()));
        let pause = due.unwrap_or(longest).min(longest);
        let pause = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        let mut fds: Vec<PollFd<'_>> =
            self.signals.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        // An interrupted or failed sleep is a short one.
        let _ = poll(&mut fds, Some(&pause));
    }

    fn take_signals(&mut self) {
        while let Some(Ok(Some(info))) = self.signals.as_ref().map(SignalFd::read_signal) {
            let halt = match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => Halt::Reboot,
                Ok(Ok(Signal::SIGUSR2)) => Halt::PowerOff,
                _ => continue,
            };
            self.console.say(match halt {
                Halt::PowerOff => "asked to power off",
                Halt::Reboot => "asked to reboot",
            });
            self.halt = Some(halt);
            self.step(Event::Halt);
        }
    }

    /// Takes note of every process that ended: children, and orphans that were left to init.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if self.agent == Some(pid) {
                self.agent = None;
                let memory_ran_out = killed_for_memory() > self.killed_before;
                self.note_end(&describe(status, memory_ran_out));
                self.step(Event::Ended);
            } else if self.shell == Some(pid) {
                self.console.say("the debug shell ended; the next boot has another");
                self.shell = None;
            }
        }
    }

    /// Leaves the reason where the next agent finds it.
    fn note_end(&mut self, how: &str) {
        let panic = report_path("agent");
        let mut reason = format!("the agent {how}");
        if let Ok(report) = fs::read_to_string(&panic) {
            reason = format!("{reason}: {}", report.trim());
            let _ = fs::remove_file(&panic);
        }
        self.console.say(&reason);
        if let Err(error) = fs::write(AGENT_END_PATH, &reason) {
            self.console.say(&format!("cannot write {AGENT_END_PATH}: {error}"));
        }
    }

    /// An agent that an earlier run of init started is still its child.
    fn find_agent(&mut self) {
        let Ok(known) = read_record::<ProcessId>(Path::new(AGENT_PATH)) else { return };
        if matches!(known.open(), Ok(Some(_))) {
            self.agent = Pid::from_raw(known.pid);
            self.step(Event::Started);
        }
    }

    fn start_agent(&mut self) {
        match Command::new("/proc/self/exe").arg("agent").spawn() {
            Ok(child) => {
                let pid = Pid::from_child(&child);
                self.agent = Some(pid);
                self.killed_before = killed_for_memory();
                let known = ProcessId::of(pid.as_raw_nonzero().get());
                let written = known.and_then(|known| write_record(Path::new(AGENT_PATH), &known));
                if let Err(error) = written {
                    self.console.say(&format!("cannot write {AGENT_PATH}: {error}"));
                }
                self.step(Event::Started);
            }
            Err(error) => {
                self.note_end(&format!("cannot be started: {error}"));
                self.step(Event::Ended);
            }
        }
    }

    fn start_shell(&mut self) {
        if !Path::new("/bin/sh").exists() {
            self.console.say("layercake.shell: there is no /bin/sh in this initramfs");
            return;
        }
        match Command::new("/proc/self/exe").arg("shell").spawn() {
            Ok(child) => self.shell = Some(Pid::from_child(&child)),
            Err(error) => self.console.say(&format!("cannot start the debug shell: {error}")),
        }
    }

    fn signal_agent(&mut self, signal: rustix::process::Signal) {
        if let Some(agent) = self.agent {
            // It may have ended in this moment; the reaper finds out.
            let _ = rustix::process::kill_process(agent, signal);
        }
    }

    /// The agent has left: ends everything else and the machine.
    fn halt_now(&mut self) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // To every process but this one (kill(2)).
            let _ = kill(nix::unistd::Pid::from_raw(-1), signal);
            self.wait_for_all(END_LIMIT);
        }
        rustix::fs::sync();
        let command = match self.halt {
            Some(Halt::PowerOff) => RebootCommand::PowerOff,
            _ => RebootCommand::Restart,
        };
        if let Err(error) = rustix::system::reboot(command) {
            self.console.say(&format!("the kernel refuses to halt: {error}"));
        }
    }

    /// Until no process is left, or the time is over.
    fn wait_for_all(&mut self, limit: Duration) {
        let deadline = now() + limit;
        while now() < deadline {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                    let _ = poll(&mut [], Some(&pause));
                }
                Err(_no_children) => return,
            }
        }
    }
}

fn describe(status: WaitStatus, memory_ran_out: bool) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (None, Some(9)) if memory_ran_out => {
            "was killed by signal 9, as the node's memory had run out".to_owned()
        }
        (Some(0), _) => "ended by itself".to_owned(),
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Why the agent before this one ended, if there was one.
pub fn last_agent_end() -> io::Result<Option<String>> {
    match fs::read_to_string(AGENT_END_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
