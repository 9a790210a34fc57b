//! The values a seed is made of, each checked when it is read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a value of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ValueError {
    text: String,
    expected: &'static str,
}

impl ValueError {
    fn new(text: &str, expected: &'static str) -> Self {
        // The text may come from outside: quote no more of it than a person would read.
        Self { text: text.chars().take(64).collect(), expected }
    }
}

/// Gives a type with `FromStr` and `Display` the same form in JSON.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Borrowing would fail on a text with escapes.
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A hardware (Ethernet) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new(text, "a hardware address such as 52:54:00:12:34:56");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(error)?;
            // from_str_radix would also take a sign.
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
serde_as_text!(Mac);

/// A machine's address together with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    ip: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `None` when the prefix is longer than the address.
    #[must_use]
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { ip, prefix })
    }

    /// The address itself.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Length of the network's prefix in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Is this address in the same network?
    #[must_use]
    pub fn contains(self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error =
            || ValueError::new(text, "an address with a prefix length such as 10.7.0.11/24");
        let (ip, prefix) = text.split_once('/').ok_or_else(error)?;
        if !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(error());
        }
        let ip = ip.parse().map_err(|_| error())?;
        let prefix = prefix.parse().map_err(|_| error())?;
        Self::new(ip, prefix).ok_or_else(error)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}
serde_as_text!(Cidr);

/// SHA-256 of a public key (SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

impl FromStr for KeyFingerprint {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| ValueError::new(text, "a SHA-256 of 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFingerprint({self})")
    }
}
serde_as_text!(KeyFingerprint);

/// The secret that lets one machine join once. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(Vec<u8>);

impl JoinToken {
    /// Fewer bytes could be guessed.
    pub const MIN_BYTES: usize = 16;
    /// More would be no safer.
    pub const MAX_BYTES: usize = 64;

    /// `None` when it is shorter or longer than a token may be.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The secret itself, to be shown to the parent only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} bytes)", self.0.len())
    }
}

impl Serialize for JoinToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for JoinToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error must not quote the text: it would put a secret into a log.
        let error =
            || serde::de::Error::custom("the join token is not 32 to 128 hexadecimal digits");
        let text = String::deserialize(deserializer)?;
        hex::decode(text).ok().and_then(Self::new).ok_or_else(error)
    }
}

/// The URL below which images lie: `http://ip:port/path`.
///
/// Plain HTTP is enough because an image is named by its digest, which came over a channel that
/// is sealed; an address and not a name, because a booting node has no resolver yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageBase {
    addr: SocketAddr,
    path: String,
}

impl ImageBase {
    /// Where the image server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The path without a slash at its end; empty or begins with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for ImageBase {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new(text, "an image URL such as http://10.7.0.1:8080/images");
        let rest = text.strip_prefix("http://").ok_or_else(error)?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        // RFC 3986 section 3.3, the characters of a path that need no escape.
        let path_is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
        if !path.bytes().all(path_is_plain) {
            return Err(error());
        }
        let addr: SocketAddr = authority
            .parse()
            .or_else(|_| authority.parse().map(|ip: IpAddr| SocketAddr::new(ip, 80)))
            .map_err(|_| error())?;
        Ok(Self { addr, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for ImageBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.addr, self.path)
    }
}
serde_as_text!(ImageBase);
