//! A tree of entries, and the archive made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use crate::format::{EntryKind, HEADER_BYTES, Header, MAGIC, MAX_NAME_BYTES, TRAILER, padding};

/// Permission bits of directories that nobody asked for by name.
const PARENT_MODE: u32 = 0o755;

/// Why an entry cannot be part of an archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// The path is not a clean relative path.
    #[error(
        "`{path}` cannot be the path of an archive entry: it has to be made of names separated by single slashes, without `.` and `..`"
    )]
    Path {
        /// The path as given.
        path: String,
    },
    /// The path is longer than the kernel unpacks.
    #[error("a path of {bytes} bytes is too long for an archive: at most {MAX_NAME_BYTES}")]
    PathTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Two entries want the same path, or one lies below something that is no directory.
    #[error("`{path}` is in the archive twice, or lies below something that is not a directory")]
    Conflict {
        /// The path of the second entry.
        path: String,
    },
    /// The size field has 32 bits.
    #[error("`{path}` has {bytes} bytes; a file in a newc archive is smaller than 4 GiB")]
    TooLarge {
        /// The path of the entry.
        path: String,
        /// The size of its data.
        bytes: usize,
    },
}

#[derive(Debug, Clone)]
struct Node<'a> {
    kind: EntryKind,
    permissions: u32,
    data: Cow<'a, [u8]>,
    device: (u32, u32),
}

/// A tree that becomes an archive. Entries may be added in any order; paths are relative to the root,
/// a leading slash is allowed and dropped.
#[derive(Debug, Clone, Default)]
pub struct Tree<'a> {
    nodes: BTreeMap<String, Node<'a>>,
}

impl<'a> Tree<'a> {
    /// A tree without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, or sets the mode of one that is there.
    pub fn directory(&mut self, path: &str, permissions: u32) -> Result<(), WriteError> {
        let path = clean(path)?;
        if let Some(there) = self.nodes.get_mut(path) {
            if there.kind != EntryKind::Directory {
                return Err(WriteError::Conflict { path: path.to_owned() });
            }
            there.permissions = permissions & 0o7777;
            return Ok(());
        }
        self.insert(path, EntryKind::Directory, permissions, Cow::Borrowed(&[]), (0, 0))
    }

    /// Adds a regular file.
    pub fn file(
        &mut self,
        path: &str,
        permissions: u32,
        data: impl Into<Cow<'a, [u8]>>,
    ) -> Result<(), WriteError> {
        self.insert(clean(path)?, EntryKind::File, permissions, data.into(), (0, 0))
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), WriteError> {
        let target = Cow::Owned(target.as_bytes().to_vec());
        self.insert(clean(path)?, EntryKind::Symlink, 0o777, target, (0, 0))
    }

    /// Adds a character device.
    pub fn char_device(
        &mut self,
        path: &str,
        permissions: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), WriteError> {
        let kind = EntryKind::CharDevice;
        self.insert(clean(path)?, kind, permissions, Cow::Borrowed(&[]), (major, minor))
    }

    /// Adds a block device.
    pub fn block_device(
        &mut self,
        path: &str,
        permissions: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), WriteError> {
        let kind = EntryKind::BlockDevice;
        self.insert(clean(path)?, kind, permissions, Cow::Borrowed(&[]), (major, minor))
    }

    fn insert(
        &mut self,
        path: &str,
        kind: EntryKind,
        permissions: u32,
        data: Cow<'a, [u8]>,
        device: (u32, u32),
    ) -> Result<(), WriteError> {
        if u32::try_from(data.len()).is_err() {
            return Err(WriteError::TooLarge { path: path.to_owned(), bytes: data.len() });
        }
        if self.nodes.contains_key(path) {
            return Err(WriteError::Conflict { path: path.to_owned() });
        }
        self.insert_parents(path)?;
        let node = Node { kind, permissions: permissions & 0o7777, data, device };
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn insert_parents(&mut self, path: &str) -> Result<(), WriteError> {
        for (end, _) in path.match_indices('/') {
            let parent = self.nodes.entry(path[..end].to_owned()).or_insert_with(|| Node {
                kind: EntryKind::Directory,
                permissions: PARENT_MODE,
                data: Cow::Borrowed(&[]),
                device: (0, 0),
            });
            if parent.kind != EntryKind::Directory {
                return Err(WriteError::Conflict { path: path.to_owned() });
            }
        }
        Ok(())
    }

    /// Writes the archive, the trailer included, and returns how many bytes that were.
    ///
    /// The length is a multiple of four, so that another archive can follow directly.
    pub fn write_to(&self, out: &mut impl io::Write) -> io::Result<u64> {
        let mut written = 0;
        for (inode, (path, node)) in (1..).zip(&self.nodes) {
            let header = Header {
                inode,
                mode: node.kind.type_bits() | node.permissions,
                links: if node.kind == EntryKind::Directory { 2 } else { 1 },
                rdev_major: node.device.0,
                rdev_minor: node.device.1,
                ..Header::default()
            };
            written += write_entry(out, header, path.as_bytes(), &node.data)?;
        }
        let trailer = Header { links: 1, ..Header::default() };
        written += write_entry(out, trailer, TRAILER, &[])?;
        Ok(written)
    }

    /// The archive in memory.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let data: usize = self.nodes.values().map(|node| node.data.len() + 256).sum();
        let mut out = Vec::with_capacity(data);
        // Writing to memory has no way to fail.
        let _ = self.write_to(&mut out);
        out
    }
}

/// An archive with one file and the directories on its way: what carries a secret to one machine,
/// behind the initramfs that all machines share.
pub fn single_file(path: &str, permissions: u32, data: &[u8]) -> Result<Vec<u8>, WriteError> {
    let mut tree = Tree::new();
    tree.file(path, permissions, data)?;
    Ok(tree.to_bytes())
}

/// Checks a path and takes its leading slash away.
fn clean(path: &str) -> Result<&str, WriteError> {
    let relative = path.strip_prefix('/').unwrap_or(path);
    if relative.len() > MAX_NAME_BYTES {
        return Err(WriteError::PathTooLong { bytes: relative.len() });
    }
    let good = relative.as_bytes() != TRAILER
        && !relative.contains('\0')
        && relative.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if good { Ok(relative) } else { Err(WriteError::Path { path: path.to_owned() }) }
}

fn write_entry(
    out: &mut impl io::Write,
    header: Header,
    name: &[u8],
    data: &[u8],
) -> io::Result<u64> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let header = Header {
        file_bytes: u32::try_from(data.len()).map_err(too_large)?,
        name_bytes: u32::try_from(name.len() + 1).map_err(too_large)?,
        ..header
    };
    out.write_all(MAGIC)?;
    for field in header.to_fields() {
        write!(out, "{field:08x}")?;
    }
    out.write_all(name)?;
    // The name ends with a zero; header and name together are aligned.
    let after_name = 1 + padding(HEADER_BYTES + name.len() + 1);
    out.write_all(&[0; 4][..after_name])?;
    out.write_all(data)?;
    let after_data = padding(data.len());
    out.write_all(&[0; 4][..after_data])?;
    Ok((HEADER_BYTES + name.len() + after_name + data.len() + after_data) as u64)
}
