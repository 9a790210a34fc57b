//! Names of machines, domains and network interfaces.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest machine name: a DNS label.
pub const MAX_NAME_LEN: usize = 63;

/// The longest interface name, `IFNAMSIZ` less the final zero (`netdevice(7)`).
pub const MAX_INTERFACE_LEN: usize = 15;

/// The name of a machine: also the name of its run directory and an argument of site commands, so it has
/// letters, digits, `-`, `_` and `.` only, and starts with a letter or digit. Every node's name is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

/// A name that cannot be a machine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot name a machine: 1 to {MAX_NAME_LEN} letters, digits, '-', '_' or '.', starting with a letter or digit"
)]
pub struct InvalidName {
    name: String,
}

/// Letters, digits, `-`, `_` and `.`, beginning with a letter or digit: safe in paths and arguments.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl MachineName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        if is_plain(name) && name.len() <= MAX_NAME_LEN {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidName { name: name.chars().take(MAX_NAME_LEN + 1).collect() })
        }
    }
}

impl TryFrom<String> for MachineName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        name.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain, as DHCP (option 15, RFC 2132) and `resolv.conf` name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Text that is not a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a domain: labels of 1 to 63 letters, digits and inner hyphens, joined by dots, 253 bytes at most (RFC 1123)"
)]
pub struct InvalidDomain;

impl DomainName {
    /// The domain as text, without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        // The dot of the root is right, and no client expects it.
        let domain = text.strip_suffix('.').unwrap_or(text);
        if is_host_name(domain) { Ok(Self(domain.to_owned())) } else { Err(InvalidDomain) }
    }
}

impl TryFrom<String> for DomainName {
    type Error = InvalidDomain;

    fn try_from(text: String) -> Result<Self, InvalidDomain> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(domain: DomainName) -> Self {
        domain.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 1123 section 2.1: labels of 1 to 63 letters, digits and inner hyphens, 253 bytes in all.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label_is_good)
}

/// Text that cannot name a network interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an interface name is 1 to {MAX_INTERFACE_LEN} letters, digits, '-', '_' or '.', starting with a letter or digit"
)]
pub struct InvalidInterfaceName;

/// Checks the name of a network interface of this host.
///
/// # Errors
/// When the kernel, or a program that is told the name, would not take it.
pub fn check_interface_name(name: &str) -> Result<(), InvalidInterfaceName> {
    if is_plain(name) && name.len() <= MAX_INTERFACE_LEN {
        Ok(())
    } else {
        Err(InvalidInterfaceName)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::NodeId;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_could_leave_its_directory_or_look_like_an_option_is_refused() {
        for bad in ["", ".", "..", "../n1", "a/b", "-rf", "n 1", "n,1", "é", &"n".repeat(64)] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad:?} was accepted");
        }
        for good in ["n1", "rack-3.n001", "N_1", &"n".repeat(63)] {
            assert_eq!(good.parse::<MachineName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_domain_is_labels_joined_by_dots() {
        for bad in ["", ".", "rep..", "a..b", "-a", "a b", "~", "rep_example", &"a".repeat(64)] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("rep.example.".parse::<DomainName>().unwrap().as_str(), "rep.example");
        assert!(["x."; 127].concat().trim_end_matches('.').parse::<DomainName>().is_ok());
        assert!(["x."; 128].concat().trim_end_matches('.').parse::<DomainName>().is_err());
    }

    proptest! {
        #[test]
        fn every_nodes_name_names_a_machine_and_a_host(name in "[a-z0-9-]{0,70}") {
            if NodeId::new(&name).is_ok() {
                prop_assert!(name.parse::<MachineName>().is_ok() && is_host_name(&name));
            }
        }
    }
}
