//! TFTP (RFC 1350) with block size, transfer size, timeout (RFC 2347 to 2349) and windows (RFC 7440),
//! for reading, from a virtual tree.
//!
//! [`Transfer`] is the protocol, [`Files`] the tree, [`driver`] the sockets. Paths from the network
//! never reach a file system: they are keys of a table.

pub mod driver;
mod files;
mod packet;
mod path;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use files::OPTIONAL;
pub use files::{BootFiles, Files, NotServed, Served, script_path};
pub use packet::{
    ErrorCode, MAX_REQUEST_BYTES, PeerPacket, ReadRequest, RequestError, RequestOption,
};
pub use path::{MAX_PATH_BYTES, PathError, normalize};
pub use transfer::{
    DEFAULT_BLOCK_BYTES, Ended, Limits, MAX_BACKOFF, MAX_RETRIES, MAX_TRANSFER_TIME,
    MAX_WINDOW_BLOCKS, Step, Transfer, fuzz_transfer,
};
