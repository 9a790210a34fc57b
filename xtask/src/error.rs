//! What can go wrong in a task.

use std::io;
use std::path::PathBuf;

/// A task that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something about a file.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed ({outcome}){}", said(output))]
    Failed {
        /// The whole command line.
        command: String,
        /// Its exit status.
        outcome: String,
        /// What it wrote.
        output: String,
    },
    /// The kernel refused.
    #[error("cannot {doing}")]
    Kernel {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Something is not as it must be; says what to do.
    #[error("{0}")]
    Refused(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Everything was said already; ends with this status.
    #[error("status {0}")]
    Status(u8),
}

fn said(output: &str) -> String {
    let output = output.trim();
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}

impl Error {
    /// The error and what caused it, on one line.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// For `map_err` after file operations.
    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
