//! Running other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Where cargo puts what it builds: in the checkout, unless `CARGO_TARGET_DIR` says otherwise.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// `cargo`, as a person in the root of the checkout would run it.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null()).env("CARGO_TERM_COLOR", "never");
    // `cargo run` tells us about ourselves; build scripts that watch these would run again for nothing.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The triple of this machine.
pub(crate) fn host_triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// How a program ended and what it wrote.
pub(crate) struct Finished {
    pub(crate) ok: bool,
    pub(crate) outcome: String,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error, then standard output.
    pub(crate) output: String,
}

/// Runs to the end, keeping everything it writes.
pub(crate) fn capture(command: &mut Command) -> Result<Finished, Error> {
    let done = command.stdin(Stdio::null()).output().map_err(|source| Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let output = format!("{}{stdout}", String::from_utf8_lossy(&done.stderr));
    Ok(Finished { ok: done.status.success(), outcome: done.status.to_string(), stdout, output })
}

/// Runs to the end, and fails with everything it wrote when it failed. Returns its standard output.
pub(crate) fn check(command: &mut Command) -> Result<String, Error> {
    let done = capture(command)?;
    if done.ok {
        return Ok(done.stdout);
    }
    Err(Error::Failed { command: line(command), outcome: done.outcome, output: done.output })
}

/// A command with its arguments, to run a program in one expression.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// A command as somebody would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether this is the root user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Refuses to go on as another user than root, and says how to.
pub(crate) fn require_root(task: &str, why: &str) -> Result<(), Error> {
    if is_root() {
        return Ok(());
    }
    // sudo has a PATH of its own, without ~/.cargo/bin.
    Err(Error::Refused(format!(
        "{why} needs root; run: sudo --preserve-env=HOME,RUSTUP_HOME,CARGO_HOME env \"PATH=$PATH\" cargo xtask {task}"
    )))
}

/// A duration as people read it.
pub(crate) fn human(elapsed: std::time::Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    format!("{} min {:02} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}
