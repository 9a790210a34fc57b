//! Where an image comes from.

use std::fs::{File, Metadata};
use std::io::{self, PipeReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::cancel::Cancel;
use crate::directory::{DirectoryError, write_directory};
use crate::mksquashfs::{Running, ToolError};
use crate::remarks::Remarks;

/// What to import.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory that is the root of the image, a tar (plain, gzip, xz, zstd, bzip2), or a squashfs.
    Path(PathBuf),
    /// A tar or squashfs on standard input.
    Stdin,
    /// A tar or squashfs that comes from elsewhere.
    Stream(Stream),
}

/// A stream with a name for people. It can be imported once.
#[derive(Clone)]
pub struct Stream {
    name: String,
    reader: Arc<Mutex<Option<Box<dyn Read + Send>>>>,
}

impl Stream {
    fn take(&self) -> io::Result<Box<dyn Read + Send>> {
        let taken = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| io::Error::other("a stream can be read only once"))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stream").field(&self.name).finish()
    }
}

impl Source {
    /// A tar or squashfs from a reader. An error of the reader fails the import, as it should: an
    /// archive that was cut can look whole.
    #[must_use]
    pub fn stream(name: &str, reader: impl Read + Send + 'static) -> Self {
        let reader: Box<dyn Read + Send> = Box::new(reader);
        let reader = Arc::new(Mutex::new(Some(reader)));
        Self::Stream(Stream { name: name.to_owned(), reader })
    }

    /// What a person means: `-` is standard input, everything else a path.
    #[must_use]
    pub fn from_argument(argument: &Path) -> Self {
        if argument.as_os_str() == "-" { Self::Stdin } else { Self::Path(argument.to_owned()) }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
            Self::Stream(stream) => f.write_str(&stream.name),
        }
    }
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar,
    Squashfs,
    Packed(&'static str, &'static str),
}

/// How many bytes it takes to know.
const MAGIC_BYTES: u64 = 6;

pub(crate) fn sniff(start: &[u8]) -> Format {
    match start {
        [b'h', b's', b'q', b's', ..] => Format::Squashfs,
        [0x1f, 0x8b, ..] => Format::Packed("gzip", "gzip"),
        [b'B', b'Z', b'h', ..] => Format::Packed("bzip2", "bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Packed("xz", "xz-utils"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Packed("zstd", "zstd"),
        _ => Format::Tar,
    }
}

/// Why a source cannot be read, or not a second time. It travels inside of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot keep the archive in {} until it is packed: {error}", path.display())]
    Keep { path: PathBuf, error: io::Error },
    #[error("{} changed while it was imported", .0.display())]
    Changed(PathBuf),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl From<InputError> for io::Error {
    fn from(error: InputError) -> Self {
        Self::other(error)
    }
}

/// A source that was opened.
pub(crate) struct Input {
    pub(crate) format: Format,
    /// How long it is, where that is known.
    pub(crate) total: Option<u64>,
    pub(crate) remarks: Arc<Mutex<Remarks>>,
    start: Vec<u8>,
    reader: Option<Box<dyn Read + Send>>,
    again: Again,
    pub(crate) cancel: Cancel,
    taken: Arc<AtomicU64>,
}

/// From where a source is read a second time.
enum Again {
    /// The file itself, if it was not changed.
    File(File, PathBuf, Metadata),
    /// A file without a name, which holds what the stream gave. It is gone with its last user.
    Kept(File, PathBuf),
}

impl Input {
    /// Opens a source and looks at its first bytes; what can be read only once is kept in `dir`.
    pub(crate) fn open(source: &Source, dir: &Path, cancel: Cancel) -> io::Result<Self> {
        let keep = || -> io::Result<Again> {
            let kept = tempfile::tempfile_in(dir);
            let kept = kept.map_err(|error| InputError::Keep { path: dir.to_owned(), error })?;
            Ok(Again::Kept(kept, dir.to_owned()))
        };
        let remarks = Arc::default();
        let mut total = None;
        let (mut reader, again): (Box<dyn Read + Send>, _) = match source {
            Source::Stdin => (Box::new(io::stdin()), keep()?),
            Source::Stream(stream) => (stream.take()?, keep()?),
            Source::Path(path) => {
                let file = File::open(path)?;
                let facts = file.metadata()?;
                if facts.is_dir() {
                    (Box::new(DirectoryReader::start(path, Arc::clone(&remarks))?), keep()?)
                } else if facts.is_file() {
                    total = Some(facts.len());
                    (Box::new(file.try_clone()?), Again::File(file, path.clone(), facts))
                } else {
                    (Box::new(file), keep()?)
                }
            }
        };
        let mut start = Vec::new();
        reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut start)?;
        let format = sniff(&start);
        let (reader, taken) = (Some(reader), Arc::default());
        Ok(Self { format, total, remarks, start, reader, again, cancel, taken })
    }

    /// How much was read, also while another thread reads.
    pub(crate) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// The source as it is, to be read once.
    pub(crate) fn once(self) -> impl Read + Send {
        let Self { start, reader, cancel, taken, .. } = self;
        let reader: Box<dyn Read + Send> = reader.unwrap_or_else(|| Box::new(io::empty()));
        Reader { reader: Box::new(io::Cursor::new(start).chain(reader)), keep: None, taken, cancel }
    }

    /// The archive, unpacked, for the first time.
    pub(crate) fn first(&mut self) -> io::Result<Unpacked> {
        let reader: Box<dyn Read + Send> =
            self.reader.take().unwrap_or_else(|| Box::new(io::empty()));
        let start = io::Cursor::new(std::mem::take(&mut self.start));
        let keep = match &self.again {
            Again::File(..) => None,
            Again::Kept(file, dir) => Some((file.try_clone()?, dir.clone())),
        };
        self.unpacked(Box::new(start.chain(reader)), keep).map_err(io::Error::other)
    }

    /// The archive, unpacked, once more. The first reader has to have come to its end.
    pub(crate) fn second(&self) -> io::Result<Unpacked> {
        let (Again::File(file, ..) | Again::Kept(file, _)) = &self.again;
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        self.taken.store(0, Ordering::Relaxed);
        self.unpacked(Box::new(file), None).map_err(io::Error::other)
    }

    fn unpacked(
        &self,
        reader: Box<dyn Read + Send>,
        keep: Option<(File, PathBuf)>,
    ) -> Result<Unpacked, ToolError> {
        let (taken, cancel) = (Arc::clone(&self.taken), self.cancel.clone());
        let reader = Reader { reader, keep, taken, cancel };
        match self.format {
            Format::Packed(tool, package) => Unpacked::start(reader, tool, package, &self.cancel),
            _ => Ok(Unpacked::Plain(reader)),
        }
    }

    /// Makes sure that what was read is still what is there.
    pub(crate) fn check_unchanged(&self) -> io::Result<()> {
        let Again::File(file, _, before) = &self.again else { return Ok(()) };
        let of = |facts: &Metadata| (facts.len(), facts.mtime(), facts.mtime_nsec());
        if of(&file.metadata()?) == of(before) { Ok(()) } else { Err(self.changed()) }
    }

    /// The error that the source is another one than before.
    pub(crate) fn changed(&self) -> io::Error {
        let (Again::File(_, path, _) | Again::Kept(_, path)) = &self.again;
        InputError::Changed(path.clone()).into()
    }
}

/// A reader that counts, keeps what it gives, and ends when the import is called off.
pub(crate) struct Reader {
    reader: Box<dyn Read + Send>,
    keep: Option<(File, PathBuf)>,
    taken: Arc<AtomicU64>,
    cancel: Cancel,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        let n = self.reader.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        if let Some((file, dir)) = &mut self.keep {
            let kept = file.write_all(&buffer[..n]);
            kept.map_err(|error| InputError::Keep { path: dir.clone(), error })?;
        }
        Ok(n)
    }
}

/// An archive as it comes, or the output of a decompressor.
pub(crate) enum Unpacked {
    Plain(Reader),
    Tool(Box<Unpacking>),
}

pub(crate) struct Unpacking {
    stdout: Option<ChildStdout>,
    running: Option<Running>,
    feeding: Option<JoinHandle<io::Result<()>>>,
}

impl Unpacked {
    /// Has `reader` unpacked by the program that knows how.
    fn start(
        mut reader: Reader,
        tool: &'static str,
        package: &'static str,
        cancel: &Cancel,
    ) -> Result<Self, ToolError> {
        let mut command = Command::new(tool);
        command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(tool, package, &mut command, cancel)?;
        let (stdin, stdout) = (running.stdin(), running.stdout());
        // Ends with the source, or when the program is gone; that it is gone is no fault of the source.
        let feeding = std::thread::spawn(move || {
            let Some(mut stdin) = stdin else { return Ok(()) };
            let mut buffer = vec![0; 1 << 17];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(n) if stdin.write_all(&buffer[..n]).is_err() => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let (running, feeding) = (Some(running), Some(feeding));
        Ok(Self::Tool(Box::new(Unpacking { stdout, running, feeding })))
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unpacking = match self {
            Self::Plain(reader) => return reader.read(buffer),
            Self::Tool(unpacking) => unpacking,
        };
        let n = match &mut unpacking.stdout {
            Some(stdout) => stdout.read(buffer)?,
            None => 0,
        };
        if n == 0
            && !buffer.is_empty()
            && let Some(running) = unpacking.running.take()
        {
            // The end is an error unless the program is content; if the source broke off, that is why.
            let finished = running.finish();
            let fed = unpacking.feeding.take().map(JoinHandle::join);
            if let Some(Ok(fed)) = fed {
                fed?;
            }
            finished.map_err(io::Error::other)?;
        }
        Ok(n)
    }
}

/// The archive of a directory, written by a thread of its own.
struct DirectoryReader {
    pipe: PipeReader,
    writing: Option<JoinHandle<Result<Remarks, DirectoryError>>>,
    remarks: Arc<Mutex<Remarks>>,
}

impl DirectoryReader {
    fn start(path: &Path, remarks: Arc<Mutex<Remarks>>) -> io::Result<Self> {
        let (pipe, writer) = io::pipe()?;
        let path = path.to_owned();
        let writing = std::thread::spawn(move || {
            let mut out = io::BufWriter::with_capacity(1 << 17, writer);
            let written = write_directory(&path, &mut out)?;
            out.flush().map_err(DirectoryError::Write)?;
            Ok(written)
        });
        Ok(Self { pipe, writing: Some(writing), remarks })
    }
}

impl Read for DirectoryReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.pipe.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(writing) = self.writing.take()
        {
            let written = writing.join().map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let written = written.map_err(InputError::Directory)?;
            self.remarks.lock().unwrap_or_else(PoisonError::into_inner).append(written);
        }
        Ok(n)
    }
}
