//! Reads an archive, entry by entry, as GNU tar does.

use std::io::{self, Read};

use super::error::{TarError, show};
use super::header::{Block, Header, until_zero};
use super::pax::Overrides;
use super::sparse::{self, MapReader, Segment};
use super::{BLOCK, MAX_NAME, MAX_PATH};
use crate::remarks::{Remark, Remarks};

/// How many headers an archive may have, extended ones included.
pub const MAX_TAR_ENTRIES: u64 = 4_000_000;
/// The largest extended header that is read: names, attributes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// How much of a file is in memory at a time.
const BUFFER: usize = 1 << 16;

/// An extended attribute, with its namespace: `security.capability`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xattr {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// An entry's mode, owner, time and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The twelve bits of permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) xattrs: Vec<Xattr>,
}

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file of so many bytes; its content is taken with [`Archive::content`].
    File(u64),
    Directory,
    Symlink(Vec<u8>),
    /// Another name of what is at this path.
    HardLink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// An entry of an archive, with what its extended headers say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Names with `/` between them; the root is empty.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
}

/// Takes the content of a file, piece by piece.
type Put<'p> = &'p mut dyn FnMut(&[u8]) -> io::Result<()>;

/// How much of an archive is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Unpacked, and with the holes of its files filled.
    pub(crate) max_bytes: u64,
}

/// Content that was not read yet.
#[derive(Default)]
struct Body {
    /// The data, in order.
    segments: std::vec::IntoIter<Segment>,
    /// How long the file is with its holes.
    size: u64,
    /// How many bytes the entry has in the archive, with what fills its blocks up.
    stored: u64,
}

/// An archive that is being read.
pub(crate) struct Archive<R> {
    reader: R,
    limits: Limits,
    at: u64,
    /// The bytes of files so far, with their holes.
    logical: u64,
    headers: u64,
    global: Overrides,
    body: Body,
    buffer: Vec<u8>,
    remarks: Remarks,
    ended: bool,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R, limits: Limits) -> Self {
        Self {
            reader,
            limits,
            at: 0,
            logical: 0,
            headers: 0,
            global: Overrides::default(),
            body: Body::default(),
            buffer: Vec::new(),
            remarks: Remarks::default(),
            ended: false,
        }
    }

    /// What was left out or taken otherwise so far.
    pub(crate) fn into_remarks(self) -> Remarks {
        self.remarks
    }

    /// The next entry; content of the last one that was not taken is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        self.pass(None)?;
        let mut next = Extensions::default();
        while !self.ended {
            let at = self.at;
            let Some(block) = self.header_block()? else { break };
            let header = Header(&block);
            let size = header.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or(TarError::Damaged { at, what: "a size is not a number" })?;
            match header.type_flag() {
                b'L' => next.path = Some(self.long_name(size)?),
                b'K' => next.link = Some(self.long_name(size)?),
                b'x' | b'X' => {
                    let data = self.extension(size)?;
                    // Only the last header before an entry counts, so that memory is bounded.
                    next.own = Overrides::default();
                    next.own.read(&data).map_err(|what| TarError::Damaged { at, what })?;
                }
                b'g' => {
                    let data = self.extension(size)?;
                    self.global = Overrides::default();
                    self.global.read(&data).map_err(|what| TarError::Damaged { at, what })?;
                }
                // A volume's label names the archive, and is no file.
                b'V' => {
                    next = Extensions::default();
                    self.skip(size)?;
                }
                _ => {
                    let front = Front { at, header, size, next: std::mem::take(&mut next) };
                    if let Some(member) = self.member(front)? {
                        return Ok(Some(member));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Gives the content of the entry that [`next`](Self::next) returned, with zeros for its holes.
    pub(crate) fn content(&mut self, put: Put<'_>) -> Result<(), TarError> {
        self.pass(Some(put))
    }

    fn pass(&mut self, mut put: Option<Put<'_>>) -> Result<(), TarError> {
        let body = std::mem::take(&mut self.body);
        let (start, mut done) = (self.at, 0);
        let mut buffer = self.take_buffer();
        for segment in body.segments {
            if let Some(put) = &mut put {
                zeros(segment.offset - done, put)?;
            }
            let mut left = segment.length;
            while left > 0 {
                // Whole blocks: each piece of a sparse file fills its last one up.
                let n = left.min(BUFFER as u64) as usize;
                self.read(&mut buffer[..n.next_multiple_of(BLOCK)])?;
                if let Some(put) = &mut put {
                    put(&buffer[..n]).map_err(TarError::Sink)?;
                }
                left -= n as u64;
            }
            done = segment.offset + segment.length;
        }
        if let Some(put) = &mut put {
            zeros(body.size - done, put)?;
        }
        self.buffer = buffer;
        self.skip(body.stored.saturating_sub(self.at - start))
    }

    fn member(&mut self, mut front: Front<'_>) -> Result<Option<Member>, TarError> {
        let flag = front.header.type_flag();
        let (own, global) = (&mut front.next.own, &self.global);
        if own.later_volume || global.later_volume || flag == b'M' {
            let what = "a later volume of an archive of several".to_owned();
            let hint = "have `tar -xM` unpack all of them into a directory, and import that";
            return Err(TarError::Foreign { what, hint: hint.to_owned() });
        }
        let path = own.sparse.name.take().or_else(|| own.path.take()).or(global.path.clone());
        let raw = path.or(front.next.path.take()).unwrap_or_else(|| front.header.path());
        let stored = own.size.or(global.size).unwrap_or(front.size);
        if raw.is_empty() {
            self.skip(if has_content(flag) { stored } else { 0 })?;
            return Ok(None);
        }
        let path = clean(&raw)?;
        if raw.starts_with(b"/") {
            self.remarks.add(Remark::Absolute, &raw);
        }
        let meta = self.meta(&mut front, &path)?;
        let kind = self.kind(front, stored, &path, raw.ends_with(b"/"))?;
        Ok(Some(Member { path, kind, meta }))
    }

    fn meta(&self, front: &mut Front<'_>, path: &[u8]) -> Result<Meta, TarError> {
        let damaged = |what| TarError::Damaged { at: front.at, what };
        let (header, own, global) = (front.header, &mut front.next.own, &self.global);
        let uid = own.uid.or(global.uid).or_else(|| header.uid());
        let gid = own.gid.or(global.gid).or_else(|| header.gid());
        let id = |id: Option<i64>| {
            let id = id.ok_or(damaged("an owner or group is not a number"))?;
            let valid = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
            valid.ok_or_else(|| TarError::cannot_hold(path, format!("no user or group is {id}")))
        };
        let (uid, gid) = (id(uid)?, id(gid)?);
        let mtime = own.mtime.or(global.mtime).or_else(|| header.mtime());
        let mtime = mtime.ok_or(damaged("a time is not a number"))?;
        let mode = header.mode().ok_or(damaged("a mode is not a number"))?;
        let mut xattrs = std::mem::take(&mut own.xattrs);
        for inherited in &global.xattrs {
            put(&mut xattrs, &inherited.name, inherited.value.clone());
        }
        // ACLs and labels in the form of text stand as the attributes that they would become.
        if own.acl || global.acl {
            put(&mut xattrs, b"system.posix_acl_access", Vec::new());
        }
        if let Some(label) = own.selinux.take().or_else(|| global.selinux.clone()) {
            put(&mut xattrs, b"security.selinux", label);
        }
        Ok(Meta { mode: (mode & 0o7777) as u32, uid, gid, mtime, xattrs })
    }

    fn kind(
        &mut self,
        front: Front<'_>,
        stored: u64,
        path: &[u8],
        has_slash: bool,
    ) -> Result<Kind, TarError> {
        let Front { at, header, next, .. } = front;
        let damaged = |what| TarError::Damaged { at, what };
        let link = next.own.link.or_else(|| self.global.link.clone()).or(next.link);
        let link = link.unwrap_or_else(|| header.link().to_vec());
        match header.type_flag() {
            b'1' => Ok(Kind::HardLink(clean(&link)?)),
            b'2' => Ok(Kind::Symlink(link)),
            b'3' | b'4' => device(header, path).ok_or(damaged("a device has no number"))?,
            b'5' => Ok(Kind::Directory),
            b'6' => Ok(Kind::Fifo),
            // A directory of an incremental archive, with the list of what was in it.
            b'D' => self.skip(stored).map(|()| Kind::Directory),
            // As archives before POSIX write directories.
            b'0' | b'\0' | b'7' if has_slash => self.skip(stored).map(|()| Kind::Directory),
            b'S' => {
                let map = self.gnu_map(at, header)?;
                let size = header.gnu_real_size().and_then(|size| u64::try_from(size).ok());
                let size = size.ok_or(damaged("a size is not a number"))?;
                self.file(at, stored, size, map, 0)
            }
            flag => {
                if !matches!(flag, b'0' | b'\0' | b'7') {
                    self.remarks.add(Remark::UnknownType, path);
                }
                let before = self.at;
                let sparse = next.own.sparse;
                let map = match sparse.major {
                    0 => sparse.map.filter(|map| !map.is_empty()),
                    _ => Some(self.pax_map(at)?),
                };
                let Some(map) = map else {
                    let whole = vec![Segment { offset: 0, length: stored }];
                    return self.file(at, stored, stored, whole, 0);
                };
                self.file(at, stored, sparse.real_size.unwrap_or(stored), map, self.at - before)
            }
        }
    }

    /// Notes where the content of a file lies, of which so much was read as its map.
    fn file(
        &mut self,
        at: u64,
        stored: u64,
        size: u64,
        map: Vec<Segment>,
        map_bytes: u64,
    ) -> Result<Kind, TarError> {
        let damaged = |what| TarError::Damaged { at, what };
        sparse::check(&map, size).map_err(damaged)?;
        self.logical = self.logical.saturating_add(size);
        if self.logical > self.limits.max_bytes {
            return Err(self.too_large());
        }
        let stored = stored.checked_next_multiple_of(BLOCK as u64).ok_or(damaged("a size"))?;
        let stored = stored.saturating_sub(map_bytes);
        self.body = Body { segments: map.into_iter(), size, stored };
        Ok(Kind::File(size))
    }

    fn gnu_map(&mut self, at: u64, header: Header<'_>) -> Result<Vec<Segment>, TarError> {
        let damaged = |what| TarError::Damaged { at, what };
        if header.is_posix() {
            return Err(damaged("a sparse file is in the format of star, which is not known here"));
        }
        let mut map = Vec::new();
        let (fields, mut more) = header.gnu_sparse();
        sparse::gnu_segments(fields, &mut map).map_err(damaged)?;
        while more {
            let mut block = [0; BLOCK];
            self.read(&mut block)?;
            sparse::gnu_segments(&block[..504], &mut map).map_err(damaged)?;
            more = block[504] != 0;
        }
        Ok(map)
    }

    fn pax_map(&mut self, at: u64) -> Result<Vec<Segment>, TarError> {
        let mut reader = MapReader::default();
        loop {
            let mut block = [0; BLOCK];
            self.read(&mut block)?;
            let read = reader.block(&block).map_err(|what| TarError::Damaged { at, what })?;
            if let Some(map) = read {
                return Ok(map);
            }
        }
    }

    /// The next header, or none at the end: two blocks of zeros.
    fn header_block(&mut self) -> Result<Option<Block>, TarError> {
        let at = self.at;
        let mut block = [0; BLOCK];
        if at == 0 {
            self.first_block(&mut block)?;
        } else {
            self.read(&mut block)?;
        }
        if block == [0; BLOCK] {
            self.ended = true;
            return self.end().map(|()| None);
        }
        self.headers += 1;
        if self.headers > MAX_TAR_ENTRIES {
            return Err(TarError::TooLarge { what: format!("{MAX_TAR_ENTRIES} entries") });
        }
        match Header(&block).has_valid_checksum() {
            true => Ok(Some(block)),
            false if at > 0 => Err(TarError::NotTar { at }),
            false => Err(self.unrecognised(block.to_vec())),
        }
    }

    /// The first block, of what may be shorter than that and no archive at all.
    fn first_block(&mut self, block: &mut Block) -> Result<(), TarError> {
        let mut start = Vec::new();
        let read = self.reader.by_ref().take(BLOCK as u64).read_to_end(&mut start);
        read.map_err(TarError::Read)?;
        self.at += start.len() as u64;
        match <&Block>::try_from(&start[..]) {
            Ok(whole) => *block = *whole,
            Err(_) if start.is_empty() => return Err(TarError::Empty),
            Err(_) => return Err(self.unrecognised(start)),
        }
        Ok(())
    }

    /// Names what begins with these bytes and is not an archive, as well as that can be.
    fn unrecognised(&mut self, mut start: Vec<u8>) -> TarError {
        let more = crate::recognise::WANTED_BYTES - BLOCK as u64;
        // If it cannot be read any further, what is there has to do.
        let _ = self.reader.by_ref().take(more).read_to_end(&mut start);
        match crate::recognise::magic(&start) {
            Some((what, hint)) => {
                TarError::Foreign { what: what.to_owned(), hint: hint.to_owned() }
            }
            None => TarError::NotTar { at: 0 },
        }
    }

    /// Reads on after a first block of zeros: a second one, unless the archive ends there, and then
    /// whatever follows, so that a decompressor checks its sums and an upload its length.
    fn end(&mut self) -> Result<(), TarError> {
        let mut block = Vec::new();
        let second = self.reader.by_ref().take(BLOCK as u64).read_to_end(&mut block);
        second.map_err(TarError::Read)?;
        if block.iter().any(|&byte| byte != 0) {
            let what = "a lone block of zeros, and more behind it";
            return Err(TarError::Damaged { at: self.at - BLOCK as u64, what });
        }
        let mut buffer = vec![0; BUFFER];
        let mut more = false;
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => more |= buffer[..n].iter().any(|&byte| byte != 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        if more {
            self.remarks.add(Remark::BehindEnd, b"");
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        if self.at.saturating_add(buffer.len() as u64) > self.limits.max_bytes {
            return Err(self.too_large());
        }
        self.reader.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::CutOff { at: self.at },
            _ => TarError::Read(error),
        })?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn too_large(&self) -> TarError {
        TarError::TooLarge { what: format!("{} bytes (unpacked)", self.limits.max_bytes) }
    }

    /// Passes over so many bytes, and what fills the last block up.
    fn skip(&mut self, bytes: u64) -> Result<(), TarError> {
        let left = bytes.checked_next_multiple_of(BLOCK as u64);
        let mut left =
            left.ok_or(TarError::Damaged { at: self.at, what: "a size is too large" })?;
        let mut buffer = self.take_buffer();
        while left > 0 {
            let n = left.min(BUFFER as u64);
            self.read(&mut buffer[..n as usize])?;
            left -= n;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        buffer
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

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        // With a zero at its end, of which some programs write two.
        if size > MAX_PATH as u64 + 2 {
            return Err(TarError::TooLarge { what: format!("{MAX_PATH} bytes in a name") });
        }
        Ok(until_zero(&self.extension(size)?).to_vec())
    }
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    own: Overrides,
}

/// An entry before it is understood.
struct Front<'b> {
    at: u64,
    header: Header<'b>,
    /// As the header itself says.
    size: u64,
    next: Extensions,
}

/// Links, directories, devices and pipes have no content, whatever their size says.
fn has_content(flag: u8) -> bool {
    !(b'1'..=b'6').contains(&flag)
}

fn device(header: Header<'_>, path: &[u8]) -> Option<Result<Kind, TarError>> {
    let (major, minor) = header.device()?;
    // As many bits as the kernel has for them in a file system.
    let bits = |number: i64, bits: u32| u32::try_from(number).ok().filter(|n| n >> bits == 0);
    Some(match (bits(major, 12), bits(minor, 20)) {
        (Some(major), Some(minor)) if header.type_flag() == b'3' => {
            Ok(Kind::CharDevice(major, minor))
        }
        (Some(major), Some(minor)) => Ok(Kind::BlockDevice(major, minor)),
        _ => Err(TarError::cannot_hold(path, format!("no device is {major}:{minor}"))),
    })
}

/// Adds an attribute that is not there yet.
fn put(xattrs: &mut Vec<Xattr>, name: &[u8], value: Vec<u8>) {
    if xattrs.iter().all(|xattr| xattr.name != name) {
        xattrs.push(Xattr { name: name.to_vec(), value });
    }
}

fn zeros(mut left: u64, put: Put<'_>) -> Result<(), TarError> {
    static ZEROS: [u8; BUFFER] = [0; BUFFER];
    while left > 0 {
        let n = left.min(BUFFER as u64);
        put(&ZEROS[..n as usize]).map_err(TarError::Sink)?;
        left -= n;
    }
    Ok(())
}

/// The names of a path without empty ones and dots; the root is empty. Like GNU tar, it drops a first
/// `/` and refuses `..`.
fn clean(raw: &[u8]) -> Result<Vec<u8>, TarError> {
    let mut path = Vec::with_capacity(raw.len());
    for name in raw.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(TarError::Escapes { path: show(raw) }),
            _ if name.len() > MAX_NAME => {
                let why = format!("a name is longer than {MAX_NAME} bytes");
                return Err(TarError::cannot_hold(raw, why));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    if path.len() > MAX_PATH {
        return Err(TarError::cannot_hold(raw, format!("it is longer than {MAX_PATH} bytes")));
    }
    Ok(path)
}
