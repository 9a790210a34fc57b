//! Waiting for kernel descriptors in tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor (pidfd, inotify, netlink) something to await until it is readable.
///
/// Panics outside a tokio runtime, as everything in tokio does.
pub fn until_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays open and is the same number until it is dropped, and the
    // `AsyncFd` that owns it gives only shared references to it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
