//! The seed on the node: put away early, read by every agent, never left where images could see it.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use layercake_seed::{Seed, SeedError};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::image::unix_ms;

/// Where the seed is kept for the agents of this boot.
pub const KEPT_PATH: &str = "/run/layercake/seed.json";

/// Why the node does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum SeedFileError {
    /// It cannot be read, written or removed.
    #[error("cannot {step} {path}")]
    File {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not good.
    #[error("{path} is no good seed")]
    Bad {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SeedError,
    },
}

/// Moves the seed from the initramfs to memory that only root reads. False when there is none.
pub fn put_away(from: &Path, to: &Path) -> Result<bool, SeedFileError> {
    let file = |step, path: &Path| {
        let path = path.to_owned();
        move |source| SeedFileError::File { step, path, source }
    };
    let bytes = match fs::read(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(file("read", from))?,
    };
    let mut kept = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(file("create", to))?;
    io::Write::write_all(&mut kept, &bytes).map_err(file("write", to))?;
    fs::remove_file(from).map_err(file("remove", from))?;
    Ok(true)
}

/// Reads and checks the seed.
pub fn load(path: &Path) -> Result<Seed, SeedFileError> {
    let bytes = fs::read(path).map_err(|source| SeedFileError::File {
        step: "read",
        path: path.to_owned(),
        source,
    })?;
    Seed::parse(&bytes).map_err(|source| SeedFileError::Bad { path: path.to_owned(), source })
}

/// Sets the clock forward to the parent's. A clock that is ahead already is left alone: the seed
/// is as old as the boot. Returns by how many milliseconds it was moved.
pub fn set_clock_forward(seed: &Seed) -> io::Result<u64> {
    let Some(wanted) = seed.time_unix_ms else { return Ok(0) };
    let by = wanted.saturating_sub(unix_ms());
    if by > 0 {
        let seconds = i64::try_from(wanted / 1000).unwrap_or(i64::MAX);
        let nanoseconds = i64::try_from(wanted % 1000 * 1_000_000).unwrap_or(0);
        clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds })?;
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_seed_is_moved_and_only_root_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("seed.json"), dir.path().join("kept.json"));
        assert!(!put_away(&from, &to).unwrap());
        fs::write(&from, b"{}").unwrap();
        assert!(put_away(&from, &to).unwrap());
        assert!(!from.exists());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        let error = load(&to).unwrap_err();
        assert!(matches!(error, SeedFileError::Bad { .. }), "{error}");
    }
}
