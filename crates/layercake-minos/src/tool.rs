//! Running the programs of the distribution, with errors that say what to do.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// How much of a program's complaints is kept.
const MAX_COMPLAINT_BYTES: usize = 2000;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("`{tool}` is not installed; `apt-get install {package}` brings it")]
    Missing {
        /// The program.
        tool: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It could not be run.
    #[error("cannot run `{tool}`")]
    Run {
        /// The program.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("`{tool}` failed ({status}): {complaint}")]
    Failed {
        /// The program.
        tool: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote to standard error.
        complaint: String,
    },
}

/// A program of the distribution, with a fixed locale so that its output can be read.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
    command: Command,
}

impl Tool {
    pub(crate) fn new(name: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C");
        Self { name, package, command }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn current_dir(mut self, dir: &std::path::Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it and returns what it wrote to standard output.
    pub(crate) fn run(self) -> Result<Vec<u8>, ToolError> {
        self.run_with(&[])
    }

    /// The same with `input` on its standard input.
    pub(crate) fn run_with(mut self, input: &[u8]) -> Result<Vec<u8>, ToolError> {
        let tool = self.name.to_owned();
        let run = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => {
                ToolError::Missing { tool: tool.clone(), package: self.package }
            }
            _ => ToolError::Run { tool: tool.clone(), source },
        };
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(run)?;
        let stdin = child.stdin.take();
        // Written from a thread of its own: the program may answer before it has read everything.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        })
        .map_err(run)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.trim();
        let from = complaint.len().saturating_sub(MAX_COMPLAINT_BYTES);
        let complaint = complaint.get(complaint.ceil_char_boundary(from)..).unwrap_or_default();
        Err(ToolError::Failed { tool, status: output.status, complaint: complaint.to_owned() })
    }
}
