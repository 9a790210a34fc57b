//! Ethernet addresses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An Ethernet address that a single machine can have: neither a group address nor all zero (IEEE 802).
///
/// ```
/// use layercake_types::MacAddress;
/// let mac: MacAddress = "52-54-00-AB-cd-01".parse().unwrap();
/// assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
/// assert!("01:00:5e:00:00:01".parse::<MacAddress>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// Text or bytes that are not the address of one machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMac {
    /// Not six pairs of hexadecimal digits.
    #[error(
        "{0:?} is not an Ethernet address; expected six hexadecimal pairs, like 52:54:00:12:34:56"
    )]
    Syntax(String),
    /// A group address: the lowest bit of the first octet is set (IEEE 802).
    #[error("{0} cannot belong to one machine: it is a group (multicast) address")]
    Group(String),
    /// All zero, as loopback and half-made devices have it.
    #[error("{0} cannot belong to one machine: it is all zero")]
    Zero(String),
}

impl MacAddress {
    /// The address with these octets.
    ///
    /// # Errors
    /// When it is a group address or all zero.
    pub fn new(octets: [u8; 6]) -> Result<Self, InvalidMac> {
        if octets == [0; 6] {
            Err(InvalidMac::Zero(Self(octets).to_string()))
        } else if octets[0] & 1 == 1 {
            Err(InvalidMac::Group(Self(octets).to_string()))
        } else {
            Ok(Self(octets))
        }
    }

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
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(syntax)?;
            // from_str_radix would also take a sign.
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(syntax());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| syntax())?;
        }
        if parts.next().is_some() { Err(syntax()) } else { Self::new(octets) }
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
    fn a_mac_address_reads_both_notations_and_refuses_what_no_machine_has() {
        let mac: MacAddress = "52-54-00-AB-cd-01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5254.0012.3456", "+2:54:00:12:34:56"]
        {
            assert!(matches!(bad.parse::<MacAddress>(), Err(InvalidMac::Syntax(_))), "{bad:?}");
        }
        for group in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "53:54:00:00:00:01"] {
            assert!(matches!(group.parse::<MacAddress>(), Err(InvalidMac::Group(_))), "{group}");
        }
        let zero = "00:00:00:00:00:00".parse::<MacAddress>();
        assert!(matches!(zero, Err(InvalidMac::Zero(_))));
    }
}
