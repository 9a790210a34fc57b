//! Names and addresses that end up in paths and command lines, checked once, here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest machine name: a DNS label.
pub const MAX_NAME_LEN: usize = 63;

/// The name of a machine: also the name of its run directory and an argument of site commands, so it has
/// letters, digits, `-`, `_` and `.` only, and starts with a letter or digit.
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
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all_allowed =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if starts_well && all_allowed && name.len() <= MAX_NAME_LEN {
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

/// An Ethernet address that a single machine can have: neither multicast nor all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// Text that is not the address of one machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMac {
    /// Not six pairs of hexadecimal digits.
    #[error(
        "{0:?} is not an Ethernet address; expected six hexadecimal pairs, like 52:54:00:12:34:56"
    )]
    Syntax(String),
    /// Multicast, broadcast or zero.
    #[error("{0} cannot belong to one machine: it is a multicast address or zero")]
    NotUnicast(String),
}

impl MacAddress {
    /// The six octets.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let syntax = || InvalidMac::Syntax(text.chars().take(32).collect());
        let mut octets = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(syntax)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(syntax());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| syntax())?;
        }
        if parts.next().is_some() {
            return Err(syntax());
        }
        // IEEE 802: the lowest bit of the first octet marks a group address.
        if octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(InvalidMac::NotUnicast(text.to_owned()));
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

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
    fn a_mac_address_reads_both_notations_and_refuses_what_no_machine_has() {
        let mac: MacAddress = "52-54-00-AB-cd-01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5254.0012.3456", "+2:54:00:12:34:56"]
        {
            assert!(matches!(bad.parse::<MacAddress>(), Err(InvalidMac::Syntax(_))), "{bad:?}");
        }
        for group in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(matches!(group.parse::<MacAddress>(), Err(InvalidMac::NotUnicast(_))));
        }
    }
}
