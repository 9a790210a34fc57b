//! Tar archives: read as GNU tar reads them, and written in the one form that `mksquashfs` reads well.
//!
//! An archive is not handed to `mksquashfs -tar` as it came. `mksquashfs` 4.5 keeps the first of two
//! entries with one name, refuses times before 1970 and most sparse files, looks user names up in the
//! server's own `/etc/passwd`, and ends with a crash at a hard link without its file. Neither is it
//! unpacked by GNU tar into a directory: that takes root, a file system that holds every attribute, and
//! the archive's size as files. The `tar` crate splits pax records at line ends, of which capabilities
//! and ACLs have some, and knows one of the four sparse formats. So the archive is read here, twice: once
//! to learn what a `tar -x` would leave behind ([`crate::tree`]), once to write just that.
//!
//! Sources: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Extended Header"), and the manual of
//! GNU tar ("Basic Tar Format", "Storing Sparse Files").

mod error;
mod header;
mod pax;
mod read;
mod sparse;
mod write;

pub use error::TarError;
pub(crate) use error::show;
pub use read::MAX_TAR_ENTRIES;
pub(crate) use read::{Archive, Kind, Limits, Member, Meta, Xattr};
pub(crate) use sparse::Segment;
pub(crate) use write::{Entry, write_end, write_entry, write_padding};

/// The unit of an archive, in bytes.
pub(crate) const BLOCK: usize = 512;
/// The longest path that Linux takes, in bytes (`PATH_MAX` without its zero).
pub(crate) const MAX_PATH: usize = 4095;
/// The longest name in a directory, in bytes (`NAME_MAX`).
pub(crate) const MAX_NAME: usize = 255;
