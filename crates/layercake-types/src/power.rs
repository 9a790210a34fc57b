//! How a node is switched.

use crate::boot::boot_interface;
use crate::interface::read;
use crate::{InvalidInterfaceName, MacAddress, MachineName, Refusal, check_interface_name};
use kraken_model::{Document, NodeId};
use layercake_schema::{MAX_CPUS, MAX_MEMORY_MIB, MIN_MEMORY_MIB, POWER_DRIVERS};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// The way in which a node is switched, with all that the driver has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Power {
    /// A virtual machine of this host.
    Qemu(Machine),
    /// A site's own command.
    Exec(ExecConfig),
}

/// The `power.exec.*` facts of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program, with its full path.
    pub command: PathBuf,
    /// Seconds that one run may take.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u32,
}

fn default_timeout_seconds() -> u32 {
    30
}

/// A program without its full path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not an absolute path, and what a relative one means depends on where the server was started"
)]
pub struct RelativeCommand;

impl ExecConfig {
    /// Checks the program.
    ///
    /// # Errors
    /// When it is not given with its full path.
    pub fn check(&self) -> Result<(), RelativeCommand> {
        if self.command.is_absolute() { Ok(()) } else { Err(RelativeCommand) }
    }
}

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
    #[error("power.qemu.{key} is {name:?}; {source}")]
    Interface {
        /// Which fact.
        key: &'static str,
        /// Its value.
        name: String,
        /// The rule.
        source: InvalidInterfaceName,
    },
    /// A bridge, but no address for the card.
    #[error("power.qemu.bridge is set, but the boot interface has no mac")]
    NoMac,
}

impl ConfigError {
    /// The address of the value that it is about.
    fn address(&self) -> String {
        let key = match self {
            Self::Memory(_) => "memory",
            Self::Cpus(_) => "cpus",
            Self::Interface { key, .. } => key,
            Self::NoMac => "bridge",
        };
        format!("power.qemu.{key}")
    }
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
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory.into()) {
            return Err(ConfigError::Memory(config.memory));
        }
        if !(1..=MAX_CPUS).contains(&config.cpus.into()) {
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
    check_interface_name(name).map_err(|source| ConfigError::Interface {
        key,
        name: name.to_owned(),
        source,
    })
}

/// `lc-<name>` where that fits, else 48 bits of a hash: 1,000 machines collide once in 500 million clusters.
fn default_tap(name: &MachineName) -> String {
    let plain = format!("lc-{name}");
    if check_interface_name(&plain).is_ok() {
        return plain;
    }
    format!("lc-{}", hex::encode(&Sha256::digest(name.as_str())[..6]))
}

/// The UUID of the machine of a name: RFC 9562 version 8 (vendor-specific), 122 bits of a hash.
#[must_use]
pub fn uuid_of(name: &MachineName) -> String {
    let mut bytes = [0_u8; 16];
    let digest = Sha256::new().chain_update("layercake qemu machine ").chain_update(name.as_str());
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let h = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

/// How a node is switched; nothing when its cfg names no driver.
///
/// # Errors
/// With everything that the driver could not use.
pub fn power(node: &NodeId, cfg: &Document) -> Result<Option<Power>, Vec<Refusal>> {
    let address = "power.driver";
    let mut found = Vec::new();
    let name: Option<MachineName> = node
        .as_str()
        .parse()
        .map_err(|why: crate::InvalidName| found.push(Refusal::new(address, why)))
        .ok();
    let power = match (cfg.text(address), name) {
        (None, _) => return Ok(None),
        (Some("qemu"), Some(name)) => qemu(name, cfg, &mut found).map(Power::Qemu),
        (Some("exec"), Some(_)) => exec(cfg, &mut found).map(Power::Exec),
        (Some(_), None) => None,
        (Some(driver), Some(_)) => {
            let known = POWER_DRIVERS.join(" or ");
            found.push(Refusal::new(address, format!("there is no driver {driver}: use {known}")));
            None
        }
    };
    if found.is_empty() { Ok(power) } else { Err(found) }
}

fn qemu(name: MachineName, cfg: &Document, found: &mut Vec<Refusal>) -> Option<Machine> {
    let usual = QemuConfig::default();
    let memory = number(cfg, "power.qemu.memory", usual.memory, found)?;
    let cpus = number(cfg, "power.qemu.cpus", usual.cpus, found)?;
    let accel = match cfg.text("power.qemu.accel") {
        None | Some("auto") => AccelChoice::Auto,
        Some("kvm") => AccelChoice::Kvm,
        Some("tcg") => AccelChoice::Tcg,
        Some(_) => {
            found.push(Refusal::new("power.qemu.accel", "it must be auto, kvm or tcg"));
            return None;
        }
    };
    let (bridge, tap) = (read(cfg, "power.qemu.bridge", found), read(cfg, "power.qemu.tap", found));
    let mac_at = format!("net.{}.mac", boot_interface(cfg));
    let mac = read::<MacAddress>(cfg, &mac_at, found);
    // A hardware address that cannot be is one mistake, not two.
    if mac.is_none() && cfg.get(&mac_at).is_some() {
        return None;
    }
    let machine = Machine::new(name, mac, &QemuConfig { memory, cpus, bridge, tap, accel });
    machine.map_err(|why| found.push(Refusal::new(why.address(), why))).ok()
}

fn exec(cfg: &Document, found: &mut Vec<Refusal>) -> Option<ExecConfig> {
    let address = "power.exec.command";
    let Some(command) = read::<PathBuf>(cfg, address, found) else {
        if cfg.get(address).is_none() {
            let why = "the driver exec needs the program that switches a machine";
            found.push(
                Refusal::new(address, why).hint("add power.exec.command: /path/of/the/program"),
            );
        }
        return None;
    };
    let usual = default_timeout_seconds();
    let timeout_seconds = number(cfg, "power.exec.timeout_seconds", usual, found)?;
    let config = ExecConfig { command, timeout_seconds };
    config.check().map_err(|why| found.push(Refusal::new(address, why))).ok()?;
    Some(config)
}

fn number<T: TryFrom<i64>>(
    cfg: &Document,
    address: &str,
    usual: T,
    found: &mut Vec<Refusal>,
) -> Option<T> {
    let Some(value) = cfg.get(address) else { return Some(usual) };
    let number = value.as_int().and_then(|number| T::try_from(number).ok());
    if number.is_none() {
        found.push(Refusal::new(address, format!("{value} is not a number that fits")));
    }
    number
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::MAX_INTERFACE_LEN;
    use serde_json::json;

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

    fn read_from(power: serde_json::Value) -> Result<Option<Power>, String> {
        let cfg = json!({"power": power, "net": {"boot": {"mac": "52:54:00:00:00:01"}}});
        let read = super::power(&"n1".parse().unwrap(), &Document::from_json(&cfg).unwrap());
        read.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn what_the_driver_could_not_use_is_refused_by_its_address() {
        for (power, place, why) in [
            (json!({"driver": "ipmi"}), "driver", "use qemu or exec"),
            (json!({"driver": "exec"}), "exec.command", "needs the program"),
            (json!({"driver": "exec", "exec": {"command": "power"}}), "exec.command", "absolute"),
            (json!({"driver": "qemu", "qemu": {"memory": 3}}), "qemu.memory", "256"),
            (
                json!({"driver": "qemu", "qemu": {"cpus": 70_000}}),
                "qemu.cpus",
                "not a number that fits",
            ),
            (json!({"driver": "qemu", "qemu": {"bridge": "a b"}}), "qemu.bridge", "interface name"),
            (
                json!({"driver": "qemu", "qemu": {"bridge": "br0", "tap": "x/y"}}),
                "qemu.tap",
                "interface name",
            ),
        ] {
            let said = read_from(power).unwrap_err();
            assert!(said.starts_with(&format!("power.{place}: ")) && said.contains(why), "{said}");
        }
        assert_eq!(read_from(json!({"exec": {"command": "x"}})), Ok(None), "no driver, no power");
        let exec = read_from(json!({"driver": "exec", "exec": {"command": "/p"}}));
        let config = ExecConfig { command: "/p".into(), timeout_seconds: 30 };
        assert_eq!(exec, Ok(Some(Power::Exec(config))));
        let qemu = read_from(json!({"driver": "qemu", "qemu": {"bridge": "br0", "accel": "tcg"}}));
        assert!(matches!(qemu, Ok(Some(Power::Qemu(Machine { nic: Some(_), .. })))));
    }
}
