//! Waiting for processes that are not our children.

use std::io;
use std::os::fd::OwnedFd;

use super::record::ProcessId;

/// Waits until the process is gone. Cancel-safe.
pub(super) async fn end_of(process: ProcessId) -> io::Result<()> {
    let Some(pidfd) = process.open()? else { return Ok(()) };
    end_of_pidfd(pidfd).await
}

async fn end_of_pidfd(pidfd: OwnedFd) -> io::Result<()> {
    // A pidfd becomes readable when its process ends (pidfd_open(2)).
    let pidfd = layercake_sys::until_readable(pidfd)?;
    let _ready = pidfd.readable().await?;
    Ok(())
}
