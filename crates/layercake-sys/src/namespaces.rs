//! Leaving namespaces.

use rustix::io;
use rustix::thread::UnshareFlags;

/// The namespaces that a container does not share with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Mounts.
    pub mount: bool,
    /// Process numbers: takes effect for the next child.
    pub pid: bool,
    /// Host name.
    pub uts: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// The view of the cgroup tree.
    pub cgroup: bool,
}

/// Moves the calling thread into fresh namespaces (unshare(2)).
///
/// Only a single-threaded process should do so: other threads stay behind.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNS, namespaces.mount);
    flags.set(UnshareFlags::NEWPID, namespaces.pid);
    flags.set(UnshareFlags::NEWUTS, namespaces.uts);
    flags.set(UnshareFlags::NEWIPC, namespaces.ipc);
    flags.set(UnshareFlags::NEWCGROUP, namespaces.cgroup);
    // SAFETY: unshare(2) endangers memory safety only by CLONE_FILES, after which threads would
    // see different descriptors behind the same number. `Namespaces` cannot express that flag.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
