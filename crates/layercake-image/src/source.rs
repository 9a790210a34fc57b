//! Where an image comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mksquashfs::{Running, ToolError};

/// What to import.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory that is the root of the image, a tar (plain, gzip, xz, zstd), or a squashfs.
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
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Packed("xz", "xz-utils"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Packed("zstd", "zstd"),
        _ => Format::Tar,
    }
}

/// A stream of bytes that counts what was taken from it.
pub(crate) struct Input {
    reader: Box<dyn Read + Send>,
    taken: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file or standard input and looks at its first bytes.
    pub(crate) fn open(source: &Source) -> io::Result<(Self, Format, Option<u64>)> {
        let (mut reader, total): (Box<dyn Read + Send>, _) = match source {
            Source::Stdin => (Box::new(io::stdin()), None),
            Source::Stream(stream) => (stream.take()?, None),
            Source::Path(path) => {
                let file = File::open(path)?;
                let facts = file.metadata()?;
                (Box::new(file), facts.is_file().then_some(facts.len()))
            }
        };
        let mut start = Vec::new();
        reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut start)?;
        let format = sniff(&start);
        let reader = Box::new(io::Cursor::new(start).chain(reader));
        Ok((Self { reader, taken: Arc::default() }, format, total))
    }

    /// How much was read, also while another thread reads.
    pub(crate) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// The stream, unpacked by the program that knows how.
    pub(crate) fn unpack(
        mut self,
        tool: &'static str,
        package: &'static str,
    ) -> Result<Unpacked, ToolError> {
        let mut command = Command::new(tool);
        command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(tool, package, &mut command)?;
        let (stdin, stdout) = (running.stdin(), running.stdout());
        // Ends with the input, or when the program is gone.
        std::thread::spawn(move || stdin.map(|mut pipe| io::copy(&mut self, &mut pipe)));
        Ok(Unpacked { running: Some(running), stdout })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The output of a decompressor; its end is an error unless the program is content.
pub(crate) struct Unpacked {
    running: Option<Running>,
    stdout: Option<ChildStdout>,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.stdout {
            Some(stdout) => stdout.read(buffer)?,
            None => 0,
        };
        if n == 0
            && !buffer.is_empty()
            && let Some(running) = self.running.take()
        {
            running.finish().map_err(io::Error::other)?;
        }
        Ok(n)
    }
}
