//! One run of a command.

use crate::error::CommandError;
use crate::lines::Written;
use crate::warden::Ward;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// The most that is read of each of a command's outputs unless said otherwise. An answer is a word.
pub const DEFAULT_OUTPUT_BYTES: usize = 4096;

/// How much of its last words an error repeats.
const SAID_BYTES: usize = 512;

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

    /// How much it may write, in bytes, to each of its outputs.
    #[must_use]
    pub fn output_bytes(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Runs it to its end and gives its standard output. Killed, with everything it started, when
    /// the caller stops waiting.
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
        let output_limit = (!is_service).then_some(output_bytes);
        let finish = finish(&mut child, output_limit, on_line);
        let Ok(ended) = tokio::time::timeout(limit, finish).await else {
            return Err(CommandError::Timeout { program, limit });
        };
        let ended =
            ended.map_err(|source| CommandError::Wait { program: program.clone(), source })?;
        let Some(Ended { status, out, err }) = ended else {
            return Err(CommandError::TooMuchOutput { program, limit: output_bytes });
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

/// `None` when it wrote more than the limit; without one, only its last words are kept.
async fn finish(
    child: &mut Child,
    limit: Option<usize>,
    mut on_line: impl FnMut(Pipe, &str),
) -> io::Result<Option<Ended>> {
    let (mut out_pipe, mut err_pipe) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Written::default(), Written::default());
    let (mut out_room, mut err_room) = ([0; 4096], [0; 4096]);
    while out_pipe.is_some() || err_pipe.is_some() {
        // Both arms are cancel-safe: nothing is read that is not kept.
        tokio::select! {
            read = read(&mut out_pipe, &mut out_room), if out_pipe.is_some() => {
                out.take(&out_room[..read?], &mut |line| on_line(Pipe::Out, line));
            }
            read = read(&mut err_pipe, &mut err_room), if err_pipe.is_some() => {
                err.take(&err_room[..read?], &mut |line| on_line(Pipe::Err, line));
            }
        }
        match limit {
            Some(limit) if out.bytes.len() > limit || err.bytes.len() > limit => return Ok(None),
            Some(_) => {}
            None => {
                out.forget(SAID_BYTES, &mut |line| on_line(Pipe::Out, line));
                err.forget(SAID_BYTES, &mut |line| on_line(Pipe::Err, line));
            }
        }
    }
    out.end(&mut |line| on_line(Pipe::Out, line));
    err.end(&mut |line| on_line(Pipe::Err, line));
    Ok(Some(Ended { status: child.wait().await?, out: out.bytes, err: err.bytes }))
}

/// Reads what there is; at its end the pipe is put away.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, room: &mut [u8]) -> io::Result<usize> {
    let Some(open) = pipe else { return Ok(0) };
    let read = open.read(room).await?;
    if read == 0 {
        *pipe = None;
    }
    Ok(read)
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
