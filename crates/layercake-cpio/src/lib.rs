//! A writer and reader of newc cpio archives, reproducible to the byte.
//!
//! The kernel unpacks its initial root filesystem from such archives, several after one another: the
//! initramfs, and after it the *seed*, a tiny archive that the boot service makes for one boot of one
//! node ([`single_file`]).
//!
//! In: a tree of directories, files, symlinks and devices ([`Tree`]). Out: the archive. The same tree
//! gives the same bytes, whoever builds it, when, where and in which order: entries are sorted by path,
//! times are zero, everything belongs to root, inode numbers count up from one. Parents come before
//! their children, missing ones are made (mode 0755).
//!
//! Back in: [`read`] walks an archive without copying, trusts nothing in it, and never reads outside of
//! the bytes it was given.
//!
//! The format is that of the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

mod format;
mod reader;
mod tree;

pub use format::{EntryKind, MAX_NAME_BYTES};
pub use reader::{Entries, Entry, MAX_ENTRIES, ReadError, read};
pub use tree::{Tree, WriteError, single_file};
