//! Which kernel modules Layer 0 has.

use serde::{Deserialize, Serialize};

/// Modules that are loaded at every boot, in this order: what a system image is mounted with, and
/// packet sockets. One that is built into the kernel is left out.
pub const ALWAYS_LOADED: &[&str] = &["loop", "squashfs", "overlay", "af_packet"];

/// What a driver is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// What images are mounted with.
    Images,
    /// A network card: without its driver a machine cannot reach its server at all.
    Network,
    /// A disk controller.
    Storage,
    /// Anything else.
    Other,
}

use Purpose::{Images, Network, Other, Storage};

/// What virtual machines have: virtio, and the cards that hypervisors imitate.
const VIRTUAL: &[(&str, Purpose)] = &[
    ("virtio_pci", Other),
    ("virtio_mmio", Other),
    ("virtio_net", Network),
    ("virtio_blk", Storage),
    ("virtio_console", Other),
    ("virtio_rng", Other),
    ("e1000", Network),
    ("e1000e", Network),
];

/// What the physical machines of a cluster have beyond that, and the virtual ones of others. What a kernel lacks of
/// it is left out, and said.
const PHYSICAL: &[(&str, Purpose)] = &[
    // Network cards, by vendor.
    ("igb", Network),
    ("igc", Network),
    ("ixgbe", Network),
    ("i40e", Network),
    ("ice", Network),
    ("igbvf", Network),
    ("ixgbevf", Network),
    ("iavf", Network),
    ("r8169", Network),
    ("tg3", Network),
    ("bnx2", Network),
    ("bnx2x", Network),
    ("bnxt_en", Network),
    ("mlx4_en", Network),
    ("mlx5_core", Network),
    ("be2net", Network),
    ("cxgb4", Network),
    ("qede", Network),
    ("sfc", Network),
    ("enic", Network),
    ("atlantic", Network),
    ("ena", Network),
    ("gve", Network),
    ("hv_netvsc", Network),
    ("vmxnet3", Network),
    ("xen_netfront", Network),
    // Boards and hypervisors of workshops and classrooms.
    ("8139cp", Network),
    ("8139too", Network),
    ("alx", Network),
    ("atl1c", Network),
    ("e100", Network),
    ("forcedeth", Network),
    ("pcnet32", Network),
    ("sky2", Network),
    // What stands between a card and an address.
    ("8021q", Other),
    ("bonding", Other),
    // Disks, for images and for the scratch space of images.
    ("nvme", Storage),
    ("ahci", Storage),
    ("sd_mod", Storage),
    ("virtio_scsi", Storage),
    // The management controller, as seen from inside.
    ("ipmi_si", Other),
    ("ipmi_devintf", Other),
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
    /// The modules it asks for, sorted by kind; those that a kernel lacks are left out.
    pub fn modules(self) -> impl Iterator<Item = &'static str> {
        let physical = match self {
            Self::Virtual => &[],
            Self::Full => PHYSICAL,
        };
        let drivers = VIRTUAL.iter().chain(physical).map(|(name, _)| *name);
        ALWAYS_LOADED.iter().copied().chain(drivers)
    }
}

/// What a module of a profile is for.
#[must_use]
pub fn purpose(module: &str) -> Purpose {
    if ALWAYS_LOADED.contains(&module) {
        return Images;
    }
    let known = VIRTUAL.iter().chain(PHYSICAL).find(|(name, _)| *name == module);
    known.map_or(Other, |(_, purpose)| *purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_knows_the_cards_of_ordinary_machines_and_what_they_are_for() {
        let full: Vec<&str> = Profile::default().modules().collect();
        for card in [
            "e1000",
            "e1000e",
            "igb",
            "ixgbe",
            "i40e",
            "ice",
            "tg3",
            "bnxt_en",
            "mlx5_core",
            "r8169",
        ] {
            assert!(full.contains(&card), "{card}");
            assert_eq!(purpose(card), Network, "{card}");
        }
        let purposes = ["squashfs", "nvme", "8021q", "unheard_of"].map(purpose);
        assert_eq!(purposes, [Images, Storage, Other, Other]);
        let mut once = full.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), full.len());
    }
}
