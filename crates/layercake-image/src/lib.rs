//! System images: import, content-addressed store, serving.
//!
//! In: a directory, a tar (plain, or packed with gzip, xz or zstd; also from standard input), or a
//! squashfs that somebody made. Out: a squashfs named by its SHA-256 ([`Digest`]) in an [`ImageStore`],
//! what a node has to know to run it ([`ImageFacts`]), and its bytes over HTTP ([`router`]).
//!
//! Promises:
//! - The same content gives the same digest, whenever and wherever it is imported with the same
//!   version of `mksquashfs`. Owners, modes, extended attributes, devices and hard links are kept; times
//!   are set to zero unless asked otherwise.
//! - An image is in the store whole or not at all. An import that fails, for whatever reason, leaves
//!   nothing behind; one that is killed leaves a file that the next import removes.
//! - Any number of processes may use one store at once.
//! - An archive cannot write anywhere: it is never unpacked, only streamed into the squashfs.
//! - Serving needs little memory per client, however slow the client and however large the image.
//!
//! The store is a directory: `blobs/sha256/<hex>` (images), `meta/<hex>.json` (what is known of each),
//! `tags/<name>.json` (names given to them), `tmp/` (imports at work) and `lock`.

mod describe;
mod digest;
mod import;
mod mksquashfs;
mod range;
mod serve;
mod source;
mod store;
mod tarcheck;

pub use describe::{Entry, EntryError, ImageFacts, ImageInfo, ImageMeta, Kind, Tag, TagError};
pub use digest::{Digest, DigestError};
pub use import::{ImportError, ImportOptions, Imported, Progress, Stage};
pub use mksquashfs::ToolError;
pub use range::{RangeAnswer, parse_range};
pub use serve::{MAX_TRANSFERS, ServeCounters, ServeCounts, router};
pub use source::{Source, Stream};
pub use store::{Collected, ImageStore, StoreError};
pub use tarcheck::{MAX_TAR_ENTRIES, TarError, fuzz_tar};
