//! Walking an archive that somebody else may have written.

use crate::format::{
    EntryKind, HEADER_BYTES, Header, MAGIC, MAGIC_CRC, MAX_NAME_BYTES, TRAILER, padding,
};

/// How many entries are read from one archive before it is refused.
pub const MAX_ENTRIES: usize = 1 << 20;

/// What is wrong with an archive, and at which byte of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("archive is damaged at byte {offset}: {what}")]
pub struct ReadError {
    /// Where the entry begins that cannot be read.
    pub offset: usize,
    /// What was found there.
    pub what: &'static str,
}

/// One entry, borrowed from the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The path as it is written: not checked for `..` or a leading slash, and in any encoding.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits.
    pub permissions: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: u32,
    /// Its inode number.
    pub inode: u32,
    /// Major and minor number, if it is a device.
    pub device: (u32, u32),
    /// Content of a file, target of a symlink.
    pub data: &'a [u8],
}

/// Reads the first archive in `bytes`, up to its trailer.
///
/// Ends after the first error. An archive without a trailer is an error; what follows the trailer
/// is left to [`Entries::rest`].
#[must_use]
pub fn read(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, offset: 0, count: 0, done: false }
}

/// The entries of an archive; see [`read`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
    count: usize,
    done: bool,
}

impl<'a> Entries<'a> {
    /// What was not read yet: after the last entry, everything behind the trailer.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    fn next_entry(&mut self) -> Result<Option<Entry<'a>>, &'static str> {
        let rest = self.rest();
        let header = parse_header(rest)?;
        let name_bytes = header.name_bytes as usize;
        let file_bytes = header.file_bytes as usize;
        if !(1..=MAX_NAME_BYTES + 1).contains(&name_bytes) {
            return Err("the length of the name is out of range");
        }
        let name =
            rest.get(HEADER_BYTES..HEADER_BYTES + name_bytes).ok_or("the name is cut off")?;
        let (&zero, name) = name.split_last().ok_or("the name is empty")?;
        if zero != 0 || name.contains(&0) {
            return Err("the name does not end where it says");
        }
        let data_at = HEADER_BYTES + name_bytes + padding(HEADER_BYTES + name_bytes);
        let data_end = data_at.checked_add(file_bytes).ok_or("the size is out of range")?;
        if name == TRAILER {
            self.offset += data_at.min(rest.len());
            return Ok(None);
        }
        if self.count == MAX_ENTRIES {
            return Err("it has too many entries");
        }
        let data = rest.get(data_at..data_end).ok_or("the content is cut off")?;
        let kind = EntryKind::from_mode(header.mode).ok_or("the mode names no kind of file")?;
        self.count += 1;
        self.offset += (data_end + padding(data_end)).min(rest.len());
        Ok(Some(Entry {
            path: name,
            kind,
            permissions: header.mode & 0o7777,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            inode: header.inode,
            device: (header.rdev_major, header.rdev_minor),
            data,
        }))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_entry();
        self.done = !matches!(next, Ok(Some(_)));
        next.map_err(|what| ReadError { offset: self.offset, what }).transpose()
    }
}

fn parse_header(bytes: &[u8]) -> Result<Header, &'static str> {
    let header = bytes.get(..HEADER_BYTES).ok_or("there is no room for a header")?;
    let (magic, digits) = header.split_at(MAGIC.len());
    if magic != MAGIC && magic != MAGIC_CRC {
        return Err("this is not a newc header");
    }
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        *field = parse_hex(digits).ok_or("a field of the header is not hexadecimal")?;
    }
    Ok(Header::from_fields(fields))
}

/// Eight hexadecimal digits, nothing else: `u32::from_str_radix` would take a sign.
fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | digit)
    })
}
