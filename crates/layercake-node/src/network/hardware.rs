//! The network hardware of this machine as sysfs shows it: what has become an interface, and what has no driver.
//!
//! A machine that boots over the network and finds no interface has nobody to ask. What it says on its console names
//! the cards by their PCI ids, since that is what one looks up.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// PCI base class of network controllers (PCI Code and ID Assignment Specification).
const NETWORK_CLASS: &str = "0x02";

/// The virtio device id of a network card (Virtual I/O Device specification, section 5).
const VIRTIO_NETWORK: &str = "0x0001";

/// Who makes network cards, by PCI vendor id.
const VENDORS: &[(&str, &str)] = &[
    ("0x1011", "DEC"),
    ("0x1022", "AMD"),
    ("0x1077", "QLogic"),
    ("0x10b7", "3Com"),
    ("0x10de", "NVIDIA"),
    ("0x10df", "Emulex"),
    ("0x10ec", "Realtek"),
    ("0x1137", "Cisco"),
    ("0x11ab", "Marvell"),
    ("0x11f8", "Microchip"),
    ("0x1414", "Microsoft"),
    ("0x1425", "Chelsio"),
    ("0x14e4", "Broadcom"),
    ("0x15ad", "VMware"),
    ("0x15b3", "Mellanox"),
    ("0x177d", "Cavium"),
    ("0x1924", "Solarflare"),
    ("0x1969", "Atheros"),
    ("0x19a2", "Emulex"),
    ("0x19e5", "Huawei"),
    ("0x19ee", "Netronome"),
    ("0x1ae0", "Google"),
    ("0x1af4", "virtio"),
    ("0x1d0f", "Amazon"),
    ("0x1d6a", "Aquantia"),
    ("0x1dd8", "Pensando"),
    ("0x8086", "Intel"),
];

/// A network card that has no driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// Where it is, such as `0000:00:03.0`.
    pub address: String,
    /// Vendor and device, such as `8086:100e`.
    pub id: String,
    /// Who makes it, where that is known.
    pub vendor: Option<&'static str>,
    /// By what a driver would recognise it.
    pub modalias: String,
}

/// The network hardware of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Interfaces that are hardware, by the kernel's names.
    pub interfaces: Vec<String>,
    /// Cards without a driver.
    pub unclaimed: Vec<Unclaimed>,
}

impl fmt::Display for Unclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network card {} [{}]", self.address, self.id)?;
        self.vendor.map_or(Ok(()), |vendor| write!(f, " of {vendor}"))
    }
}

impl Hardware {
    /// Looks below `sys`, which is `/sys`.
    #[must_use]
    pub fn look(sys: &Path) -> Self {
        let mut interfaces: Vec<String> = entries(&sys.join("class/net"))
            .into_iter()
            // What is made by software has no device behind it.
            .filter(|interface| interface.join("device").exists())
            .filter_map(|interface| Some(interface.file_name()?.to_str()?.to_owned()))
            .collect();
        interfaces.sort_unstable();
        let mut unclaimed: Vec<Unclaimed> = Vec::new();
        unclaimed.extend(entries(&sys.join("bus/pci/devices")).iter().filter_map(|at| pci(at)));
        unclaimed
            .extend(entries(&sys.join("bus/virtio/devices")).iter().filter_map(|at| virtio(at)));
        unclaimed.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        Self { interfaces, unclaimed }
    }

    /// Says in words what stands between this machine and a network, if something does. `drivers_of` names the modules
    /// that there are for a modalias.
    #[must_use]
    pub fn problems(&self, drivers_of: impl Fn(&str) -> Vec<String>) -> Vec<String> {
        let mut lines = Vec::new();
        if self.interfaces.is_empty() {
            lines.push(match self.unclaimed.is_empty() {
                true => {
                    "no network interface, and no network card on PCI or virtio: is one built in, \
                         and switched on in the firmware's setup?"
                        .to_owned()
                }
                false => "no network interface: this machine cannot reach its server".to_owned(),
            });
        }
        lines.extend(self.unclaimed.iter().map(|card| {
            let drivers = drivers_of(&card.modalias);
            match drivers.is_empty() {
                true => format!(
                    "{card} has no driver in this initramfs: build Layer 0 from a kernel that has one \
                     (linux-image-amd64 has more than linux-image-cloud-amd64), or add it with --module"
                ),
                false => format!(
                    "{card}: its driver {} is loaded and does not take it; the kernel's own messages say \
                     why (firmware that it needs, perhaps)",
                    drivers.join(", ")
                ),
            }
        }));
        lines
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn attribute(device: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(device.join(name)).ok()?.trim().to_owned())
}

fn pci(device: &Path) -> Option<Unclaimed> {
    attribute(device, "class").filter(|class| class.starts_with(NETWORK_CLASS))?;
    unclaimed(device)
}

fn virtio(device: &Path) -> Option<Unclaimed> {
    attribute(device, "device").filter(|device| device == VIRTIO_NETWORK)?;
    unclaimed(device)
}

fn unclaimed(device: &Path) -> Option<Unclaimed> {
    if device.join("driver").exists() {
        return None;
    }
    let [vendor, id] = ["vendor", "device"].map(|name| attribute(device, name).unwrap_or_default());
    let digits = |text: &str| text.trim_start_matches("0x").to_owned();
    Some(Unclaimed {
        address: device.file_name()?.to_str()?.to_owned(),
        id: format!("{}:{}", digits(&vendor), digits(&id)),
        vendor: VENDORS.iter().find(|(known, _)| *known == vendor).map(|(_, name)| *name),
        modalias: attribute(device, "modalias").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            let lo = sys.0.path().join("class/net/lo");
            fs::create_dir_all(lo).unwrap();
            sys
        }

        fn device(&self, bus: &str, address: &str, attributes: &[(&str, &str)], driver: bool) {
            let at = self.0.path().join("bus").join(bus).join("devices").join(address);
            fs::create_dir_all(&at).unwrap();
            for (name, value) in attributes {
                fs::write(at.join(name), format!("{value}\n")).unwrap();
            }
            if driver {
                symlink("/", at.join("driver")).unwrap();
            }
        }

        fn interface(&self, name: &str) {
            let at = self.0.path().join("class/net").join(name);
            fs::create_dir_all(&at).unwrap();
            symlink("/", at.join("device")).unwrap();
        }
    }

    const E1000: [(&str, &str); 4] = [
        ("class", "0x020000"),
        ("vendor", "0x8086"),
        ("device", "0x100e"),
        ("modalias", "pci:v00008086d0000100E"),
    ];

    #[test]
    fn a_card_without_a_driver_is_named_by_its_ids_and_what_can_be_done() {
        let sys = Sys::new();
        sys.device("pci", "0000:00:03.0", &E1000, false);
        sys.device("pci", "0000:00:02.0", &[("class", "0x030000"), ("vendor", "0x1234")], false);
        let found = Hardware::look(sys.0.path());
        assert_eq!(found.interfaces, [""; 0]);
        let none = found.problems(|_| Vec::new());
        assert_eq!(none[0], "no network interface: this machine cannot reach its server");
        let words =
            "network card 0000:00:03.0 [8086:100e] of Intel has no driver in this initramfs: ";
        assert!(none[1].starts_with(words), "{none:?}");
        let loaded = found.problems(|modalias| vec![format!("{modalias}?")]);
        assert!(
            loaded[1].contains("its driver pci:v00008086d0000100E? is loaded and does not"),
            "{loaded:?}"
        );
    }

    #[test]
    fn a_machine_with_an_interface_is_told_of_its_other_cards_only() {
        let sys = Sys::new();
        sys.device("pci", "0000:00:03.0", &E1000, true);
        sys.interface("eth0");
        let found = Hardware::look(sys.0.path());
        assert_eq!(found.interfaces, ["eth0"]);
        assert_eq!(found.problems(|_| Vec::new()), [""; 0]);
        let virtio = [("device", "0x0001"), ("vendor", "0x1af4"), ("modalias", "virtio:d00000001")];
        sys.device("virtio", "virtio0", &virtio, false);
        sys.device("virtio", "virtio1", &[("device", "0x0002"), ("vendor", "0x1af4")], false);
        let lines = Hardware::look(sys.0.path()).problems(|_| Vec::new());
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("network card virtio0 [1af4:0001] of virtio has no driver"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_machine_without_any_card_is_told_so() {
        let lines = Hardware::look(Sys::new().0.path()).problems(|_| Vec::new());
        assert!(lines[0].starts_with("no network interface, and no network card on PCI or virtio"));
        assert_eq!(lines.len(), 1);
        let here = Hardware::look(Path::new("/sys"));
        assert!(!here.interfaces.contains(&"lo".to_owned()));
    }
}
