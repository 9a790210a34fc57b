//! The store: images by digest, names that point at them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::describe::{TagRecord, now_unix_secs};
use crate::{Digest, Entry, ImageFacts, ImageInfo, ImageMeta, Imported, Kind, Tag};

/// How the names of files begin that are being written.
const UNWRITTEN: &str = ".new-";

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store.
    #[error("cannot {what} {path} of the image store")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A description cannot be understood.
    #[error("{path} of the image store is damaged; remove it and import the image again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There is no such image.
    #[error(
        "there is no image `{reference}` in the store; `layercake image list` shows what is there"
    )]
    Unknown {
        /// As asked.
        reference: String,
    },
    /// The image has names, so somebody wants it.
    #[error("{digest} is in use under the names {tags}; remove those first")]
    Tagged {
        /// The image.
        digest: Digest,
        /// Its names, with commas.
        tags: String,
    },
    /// The bytes are not what their name says.
    #[error("{digest} is corrupt: its bytes give {found}; remove it and import the image again")]
    Corrupt {
        /// What it should be.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What a collection took away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// The images.
    pub images: Vec<Digest>,
    /// How large they were together.
    pub bytes: u64,
}

/// A directory with images; any number of values and processes may use the same one.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

impl ImageStore {
    /// Opens the store in `root`, and makes it if there is none. Images may hold secrets, so only the
    /// owner can look into a new one.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        for dir in ["blobs/sha256", "meta", "tags", "tmp"] {
            let path = store.root.join(dir);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(StoreError::io("make", &path))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Removes what a process that was killed left: half an import, a description that was being
    /// written, an image that nobody got to describe. Who is at work holds the lock, or one on its file.
    fn sweep(&self) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        self.sweep_imports()?;
        for dir in ["meta", "tags"] {
            let path = self.root.join(dir);
            let unwritten = || -> io::Result<()> {
                for entry in fs::read_dir(&path)? {
                    let entry = entry?;
                    if entry.file_name().as_encoded_bytes().starts_with(UNWRITTEN.as_bytes()) {
                        fs::remove_file(entry.path())?;
                    }
                }
                Ok(())
            };
            unwritten().map_err(StoreError::io("clean", &path))?;
        }
        for name in self.names("blobs/sha256")? {
            let Ok(digest) = name.parse::<Digest>() else { continue };
            if !self.meta_path(&digest).exists() {
                self.discard(&digest)?;
            }
        }
        Ok(())
    }

    fn sweep_imports(&self) -> Result<(), StoreError> {
        let dir = self.temporary_dir();
        let sweep = || {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let Ok(file) = File::open(&path) else { continue };
                match file.try_lock() {
                    Ok(()) => fs::remove_file(&path)?,
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
            Ok(())
        };
        sweep().map_err(StoreError::io("clean", &dir))
    }

    /// Where the bytes of an image are, if it is in the store.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    fn meta_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("meta").join(format!("{}.json", digest.to_hex()))
    }

    fn tag_path(&self, tag: &Tag) -> PathBuf {
        self.root.join("tags").join(format!("{tag}.json"))
    }

    /// Where imports keep what they work on.
    pub(crate) fn temporary_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Everything that changes what the store holds is done under this lock; it is short.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.root.join("lock");
        let open = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(StoreError::io("lock", &path))
    }

    /// A file for an import to work on; locked as long as the import lives, so that the leftovers of
    /// killed ones can be told apart and are removed here.
    pub(crate) fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let dir = self.temporary_dir();
        let _lock = self.lock()?;
        self.sweep_imports()?;
        let make = || {
            let file = tempfile::Builder::new().prefix("import-").tempfile_in(&dir)?;
            file.as_file().lock()?;
            Ok(file)
        };
        make().map_err(StoreError::io("use", &dir))
    }

    /// Takes a finished image in, with its description and its name, or nothing of it.
    pub(crate) fn admit(
        &self,
        temporary: NamedTempFile,
        mut meta: ImageMeta,
        tag: Option<&Tag>,
    ) -> Result<Imported, StoreError> {
        let _lock = self.lock()?;
        let digest = meta.digest;
        let path = self.blob_path(&digest);
        let before = self.read_json::<ImageMeta>(&self.meta_path(&digest)).ok().flatten();
        if let Some(before) = &before {
            meta.imported_at_unix_secs = before.imported_at_unix_secs;
        }
        // A disk that is full shows while these are written, before anything has its name.
        let described = self.unwritten_json(&self.meta_path(&digest), &meta)?;
        let record = TagRecord { digest, entry: meta.entry.clone() };
        let named = tag.map(|tag| self.unwritten_json(&self.tag_path(tag), &record)).transpose()?;
        // Also over one that is there: if its bytes went bad, they are good now.
        let admit = || {
            persist(temporary, &path)?;
            persist(described, &self.meta_path(&digest))?;
            tag.zip(named).map_or(Ok(()), |(tag, named)| persist(named, &self.tag_path(tag)))
        };
        let admitted = admit();
        if admitted.is_err() && before.is_none() {
            // What was refused is worse than what is left of it.
            let _ = self.discard(&digest);
        }
        admitted?;
        Ok(Imported { meta, was_known: before.is_some() })
    }

    /// Makes an image up that has a name and nothing in it that could be started: for simulated
    /// machines, to which it makes no difference. Another name makes another image.
    pub fn make_up(&self, tag: &Tag) -> Result<Imported, StoreError> {
        let mut temporary = self.temporary()?;
        let content = format!("{tag} was made up for a simulation: nothing of it can be started\n");
        let path = temporary.path().to_owned();
        temporary.write_all(content.as_bytes()).map_err(StoreError::io("write", &path))?;
        let (digest, size_bytes) =
            Digest::of_reader(content.as_bytes()).map_err(StoreError::io("seal", &path))?;
        let command = vec!["/made-up".to_owned()];
        let entry = Entry { kind: Kind::Plain, command, env: BTreeMap::new() };
        let imported_at_unix_secs = now_unix_secs();
        let source = "made up".to_owned();
        let meta = ImageMeta {
            digest,
            size_bytes,
            file_count: 0,
            source,
            imported_at_unix_secs,
            entry,
            arch: None,
            remarks: Vec::new(),
        };
        self.admit(temporary, meta, Some(tag))
    }

    /// Gives an image a name, which may have pointed elsewhere before.
    pub fn tag(&self, tag: &Tag, digest: &Digest) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let meta = self.meta(digest)?;
        self.write_json(&self.tag_path(tag), &TagRecord { digest: *digest, entry: meta.entry })
    }

    /// Takes a name away; the image stays until [`remove`](Self::remove) or [`gc`](Self::gc).
    pub fn untag(&self, tag: &Tag) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let path = self.tag_path(tag);
        match fs::remove_file(&path).and_then(|()| sync_parent(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Unknown { reference: tag.to_string() })
            }
            other => other.map_err(StoreError::io("remove", &path)),
        }
    }

    /// All images and their names, the newest first.
    pub fn list(&self) -> Result<Vec<ImageInfo>, StoreError> {
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for (tag, record) in self.tags()? {
            tags.entry(record.digest).or_default().push(tag);
        }
        let mut images = Vec::new();
        for name in self.names("meta")? {
            let path = self.root.join("meta").join(&name);
            // One that was removed meanwhile is not there.
            if let Some(meta) = self.read_json::<ImageMeta>(&path)? {
                let tags = tags.remove(&meta.digest).unwrap_or_default();
                images.push(ImageInfo { meta, tags });
            }
        }
        images.sort_by_key(|info| {
            (std::cmp::Reverse(info.meta.imported_at_unix_secs), info.meta.digest)
        });
        Ok(images)
    }

    /// One image, by name or digest.
    pub fn inspect(&self, reference: &str) -> Result<ImageInfo, StoreError> {
        let digest = self.facts(reference)?.digest;
        let tags = self.tags()?.into_iter().filter(|(_, record)| record.digest == digest);
        Ok(ImageInfo { meta: self.meta(&digest)?, tags: tags.map(|(tag, _)| tag).collect() })
    }

    /// What a node has to know of an image, given by name or digest.
    pub fn facts(&self, reference: &str) -> Result<ImageFacts, StoreError> {
        let unknown = || StoreError::Unknown { reference: reference.to_owned() };
        let (digest, named) = match reference.parse::<Digest>() {
            Ok(digest) => (digest, None),
            Err(_) => {
                let tag: Tag = reference.parse().map_err(|_| unknown())?;
                let record = self.read_json::<TagRecord>(&self.tag_path(&tag))?;
                let record = record.ok_or_else(unknown)?;
                (record.digest, Some(record.entry))
            }
        };
        let meta = self.read_json::<ImageMeta>(&self.meta_path(&digest))?.ok_or_else(unknown)?;
        let entry = named.unwrap_or(meta.entry);
        Ok(ImageFacts { digest, size_bytes: meta.size_bytes, entry, arch: meta.arch })
    }

    /// Removes an image that has no name.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let tags = self.tags()?.into_iter().filter(|(_, record)| record.digest == *digest);
        let tags: Vec<_> = tags.map(|(tag, _)| tag.to_string()).collect();
        if !tags.is_empty() {
            return Err(StoreError::Tagged { digest: *digest, tags: tags.join(", ") });
        }
        self.meta(digest)?;
        self.discard(digest).map(drop)
    }

    /// Removes every image that has no name and is not in `keep`.
    pub fn gc(&self, keep: &BTreeSet<Digest>) -> Result<Collected, StoreError> {
        let _lock = self.lock()?;
        let tagged: BTreeSet<_> = self.tags()?.into_values().map(|record| record.digest).collect();
        let mut collected = Collected::default();
        // Blobs, not descriptions: one without a description is what a crash left.
        for name in self.names("blobs/sha256")? {
            let Ok(digest) = name.parse::<Digest>() else { continue };
            if !tagged.contains(&digest) && !keep.contains(&digest) {
                collected.bytes += self.discard(&digest)?;
                collected.images.push(digest);
            }
        }
        Ok(collected)
    }

    /// Reads an image and compares its bytes with its name.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Unknown { reference: digest.to_string() });
            }
            other => other.map_err(StoreError::io("read", &path))?,
        };
        let (found, _) = Digest::of_reader(file).map_err(StoreError::io("read", &path))?;
        if found == *digest { Ok(()) } else { Err(StoreError::Corrupt { digest: *digest, found }) }
    }

    /// Takes an image away, description first; returns its size. Who is reading it reads on.
    fn discard(&self, digest: &Digest) -> Result<u64, StoreError> {
        let (meta, blob) = (self.meta_path(digest), self.blob_path(digest));
        let size = fs::metadata(&blob).map_or(0, |facts| facts.len());
        for path in [&meta, &blob] {
            match fs::remove_file(path).and_then(|()| sync_parent(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(StoreError::io("remove", path))?,
            }
        }
        Ok(size)
    }

    fn meta(&self, digest: &Digest) -> Result<ImageMeta, StoreError> {
        let meta = self.read_json(&self.meta_path(digest))?;
        meta.ok_or_else(|| StoreError::Unknown { reference: digest.to_string() })
    }

    fn tags(&self) -> Result<BTreeMap<Tag, TagRecord>, StoreError> {
        let mut tags = BTreeMap::new();
        for name in self.names("tags")? {
            let tag = name.strip_suffix(".json").and_then(|name| name.parse::<Tag>().ok());
            let Some(tag) = tag else { continue };
            if let Some(record) = self.read_json(&self.tag_path(&tag))? {
                tags.insert(tag, record);
            }
        }
        Ok(tags)
    }

    /// The names of files in a directory of the store, without those that are being written.
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let path = self.root.join(dir);
        let read = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                names.extend(entry?.file_name().into_string());
            }
            names.retain(|name| !name.starts_with('.'));
            names.sort();
            Ok(names)
        };
        read().map_err(StoreError::io("list", &path))
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io("read", path))?,
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| StoreError::Damaged { path: path.to_owned(), source })
    }

    /// Writes a description so that it is there whole or not at all.
    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StoreError> {
        persist(self.unwritten_json(path, value)?, path)
    }

    /// Writes a description, durably, that does not have its name yet.
    fn unwritten_json<T: Serialize>(
        &self,
        path: &Path,
        value: &T,
    ) -> Result<NamedTempFile, StoreError> {
        let write = || {
            let dir = path.parent().unwrap_or(&self.root);
            let mut file = tempfile::Builder::new().prefix(UNWRITTEN).tempfile_in(dir)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        write().map_err(StoreError::io("write", path))
    }
}

/// Gives a file its name, durably.
fn persist(file: NamedTempFile, path: &Path) -> Result<(), StoreError> {
    let persisted = file.persist(path).map_err(|error| error.error);
    persisted.and_then(|_| sync_parent(path)).map_err(StoreError::io("write", path))
}

/// A new name lasts when its directory was written.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
