//! What a container finds mounted: a table, not code.

use std::ffi::CStr;

use rustix::mount::MountFlags;

use crate::image::Kind;

/// One file system of the table.
pub(super) struct Entry {
    /// Which kind.
    pub(super) fs: &'static str,
    /// Where.
    pub(super) target: &'static str,
    /// How.
    pub(super) flags: MountFlags,
    /// Its own options.
    pub(super) options: Option<&'static CStr>,
    /// Whether the container can do without.
    pub(super) optional: bool,
    /// What becomes of a link that the image has there.
    pub(super) links: Links,
}

/// What becomes of a link that the image has where something is mounted.
#[derive(Clone, Copy)]
pub(super) enum Links {
    /// A directory takes its place. What protects the node is mounted by these names, and an image must not be able to
    /// lead that astray.
    Replace,
    /// It is followed, inside the image: `/tmp -> /var/tmp` makes `/var/tmp` the directory in memory.
    Follow,
}

const NOSUID_NOEXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const QUIET: MountFlags = NOSUID_NOEXEC.union(MountFlags::NODEV);
const WRITABLE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The table for a kind, in order. Only `/sys/fs/cgroup` differs: systemd manages its own branch
/// of the tree. `/sys` is read-only for both, which also tells systemd to leave devices alone
/// (systemd.io/CONTAINER_INTERFACE).
pub(super) fn table(kind: Kind) -> [Entry; 9] {
    let cgroup = match kind {
        Kind::Plain => QUIET.union(MountFlags::RDONLY),
        Kind::Systemd => QUIET,
    };
    let links = Links::Replace;
    let entry =
        |fs, target, flags, options| Entry { fs, target, flags, options, optional: false, links };
    // What the image has in these two is hidden, and what programs leave there goes with the container.
    let memory = |target, options| Entry {
        links: Links::Follow,
        ..entry("tmpfs", target, WRITABLE, Some(options))
    };
    [
        entry("proc", "/proc", QUIET, None),
        entry("tmpfs", "/dev", NOSUID_NOEXEC, Some(c"mode=0755,size=64k")),
        entry(
            "devpts",
            "/dev/pts",
            NOSUID_NOEXEC,
            Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ),
        entry("tmpfs", "/dev/shm", WRITABLE, Some(c"mode=1777")),
        // A kernel may lack message queues; few programs ask for them.
        Entry { optional: true, ..entry("mqueue", "/dev/mqueue", QUIET, None) },
        entry("sysfs", "/sys", QUIET.union(MountFlags::RDONLY), None),
        entry("cgroup2", "/sys/fs/cgroup", cgroup, None),
        memory("/run", c"mode=0755"),
        memory("/tmp", c"mode=1777"),
    ]
}

/// Device nodes: name, major, minor (the kernel's devices.txt).
pub(super) const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in `/dev`: what they point at, and their name.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Parts of `/proc` through which root could change the node: read-only for a plain program.
pub(super) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Parts of `/proc` and `/sys` that tell of the node's memory and hardware: hidden from a plain
/// program.
pub(super) const HIDDEN: [&str; 7] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/kernel/debug",
];
