//! What Layer 0 mounts: a table.

use std::fs;

use rustix::io::Errno;
use rustix::mount::MountFlags;

/// One file system.
pub(super) struct Entry {
    fs: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const WRITABLE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const fn entry(
    fs: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
) -> Entry {
    Entry { fs, target, flags, options }
}

/// Before the move to the real root, and moved there.
///
/// Images lie below `/run` and may need most of the memory; the image service keeps a reserve.
pub(super) const EARLY: [Entry; 4] = [
    entry("proc", "/proc", QUIET, ""),
    entry("sysfs", "/sys", QUIET, ""),
    entry("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    entry("tmpfs", "/run", WRITABLE, "mode=0755,size=90%"),
];

/// After it.
pub(super) const LATE: [Entry; 4] = [
    entry(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "ptmxmode=0666,mode=0620,gid=5",
    ),
    entry("tmpfs", "/dev/shm", WRITABLE, "mode=1777"),
    entry("tmpfs", "/tmp", WRITABLE, "mode=1777"),
    entry("cgroup2", "/sys/fs/cgroup", QUIET, ""),
];

/// Mounts a table, in order, and returns what went wrong. What is mounted already (init was
/// executed anew) is left as it is.
pub(super) fn mount_all(table: &[Entry]) -> Vec<String> {
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_mounted = |entry: &&Entry| {
        let mut lines = mounted.lines().map(|line| line.split(' '));
        lines.any(|mut fields| {
            fields.nth(1) == Some(entry.target) && fields.next() == Some(entry.fs)
        })
    };
    table.iter().filter(|entry| !is_mounted(entry)).filter_map(|entry| mount(entry).err()).collect()
}

fn mount(entry: &Entry) -> Result<(), String> {
    // An image of sysfs has its directory for cgroups already, and does not let one be made.
    if let Err(error) = fs::create_dir_all(entry.target) {
        return Err(format!("cannot make {}: {error}", entry.target));
    }
    let options = super::c_string(entry.options);
    match rustix::mount::mount(entry.fs, entry.target, entry.fs, entry.flags, options.as_c_str()) {
        // The kernel mounts devtmpfs by itself when it is built to.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(format!("cannot mount {}: {error}", entry.target)),
    }
}
