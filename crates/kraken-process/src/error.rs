//! What can go wrong with a command.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A program that was run and did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("lost contact with {}", program.display())]
    Wait {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time, and was ended.
    #[error("{} did not end within {limit:?} and was killed", program.display())]
    Timeout {
        /// The program.
        program: PathBuf,
        /// How long it was given.
        limit: Duration,
    },
    /// It ended without success.
    #[error("{} ended with {outcome}: {said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Its exit status.
        outcome: String,
        /// The last of its standard error.
        said: String,
    },
    /// It wrote more than an answer can be.
    #[error("{} wrote more than {limit} bytes", program.display())]
    TooMuchOutput {
        /// The program.
        program: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// It wrote something else than an answer.
    #[error("{} answered {said:?}; expected {expected}", program.display())]
    Answer {
        /// The program.
        program: PathBuf,
        /// The beginning of what it wrote, shown with escapes.
        said: String,
        /// What it should have written.
        expected: &'static str,
    },
}
