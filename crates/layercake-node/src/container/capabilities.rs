//! What the root of a container may do.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::image::Kind;

/// What a plain program keeps: enough to change owners, drop to another user and listen below
/// port 1024.
///
/// Compared with Docker's set, two are missing. `MKNOD`: without a device filter, a device node is
/// the whole disk. `NET_RAW`: the network is the node's own, and raw sockets would let a program
/// read and forge the node's packets.
const PLAIN: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// What even a systemd image does not get: what would reach past its namespaces into the kernel,
/// the clock and the hardware of Layer 0. It keeps `SYS_ADMIN`, without which systemd cannot work,
/// and is therefore as trusted as the node itself.
const NOT_FOR_SYSTEMD: CapabilitySet = CapabilitySet::SYS_MODULE
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::BLOCK_SUSPEND);

fn kept_by(kind: Kind) -> CapabilitySet {
    match kind {
        Kind::Plain => PLAIN,
        Kind::Systemd => NOT_FOR_SYSTEMD.complement(),
    }
}

/// Gives up, for this process and everything it will ever start, what the kind does not keep.
pub(super) fn limit(kind: Kind) -> rustix::io::Result<()> {
    let keep = kept_by(kind);
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Beyond the last capability that this kernel knows.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    let own = rustix::thread::capabilities(None)?;
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: own.effective & keep,
            permitted: own.permitted & keep,
            inheritable: CapabilitySet::empty(),
        },
    )
}
