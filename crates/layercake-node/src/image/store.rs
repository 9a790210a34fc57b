//! Image files by digest, in memory (tmpfs) on a node.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Digest;

/// Memory that an image must leave to the rest of the node.
pub const MEMORY_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// The directory with the images.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store, making its directory if need be.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Where a complete, verified image lies.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_hex())
    }

    /// Where an image lies while it is fetched.
    #[must_use]
    pub fn partial_path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{}.partial", digest.to_hex()))
    }

    /// Is the image here? What has this name was verified before it got it.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// How large an image may still be brought in: what is free in the store's file system and
    /// in memory, without [`MEMORY_RESERVE_BYTES`].
    pub fn room_bytes(&self) -> io::Result<u64> {
        let fs = rustix::fs::statvfs(&self.dir)?;
        let free_in_store = fs.f_bavail.saturating_mul(fs.f_frsize);
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let free_memory = available_memory_bytes(&meminfo).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no MemAvailable in /proc/meminfo")
        })?;
        // Only a store in memory takes memory, but the page cache of the mounted image does too.
        Ok(free_in_store.min(free_memory.saturating_sub(MEMORY_RESERVE_BYTES)))
    }

    /// Removes every image, whole or partial, that is not to be kept, and names the whole ones.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> io::Result<Vec<Digest>> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Some((digest, whole)) = image_of(&path) else { continue };
            if !keep.contains(&digest) {
                fs::remove_file(&path)?;
                if whole {
                    removed.push(digest);
                }
            }
        }
        Ok(removed)
    }
}

/// Which image a file of the store is, and whether all of it.
fn image_of(path: &Path) -> Option<(Digest, bool)> {
    let name = path.file_name()?.to_str()?;
    match name.strip_suffix(".partial") {
        Some(digest) => Some((digest.parse().ok()?, false)),
        None => Some((name.parse().ok()?, true)),
    }
}

fn available_memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn collecting_keeps_what_is_wanted_and_what_is_not_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("images")).unwrap();
        let [kept, gone] = [1, 2].map(|byte| Digest::new([byte; 32]));
        for path in [store.path(kept), store.path(gone), store.partial_path(gone)] {
            fs::write(path, b"x").unwrap();
        }
        fs::write(dir.path().join("images/readme"), b"x").unwrap();
        assert_eq!(store.collect(&BTreeSet::from([kept])).unwrap(), [gone]);
        assert!(store.has(kept) && !store.has(gone) && !store.partial_path(gone).exists());
        assert!(dir.path().join("images/readme").exists());
    }

    #[test]
    fn available_memory_is_read_in_kibibytes() {
        assert_eq!(available_memory_bytes("MemFree: 1 kB\nMemAvailable:   20 kB\n"), Some(20_480));
        assert_eq!(available_memory_bytes("MemAvailable: lots\n"), None);
    }
}
