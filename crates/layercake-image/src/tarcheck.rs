//! Reading a tar while it streams by.
//!
//! The archive goes on to `mksquashfs` unchanged; here it is only checked: that it is whole, that no
//! name leaves its tree, that hard links lead somewhere (mksquashfs 4.5 crashes when one does not). The
//! entry of the root directory is looked at first, because `mksquashfs` skips it and would make the
//! root of every image writable for all.

use std::collections::HashSet;
use std::io::{self, Read};

use tar::{EntryType, Header};

/// How many entries an archive may have.
pub const MAX_TAR_ENTRIES: u64 = 4_000_000;
/// The largest extended header that is read: long names, attributes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
const BLOCK: usize = 512;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the archive is cut off after {at} bytes (unpacked)")]
    CutOff {
        /// How much there was.
        at: u64,
    },
    /// It is something else.
    #[error("this is not a tar archive, or it is damaged: no valid header at byte {at} (unpacked)")]
    NotTar {
        /// Where a header should be.
        at: u64,
    },
    /// A name leads out of the image.
    #[error(
        "`{path}` in the archive is absolute or contains `..`; make the archive with `tar -C <root> -c .`"
    )]
    Escapes {
        /// The name.
        path: String,
    },
    /// A hard link without its file.
    #[error("`{path}` in the archive is a hard link to `{target}`, which is not a file before it")]
    DeadLink {
        /// The link.
        path: String,
        /// What it wants to be.
        target: String,
    },
    /// There is nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// It is larger than allowed.
    #[error("the archive has more than {what}")]
    TooLarge {
        /// The limit.
        what: String,
    },
    /// Who takes the archive does not take any more.
    #[error("cannot pass the archive on")]
    Sink(#[source] io::Error),
}

/// Mode and owner of the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootFacts {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
}

impl Default for RootFacts {
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// Where the archive goes once the root is known.
pub(crate) trait Sink {
    /// The first entry was seen; called once, before any `put`.
    fn start(&mut self, root: RootFacts) -> io::Result<()>;
    /// More of the archive.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Names and sizes that extended headers give to the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Streams an archive from `reader` to `sink` and checks it. At most `max_bytes` are let through.
pub(crate) fn stream_tar(
    reader: impl Read,
    sink: &mut dyn Sink,
    max_bytes: u64,
) -> Result<(), TarError> {
    let mut stream =
        Stream { reader, sink, held: Some(Vec::new()), at: 0, max_bytes, files: HashSet::new() };
    let mut entries = 0;
    let mut next = Extension::default();
    while let Some(header) = stream.header()? {
        let size = next.size.take().or_else(|| header.entry_size().ok());
        let size = size.ok_or(TarError::NotTar { at: stream.at - BLOCK as u64 })?;
        match header.entry_type() {
            EntryType::GNULongName => next.path = Some(stream.name(size)?),
            EntryType::GNULongLink => next.link = Some(stream.name(size)?),
            EntryType::XHeader => stream.pax(size, &mut next)?,
            EntryType::XGlobalHeader => drop(stream.extension(size)?),
            kind => {
                stream.entry(&header, kind, &std::mem::take(&mut next))?;
                stream.body(&header, kind, size)?;
                entries += 1;
                if entries > MAX_TAR_ENTRIES {
                    let what = format!("{MAX_TAR_ENTRIES} entries");
                    return Err(TarError::TooLarge { what });
                }
            }
        }
    }
    if stream.held.is_some() { Err(TarError::Empty) } else { Ok(()) }
}

struct Stream<'s, R> {
    reader: R,
    sink: &'s mut dyn Sink,
    /// What was read before the sink was started.
    held: Option<Vec<u8>>,
    at: u64,
    max_bytes: u64,
    /// The files seen so far: what hard links may lead to.
    files: HashSet<Vec<u8>>,
}

impl<R: Read> Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        if self.at.saturating_add(buffer.len() as u64) > self.max_bytes {
            let what = format!("{} bytes (unpacked)", self.max_bytes);
            return Err(TarError::TooLarge { what });
        }
        self.reader.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::CutOff { at: self.at },
            _ => TarError::Read(error),
        })?;
        self.at += buffer.len() as u64;
        match &mut self.held {
            Some(held) => held.extend_from_slice(buffer),
            None => self.sink.put(buffer).map_err(TarError::Sink)?,
        }
        Ok(())
    }

    /// The next header, or none at the end: two blocks of zeros.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.at;
        let mut block = [0; BLOCK];
        self.read(&mut block)?;
        if block == [0; BLOCK] {
            self.read(&mut block)?;
            if block != [0; BLOCK] {
                return Err(TarError::NotTar { at });
            }
            // What follows is padding; reading it lets the decompressor check its own sums.
            io::copy(&mut self.reader, &mut io::sink()).map_err(TarError::Read)?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The checksum is taken with its own eight bytes as spaces (POSIX pax, "ustar").
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum();
        match header.cksum() {
            Ok(told) if told == sum + 8 * 32 => Ok(Some(header)),
            _ => Err(TarError::NotTar { at }),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION_BYTES {
            let what = format!("{MAX_EXTENSION_BYTES} bytes in an extended header");
            return Err(TarError::TooLarge { what });
        }
        let size = size as usize;
        let mut data = vec![0; size.next_multiple_of(BLOCK)];
        self.read(&mut data)?;
        data.truncate(size);
        Ok(data)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn pax(&mut self, size: u64, next: &mut Extension) -> Result<(), TarError> {
        let at = self.at;
        let data = self.extension(size)?;
        for record in tar::PaxExtensions::new(&data) {
            let record = record.map_err(|_| TarError::NotTar { at })?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" | b"GNU.sparse.name" => next.path = Some(value.to_vec()),
                b"linkpath" => next.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    next.size = Some(size.ok_or(TarError::NotTar { at })?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the names of an entry, and starts the sink at the first one.
    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        extension: &Extension,
    ) -> Result<(), TarError> {
        let raw = extension.path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
        let path = clean(&raw)?;
        if let Some(held) = self.held.take() {
            let root = if path.is_empty() { root_facts(header) } else { RootFacts::default() };
            self.sink.start(root).and_then(|()| self.sink.put(&held)).map_err(TarError::Sink)?;
        }
        if kind.is_hard_link() {
            let target = extension.link.clone();
            let target = target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
            let target = target.unwrap_or_default();
            if !self.files.contains(&clean(&target)?) {
                let (path, target) = (lossy(&raw), lossy(&target));
                return Err(TarError::DeadLink { path, target });
            }
        }
        if !kind.is_dir() {
            self.files.insert(path);
        }
        Ok(())
    }

    /// Passes the content of an entry on.
    fn body(&mut self, header: &Header, kind: EntryType, size: u64) -> Result<(), TarError> {
        if kind.is_gnu_sparse() {
            let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
            while more {
                let mut block = [0; BLOCK];
                self.read(&mut block)?;
                // `isextended` of the old GNU sparse extension header.
                more = block[504] == 1;
            }
        }
        let mut left =
            size.checked_next_multiple_of(BLOCK as u64).ok_or(TarError::NotTar { at: self.at })?;
        let mut buffer = vec![0; left.min(1 << 16) as usize];
        while left > 0 {
            let n = left.min(buffer.len() as u64);
            self.read(&mut buffer[..n as usize])?;
            left -= n;
        }
        Ok(())
    }
}

fn root_facts(header: &Header) -> RootFacts {
    let usual = RootFacts::default();
    RootFacts {
        mode: header.mode().map_or(usual.mode, |mode| mode & 0o7777),
        uid: header.uid().unwrap_or(usual.uid),
        gid: header.gid().unwrap_or(usual.gid),
    }
}

/// The names of a path without empty ones and dots; the root is empty.
fn clean(raw: &[u8]) -> Result<Vec<u8>, TarError> {
    let names = || raw.split(|&byte| byte == b'/');
    if raw.starts_with(b"/") || names().any(|name| name == b"..") {
        return Err(TarError::Escapes { path: lossy(raw) });
    }
    let names: Vec<_> = names().filter(|name| !name.is_empty() && *name != b".").collect();
    Ok(names.join(&b'/'))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Entry for fuzzing: any bytes are refused, or go on to the sink as they came.
pub fn fuzz_tar(data: &[u8]) {
    #[derive(Default)]
    struct Kept(Vec<u8>);
    impl Sink for Kept {
        fn start(&mut self, _: RootFacts) -> io::Result<()> {
            Ok(())
        }
        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let mut kept = Kept::default();
    let _ = stream_tar(data, &mut kept, 1 << 20);
    assert!(data.starts_with(&kept.0), "the archive was changed on its way");
}
