//! The seed: what a parent tells one machine about itself, for one boot.
//!
//! A machine that boots over the network knows nothing. Beside kernel and initramfs its parent
//! serves it a second, tiny initrd that holds one file, [`SEED_PATH`]: who the machine is, how it
//! reaches its parent, by which key it recognises the parent, and the one-time token by which the
//! parent recognises it. It never travels in a URL or on a kernel command line, where logs and
//! `/proc/cmdline` would show it.
//!
//! *In:* the bytes of that file, or (on the parent) a filled-in [`Seed`].
//! *Out:* a [`Seed`] whose every field has been checked, or an error that names the field.
//! *Promise:* parsing never panics, never allocates more than [`MAX_SEED_BYTES`] asks for, and
//! [`Seed::to_json`] writes what [`Seed::parse`] reads. The token is never printed by `Debug`.

mod types;

use std::net::{IpAddr, SocketAddr};

use layercake_types::{InterfaceAddress, InvalidGateway, MacAddress};
use serde::{Deserialize, Serialize};

pub use layercake_types::{MAX_DNS, MAX_INTERFACES, is_host_name};
pub use types::{Cidr, ImageBase, JoinToken, KeyFingerprint, Mac, ValueError};

/// Where the seed lies in the initramfs.
pub const SEED_PATH: &str = "/etc/layercake/seed.json";
/// The format this crate reads and writes.
pub const SEED_VERSION: u32 = 1;
/// The largest seed that is read; a real one has less than 2 KiB.
pub const MAX_SEED_BYTES: usize = 64 * 1024;
/// The most parents a seed may name.
pub const MAX_PARENTS: usize = 16;
/// The longest cluster name or boot id.
pub const MAX_NAME_BYTES: usize = 128;

/// Everything a machine is told for one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Format of this document: [`SEED_VERSION`].
    pub version: u32,
    /// The node's name, which is also its host name.
    pub node: String,
    /// The cluster the node belongs to.
    pub cluster: String,
    /// Names this boot; the parent expects exactly this one to join.
    pub boot_id: String,
    /// The interfaces to configure, found by their hardware address.
    pub interfaces: Vec<SeedInterface>,
    /// Where to join, in order of preference.
    pub parents: Vec<SeedParent>,
    /// SHA-256 of the parent's public key (SubjectPublicKeyInfo).
    pub parent_key_sha256: KeyFingerprint,
    /// Shown once to the parent to join.
    pub join_token: JoinToken,
    /// Below this URL images lie by digest.
    pub image_base: ImageBase,
    /// The parent's clock when it made the seed; the node's clock is set forward to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_unix_ms: Option<u64>,
}

/// One network interface of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedInterface {
    /// Hardware address by which the interface is found; kernel names are not stable.
    pub mac: Mac,
    /// Its address and the length of its network's prefix.
    pub address: Cidr,
    /// The default route, if this interface has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name servers reached through it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The domain that names without a dot are looked up in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Maximum transmission unit in bytes, where the driver's own does not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A parent that the node may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedParent {
    /// Address and port of its join service.
    pub addr: SocketAddr,
}

/// Why a seed was refused.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Larger than any seed can be.
    #[error("the seed has {size} bytes, more than the {MAX_SEED_BYTES} that are read")]
    TooLarge {
        /// Bytes seen.
        size: usize,
    },
    /// Not JSON, or not the fields of a seed.
    #[error("the seed cannot be read; was it written by another version of layercake?")]
    Json(#[source] serde_json::Error),
    /// Written in another format.
    #[error(
        "the seed has format {found}, this node reads format {SEED_VERSION}; build the initramfs and run the server from the same version"
    )]
    Version {
        /// The format it says it has.
        found: u32,
    },
    /// A value that cannot be right.
    #[error("the seed's field `{field}` {problem}")]
    Field {
        /// Address of the field within the seed.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Seed {
    /// Reads and checks a seed.
    pub fn parse(bytes: &[u8]) -> Result<Self, SeedError> {
        if bytes.len() > MAX_SEED_BYTES {
            return Err(SeedError::TooLarge { size: bytes.len() });
        }
        // The version is looked at before the rest, so that a newer seed is refused for its
        // version and not for a field that this version has never heard of.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(SeedError::Json)?;
        if version != SEED_VERSION {
            return Err(SeedError::Version { found: version });
        }
        let seed: Self = serde_json::from_slice(bytes).map_err(SeedError::Json)?;
        seed.check()?;
        Ok(seed)
    }

    /// Writes the seed as [`Seed::parse`] reads it, after the same checks.
    pub fn to_json(&self) -> Result<Vec<u8>, SeedError> {
        self.check()?;
        serde_json::to_vec_pretty(self).map_err(SeedError::Json)
    }

    /// Checks what the types alone do not say.
    pub fn check(&self) -> Result<(), SeedError> {
        if self.version != SEED_VERSION {
            return Err(SeedError::Version { found: self.version });
        }
        if !is_host_name(&self.node) {
            return Err(field("node", "is not a host name (letters, digits, `-`, `.`; RFC 1123)"));
        }
        for (name, value) in [("cluster", &self.cluster), ("boot_id", &self.boot_id)] {
            if value.is_empty() || value.len() > MAX_NAME_BYTES {
                return Err(field(name, "must have 1 to 128 bytes"));
            }
            if value.chars().any(char::is_control) {
                return Err(field(name, "must not hold control characters"));
            }
        }
        if self.parents.is_empty() || self.parents.len() > MAX_PARENTS {
            return Err(field("parents", "must name 1 to 16 parents"));
        }
        for (index, parent) in self.parents.iter().enumerate() {
            if parent.addr.port() == 0 || parent.addr.ip().is_unspecified() {
                return Err(field(
                    format!("parents[{index}].addr"),
                    "must be an address and port that can be reached",
                ));
            }
        }
        self.check_interfaces()
    }

    fn check_interfaces(&self) -> Result<(), SeedError> {
        if self.interfaces.is_empty() || self.interfaces.len() > MAX_INTERFACES {
            return Err(field("interfaces", "must configure 1 to 32 interfaces"));
        }
        for (index, interface) in self.interfaces.iter().enumerate() {
            if let Err((name, problem)) = interface.check() {
                return Err(field(format!("interfaces[{index}].{name}"), problem));
            }
            if self.interfaces[..index].iter().any(|other| other.mac == interface.mac) {
                return Err(field(
                    format!("interfaces[{index}].mac"),
                    "is the hardware address of another interface too",
                ));
            }
        }
        Ok(())
    }
}

impl SeedInterface {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if MacAddress::new(self.mac.0).is_err() {
            return Err(("mac", "is not the hardware address of one machine"));
        }
        let ip = self.address.ip();
        let is_special = ip.is_unspecified() || ip.is_multicast() || ip.is_loopback();
        let v4 = match ip {
            IpAddr::V4(ip) => Some(InterfaceAddress::new(ip, self.address.prefix())),
            IpAddr::V6(_) => None,
        };
        if is_special || matches!(v4, Some(Err(_))) {
            return Err(("address", "is not an address that one machine can have"));
        }
        if let (Some(Ok(address)), Some(IpAddr::V4(gateway))) = (v4, self.gateway) {
            match address.check_gateway(gateway) {
                Ok(()) => {}
                Err(InvalidGateway::Own) => {
                    return Err(("gateway", "is the interface's own address"));
                }
                Err(InvalidGateway::Host(_)) => {
                    return Err(("gateway", "lies outside the interface's network"));
                }
            }
        } else if let Some(gateway) = self.gateway {
            // A link-local gateway is usual for IPv6 and lies in no configured network.
            let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !link_local && !self.address.contains(gateway) {
                return Err(("gateway", "lies outside the interface's network"));
            }
            if gateway == ip {
                return Err(("gateway", "is the interface's own address"));
            }
        }
        if self.dns.len() > MAX_DNS {
            return Err(("dns", "names more than 8 servers"));
        }
        if self.domain.as_deref().is_some_and(|domain| !is_host_name(domain)) {
            return Err(("domain", "is not a domain (letters, digits, `-`, `.`; RFC 1123)"));
        }
        // RFC 791: every link carries 68 bytes; 9216 is the largest jumbo frame in use, and
        // 65535 the most that an IPv4 header can say.
        if self.mtu.is_some_and(|mtu| !(68..=65_535).contains(&mtu)) {
            return Err(("mtu", "must be between 68 and 65535 bytes"));
        }
        Ok(())
    }
}

fn field(name: impl Into<String>, problem: &'static str) -> SeedError {
    SeedError::Field { field: name.into(), problem }
}

/// Entry for fuzzing: any bytes are either refused or survive being written and read again.
pub fn fuzz_seed(data: &[u8]) {
    if let Ok(seed) = Seed::parse(data) {
        let written =
            seed.to_json().map(|json| Seed::parse(&json).is_ok_and(|again| again == seed));
        assert!(matches!(written, Ok(true)), "a seed that was read must be writable");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{
        "version": 1, "node": "n01", "cluster": "lab", "boot_id": "b-1",
        "interfaces": [{"mac": "52:54:00:AB:cd:01", "address": "10.7.0.11/24",
                        "gateway": "10.7.0.1", "dns": ["10.7.0.1"],
                        "domain": "lab.example"}],
        "parents": [{"addr": "10.7.0.1:7171"}],
        "parent_key_sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "join_token": "5e0c7f0e5e0c7f0e5e0c7f0e5e0c7f0e",
        "image_base": "http://10.7.0.1:8080/images",
        "time_unix_ms": 1790000000000
    }"#;

    fn problem(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "the example has no {from}");
        Seed::parse(GOOD.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_seed_reads_as_it_was_written() {
        let seed = Seed::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(seed.interfaces[0].mac.to_string(), "52:54:00:ab:cd:01");
        assert_eq!(seed.interfaces[0].address.to_string(), "10.7.0.11/24");
        assert_eq!(Seed::parse(&seed.to_json().unwrap()).unwrap(), seed);
    }

    #[test]
    fn the_token_is_not_printed() {
        let seed = Seed::parse(GOOD.as_bytes()).unwrap();
        assert!(!format!("{seed:?}").contains("5e0c7f0e"));
    }

    #[test]
    fn each_bad_value_is_named() {
        for (from, to, expected) in [
            ("\"version\": 1", "\"version\": 2, \"new\": 0", "format 2"),
            ("n01", "n 01", "`node` is not a host name"),
            ("\"b-1\"", "\"\"", "`boot_id` must have 1 to 128"),
            ("10.7.0.1\", \"dns", "10.8.0.1\", \"dns", "`interfaces[0].gateway` lies outside"),
            ("lab.example", "lab example", "`interfaces[0].domain` is not a domain"),
            ("52:54:00:AB:cd:01", "01:00:5e:00:00:01", "`interfaces[0].mac` is not"),
            ("10.7.0.1:7171", "10.7.0.1:0", "`parents[0].addr` must be"),
            ("10.7.0.11/24", "0.0.0.0/24", "`interfaces[0].address` is not"),
            ("10.7.0.11/24", "10.7.0.255/24", "`interfaces[0].address` is not"),
        ] {
            let message = problem(from, to);
            assert!(message.contains(expected), "{to}: {message}");
        }
    }

    #[test]
    fn values_that_do_not_parse_are_refused() {
        for (from, to) in [
            ("10.7.0.11/24", "10.7.0.11/33"),
            ("10.7.0.11/24", "10.7.0.11"),
            ("52:54:00:AB:cd:01", "52:54:00:AB:cd"),
            ("5e0c7f0e5e0c7f0e5e0c7f0e5e0c7f0e", "5e0c"),
            ("http://10.7.0.1:8080/images", "https://example.org/images"),
            ("http://10.7.0.1:8080/images", "http://10.7.0.1:8080/im ages"),
            ("\"node\"", "\"noode\""),
        ] {
            assert!(problem(from, to).contains("cannot be read"), "{to}");
        }
    }

    #[test]
    fn a_seed_beyond_the_limit_is_not_parsed() {
        let huge = vec![b' '; MAX_SEED_BYTES + 1];
        assert!(matches!(Seed::parse(&huge), Err(SeedError::TooLarge { .. })));
    }

    #[test]
    fn two_interfaces_cannot_share_a_hardware_address() {
        let mut seed = Seed::parse(GOOD.as_bytes()).unwrap();
        seed.interfaces.push(seed.interfaces[0].clone());
        assert!(seed.to_json().unwrap_err().to_string().contains("interfaces[1].mac"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..256)) {
            fuzz_seed(&data);
        }

        #[test]
        fn no_damage_to_a_good_seed_makes_the_parser_panic(at in 0..GOOD.len(), byte: u8) {
            let mut data = GOOD.as_bytes().to_vec();
            data[at] = byte;
            fuzz_seed(&data);
        }
    }
}
