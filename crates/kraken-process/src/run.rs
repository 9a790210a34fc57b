//! One run of a command.

use crate::error::CommandError;
use crate::lines::Written;
use crate::warden::Ward;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::process::{Child, Command};

/// The most that is read of each of a command's outputs unless said otherwise. An answer is a word.
pub const DEFAULT_OUTPUT_BYTES: usize = 4096;

/// How much of its last words an error repeats.
const SAID_BYTES: usize = 512;

/// The most that a command writes to its standard error, in bytes: it is no answer, and only its end
/// is kept, so that warnings cost nothing.
const MAX_ERR_BYTES: usize = 1 << 20;

/// The most that is read of an output when the command has ended, in bytes: what a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// Which of a command's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One run of a program.
#[derive(Clone, Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    limit: Duration,
    output_bytes: usize,
    /// Whether it runs for as long as it is wanted, and little is kept of what it writes.
    is_service: bool,
}

impl Run {
    /// A program, its arguments, and how long it may take.
    pub fn new<A: AsRef<OsStr>>(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self {
            program: program.into(),
            args,
            env: Vec::new(),
            dir: "/".into(),
            limit,
            output_bytes: DEFAULT_OUTPUT_BYTES,
            is_service: false,
        }
    }

    /// A program that runs for as long as it is wanted. It may write without end: every line is
    /// passed on, and only its last words are kept.
    pub fn service<A: AsRef<OsStr>>(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self { is_service: true, ..Self::new(program, args, Duration::MAX) }
    }

    /// Adds to its environment, which else has `PATH` and `LANG=C` only.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The directory in which it runs; unless said otherwise it is `/`, wherever this process is.
    #[must_use]
    pub fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// How much it may write to its standard output, in bytes. Its standard error may have a MiB, of
    /// which the end is kept.
    #[must_use]
    pub fn output_bytes(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Runs it to its end and gives its standard output. Killed, with everything it started, when
    /// the caller stops waiting. It has ended when its process has, whoever else still has its outputs
    /// open: what it started in the background goes on, and is not listened to any more.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, writes too much, or fails.
    pub async fn output(self) -> Result<String, CommandError> {
        self.follow(|_, _| ()).await
    }

    /// The same, and passes on every line while it runs.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub async fn follow(self, on_line: impl FnMut(Pipe, &str)) -> Result<String, CommandError> {
        let Self { program, args, env, dir, limit, output_bytes, is_service } = self;
        let mut child = Command::new(&program)
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LANG", "C")
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that a shell script's children can be ended with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| CommandError::Start { program: program.clone(), source })?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut guard = GroupGuard::new(leader);
        let end = End { leader, is_service, output_bytes };
        let Ok(ended) = tokio::time::timeout(limit, finish(&mut child, end, on_line)).await else {
            return Err(CommandError::Timeout { program, limit });
        };
        let Ended { status, out, err } = match ended {
            Ok(Outcome::Ended(ended)) => ended,
            Ok(Outcome::TooMuch { limit }) => {
                return Err(CommandError::TooMuchOutput { program, limit });
            }
            Err(source) => return Err(CommandError::Wait { program, source }),
        };
        guard.disarm();
        if !status.success() {
            // Some say on their standard output why they fail.
            let words = if err.is_empty() { &out } else { &err };
            let said = last_words(words, SAID_BYTES);
            return Err(CommandError::Failed { program, outcome: status.to_string(), said });
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Kills a command with everything it started, unless it was disarmed. Should this process be killed
/// before, its ward is killed all the same.
struct GroupGuard(Option<(Pid, Ward)>);

impl GroupGuard {
    fn new(leader: Option<Pid>) -> Self {
        Self(leader.map(|leader| (leader, Ward::new(leader))))
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some((leader, _)) = &self.0 {
            // The leader is not reaped yet, so its id, and the group's, cannot be another's.
            let _ = kill_process_group(*leader, Signal::KILL);
        }
    }
}

struct Ended {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

enum Outcome {
    Ended(Ended),
    /// It wrote more than it may to one of its outputs.
    TooMuch {
        limit: usize,
    },
}

/// What is waited for, and what is allowed meanwhile.
struct End {
    leader: Option<Pid>,
    is_service: bool,
    output_bytes: usize,
}

/// One output of a command.
struct Output<P> {
    pipe: Option<P>,
    room: [u8; 4096],
    written: Written,
    /// How much came so far, in bytes.
    total: usize,
}

impl<P: AsyncRead + AsFd + Unpin> Output<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, room: [0; 4096], written: Written::default(), total: 0 }
    }

    /// Waits for more; at its end the pipe is put away. Cancel-safe: nothing is read that does not come
    /// to `take`.
    async fn fill(&mut self) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let read = pipe.read(&mut self.room).await?;
        if read == 0 {
            self.pipe = None;
        }
        Ok(read)
    }

    /// Takes what was read.
    fn take(&mut self, read: usize, mut tell: impl FnMut(&str)) {
        self.total += read;
        self.written.take(&self.room[..read], &mut tell);
    }

    /// Takes what is in the pipe already, without waiting for those who could still write to it.
    fn drain(&mut self, mut tell: impl FnMut(&str)) -> io::Result<()> {
        let Some(pipe) = self.pipe.take() else { return Ok(()) };
        let mut left = PIPE_BYTES;
        while left > 0 {
            // Read past the runtime, which may not have noticed yet that there is something.
            match rustix::io::read(&pipe, &mut self.room) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(read) => {
                    self.take(read, &mut tell);
                    left = left.saturating_sub(read);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Listens to a command until its process has ended.
async fn finish(
    child: &mut Child,
    end: End,
    mut on_line: impl FnMut(Pipe, &str),
) -> io::Result<Outcome> {
    let mut out = Output::new(child.stdout.take());
    let mut err = Output::new(child.stderr.take());
    let exit = end.leader.and_then(exit_of);
    let mut has_ended = false;
    // Where its end cannot be noticed by itself, the end of its outputs is.
    while !has_ended && (exit.is_some() || out.pipe.is_some() || err.pipe.is_some()) {
        tokio::select! {
            read = out.fill(), if out.pipe.is_some() => {
                out.take(read?, |line| on_line(Pipe::Out, line));
            }
            read = err.fill(), if err.pipe.is_some() => {
                err.take(read?, |line| on_line(Pipe::Err, line));
            }
            readable = ended(exit.as_ref()), if exit.is_some() => {
                readable?;
                has_ended = true;
                out.drain(|line| on_line(Pipe::Out, line))?;
                err.drain(|line| on_line(Pipe::Err, line))?;
            }
        }
        // Of a standard error, and of a service, the end is all that anybody asks for.
        err.written.forget(SAID_BYTES, &mut |line| on_line(Pipe::Err, line));
        if end.is_service {
            out.written.forget(SAID_BYTES, &mut |line| on_line(Pipe::Out, line));
        } else {
            for (total, limit) in [(out.total, end.output_bytes), (err.total, MAX_ERR_BYTES)] {
                if total > limit {
                    return Ok(Outcome::TooMuch { limit });
                }
            }
        }
    }
    out.written.end(&mut |line| on_line(Pipe::Out, line));
    err.written.end(&mut |line| on_line(Pipe::Err, line));
    if let Some(leader) = end.leader.filter(|_| end.is_service) {
        // Nothing of a service stays when it ends: what comes after it takes its place. Its process is
        // not reaped yet, so the group cannot be another's.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    let (out, err) = (out.written.bytes, err.written.bytes);
    Ok(Outcome::Ended(Ended { status: child.wait().await?, out, err }))
}

/// The end of a process, to be waited for without reaping it; nothing before Linux 5.3.
fn exit_of(leader: Pid) -> Option<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(leader, PidfdFlags::empty()).ok()?;
    // Deprecated because a type may lie about its descriptor; an `OwnedFd` cannot, and the replacement
    // is unsafe.
    #[allow(deprecated)]
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

async fn ended(exit: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match exit {
        Some(exit) => exit.readable().await.map(drop),
        None => std::future::pending().await,
    }
}

/// The end of what a program wrote, on one line and without control characters.
#[must_use]
pub fn last_words(bytes: &[u8], limit: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(limit)..];
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join("; ").replace(|c: char| c.is_control(), " ");
    if line.is_empty() { "it said nothing".to_owned() } else { line }
}
