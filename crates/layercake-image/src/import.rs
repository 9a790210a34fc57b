//! From a source to an image in the store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::describe::now_unix_secs;
use crate::mksquashfs::{Listing, TarPacker, ToolError, list, pack_directory};
use crate::source::{Format, Input};
use crate::tarcheck::{Sink, TarError, stream_tar};
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
    /// Refuse archives that are larger, unpacked.
    pub max_unpacked_bytes: u64,
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
        }
    }
}

/// What an import is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
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
    /// Bytes of the source that were read; zero for a directory.
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
    /// The directory has something mounted in it that does not belong into an image.
    #[error("{mount} is mounted inside of the directory; unmount it, or import a copy")]
    Mounted {
        /// The mount point.
        mount: PathBuf,
    },
    /// The archive is not good.
    #[error(transparent)]
    Tar(#[from] TarError),
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

impl ImageStore {
    /// Imports `source` and tells `progress` how far it is. Blocks until it is done: minutes, for a
    /// large image.
    pub fn import(
        &self,
        source: &Source,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImportError> {
        let temporary = self.temporary()?;
        pack(source, temporary.path(), options, progress)?;
        progress(Progress { stage: Stage::Seal, percent: None, bytes_read: 0 });
        let listing = list(temporary.path())?;
        let entry = entry(options, &listing)?;
        let (digest, size_bytes) =
            seal(temporary.path()).map_err(StoreError::io("seal", temporary.path()))?;
        let meta = ImageMeta {
            digest,
            size_bytes,
            file_count: listing.file_count,
            source: source.to_string(),
            imported_at_unix_secs: now_unix_secs(),
            entry,
        };
        Ok(self.admit(temporary, meta, options.tag.as_ref())?)
    }
}

fn pack(
    source: &Source,
    image: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    let open =
        |source_error| ImportError::Open { source_name: source.to_string(), source: source_error };
    if let Source::Path(path) = source {
        let path = fs::canonicalize(path).map_err(open)?;
        if path.is_dir() {
            refuse_mounts(&path)?;
            let mut percent = |now| {
                progress(Progress { stage: Stage::Pack, percent: Some(now), bytes_read: 0 });
            };
            return Ok(pack_directory(&path, image, options.keep_times, &mut percent)?);
        }
    }
    let (input, format, total) = Input::open(source).map_err(open)?;
    let taken = input.taken();
    let mut tick = || {
        let bytes_read = taken.load(Ordering::Relaxed);
        let percent = total.filter(|&total| total > 0);
        let percent = percent.map(|total| (bytes_read.min(total) * 100 / total) as u8);
        progress(Progress { stage: Stage::Pack, percent, bytes_read });
    };
    match format {
        Format::Squashfs => copy_image(input, image, &mut tick),
        Format::Tar => pack_tar(input, image, options, &mut tick),
        Format::Packed(tool, package) => {
            pack_tar(input.unpack(tool, package)?, image, options, &mut tick)
        }
    }
}

/// Passes on to `mksquashfs`, and tells the progress once a mebibyte.
struct Ticking<'t, 'p> {
    packer: TarPacker<'p>,
    tick: &'t mut dyn FnMut(),
    since_tick: usize,
}

impl Sink for Ticking<'_, '_> {
    fn start(&mut self, root: crate::tarcheck::RootFacts) -> io::Result<()> {
        self.packer.start(root)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.since_tick += bytes.len();
        if self.since_tick >= 1 << 20 {
            self.since_tick = 0;
            (self.tick)();
        }
        self.packer.put(bytes)
    }
}

fn pack_tar(
    reader: impl Read,
    image: &Path,
    options: &ImportOptions,
    tick: &mut dyn FnMut(),
) -> Result<(), ImportError> {
    let packer = TarPacker::new(image, options.keep_times);
    let mut sink = Ticking { packer, tick, since_tick: 0 };
    match stream_tar(io::BufReader::new(reader), &mut sink, options.max_unpacked_bytes) {
        Ok(()) => {
            (sink.tick)();
            Ok(sink.packer.finish()?)
        }
        // It closed its input: what it said itself is the reason.
        Err(error @ TarError::Sink(_)) => {
            sink.packer.finish()?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes an image that is one already.
fn copy_image(mut input: Input, image: &Path, tick: &mut dyn FnMut()) -> Result<(), ImportError> {
    let error = StoreError::io("write", image);
    let mut copy = || {
        let mut out = File::options().write(true).truncate(true).open(image)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(()),
                n => out.write_all(&buffer[..n])?,
            }
            tick();
        }
    };
    Ok(copy().map_err(error)?)
}

/// `/proc`, `/sys` and the like, mounted in a directory that somebody prepares in a chroot, must not
/// become part of an image.
fn refuse_mounts(directory: &Path) -> Result<(), ImportError> {
    // Without /proc there is nothing to ask; proc(5), field 5 is the mount point.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let Some(mount) = line.split(' ').nth(4) else { continue };
        let mount = PathBuf::from(mount.replace("\\040", " "));
        if mount != directory && mount.starts_with(directory) {
            return Err(ImportError::Mounted { mount });
        }
    }
    Ok(())
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
