//! A directory as an archive: the one way in which directories become images.
//!
//! The archive is complete or there is none: a file that changes, vanishes or cannot be read ends it.
//! Nothing is followed out of the directory, neither by a link nor into what is mounted inside of it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::remarks::{Remark, Remarks};
use crate::tar::{self, Entry, Kind, Meta, Segment, Xattr};

/// How much of a file is read at a time.
const BUFFER: usize = 1 << 18;
/// How many bytes the names of a file's attributes take at most, and one value (xattr(7)).
const MAX_XATTR_BYTES: usize = 64 << 10;
/// A file with more pieces than this is written with its holes filled.
const MAX_PIECES: usize = 100_000;

/// Why a directory was not made an archive.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Something in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in it was changed meanwhile.
    #[error(
        "{} changed while it was read: stop what writes there, or import a copy",
        .0.display()
    )]
    Changed(PathBuf),
    /// Who takes the archive does not take any more.
    #[error("cannot pass the archive on")]
    Write(#[source] io::Error),
}

/// Writes everything in `root` as a tar archive to `out`: owners, modes, times, extended attributes,
/// devices, hard links, holes. Returns what was left out, a line for each kind: sockets, and what is
/// mounted inside.
///
/// # Errors
/// When anything cannot be read or changes meanwhile. What was written until then has no end mark, so
/// that nobody takes it for an archive.
pub fn archive_directory(root: &Path, out: &mut dyn Write) -> Result<Vec<String>, DirectoryError> {
    write_directory(root, out).map(|remarks| remarks.lines())
}

pub(crate) fn write_directory(root: &Path, out: &mut dyn Write) -> Result<Remarks, DirectoryError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let read =
        |source: Errno| DirectoryError::Read { path: root.to_owned(), source: source.into() };
    let top = fs::open(root, flags, Mode::empty()).map_err(read)?;
    let remarks = Remarks::default();
    let mut writer =
        Writer { root, top, out, links: HashMap::new(), remarks, buffer: vec![0; BUFFER] };
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let mut below = writer.directory(&path)?;
        below.reverse();
        open.append(&mut below);
    }
    tar::write_end(writer.out).map_err(DirectoryError::Write)?;
    Ok(writer.remarks)
}

struct Writer<'w> {
    root: &'w Path,
    top: OwnedFd,
    out: &'w mut dyn Write,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    remarks: Remarks,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    /// Writes a directory and what is in it but other directories, whose paths it returns.
    fn directory(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let read = |source| self.unreadable(path, source);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = self.open(path, flags).map_err(read)?;
        let before = fs::fstat(&fd).map_err(read)?;
        let meta = meta(&before, xattrs(&fd).map_err(read)?);
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&fd).map_err(read)? {
            let name = entry.map_err(read)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        self.entry(path, &Kind::Directory, &meta, None)?;
        let mut below = Vec::new();
        for name in names {
            let path = if path.is_empty() { name } else { [path, &name[..]].join(&b'/') };
            if self.file(&path)? {
                below.push(path);
            }
        }
        let after = fs::fstat(&fd).map_err(|source| self.unreadable(path, source))?;
        if is_changed(&before, &after) {
            return Err(DirectoryError::Changed(self.shown(path)));
        }
        Ok(below)
    }

    /// Writes what is not a directory; true when it is one.
    fn file(&mut self, path: &[u8]) -> Result<bool, DirectoryError> {
        let read = |source| self.unreadable(path, source);
        let fd = match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::XDEV) => return self.mounted(path).map(|()| false),
            other => other.map_err(read)?,
        };
        let stat = fs::fstat(&fd).map_err(read)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let device = || (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        let kind = match file_type {
            FileType::Directory => return Ok(true),
            FileType::Socket => {
                self.remarks.add(Remark::Socket, path);
                return Ok(false);
            }
            FileType::Symlink => {
                let target = fs::readlinkat(&fd, "", Vec::new()).map_err(read)?;
                Kind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => Kind::CharDevice(device().0, device().1),
            FileType::BlockDevice => Kind::BlockDevice(device().0, device().1),
            FileType::Fifo => Kind::Fifo,
            _ => Kind::File(u64::try_from(stat.st_size).unwrap_or_default()),
        };
        let meta = meta(&stat, xattrs(&fd).map_err(read)?);
        if stat.st_nlink > 1 {
            let known = self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
            if let Some(first) = known {
                let kind = Kind::HardLink(first.clone());
                self.links.insert((stat.st_dev, stat.st_ino), first);
                return self.entry(path, &kind, &meta, None).map(|()| false);
            }
        }
        match kind {
            Kind::File(size) => self.content(path, &stat, size, &meta)?,
            kind => self.entry(path, &kind, &meta, None)?,
        }
        Ok(false)
    }

    /// Writes the empty directory that something is mounted on; a file that is mounted is left out.
    fn mounted(&mut self, path: &[u8]) -> Result<(), DirectoryError> {
        self.remarks.add(Remark::Mounted, path);
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = fs::statat(&self.top, OsStr::from_bytes(path), flags);
        let stat = stat.map_err(|source| self.unreadable(path, source))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.entry(path, &Kind::Directory, &meta(&stat, vec![]), None),
            _ => Ok(()),
        }
    }

    fn content(
        &mut self,
        path: &[u8],
        stat: &Stat,
        size: u64,
        meta: &Meta,
    ) -> Result<(), DirectoryError> {
        let changed = || DirectoryError::Changed(self.shown(path));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = self.open(path, flags).map_err(|source| self.unreadable(path, source))?;
        let before = fs::fstat(&file).map_err(|source| self.unreadable(path, source))?;
        if (before.st_dev, before.st_ino) != (stat.st_dev, stat.st_ino) || is_changed(stat, &before)
        {
            return Err(changed());
        }
        let file = File::from(file);
        let has_holes = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX) < size / 512;
        let map = if has_holes { segments(&file, size) } else { None };
        self.entry(path, &Kind::File(size), meta, map.as_deref())?;
        let whole = [Segment { offset: 0, length: size }];
        for segment in map.as_deref().unwrap_or(&whole) {
            self.segment(path, &file, *segment)?;
            tar::write_padding(self.out, segment.length).map_err(DirectoryError::Write)?;
        }
        let after = fs::fstat(&file).map_err(|source| self.unreadable(path, source))?;
        if is_changed(stat, &after) {
            Err(DirectoryError::Changed(self.shown(path)))
        } else {
            Ok(())
        }
    }

    fn segment(
        &mut self,
        path: &[u8],
        file: &File,
        segment: Segment,
    ) -> Result<(), DirectoryError> {
        let Segment { mut offset, length: mut left } = segment;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let n = left.min(buffer.len() as u64) as usize;
            match file.read_at(&mut buffer[..n], offset) {
                Ok(0) => return Err(DirectoryError::Changed(self.shown(path))),
                Ok(n) => {
                    self.out.write_all(&buffer[..n]).map_err(DirectoryError::Write)?;
                    offset += n as u64;
                    left -= n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DirectoryError::Read { path: self.shown(path), source }),
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[u8],
        kind: &Kind,
        meta: &Meta,
        sparse: Option<&[Segment]>,
    ) -> Result<(), DirectoryError> {
        let entry = Entry { path, kind, meta, sparse };
        tar::write_entry(self.out, entry).map_err(DirectoryError::Write)
    }

    /// Opens what is at a path, without following any link or entering another mount.
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
        fs::openat2(&self.top, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn unreadable(&self, path: &[u8], source: Errno) -> DirectoryError {
        match source {
            // It was there a moment ago.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => DirectoryError::Changed(self.shown(path)),
            _ => DirectoryError::Read { path: self.shown(path), source: source.into() },
        }
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsString::from_vec(path.to_vec()))
    }
}

fn meta(stat: &Stat, xattrs: Vec<Xattr>) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs,
    }
}

/// The kernel moves the time of change at every write, and at every change of mode, owner or name.
fn is_changed(before: &Stat, after: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_ctime, stat.st_ctime_nsec, stat.st_size);
    of(before) != of(after)
}

/// The extended attributes of what was opened, also of a link or device that only stands for itself.
fn xattrs(fd: &OwnedFd) -> rustix::io::Result<Vec<Xattr>> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut buffer = vec![0; MAX_XATTR_BYTES];
    let length = match fs::listxattr(&path, &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = buffer[..length].to_vec();
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let length = match fs::getxattr(&path, OsStr::from_bytes(name), &mut buffer[..]) {
            Ok(length) => length,
            // Listed, but not to be had: by another file system's rules, or because it is gone.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(error) => return Err(error),
        };
        found.push(Xattr { name: escaped(name), value: buffer[..length].to_vec() });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The name of an attribute as GNU tar writes it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'=' => made.extend_from_slice(b"%3D"),
            b'%' => made.extend_from_slice(b"%25"),
            byte => made.push(byte),
        }
    }
    made
}

/// Where the data of a file with holes lies, in whole blocks; none where that cannot be told.
fn segments(file: &File, size: u64) -> Option<Vec<Segment>> {
    let block = tar::BLOCK as u64;
    let mut found: Vec<Segment> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match fs::seek(file, fs::SeekFrom::Data(at)) {
            Ok(start) => start / block * block,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        at = fs::seek(file, fs::SeekFrom::Hole(start)).ok()?.next_multiple_of(block).min(size);
        match found.last_mut() {
            Some(last) if last.offset + last.length >= start => last.length = at - last.offset,
            _ => found.push(Segment { offset: start, length: at.checked_sub(start)? }),
        }
        if found.len() > MAX_PIECES {
            return None;
        }
    }
    if found.last().is_none_or(|last| last.offset + last.length < size) {
        found.push(Segment { offset: size, length: 0 });
    }
    Some(found)
}
