//! Writes archives in the GNU format: long names, large numbers and attributes all have their place.

use std::io::{self, Write};
use std::ops::Range;

use super::header::Block;
use super::{BLOCK, Kind, Meta, Segment};

/// The longest name that fits into a header.
const NAME_FIELD: usize = 100;

/// An entry to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'e> {
    /// Names with `/` between them; the root is empty.
    pub(crate) path: &'e [u8],
    /// What it is. The target of a hard link is a path like `path`.
    pub(crate) kind: &'e Kind,
    /// The rest. The names of attributes are written as they are.
    pub(crate) meta: &'e Meta,
    /// Where the data of a file with holes lies; only that follows.
    pub(crate) sparse: Option<&'e [Segment]>,
}

/// Writes what comes before an entry's content.
pub(crate) fn write_entry(out: &mut dyn Write, entry: Entry<'_>) -> io::Result<()> {
    let path = if entry.path.is_empty() { b"./" } else { entry.path };
    let mut stored = 0;
    let mut map = Vec::new();
    let mut records = Vec::new();
    if let Kind::File(size) = *entry.kind {
        stored = size;
        if let Some(segments) = entry.sparse {
            map = sparse_map(segments);
            stored = map.len() as u64 + segments.iter().map(|s| s.length).sum::<u64>();
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", path);
            record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
        }
    }
    for xattr in &entry.meta.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
    }
    if !records.is_empty() {
        write_extension(out, b'x', b"pax", &records)?;
    }
    let link = match entry.kind {
        Kind::Symlink(target) | Kind::HardLink(target) => &target[..],
        _ => &[],
    };
    for (flag, name) in [(b'K', link), (b'L', path)] {
        if name.len() > NAME_FIELD {
            write_extension(out, flag, b"././@LongLink", &[name, b"\0"].concat())?;
        }
    }
    out.write_all(&header(entry, path, link, stored))?;
    out.write_all(&map)
}

fn header(entry: Entry<'_>, path: &[u8], link: &[u8], stored: u64) -> Block {
    let (flag, device) = match *entry.kind {
        Kind::File(_) => (b'0', None),
        Kind::HardLink(_) => (b'1', None),
        Kind::Symlink(_) => (b'2', None),
        Kind::CharDevice(major, minor) => (b'3', Some((major, minor))),
        Kind::BlockDevice(major, minor) => (b'4', Some((major, minor))),
        Kind::Directory => (b'5', None),
        Kind::Fifo => (b'6', None),
    };
    let mut block = [0; BLOCK];
    text(&mut block, 0..NAME_FIELD, path);
    number(&mut block, 100..108, entry.meta.mode.into());
    number(&mut block, 108..116, entry.meta.uid.into());
    number(&mut block, 116..124, entry.meta.gid.into());
    number(&mut block, 124..136, i64::try_from(stored).unwrap_or(i64::MAX));
    number(&mut block, 136..148, entry.meta.mtime);
    block[156] = flag;
    text(&mut block, 157..257, link);
    if let Some((major, minor)) = device {
        number(&mut block, 329..337, major.into());
        number(&mut block, 337..345, minor.into());
    }
    seal(block)
}

fn write_extension(out: &mut dyn Write, flag: u8, name: &[u8], data: &[u8]) -> io::Result<()> {
    let mut block = [0; BLOCK];
    text(&mut block, 0..NAME_FIELD, name);
    for range in [100..108, 108..116, 116..124, 136..148] {
        number(&mut block, range, 0);
    }
    number(&mut block, 124..136, data.len() as i64);
    block[156] = flag;
    out.write_all(&seal(block))?;
    out.write_all(data)?;
    write_padding(out, data.len() as u64)
}

/// Fills the last block of so many bytes up.
pub(crate) fn write_padding(out: &mut dyn Write, bytes: u64) -> io::Result<()> {
    let used = (bytes % BLOCK as u64) as usize;
    let fill = if used == 0 { 0 } else { BLOCK - used };
    out.write_all(&[0; BLOCK][..fill])
}

/// Writes the end of an archive.
pub(crate) fn write_end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Puts the mark of the format in, and the checksum.
fn seal(mut block: Block) -> Block {
    text(&mut block, 257..265, b"ustar  ");
    text(&mut block, 148..156, b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    text(&mut block, 148..156, format!("{sum:06o}\0 ").as_bytes());
    block
}

/// As much of a text as fits.
fn text(block: &mut Block, range: Range<usize>, text: &[u8]) {
    let field = &mut block[range];
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

fn number(block: &mut Block, range: Range<usize>, value: i64) {
    let digits = range.len() - 1;
    let octal = format!("{value:0digits$o}");
    if value >= 0 && octal.len() == digits {
        return text(block, range, octal.as_bytes());
    }
    let field = &mut block[range];
    let (sign, fill) = if value < 0 { (0xff, 0xff) } else { (0x80, 0) };
    field.fill(fill);
    let bytes = value.to_be_bytes();
    let n = bytes.len().min(digits);
    let at = field.len() - n;
    field[at..].copy_from_slice(&bytes[bytes.len() - n..]);
    field[0] = sign;
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn sparse_map(segments: &[Segment]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for segment in segments {
        map.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Archive, Limits, Member, Xattr};
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Vec<(Member, Vec<u8>)> {
        let mut archive = Archive::new(bytes, Limits { max_bytes: 1 << 30 });
        let mut members = Vec::new();
        while let Some(member) = archive.next().unwrap() {
            let mut content = Vec::new();
            let mut put = |bytes: &[u8]| {
                content.extend_from_slice(bytes);
                Ok(())
            };
            archive.content(&mut put).unwrap();
            members.push((member, content));
        }
        members
    }

    fn kind() -> impl Strategy<Value = Kind> {
        let target = || proptest::collection::vec(1_u8.., 1..300);
        let link = proptest::collection::vec("[a-z]{1,200}", 1..3);
        prop_oneof![
            (0_u64..3000).prop_map(Kind::File),
            Just(Kind::Directory),
            Just(Kind::Fifo),
            target().prop_map(Kind::Symlink),
            link.prop_map(|names| Kind::HardLink(names.join("/").into())),
            (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::CharDevice(major, minor)),
        ]
    }

    prop_compose! {
        fn member()(
            path in proptest::collection::vec("[^/\0.]{1,60}", 1..4),
            kind in kind(),
            mode in 0_u32..0o10000,
            uid in 0..u32::MAX,
            gid in 0..u32::MAX,
            mtime: i64,
            value: Option<Vec<u8>>,
        ) -> Member {
            let xattrs = value.into_iter().map(|value| Xattr { name: b"user.x".to_vec(), value });
            let meta = Meta { mode, uid, gid, mtime, xattrs: xattrs.collect() };
            Member { path: path.join("/").into_bytes(), kind, meta }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(members in proptest::collection::vec(member(), 1..6)) {
            let mut bytes = Vec::new();
            let mut written = Vec::new();
            for member in members {
                let entry = Entry {
                    path: &member.path, kind: &member.kind, meta: &member.meta, sparse: None,
                };
                write_entry(&mut bytes, entry).unwrap();
                let size = if let Kind::File(size) = member.kind { size } else { 0 };
                let content: Vec<u8> = (0..size).map(|n| n as u8).collect();
                bytes.extend_from_slice(&content);
                write_padding(&mut bytes, size).unwrap();
                written.push((member, content));
            }
            write_end(&mut bytes).unwrap();
            prop_assert_eq!(read_all(&bytes), written);
        }

        #[test]
        fn holes_come_back_as_zeros(gaps in proptest::collection::vec((1_u64..9, 1_u64..9), 0..40)) {
            let (mut segments, mut at) = (Vec::new(), 0);
            for (hole, data) in gaps {
                segments.push(Segment { offset: at + hole * 512, length: data * 512 });
                at += (hole + data) * 512;
            }
            segments.push(Segment { offset: at + 100, length: 0 });
            let (path, kind) = (&b"file"[..], Kind::File(at + 100));
            let meta = Meta { mode: 0o600, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
            let mut bytes = Vec::new();
            let entry = Entry { path, kind: &kind, meta: &meta, sparse: Some(&segments) };
            write_entry(&mut bytes, entry).unwrap();
            let mut wanted = vec![0; at as usize + 100];
            for segment in &segments {
                bytes.resize(bytes.len() + segment.length as usize, 7);
                let start = segment.offset as usize;
                wanted[start..start + segment.length as usize].fill(7);
            }
            write_end(&mut bytes).unwrap();
            let read = read_all(&bytes);
            prop_assert_eq!(&read[0].0.kind, &kind);
            prop_assert!(read[0].1 == wanted);
        }
    }
}
