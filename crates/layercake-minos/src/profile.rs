//! Which kernel modules Layer 0 has.

use serde::{Deserialize, Serialize};

/// Modules that are loaded at every boot, in this order: what a system image is mounted with, and
/// packet sockets. One that is built into the kernel is left out.
pub const ALWAYS_LOADED: &[&str] = &["loop", "squashfs", "overlay", "af_packet"];

/// What virtual machines have: virtio, and the cards that hypervisors imitate.
const VIRTUAL: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_net",
    "virtio_blk",
    "virtio_console",
    "virtio_rng",
    "e1000",
    "e1000e",
];

/// What the physical machines of a cluster have beyond that. Names that a kernel flavour lacks are
/// skipped: the cloud flavour has few of these.
const PHYSICAL: &[&str] = &[
    // Network cards, by vendor.
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "r8169",
    "tg3",
    "bnx2",
    "bnx2x",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "be2net",
    "cxgb4",
    "qede",
    "sfc",
    "atlantic",
    "ena",
    "gve",
    "hv_netvsc",
    "vmxnet3",
    "xen_netfront",
    // What stands between a card and an address.
    "8021q",
    "bonding",
    // Disks, for images and for the scratch space of images.
    "nvme",
    "ahci",
    "sd_mod",
    "virtio_scsi",
    // The management controller, as seen from inside.
    "ipmi_si",
    "ipmi_devintf",
];

/// A set of kernel modules for a kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Virtual machines, for labs: small.
    Virtual,
    /// Any machine of a cluster.
    #[default]
    Full,
}

impl Profile {
    /// The modules it asks for, sorted by kind; those that a kernel lacks are skipped.
    pub fn modules(self) -> impl Iterator<Item = &'static str> {
        let physical = match self {
            Self::Virtual => &[],
            Self::Full => PHYSICAL,
        };
        ALWAYS_LOADED.iter().chain(VIRTUAL).chain(physical).copied()
    }
}
