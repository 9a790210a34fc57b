//! Reads what a DHCP client sent.
//!
//! dhcproto encodes our replies and is the oracle of the tests. It does not read requests: its
//! decoder trusts lengths that come from the network (hlen beyond 16, option 81 shorter than 3) and
//! silently drops every option behind one it cannot read. This reader borrows from the datagram,
//! checks the framing of all options before anything is believed, and copies nothing.

use std::{borrow::Cow, net::Ipv4Addr};

use crate::{events::MachineFacts, hosts::MacAddr};

/// Larger than any Ethernet frame's payload; a longer datagram is cut by the driver.
pub const MAX_DATAGRAM_BYTES: usize = 1500;
/// The fixed fields (RFC 2131 section 2) and the magic cookie.
const FIXED_BYTES: usize = 240;
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Option codes of RFC 2132, 3004, 3046, 4578.
pub(crate) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const VENDOR_CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const USER_CLASS: u8 = 77;
    pub(crate) const RELAY_AGENT: u8 = 82;
    pub(crate) const CLIENT_ARCH: u8 = 93;
    pub(crate) const CLIENT_UUID: u8 = 97;
    pub(crate) const END: u8 = 255;
}

/// Why a datagram is not a DHCP request that we can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed fields.
    #[error("datagram of {0} bytes is shorter than a DHCP message")]
    Short(usize),
    /// Not op 1.
    #[error("op {0} is not BOOTREQUEST")]
    NotARequest(u8),
    /// Not Ethernet.
    #[error("hardware type {htype} with {hlen} bytes is not Ethernet")]
    NotEthernet {
        /// Field `htype`.
        htype: u8,
        /// Field `hlen`.
        hlen: u8,
    },
    /// No magic cookie: plain BOOTP, or not DHCP at all.
    #[error("no DHCP magic cookie")]
    NoCookie,
    /// An option reaches beyond its field.
    #[error("option {0} reaches beyond the end of its field")]
    Truncated(u8),
    /// An option has a length that its meaning forbids.
    #[error("option {0} has a wrong length")]
    BadLength(u8),
    /// No option 53, or one with a type that no client sends.
    #[error("no message type of a client")]
    NoMessageType,
}

/// What the client wants (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Who has an address for me?
    Discover,
    /// I want, or still want, this address.
    Request,
    /// Somebody else uses this address.
    Decline,
    /// I give the address back.
    Release,
    /// I have an address; tell me the rest.
    Inform,
}

/// A request whose framing was checked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    /// What the client wants.
    pub kind: MessageType,
    /// Its transaction.
    pub xid: u32,
    /// The flags as sent; bit 15 asks for broadcast replies.
    pub flags: u16,
    /// The address it has and answers ARP for, or zero.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed it on, or zero.
    pub giaddr: Ipv4Addr,
    /// Its interface.
    pub mac: MacAddr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 93.
    pub arch: Option<u16>,
}

impl<'a> Request<'a> {
    /// Reads a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < FIXED_BYTES {
            return Err(Malformed::Short(bytes.len()));
        }
        if bytes[0] != 1 {
            return Err(Malformed::NotARequest(bytes[0]));
        }
        if (bytes[1], bytes[2]) != (1, 6) {
            return Err(Malformed::NotEthernet { htype: bytes[1], hlen: bytes[2] });
        }
        if bytes[236..FIXED_BYTES] != MAGIC_COOKIE {
            return Err(Malformed::NoCookie);
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&bytes[28..34]);
        let mut request = Self {
            bytes,
            kind: MessageType::Discover,
            xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            flags: u16::from_be_bytes([bytes[10], bytes[11]]),
            ciaddr: address_at(bytes, 12),
            giaddr: address_at(bytes, 24),
            mac: MacAddr(mac),
            requested: None,
            server_id: None,
            arch: None,
        };
        for field in request.fields() {
            check_framing(field)?;
        }
        request.kind = match request.option(code::MESSAGE_TYPE).as_deref() {
            Some([1]) => MessageType::Discover,
            Some([3]) => MessageType::Request,
            Some([4]) => MessageType::Decline,
            Some([7]) => MessageType::Release,
            Some([8]) => MessageType::Inform,
            _ => return Err(Malformed::NoMessageType),
        };
        request.requested = request.address_option(code::REQUESTED_ADDRESS)?;
        request.server_id = request.address_option(code::SERVER_ID)?;
        // RFC 4578 section 2.1 allows a list; the first is the one in use.
        request.arch = match request.option(code::CLIENT_ARCH).as_deref() {
            Some([high, low, rest @ ..]) if rest.len() % 2 == 0 => {
                Some(u16::from_be_bytes([*high, *low]))
            }
            Some(_) => return Err(Malformed::BadLength(code::CLIENT_ARCH)),
            None => None,
        };
        Ok(request)
    }

    /// The value of an option; several pieces are one value (RFC 3396).
    pub fn option(&self, wanted: u8) -> Option<Cow<'a, [u8]>> {
        let mut found: Option<Cow<'a, [u8]>> = None;
        for field in self.fields() {
            for (code, value) in (Options { rest: field }).flatten() {
                if code == wanted {
                    match &mut found {
                        None => found = Some(Cow::Borrowed(value)),
                        Some(earlier) => earlier.to_mut().extend_from_slice(value),
                    }
                }
            }
        }
        found
    }

    /// Whether it comes from firmware that looks for something to boot: no system runs where it does.
    pub fn is_of_firmware(&self) -> bool {
        let classes: [&[u8]; 2] = [b"PXEClient", b"HTTPClient"];
        let asks = matches!(self.kind, MessageType::Discover | MessageType::Request);
        asks && (self.is_ipxe() || classes.iter().any(|c| self.vendor_class_starts_with(c)))
    }

    /// Whether iPXE asks: user class "iPXE" (option 77). Old builds send the bare string, RFC 3004
    /// wants a length before it; both are met.
    pub fn is_ipxe(&self) -> bool {
        self.option(code::USER_CLASS).is_some_and(|v| *v == *b"iPXE" || *v == *b"\x04iPXE")
    }

    /// Whether the vendor class (option 60) starts like this.
    pub fn vendor_class_starts_with(&self, prefix: &[u8]) -> bool {
        self.option(code::VENDOR_CLASS).is_some_and(|v| v.starts_with(prefix))
    }

    /// What the firmware says of its machine, made safe to print.
    pub fn machine_facts(&self) -> MachineFacts {
        let printable = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '?' };
        MachineFacts {
            vendor_class: self
                .option(code::VENDOR_CLASS)
                .map(|v| v.iter().take(64).map(printable).collect()),
            arch: self.arch,
            // Type 0 and 16 bytes (RFC 4578 section 2.3).
            uuid: self
                .option(code::CLIENT_UUID)
                .filter(|v| v.len() == 17 && v[0] == 0)
                .map(|v| v[1..].iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// The option field and, where option 52 says so, `file` and `sname` (RFC 2131 section 4.1).
    fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let options = &self.bytes[FIXED_BYTES..];
        let overload = (Options { rest: options })
            .map_while(Result::ok)
            .find(|(code, value)| *code == code::OVERLOAD && value.len() == 1)
            .map_or(0, |(_, value)| value[0]);
        let file = (overload & 1 != 0).then(|| &self.bytes[FILE]);
        let sname = (overload & 2 != 0).then(|| &self.bytes[SNAME]);
        [Some(options), file, sname].into_iter().flatten()
    }

    fn address_option(&self, code: u8) -> Result<Option<Ipv4Addr>, Malformed> {
        match self.option(code).as_deref() {
            None => Ok(None),
            Some(&[a, b, c, d]) => Ok(Some(Ipv4Addr::new(a, b, c, d))),
            Some(_) => Err(Malformed::BadLength(code)),
        }
    }
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn check_framing(field: &[u8]) -> Result<(), Malformed> {
    (Options { rest: field }).try_for_each(|option| option.map(|_| ()))
}

/// The options of one field, up to END or the end of the field.
struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.rest {
                [] | [code::END, ..] => return None,
                [code::PAD, rest @ ..] => self.rest = rest,
                [code, len, rest @ ..] if rest.len() >= usize::from(*len) => {
                    let (value, rest) = rest.split_at(usize::from(*len));
                    self.rest = rest;
                    return Some(Ok((*code, value)));
                }
                [code, ..] => {
                    let code = *code;
                    self.rest = &[];
                    return Some(Err(Malformed::Truncated(code)));
                }
            }
        }
    }
}
