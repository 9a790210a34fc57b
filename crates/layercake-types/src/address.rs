//! IPv4 addresses of interfaces, and the networks they are in.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    first: Ipv4Addr,
    prefix: u8,
}

/// The IPv4 address of one interface, with the length of its network's prefix: one that a machine can
/// have there.
///
/// ```
/// use layercake_types::InterfaceAddress;
/// let address: InterfaceAddress = "10.77.0.11/24".parse().unwrap();
/// assert_eq!(address.network().to_string(), "10.77.0.0/24");
/// assert!("10.77.0.255/24".parse::<InterfaceAddress>().is_err(), "the broadcast address");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    ip: Ipv4Addr,
    prefix: u8,
}

/// An address that no interface can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// No address with a prefix.
    #[error("{0:?} is not an IPv4 address with its prefix, such as 10.0.0.1/24")]
    Syntax(String),
    /// No prefix.
    #[error("a prefix has 1 to 32 bits, not {0}")]
    Prefix(u8),
    /// An address with a meaning of its own.
    #[error("it is {0}, which no interface can have")]
    Special(&'static str),
    /// Of another network.
    #[error("it is not in {0}")]
    Outside(Network),
    /// The first address of a network names the network.
    #[error("it is the network's own, the first address of {0}")]
    First(Network),
    /// The last address of a network is for all of it.
    #[error("it is the broadcast address of {0}")]
    Broadcast(Network),
}

/// The reason why an address is not that of one machine anywhere (RFC 6890).
fn special(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("an address of \"this network\" (0.0.0.0/8)"),
        [127, ..] => Some("a loopback address"),
        [255, 255, 255, 255] => Some("the broadcast address of every network"),
        [224..=239, ..] => Some("a multicast address"),
        _ => None,
    }
}

/// Checks the address of a name server. One on the machine itself may be meant.
///
/// # Errors
/// When nothing can answer there.
pub fn check_name_server(ip: Ipv4Addr) -> Result<(), InvalidAddress> {
    match special(ip) {
        Some(what) if !ip.is_loopback() => Err(InvalidAddress::Special(what)),
        _ => Ok(()),
    }
}

impl Network {
    /// The network that an address is in.
    ///
    /// # Errors
    /// When the prefix is not 1 to 32 bits long.
    pub fn of(ip: Ipv4Addr, prefix: u8) -> Result<Self, InvalidAddress> {
        if !(1..=32).contains(&prefix) {
            return Err(InvalidAddress::Prefix(prefix));
        }
        Ok(Self { first: Ipv4Addr::from_bits(ip.to_bits() & mask(prefix)), prefix })
    }

    /// The first address, which names the network.
    #[must_use]
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The length of the prefix, in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address, to which all of the network listens.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !mask(self.prefix))
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & mask(self.prefix) == self.first.to_bits()
    }

    /// Checks that a machine in this network can have an address.
    ///
    /// # Errors
    /// When it is in another network, or has a meaning of its own. In a network of one or two addresses
    /// (RFC 3021) every one is a machine's.
    pub fn check_host(self, ip: Ipv4Addr) -> Result<(), InvalidAddress> {
        if let Some(what) = special(ip) {
            Err(InvalidAddress::Special(what))
        } else if !self.contains(ip) {
            Err(InvalidAddress::Outside(self))
        } else if self.prefix <= 30 && ip == self.first {
            Err(InvalidAddress::First(self))
        } else if self.prefix <= 30 && ip == self.last() {
            Err(InvalidAddress::Broadcast(self))
        } else {
            Ok(())
        }
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl InterfaceAddress {
    /// An address in the network that its prefix says.
    ///
    /// # Errors
    /// When no machine can have it there.
    pub fn new(ip: Ipv4Addr, prefix: u8) -> Result<Self, InvalidAddress> {
        Network::of(ip, prefix)?.check_host(ip)?;
        Ok(Self { ip, prefix })
    }

    /// The address itself.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        self.ip
    }

    /// The length of the network's prefix, in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its network.
    #[must_use]
    pub fn network(self) -> Network {
        Network {
            first: Ipv4Addr::from_bits(self.ip.to_bits() & mask(self.prefix)),
            prefix: self.prefix,
        }
    }

    /// Checks the router of the interface.
    ///
    /// # Errors
    /// When it is no machine of the same network, or this one: then no packet would reach it.
    pub fn check_gateway(self, gateway: Ipv4Addr) -> Result<(), InvalidGateway> {
        if gateway == self.ip {
            return Err(InvalidGateway::Own);
        }
        self.network().check_host(gateway).map_err(InvalidGateway::Host)
    }
}

/// A router that an interface cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGateway {
    /// The interface itself.
    #[error("it is the interface's own address")]
    Own,
    /// No machine of the network.
    #[error(transparent)]
    Host(InvalidAddress),
}

impl FromStr for InterfaceAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let parsed = text.split_once('/').and_then(|(ip, prefix)| {
            // `parse` would also take a sign.
            let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
            Some((ip.parse().ok()?, prefix.parse().ok().filter(|_| digits)?))
        });
        let syntax = || InvalidAddress::Syntax(text.chars().take(40).collect());
        let (ip, prefix) = parsed.ok_or_else(syntax)?;
        Self::new(ip, prefix)
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_that_is_not_one_machines_is_refused_with_the_reason() {
        for (bad, why) in [
            ("10.0.0.0/24", "the network's own"),
            ("10.0.0.255/24", "the broadcast address of 10.0.0.0/24"),
            ("10.0.0.3/30", "the broadcast address"),
            ("10.0.0.1/0", "1 to 32 bits"),
            ("10.0.0.1/33", "1 to 32 bits"),
            ("10.0.0.1/+24", "not an IPv4 address with"),
            ("10.0.0.1", "not an IPv4 address with"),
            ("10.0.0.01/24", "not an IPv4 address with"),
            ("0.0.0.0/8", "this network"),
            ("127.0.0.1/8", "loopback"),
            ("224.0.0.1/24", "multicast"),
            ("255.255.255.255/24", "broadcast address of every network"),
        ] {
            let said = bad.parse::<InterfaceAddress>().unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
        for good in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/31", "10.0.0.255/32", "10.0.0.255/16"]
        {
            assert_eq!(good.parse::<InterfaceAddress>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn a_gateway_is_another_machine_of_the_same_network() {
        let address: InterfaceAddress = "10.0.0.9/24".parse().unwrap();
        assert_eq!(address.check_gateway("10.0.0.254".parse().unwrap()), Ok(()));
        for (bad, why) in [
            ("10.0.1.254", "it is not in 10.0.0.0/24"),
            ("10.0.0.9", "own address"),
            ("10.0.0.0", "the network's own"),
            ("10.0.0.255", "broadcast"),
            ("0.0.0.0", "this network"),
        ] {
            let said = address.check_gateway(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
        let alone: InterfaceAddress = "10.0.0.9/32".parse().unwrap();
        assert!(alone.check_gateway("10.0.0.8".parse().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn of_every_network_just_the_two_ends_are_nobodys(bits in 0x0a00_0000_u32..0x0b00_0000, prefix in 8_u8..=32) {
            let ip = Ipv4Addr::from_bits(bits);
            let network = Network::of(ip, prefix).unwrap();
            let is_end = ip == network.first() || ip == network.last();
            prop_assert!(network.contains(ip));
            prop_assert_eq!(InterfaceAddress::new(ip, prefix).is_err(), is_end && prefix <= 30);
        }
    }
}
