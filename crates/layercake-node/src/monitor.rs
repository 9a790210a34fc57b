//! The role `monitor`: one small process beside every container, its parent.
//!
//! It exists so that a container survives the agent. It holds the pipes that the container writes
//! to, puts what comes through them into a bounded log, waits for the end and writes it down in the
//! container's record. It is single-threaded and belongs to init, not to the agent: the agent may
//! be restarted at any time and finds the record.
//!
//! Between the service and the monitor runs a socket (the monitor's standard input): a
//! [`MonitorSpec`] in, [`Report`]s out, and one byte in to start the program. If the service goes
//! away before that byte, the monitor gives up and nothing is left.

mod log;
mod memory;
mod ports;
mod pump;

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use layercake_sys::Namespaces;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use serde::{Deserialize, Serialize};

use crate::container::{
    ContainerSpec, Message, Stage, StageFailure, receive_line, send, take_socket,
};
use crate::image::{
    Circumstances, ContainerState, Exit, InstanceDir, Kind, ProcessId, Status, monotonic_ns,
    unix_ms, write_record,
};

pub(crate) use log::RotatingLog;
pub(crate) use memory::on_the_node as killed_for_memory;
use memory::{Killed, MemoryWatch};

pub use log::{LogLimits, LogLine, Stream, parse_log_line};

/// What a monitor watches over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorSpec {
    /// The container.
    pub container: ContainerSpec,
    /// Where its record is.
    pub record_dir: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// How much of it is kept.
    pub log_limits: LogLimits,
}

/// What a monitor says to the service, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The container is prepared; one byte starts its program.
    Prepared,
    /// The program runs.
    Started(Status),
    /// A stage failed; the monitor ends.
    Failed(StageFailure),
}

/// The role's entry: `layercake-node monitor`. Starts the monitor proper and ends at once, so that
/// the monitor becomes a child of init.
#[must_use]
pub fn detach() -> ExitCode {
    let spawned = Command::new("/proc/self/exe")
        .arg("monitor-detached")
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // Ending now is the point: the child is inherited by init, which reaps it.
    if spawned.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The monitor proper: `layercake-node monitor-detached`.
#[must_use]
pub fn run() -> ExitCode {
    let Ok(mut socket) = take_socket() else { return ExitCode::FAILURE };
    match watch(&mut socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Without a service at the other end there is nobody to tell.
            let _ = send(&mut socket, &Report::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

/// The container's process as the monitor holds it.
struct Container {
    child: Child,
    socket: UnixStream,
    input: BufReader<UnixStream>,
    /// False once the other side has closed it, as systemd does by being executed.
    socket_is_open: bool,
    outputs: Vec<(Stream, OwnedFd)>,
    /// The container's end of its console. While the monitor has it open too, the console does
    /// not hang up when systemd closes it for a moment.
    _console: Option<OwnedFd>,
}

fn watch(service: &mut UnixStream) -> Result<(), StageFailure> {
    rustix::process::setsid().stage("start a session")?;
    let mut input = BufReader::new(service.try_clone().stage("duplicate the socket")?);
    let line = receive_line(&mut input).stage("read what to watch")?.unwrap_or_default();
    let spec: MonitorSpec = serde_json::from_slice(&line).stage("read what to watch")?;
    let record = InstanceDir(spec.record_dir.clone());
    let mut status = Status {
        state: ContainerState::Created,
        monitor: ProcessId::own().stage("find the monitor's own number")?,
        main: None,
        started_unix_ms: None,
        started_monotonic_ns: None,
        exited_monotonic_ns: None,
        exit: None,
        circumstances: Circumstances::default(),
    };
    write_record(&record.status(), &status).stage("write the container's record")?;

    let memory = MemoryWatch::begin(&spec.container.cgroup);
    let mut container = start_container(&spec.container)?;
    let prepared = expect_prepared(&mut container);
    if let Err(failure) = prepared {
        give_up(&mut container);
        return Err(failure);
    }
    send(service, &Report::Prepared).stage("report to the service")?;
    let mut go = [0; 1];
    if input.read(&mut go).stage("wait for the start")? == 0 {
        give_up(&mut container);
        return Ok(());
    }
    let main = match release(&mut container, &spec.container) {
        Ok(main) => main,
        Err(failure) => {
            give_up(&mut container);
            return Err(failure);
        }
    };
    status.state = ContainerState::Running;
    status.main = main.process;
    status.started_monotonic_ns = Some(main.monotonic_ns);
    status.started_unix_ms = Some(unix_ms());
    write_record(&record.status(), &status).stage("write the container's record")?;
    // The service may have died after it gave the word; the container runs all the same, and the
    // next service finds it.
    let _ = send(service, &Report::Started(status.clone()));

    let log = log::RotatingLog::open(spec.log.clone(), spec.log_limits);
    let ended = pump::until_the_end(container, log);
    status.exit = Some(ended.exit);
    status.exited_monotonic_ns = Some(ended.monotonic_ns);
    status.state = ended.exit.state();
    status.circumstances = look_around(ended, memory.killed(), &spec.container);
    write_record(&record.status(), &status).stage("write the container's record")
}

/// Ends a container whose program was not started.
fn give_up(container: &mut Container) {
    // It may have ended by itself; then there is nothing to kill, only to reap.
    let _ = container.child.kill();
    let _ = container.child.wait();
}

fn start_container(spec: &ContainerSpec) -> Result<Container, StageFailure> {
    let mut spec = spec.clone();
    let (ours, theirs) = UnixStream::pair().stage("make a socket")?;
    let Outputs { stdout, stderr, reads, console } = match spec.image.kind {
        Kind::Plain => make_pipes().stage("make pipes")?,
        Kind::Systemd => make_console(&mut spec).stage("make a console")?,
    };
    layercake_sys::unshare(Namespaces { pid: true, ..Namespaces::default() })
        .stage("make a process namespace")?;
    let child = Command::new("/proc/self/exe")
        .arg("container")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .spawn()
        .stage("start the container's process")?;
    let input = BufReader::new(ours.try_clone().stage("duplicate a socket")?);
    let mut container = Container {
        child,
        socket: ours,
        input,
        socket_is_open: true,
        outputs: reads,
        _console: console,
    };
    send(&mut container.socket, &spec).stage("tell the container what to run")?;
    Ok(container)
}

/// Both ends of what a container writes to.
struct Outputs {
    stdout: OwnedFd,
    stderr: OwnedFd,
    reads: Vec<(Stream, OwnedFd)>,
    console: Option<OwnedFd>,
}

fn make_pipes() -> io::Result<Outputs> {
    let (out_read, out_write) = io::pipe()?;
    let (err_read, err_write) = io::pipe()?;
    let reads = vec![(Stream::Stdout, out_read.into()), (Stream::Stderr, err_read.into())];
    Ok(Outputs { stdout: out_write.into(), stderr: err_write.into(), reads, console: None })
}

/// systemd wants a terminal as its console.
fn make_console(spec: &mut ContainerSpec) -> io::Result<Outputs> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&name, flags, Mode::empty())?;
    spec.console = Some(PathBuf::from(name.to_string_lossy().into_owned()));
    let reads = vec![(Stream::Console, master)];
    let (stdout, stderr) = (slave.try_clone()?, slave.try_clone()?);
    Ok(Outputs { stdout, stderr, reads, console: Some(slave) })
}

fn next_message(container: &mut Container) -> Result<Option<Message>, StageFailure> {
    let stage = "understand the container's process";
    match receive_line(&mut container.input).stage(stage)? {
        Some(line) => serde_json::from_slice(&line).map(Some).stage(stage),
        None => Ok(None),
    }
}

fn lost(stage: &str) -> StageFailure {
    StageFailure::new(stage, &io::Error::other("the container's process ended unexpectedly"))
}

fn expect_prepared(container: &mut Container) -> Result<(), StageFailure> {
    match next_message(container)? {
        Some(Message::Prepared) => Ok(()),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(lost("prepare the container")),
    }
}

struct Started {
    process: Option<ProcessId>,
    monotonic_ns: u64,
}

/// Gives the word and waits until the program runs.
fn release(container: &mut Container, spec: &ContainerSpec) -> Result<Started, StageFailure> {
    io::Write::write_all(&mut container.socket, b"g").stage("give the word to start")?;
    match (next_message(container)?, spec.image.kind) {
        (Some(Message::Failed(failure)), _) => Err(failure),
        (Some(Message::Started { inner_pid, monotonic_ns }), Kind::Plain) => {
            // A program that has ended already is not found; the pump will tell how it ended.
            let process = outer_process(spec, inner_pid);
            Ok(Started { process, monotonic_ns })
        }
        (None, Kind::Systemd) => {
            let started = monotonic_ns();
            let pid = i32::try_from(container.child.id()).unwrap_or(0);
            Ok(Started { process: ProcessId::of(pid).ok(), monotonic_ns: started })
        }
        _ => Err(lost("start the program")),
    }
}

/// The process of the container's cgroup that has this number inside.
fn outer_process(spec: &ContainerSpec, inner_pid: i32) -> Option<ProcessId> {
    let members = fs::read_to_string(spec.cgroup.join("cgroup.procs")).ok()?;
    let mut pids = members.lines().filter_map(|line| line.trim().parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|n| n.split_ascii_whitespace().last()) == Some(&inner_pid.to_string())
    };
    ProcessId::of(pids.find(is_it)?).ok()
}

/// How a container's program ended, and when.
struct Ended {
    exit: Exit,
    monotonic_ns: u64,
    /// What it printed last.
    last_lines: Vec<String>,
}

impl Ended {
    fn new(exit: Exit, monotonic_ns: u64) -> Self {
        Self { exit, monotonic_ns, last_lines: Vec::new() }
    }
}

/// What can be seen of why it ended, as long as it can be seen.
fn look_around(ended: Ended, killed: Killed, spec: &ContainerSpec) -> Circumstances {
    let failed = ended.exit != Exit::Code(0);
    // Of what the kernel did somewhere on the node only an end by its signal is a part.
    let by_kill = matches!(ended.exit, Exit::Signal(9) | Exit::Code(137));
    let killed_for_memory = match killed {
        Killed::Here(killed) => killed,
        Killed::Somewhere(killed) if by_kill => killed,
        Killed::Somewhere(_) => 0,
    };
    let words = spec.image.command.iter().chain(spec.image.env.values()).map(String::as_str);
    let port = failed.then(|| ports::taken(&ended.last_lines, words, &spec.cgroup)).flatten();
    Circumstances { killed_for_memory, port, last_lines: ended.last_lines }
}
