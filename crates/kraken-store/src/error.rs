//! Why a store did not do what it was asked.

use std::path::PathBuf;

/// Why a store did not do what it was asked. Unless it says otherwise, nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "{} is in use by another process: end it (`fuser {}` says which it is), or use another file",
        path.display(), path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no room.
    #[error("no room left on the disk of {}: free some, then try again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refuses access.
    #[error(
        "{} cannot be written: see to it that this user may write the file and its directory",
        path.display()
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no directory for the file.
    #[error("the directory of {} does not exist: create it", path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// The content makes no sense.
    #[error(
        "{} is damaged ({reason}): move it away and restore it from a backup; without one, start \
         with a new file and apply the configuration again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a program that keeps things in another form.
    #[error(
        "{} has format {found}, and this program knows format {known}: use the version that wrote it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The one that is known here.
        known: u64,
    },
    /// The disk failed.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A write failed, and so did finding out whether it was done all the same.
    #[error("{} failed while it was written and cannot be read again, so what became of that is not known", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read again.
        #[source]
        source: Box<StoreError>,
    },
    /// A record is too long.
    #[error("a journal record of {bytes} bytes is longer than {} bytes", crate::MAX_BODY_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
}
