//! The file of a store: how it is made and opened, and what its errors mean.

use super::{
    BY_NODE, CACHE_BYTES, CFG, CHECKPOINT, FORMAT, Fault, JOURNAL, META, Reader, VALUES, past,
};
use crate::StoreError;
use redb::{Database, ReadableDatabase};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Creates the file under another name and gives it its own when it is whole: a file that is there
/// is never half made.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    if !directory.is_dir() {
        return Err(StoreError::NoDirectory { path: path.to_owned() });
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new{}", std::process::id()));
    let new = PathBuf::from(name);
    // Secrets lie in it: nobody else may read it.
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&new).map_err(|error| io(path, error))?;
    let made = guarded(|| {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&new)?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.open_table(CFG)?;
        transaction.open_table(CHECKPOINT)?;
        transaction.open_table(JOURNAL)?;
        transaction.open_table(BY_NODE)?;
        transaction.open_table(VALUES)?;
        past::create(&transaction)?;
        transaction.commit()?;
        Ok(())
    });
    let made = made.map_err(|fault| explain(path, fault)).and_then(|()| {
        // Never over a file that another process has made meanwhile.
        match std::fs::hard_link(&new, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io(path, error)),
            _ => Ok(()),
        }
    });
    let removed = std::fs::remove_file(&new).map_err(|error| io(path, error));
    made.and(removed)?;
    let synced = std::fs::File::open(directory).and_then(|d| d.sync_all());
    synced.map_err(|error| io(path, error))
}

pub(super) fn open_file(path: &Path) -> Result<Database, StoreError> {
    let length = std::fs::metadata(path).map_err(|error| io(path, error))?.len();
    if length == 0 {
        let reason = "it is empty".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), reason });
    }
    let opened = guarded(|| {
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(path)?;
        let reader = Reader(database.begin_read()?);
        let format = reader.number("format")?;
        drop(reader);
        Ok((database, format))
    });
    match opened {
        Ok((database, FORMAT)) => Ok(database),
        Ok((_, found)) => Err(StoreError::Format { path: path.to_owned(), found, known: FORMAT }),
        Err(fault) => Err(explain(path, fault)),
    }
}

/// Does something with the database. It is written to return errors, but a damaged file has more
/// ways to be wrong than anybody thought of: a panic in it is one more kind of damage.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::damaged(text.unwrap_or("no further reason")))
    })
}

pub(super) fn io(path: &Path, source: std::io::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::Denied { path, source }
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            StoreError::Damaged { path, reason: source.to_string() }
        }
        _ => StoreError::Io { path, source },
    }
}

pub(super) fn explain(path: &Path, Fault(error): Fault) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
        redb::Error::Io(source) => io(path, source),
        redb::Error::Corrupted(reason) => StoreError::Damaged { path: path.to_owned(), reason },
        other => StoreError::Damaged { path: path.to_owned(), reason: other.to_string() },
    }
}
