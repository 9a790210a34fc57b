//! From a source to an image in the store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::arch;
use crate::cancel::Cancel;
use crate::describe::now_unix_secs;
use crate::directory::DirectoryError;
use crate::mksquashfs::{Listing, ToolError, count_inodes, list};
use crate::pack::{pack_archive, read_archive};
use crate::remarks::Remarks;
use crate::source::{Format, Input, InputError};
use crate::tar::{Limits, TarError};
use crate::{Digest, Entry, EntryError, ImageMeta, ImageStore, Kind, Source, StoreError, Tag};

/// The largest archive, unpacked, that is imported unless another limit is given.
const DEFAULT_MAX_UNPACKED_BYTES: u64 = 1 << 40;

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The name to give to the image.
    pub tag: Option<Tag>,
    /// The kind, if it is not to be detected.
    pub kind: Option<Kind>,
    /// What to start; needed for a plain image.
    pub command: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Keep the times of files. Without, two builds of the same content are the same image.
    pub keep_times: bool,
    /// Refuse archives that are larger, unpacked and with the holes of their files filled.
    pub max_unpacked_bytes: u64,
    /// Calls the import off from elsewhere.
    pub cancel: Cancel,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            tag: None,
            kind: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            keep_times: false,
            max_unpacked_bytes: DEFAULT_MAX_UNPACKED_BYTES,
            cancel: Cancel::default(),
        }
    }
}

/// What an import is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the archive, to its end, before anything is made of it.
    Read,
    /// Packing, which takes nearly all the time.
    Pack,
    /// Looking into the image and computing its digest.
    Seal,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub stage: Stage,
    /// How much of it is done, where that can be known.
    pub percent: Option<u8>,
    /// Bytes of the archive that were read at this stage, as it came; zero while sealing.
    pub bytes_read: u64,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The image.
    pub meta: ImageMeta,
    /// Whether the same image was in the store before.
    pub was_known: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error("cannot read {source_name}")]
    Open {
        /// The source.
        source_name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be read as a whole.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The archive cannot be kept until it is packed; a full disk shows here.
    #[error("cannot keep the archive in {} until it is packed: {reason}", path.display())]
    Keep {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The archive is another one than when its reading began.
    #[error("{} changed while it was imported", .0.display())]
    Changed(PathBuf),
    /// It was called off.
    #[error("the import was called off")]
    Cancelled,
    /// The squashfs is not whole.
    #[error("the squashfs cannot be used")]
    Squashfs(#[source] io::Error),
    /// `mksquashfs` left something out, without a word.
    #[error("`mksquashfs` packed {packed} of {wanted} files, directories and others")]
    Incomplete {
        /// How many there are.
        packed: u64,
        /// How many there should be.
        wanted: u64,
    },
    /// The archive is not good.
    #[error(transparent)]
    Tar(TarError),
    /// A program failed; a full disk shows here.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The image could not be started.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TarError> for ImportError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(error) | TarError::Sink(error)
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<InputError>) =>
            {
                Self::input(error)
            }
            error => Self::Tar(error),
        }
    }
}

impl ImportError {
    /// What is wrong with the source, if that is why reading failed.
    pub(crate) fn input(error: io::Error) -> Self {
        match error.downcast::<InputError>() {
            Ok(InputError::Changed(path)) => Self::Changed(path),
            Ok(InputError::Directory(error)) => Self::Directory(error),
            Ok(InputError::Keep { path, error }) => Self::Keep { path, reason: error.to_string() },
            Err(error) => match error.downcast::<ToolError>() {
                Ok(error) => Self::Tool(error),
                Err(error) => Self::Tar(TarError::Read(error)),
            },
        }
    }
}

impl ImageStore {
    /// Imports `source` and tells `progress` how far it is. Blocks until it is done: minutes, for a
    /// large image.
    ///
    /// # Errors
    /// Nothing has changed then: no name points elsewhere, and nothing is left in the store.
    pub fn import(
        &self,
        source: &Source,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        let imported = self.try_import(source, options, progress);
        // Whatever broke then broke because of that.
        let called_off = imported.is_err() && options.cancel.is_called_off();
        if called_off { Err(ImportError::Cancelled) } else { imported }
    }

    fn try_import(
        &self,
        source: &Source,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        let temporary = self.temporary()?;
        let image = temporary.path();
        let (remarks, wanted) = self.pack(source, image, options, progress)?;
        progress(Progress { stage: Stage::Seal, percent: None, bytes_read: 0 });
        let listing = list(image)?;
        let packed = count_inodes(image).map_err(ImportError::Squashfs)?;
        if let Some(wanted) = wanted.filter(|&wanted| wanted != packed) {
            return Err(ImportError::Incomplete { packed, wanted });
        }
        let entry = entry(options, &listing)?;
        let command = entry.command.first().map(String::as_str);
        let arch = arch::of_image(image, &listing, command)?;
        let (digest, size_bytes) = seal(image).map_err(StoreError::io("seal", image))?;
        let meta = ImageMeta {
            digest,
            size_bytes,
            file_count: listing.file_count,
            source: source.to_string(),
            imported_at_unix_secs: now_unix_secs(),
            entry,
            arch,
            remarks: remarks.lines(),
        };
        if options.cancel.is_called_off() {
            return Err(ImportError::Cancelled);
        }
        Ok(self.admit(temporary, meta, options.tag.as_ref())?)
    }

    /// Makes the image; says how many files, directories and others should be in it, where that is known.
    fn pack(
        &self,
        source: &Source,
        image: &Path,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Remarks, Option<u64>), ImportError> {
        let open = |source_error: io::Error| match source_error.get_ref() {
            Some(inner) if inner.is::<InputError>() => ImportError::input(source_error),
            _ => ImportError::Open { source_name: source.to_string(), source: source_error },
        };
        let input = Input::open(source, &self.temporary_dir(), options.cancel.clone());
        let mut input = input.map_err(open)?;
        if input.format == Format::Squashfs {
            let (taken, total) = (input.taken(), input.total);
            let mut tick = || {
                let bytes_read = taken.load(Ordering::Relaxed);
                let percent = percent(bytes_read, total);
                progress(Progress { stage: Stage::Pack, percent, bytes_read });
            };
            copy_image(input, image, &mut tick)?;
            return Ok((Remarks::default(), None));
        }
        let limits = Limits { max_bytes: options.max_unpacked_bytes };
        let command = options.command.first().map(String::as_str);
        let mut layout = read_archive(&mut input, limits, command, progress)?;
        let found =
            std::mem::take(&mut *input.remarks.lock().unwrap_or_else(PoisonError::into_inner));
        layout.remarks.append(found);
        pack_archive(&input, &mut layout, limits, image, options.keep_times, progress)?;
        let (_, wanted) = layout.tree.counts();
        Ok((layout.remarks, Some(wanted)))
    }
}

/// How much of the whole that is, where the whole is known.
pub(crate) fn percent(part: u64, total: Option<u64>) -> Option<u8> {
    let total = total.filter(|&total| total > 0)?;
    Some((part.min(total) * 100 / total) as u8)
}

/// Takes an image that is one already.
fn copy_image(input: Input, image: &Path, tick: &mut dyn FnMut()) -> Result<(), ImportError> {
    let write = |error| ImportError::Store(StoreError::io("write", image)(error));
    let mut out = File::options().write(true).truncate(true).open(image).map_err(write)?;
    let mut reader = input.once();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(&buffer[..n]).map_err(write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ImportError::input(error)),
        }
        tick();
    }
}

fn entry(options: &ImportOptions, listing: &Listing) -> Result<Entry, EntryError> {
    // A command that was given says more than an init that happens to be there.
    let detected = match (options.command.is_empty(), listing.has_systemd) {
        (true, true) => Kind::Systemd,
        _ => Kind::Plain,
    };
    let entry = Entry {
        kind: options.kind.unwrap_or(detected),
        command: options.command.clone(),
        env: options.env.clone(),
    };
    entry.check()?;
    Ok(entry)
}

/// Brings the image to the disk and computes its name.
fn seal(image: &Path) -> io::Result<(Digest, u64)> {
    let file = File::open(image)?;
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()?;
    Digest::of_reader(file)
}
