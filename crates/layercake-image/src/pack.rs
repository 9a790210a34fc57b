//! From an archive to a squashfs, in two passes: the first learns what the archive comes to, the second
//! hands just that to `mksquashfs`.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::import::{ImportError, Progress, Stage, percent};
use crate::mksquashfs::TarPacker;
use crate::recognise::refuse_foreign;
use crate::remarks::{Remark, Remarks};
use crate::source::Input;
use crate::tar::{self, Archive, Entry, Kind, Limits, Member, Meta, TarError};
use crate::tree::{Name, Tree};

/// How much is read between two reports of progress, in bytes.
const REPORT_BYTES: u64 = 1 << 20;
/// The namespaces of attributes that squashfs has (fs/squashfs/xattr.c).
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// The longest name and value of an attribute (xattr(7)).
const MAX_XATTR_NAME: usize = 255;
const MAX_XATTR_VALUE: usize = 64 << 10;

/// What an archive comes to.
pub(crate) struct Layout {
    pub(crate) tree: Tree,
    pub(crate) remarks: Remarks,
    /// How long the archive is, as it came.
    length: u64,
}

struct Reports<'p> {
    progress: &'p mut dyn FnMut(Progress),
    stage: Stage,
    taken: Arc<AtomicU64>,
    total: Option<u64>,
    last: u64,
}

impl Reports<'_> {
    fn report(&mut self) {
        let bytes_read = self.taken.load(Ordering::Relaxed);
        if bytes_read >= self.last + REPORT_BYTES {
            self.end();
        }
    }

    fn end(&mut self) {
        let bytes_read = self.taken.load(Ordering::Relaxed);
        self.last = bytes_read;
        let percent = percent(bytes_read, self.total);
        (self.progress)(Progress { stage: self.stage, percent, bytes_read });
    }
}

/// Reads an archive to its end; refuses what is no root.
pub(crate) fn read_archive(
    input: &mut Input,
    limits: Limits,
    command: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Layout, ImportError> {
    let (taken, total) = (input.taken(), input.total);
    let mut reports = Reports { progress, stage: Stage::Read, taken, total, last: 0 };
    let first = input.first().map_err(ImportError::input)?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 17, first), limits);
    let tree = read_tree(&mut archive, &mut || reports.report())?;
    reports.end();
    let length = reports.taken.load(Ordering::Relaxed);
    refuse_foreign(&tree, command)?;
    let mut remarks = archive.into_remarks();
    remarks.append(tree.remarks.clone());
    Ok(Layout { tree, remarks, length })
}

fn read_tree<R: Read>(
    archive: &mut Archive<R>,
    report: &mut dyn FnMut(),
) -> Result<Tree, TarError> {
    let mut tree = Tree::new();
    let mut entries = 0;
    while let Some(member) = archive.next()? {
        tree.apply(&member, entries)?;
        entries += 1;
        report();
    }
    if entries == 0 { Err(TarError::Empty) } else { Ok(tree) }
}

/// Reads the archive once more, and makes the image.
pub(crate) fn pack_archive(
    input: &Input,
    layout: &mut Layout,
    limits: Limits,
    image: &Path,
    keep_times: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    let total = Some(layout.length);
    let mut reports =
        Reports { progress, stage: Stage::Pack, taken: input.taken(), total, last: 0 };
    let second = input.second().map_err(ImportError::input)?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 17, second), limits);
    let root = storable(layout.tree.root(), b".", keep_times, &mut Remarks::default());
    if !root.xattrs.is_empty() {
        layout.remarks.add(Remark::RootAttribute, &root.xattrs[0].name);
    }
    let mut packer = TarPacker::start(image, keep_times, &root, &input.cancel)?;
    let written = write_tree(
        &layout.tree,
        &mut archive,
        &mut packer,
        keep_times,
        &mut layout.remarks,
        &mut || reports.report(),
    );
    match written {
        Ok(true) => packer.finish()?,
        Ok(false) => return Err(ImportError::input(input.changed())),
        // It closed its input: what it said itself is the reason.
        Err(error @ TarError::Sink(_)) => {
            packer.finish()?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    }
    reports.end();
    input.check_unchanged().map_err(ImportError::input)
}

/// Writes a tree as an archive that has each name once: directories first, then all else in the order
/// of the archive, from which its content comes. False when that is another archive than before.
fn write_tree<R: Read>(
    tree: &Tree,
    archive: &mut Archive<R>,
    out: &mut dyn Write,
    keep_times: bool,
    remarks: &mut Remarks,
    report: &mut dyn FnMut(),
) -> Result<bool, TarError> {
    for (path, meta) in tree.directories() {
        let meta = storable(meta.clone(), &path, keep_times, remarks);
        let entry = Entry { path: &path, kind: &Kind::Directory, meta: &meta, sparse: None };
        tar::write_entry(out, entry).map_err(TarError::Sink)?;
    }
    let entries = tree.entries();
    let mut left = &entries[..];
    let mut number = 0;
    while let Some(member) = archive.next()? {
        let count = left.iter().take_while(|name| name.entry == number).count();
        let (names, rest) = left.split_at(count);
        left = rest;
        number += 1;
        if let [first, others @ ..] = names {
            if matches!(member.kind, Kind::Directory | Kind::HardLink(_)) {
                return Ok(false);
            }
            let path = tree.path_of(*first);
            let meta = storable(member.meta.clone(), &path, keep_times, remarks);
            write_file(archive, &member, &path, &meta, out)?;
            write_links(tree, others, path, &meta, out).map_err(TarError::Sink)?;
        }
        report();
    }
    tar::write_end(out).and_then(|()| out.flush()).map_err(TarError::Sink)?;
    Ok(left.is_empty())
}

fn write_file<R: Read>(
    archive: &mut Archive<R>,
    member: &Member,
    path: &[u8],
    meta: &Meta,
    out: &mut dyn Write,
) -> Result<(), TarError> {
    let entry = Entry { path, kind: &member.kind, meta, sparse: None };
    tar::write_entry(out, entry).map_err(TarError::Sink)?;
    let Kind::File(size) = member.kind else { return Ok(()) };
    archive.content(&mut |bytes| out.write_all(bytes))?;
    tar::write_padding(out, size).map_err(TarError::Sink)
}

fn write_links(
    tree: &Tree,
    names: &[Name<'_>],
    first: Vec<u8>,
    meta: &Meta,
    out: &mut dyn Write,
) -> io::Result<()> {
    let kind = Kind::HardLink(first);
    let meta = Meta { xattrs: Vec::new(), ..meta.clone() };
    for name in names {
        let path = tree.path_of(*name);
        tar::write_entry(out, Entry { path: &path, kind: &kind, meta: &meta, sparse: None })?;
    }
    Ok(())
}

/// What squashfs can hold of it. Times are zero unless they are to be kept.
fn storable(meta: Meta, path: &[u8], keep_times: bool, remarks: &mut Remarks) -> Meta {
    let mut meta = meta;
    meta.xattrs.retain(|xattr| {
        let name = &xattr.name[..];
        if name.starts_with(b"system.posix_acl_") {
            remarks.add(Remark::Acl, path);
            return false;
        }
        let known = NAMESPACES
            .iter()
            .any(|namespace| name.starts_with(namespace) && name.len() > namespace.len());
        // `mksquashfs` takes a name up to its first `=`.
        let fits = name.len() <= MAX_XATTR_NAME && xattr.value.len() <= MAX_XATTR_VALUE;
        let good = known && fits && !name.contains(&b'=');
        if !good {
            remarks.add(Remark::Attribute, &[name, b" of ", path].concat());
        }
        good
    });
    let held = if keep_times { meta.mtime.clamp(0, u32::MAX.into()) } else { 0 };
    if keep_times && held != meta.mtime {
        remarks.add(Remark::Time, path);
    }
    meta.mtime = held;
    meta
}

/// Entry for fuzzing: any bytes are refused, or come to a tree that, written as an archive, is one of
/// which nothing is left out, and comes to the same tree.
pub fn fuzz_tar(data: &[u8]) {
    let limits = Limits { max_bytes: 1 << 20 };
    let normalise = |data: &[u8]| -> Result<(Vec<u8>, (u64, u64)), TarError> {
        let tree = read_tree(&mut Archive::new(data, limits), &mut || {})?;
        let mut written = Vec::new();
        let (remarks, archive) = (&mut Remarks::default(), &mut Archive::new(data, limits));
        let same = write_tree(&tree, archive, &mut written, true, remarks, &mut || {})?;
        assert!(same, "the second pass read another archive than the first");
        Ok((written, tree.counts()))
    };
    let Ok((once, counts)) = normalise(data) else { return };
    // The limit counts what is between the files as well, and names are longer by their directories.
    let limits = Limits { max_bytes: u64::MAX };
    match read_tree(&mut Archive::new(&once[..], limits), &mut || {}) {
        Ok(tree) => {
            assert!(tree.remarks.lines().is_empty(), "a name is there twice");
            assert_eq!(tree.counts(), counts, "the archive was changed on its way");
        }
        Err(TarError::Empty) => assert_eq!(counts, (0, 1)),
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An archive in which names meet.
    fn archive(entries: Vec<(u8, u8, u8, u16)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: -1, xattrs: Vec::new() };
        let name = |n: u8| [&b"a"[..], b"b", b"a/b", b"b/a", b"c/a", b"c"][n as usize % 6];
        for (path, kind, target, size) in entries {
            let target = name(target).to_vec();
            let kind = match kind % 6 {
                0 => Kind::Directory,
                1 => Kind::HardLink(target),
                2 => Kind::Symlink(target),
                3 => Kind::Fifo,
                _ => Kind::File(size.into()),
            };
            let entry = Entry { path: name(path), kind: &kind, meta: &meta, sparse: None };
            tar::write_entry(&mut bytes, entry).unwrap();
            if let Kind::File(size) = kind {
                bytes.resize(bytes.len() + size as usize, 7);
                tar::write_padding(&mut bytes, size).unwrap();
            }
        }
        tar::write_end(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn an_archive_is_refused_or_comes_to_the_same_tree_again(
            entries in proptest::collection::vec(any::<(u8, u8, u8, u16)>(), 0..12),
            changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = archive(entries);
            fuzz_tar(&bytes);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            fuzz_tar(&bytes);
        }
    }
}
