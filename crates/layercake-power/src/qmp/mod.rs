//! QMP, the QEMU Machine Protocol: lines of JSON over a unix socket.
//!
//! The protocol is described in QEMU's `docs/interop/qmp-spec.txt`. [`wire`] reads and writes lines and does
//! no input or output; [`Connection`] drives it over a socket. Whatever is at the other end may be broken or
//! hostile: a line has a largest length, an answer a largest number of bytes before it, and every operation
//! a deadline for all of it, so that a peer who drips a byte a second gains nothing.

mod connection;
pub mod wire;

pub use connection::{Connection, QmpError};
pub use wire::fuzz_lines;
