//! What a lab made, written down before it is made.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::process::Identity;

const FILE: &str = "lab.json";

/// The record of one lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The name of its network namespace. Only labs make names that start with `lc-`.
    pub(super) netns: String,
    /// Whose lab it is.
    pub(super) owner: Identity,
    /// What was started inside by the owner. Their children are found by the namespace.
    pub(super) processes: Vec<Identity>,
}

impl Record {
    /// Writes the record so that a reader finds the old one or the new one, whole.
    pub(super) fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let draft = dir.join("lab.json.new");
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(&draft, json))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(Error::file("write", path))
    }

    /// Every lab below `labs`. A directory without a readable record is one that was just begun, or the
    /// rest of one that was removed; nothing outside of it exists, so it is none of our business.
    pub(super) fn all(labs: &Path) -> Result<Vec<(PathBuf, Self)>, Error> {
        let entries = match fs::read_dir(labs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(Error::File { doing: "list", path: labs.to_owned(), source });
            }
        };
        let mut all: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let record: Self =
                    serde_json::from_slice(&fs::read(entry.path().join(FILE)).ok()?).ok()?;
                record.netns.starts_with("lc-").then(|| (entry.path(), record))
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

/// Makes a directory that no other lab has, and the short id that names it.
pub(super) fn new_dir(labs: &Path) -> Result<(String, PathBuf), Error> {
    fs::create_dir_all(labs).map_err(Error::file("create", labs))?;
    loop {
        // RandomState is seeded by the operating system.
        let id = format!("{:06x}", RandomState::new().build_hasher().finish() & 0xff_ffff);
        let dir = labs.join(&id);
        match fs::create_dir(&dir) {
            Ok(()) => return Ok((id, dir)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::File { doing: "create", path: dir, source }),
        }
    }
}
