//! What a machine is made of.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{MacAddress, MachineName};

/// The least memory that a kernel, the Layer 0 initramfs and a small image fit into.
pub const MIN_MEMORY_MIB: u32 = 256;
/// The most memory a machine of the `pc` type is given here.
pub const MAX_MEMORY_MIB: u32 = 1024 * 1024;
/// The most processors the `pc` machine type has.
pub const MAX_CPUS: u16 = 255;
/// The longest interface name, `IFNAMSIZ` less the final zero (`netdevice(7)`).
pub const MAX_INTERFACE_LEN: usize = 15;

/// The `power.qemu.*` facts of a node. There is no way to pass arguments through: what QEMU is told decides
/// what can be found again, and on whose behalf it opens files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QemuConfig {
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u16,
    /// The bridge that the machine's network card is plugged into; it must exist. Without one the machine
    /// has no network card.
    pub bridge: Option<String>,
    /// The name of the machine's end at the bridge; derived from the machine's name when absent.
    pub tap: Option<String>,
    /// Hardware virtualisation or emulation.
    pub accel: AccelChoice,
}

/// Which accelerator a machine should use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    /// KVM where it works, else emulation.
    #[default]
    Auto,
    /// KVM, without looking whether it works.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Default for QemuConfig {
    fn default() -> Self {
        Self { memory: 512, cpus: 1, bridge: None, tap: None, accel: AccelChoice::Auto }
    }
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its address.
    pub mac: MacAddress,
    /// The bridge it is plugged into.
    pub bridge: String,
    /// The host's end.
    pub tap: String,
}

/// A machine, checked. It boots from its network card by BIOS and iPXE and has no disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: MachineName,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u16,
    /// Its network card.
    pub nic: Option<Nic>,
    /// Accelerator.
    pub accel: AccelChoice,
}

/// A machine that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Memory out of range.
    #[error("power.qemu.memory is {0} MiB; it must be {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}")]
    Memory(u32),
    /// Processors out of range.
    #[error("power.qemu.cpus is {0}; it must be 1 to {MAX_CPUS}")]
    Cpus(u16),
    /// A name that no network interface can have.
    #[error(
        "power.qemu.{key} is {name:?}; an interface name is 1 to {MAX_INTERFACE_LEN} letters, digits, '-', '_' or '.', starting with a letter or digit"
    )]
    Interface {
        /// Which fact.
        key: &'static str,
        /// Its value.
        name: String,
    },
    /// A bridge, but no address for the card.
    #[error("power.qemu.bridge is set, but the boot interface has no mac")]
    NoMac,
}

impl Machine {
    /// Checks what the cluster file says of a machine. `mac` is the address of its boot interface.
    ///
    /// # Errors
    /// When a value is out of its range or does not fit the others.
    pub fn new(
        name: MachineName,
        mac: Option<MacAddress>,
        config: &QemuConfig,
    ) -> Result<Self, ConfigError> {
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory) {
            return Err(ConfigError::Memory(config.memory));
        }
        if !(1..=MAX_CPUS).contains(&config.cpus) {
            return Err(ConfigError::Cpus(config.cpus));
        }
        let nic = match &config.bridge {
            None => None,
            Some(bridge) => {
                let tap = config.tap.clone().unwrap_or_else(|| default_tap(&name));
                check_interface("bridge", bridge)?;
                check_interface("tap", &tap)?;
                Some(Nic { mac: mac.ok_or(ConfigError::NoMac)?, bridge: bridge.clone(), tap })
            }
        };
        let (memory_mib, cpus, accel) = (config.memory, config.cpus, config.accel);
        Ok(Self { name, memory_mib, cpus, nic, accel })
    }

    /// The UUID that the machine shows to its guest: the same for the same name, on any host.
    #[must_use]
    pub fn uuid(&self) -> String {
        uuid_of(&self.name)
    }
}

fn check_interface(key: &'static str, name: &str) -> Result<(), ConfigError> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if starts_well && allowed && name.len() <= MAX_INTERFACE_LEN {
        Ok(())
    } else {
        Err(ConfigError::Interface { key, name: name.to_owned() })
    }
}

/// `lc-<name>` where that fits, else 48 bits of a hash: 1,000 machines collide once in 500 million clusters.
fn default_tap(name: &MachineName) -> String {
    let plain = format!("lc-{name}");
    if plain.len() <= MAX_INTERFACE_LEN {
        return plain;
    }
    format!("lc-{}", hex::encode(&Sha256::digest(name.as_str())[..6]))
}

/// RFC 9562 version 8 (vendor-specific): 122 bits of a hash of the name.
pub(super) fn uuid_of(name: &MachineName) -> String {
    let mut bytes = [0_u8; 16];
    let digest = Sha256::new().chain_update("layercake qemu machine ").chain_update(name.as_str());
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let h = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn machine(name: &str, config: &QemuConfig) -> Result<Machine, ConfigError> {
        Machine::new(name.parse().unwrap(), "52:54:00:00:00:01".parse().ok(), config)
    }

    #[test]
    fn unknown_facts_and_extra_arguments_are_refused() {
        let ok: QemuConfig = serde_json::from_str(r#"{"memory": 300, "bridge": "br0"}"#).unwrap();
        assert_eq!((ok.memory, ok.cpus), (300, 1));
        assert!(serde_json::from_str::<QemuConfig>(r#"{"args": ["-snapshot"]}"#).is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let base = QemuConfig::default();
        let with = |change: fn(&mut QemuConfig)| {
            let mut config = base.clone();
            change(&mut config);
            machine("n1", &config).unwrap_err()
        };
        assert_eq!(with(|c| c.memory = 255), ConfigError::Memory(255));
        assert_eq!(with(|c| c.cpus = 0), ConfigError::Cpus(0));
        for bad in ["br0,script=/tmp/x", "", "-br", "a-name-of-16-chr"] {
            let config = QemuConfig { bridge: Some(bad.into()), ..base.clone() };
            assert!(matches!(machine("n1", &config), Err(ConfigError::Interface { .. })));
        }
        let bridged = QemuConfig { bridge: Some("br0".into()), ..base };
        let no_mac = Machine::new("n1".parse().unwrap(), None, &bridged);
        assert_eq!(no_mac.unwrap_err(), ConfigError::NoMac);
    }

    #[test]
    fn a_tap_is_named_after_its_machine_and_always_fits() {
        let config = QemuConfig { bridge: Some("br0".into()), ..QemuConfig::default() };
        let tap = |name: &str| machine(name, &config).unwrap().nic.unwrap().tap;
        assert_eq!(tap("n1"), "lc-n1");
        let (a, b) = (tap("rack-17-node-0001"), tap("rack-17-node-0002"));
        assert!(a.len() <= MAX_INTERFACE_LEN && b.len() <= MAX_INTERFACE_LEN);
        assert_ne!(a, b);
    }

    #[test]
    fn the_uuid_is_stable_and_well_formed() {
        let uuid = uuid_of(&"n1".parse().unwrap());
        assert_eq!(uuid, uuid_of(&"n1".parse().unwrap()));
        assert_ne!(uuid, uuid_of(&"n2".parse().unwrap()));
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    }
}
