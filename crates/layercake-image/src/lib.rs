//! System images: import, content-addressed store, serving.
//!
//! In: a directory, a tar (plain, or packed with gzip, xz, zstd or bzip2; also from standard input), or a
//! squashfs that somebody made. Out: a squashfs named by its SHA-256 ([`Digest`]) in an [`ImageStore`],
//! what a node has to know to run it ([`ImageFacts`]), and its bytes over HTTP ([`router`]).
//!
//! Promises:
//! - The same content gives the same digest, whenever and wherever it is imported with the same
//!   version of `mksquashfs`. Owners, modes, extended attributes, devices and hard links are kept; times
//!   are set to zero unless asked otherwise.
//! - A tar comes to what GNU tar, run by root, would unpack; what squashfs cannot hold is left out and
//!   said. A directory becomes a tar first, so that there is one way to read both.
//! - An image is in the store whole or not at all, and its name moves with it. An import that fails, is
//!   called off, or whose archive breaks off leaves nothing behind; one that is killed leaves files that
//!   the next opening of the store removes.
//! - Any number of processes may use one store at once.
//! - An archive cannot write anywhere: it is never unpacked, only streamed into the squashfs. It is read
//!   twice for that, so that one which comes as a stream is kept, packed as it came, until it is done.
//! - Memory is bounded whatever an archive says: by its names (at most 512 MiB) and one extended header.
//! - Serving needs little memory per client, however slow the client and however large the image.
//!
//! The store is a directory: `blobs/sha256/<hex>` (images), `meta/<hex>.json` (what is known of each),
//! `tags/<name>.json` (names given to them), `tmp/` (imports at work) and `lock`.

mod arch;
mod cancel;
mod describe;
mod digest;
mod directory;
mod import;
mod mksquashfs;
mod pack;
mod range;
mod recognise;
mod remarks;
mod serve;
mod source;
mod store;
mod tar;
mod tree;

pub use cancel::Cancel;
pub use describe::{Entry, EntryError, ImageFacts, ImageInfo, ImageMeta, Kind, Tag, TagError};
pub use digest::{Digest, DigestError};
pub use directory::{DirectoryError, archive_directory};
pub use import::{ImportError, ImportOptions, Imported, Progress, Stage};
pub use mksquashfs::ToolError;
pub use pack::fuzz_tar;
pub use range::{RangeAnswer, parse_range};
pub use serve::{MAX_TRANSFERS, ServeCounters, ServeCounts, router};
pub use source::{Source, Stream};
pub use store::{Collected, ImageStore, StoreError};
pub use tar::{MAX_TAR_ENTRIES, TarError};
