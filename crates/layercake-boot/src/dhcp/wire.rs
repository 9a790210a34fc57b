//! Reads what a DHCP client sent.
//!
//! dhcproto encodes our replies and is the oracle of the tests. It does not read requests: its
//! decoder trusts lengths that come from the network (hlen beyond 16, option 81 shorter than 3) and
//! silently drops every option behind one it cannot read. This reader borrows from the datagram,
//! checks the framing of all options before anything is believed, and copies nothing.

use std::{borrow::Cow, net::Ipv4Addr};

use super::Transport;
use crate::{events::MachineFacts, hosts::MacAddr};

/// Larger than any Ethernet frame's payload; a longer datagram is cut by the driver.
pub const MAX_DATAGRAM_BYTES: usize = 1500;
/// The fixed fields (RFC 2131 section 2) and the magic cookie.
const FIXED_BYTES: usize = 240;
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Option codes of RFC 2132, 3004, 3046, 4578, and iPXE's own.
pub(crate) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const MAX_MESSAGE_BYTES: u8 = 57;
    pub(crate) const VENDOR_CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const USER_CLASS: u8 = 77;
    pub(crate) const RELAY_AGENT: u8 = 82;
    pub(crate) const CLIENT_ARCH: u8 = 93;
    pub(crate) const CLIENT_UUID: u8 = 97;
    pub(crate) const IPXE: u8 = 175;
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
    /// The first architecture of option 93.
    pub arch: Option<u16>,
    /// What relays and switches on the way added (option 82).
    pub relay: RelayAgent,
}

/// Who asks, as far as booting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A firmware that boots from the network, and how it fetches.
    Firmware(Transport),
    /// iPXE.
    Ipxe,
    /// An operating system, or anything else that asks for no boot file.
    Other,
}

/// The sub-options of option 82 that change an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayAgent {
    /// Sub-option 5: an address in the client's network, where `giaddr` is in another (RFC 3527).
    pub link_selection: Option<Ipv4Addr>,
    /// Sub-option 11: the address that the client is to take for the server (RFC 5107).
    pub server_id_override: Option<Ipv4Addr>,
    /// Sub-option 19: the relay wants its answer at the port that it sent from (RFC 8357).
    pub answers_to_source_port: bool,
}

impl RelayAgent {
    /// Sub-options are counted as options are; what is not framed as one ends the list.
    fn read(mut value: &[u8]) -> Self {
        let mut relay = Self::default();
        while let [code, len, rest @ ..] = value {
            let Some((content, rest)) = rest.split_at_checked(usize::from(*len)) else { break };
            match (*code, <[u8; 4]>::try_from(content)) {
                (5, Ok(address)) => relay.link_selection = Some(address.into()),
                (11, Ok(address)) => relay.server_id_override = Some(address.into()),
                (19, _) => relay.answers_to_source_port = true,
                _ => {}
            }
            value = rest;
        }
        relay
    }
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
            relay: RelayAgent::default(),
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
        if let Some(value) = request.option(code::RELAY_AGENT) {
            request.relay = RelayAgent::read(&value);
        }
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
        let asks = matches!(self.kind, MessageType::Discover | MessageType::Request);
        asks && self.client() != Client::Other
    }

    /// Who asks. Firmware says so by its vendor class (option 60). iPXE has the vendor class of the
    /// firmware that it stands for, and is known by its user class (option 77) or, where somebody gave
    /// it another, by its own options (175), which only it and its predecessor gPXE send.
    pub fn client(&self) -> Client {
        let class = self.option(code::USER_CLASS).unwrap_or_default();
        // Old builds send the bare string, RFC 3004 wants a length before each of several.
        if *class == *b"iPXE" || user_classes(&class).any(|class| *class == *b"iPXE") {
            return Client::Ipxe;
        }
        let is_gpxe = *class == *b"gPXE";
        if self.option(code::IPXE).is_some_and(|value| !value.is_empty()) && !is_gpxe {
            return Client::Ipxe;
        }
        let has =
            |transport: &Transport| self.vendor_class_starts_with(transport.class().as_bytes());
        let transport = [Transport::Tftp, Transport::Http].into_iter().find(has);
        transport.map_or(Client::Other, Client::Firmware)
    }

    /// Whether iPXE asks.
    pub fn is_ipxe(&self) -> bool {
        self.client() == Client::Ipxe
    }

    /// The architectures that a firmware says it has, best first (RFC 4578 section 2.1 allows a list);
    /// without option 93, the one in its vendor class (`PXEClient:Arch:00007:UNDI:003016`).
    pub fn architectures(&self) -> Vec<u16> {
        if let Some(list) = self.option(code::CLIENT_ARCH) {
            let pairs = list.as_chunks::<2>().0.iter();
            return pairs.map(|pair| u16::from_be_bytes(*pair)).collect();
        }
        let class = self.option(code::VENDOR_CLASS).unwrap_or_default();
        let text = std::str::from_utf8(&class).unwrap_or_default();
        let mut fields = text.split(':').skip_while(|field| *field != "Arch").skip(1);
        fields.next().and_then(|number| number.parse().ok()).into_iter().collect()
    }

    /// The largest answer that the client takes: option 57, which counts the headers of IPv4 and UDP, and
    /// is never less than 576 (RFC 2132 section 9.10).
    pub fn max_answer_bytes(&self) -> usize {
        const LEAST: u16 = 576;
        const HEADERS: usize = 20 + 8;
        let said = match self.option(code::MAX_MESSAGE_BYTES).as_deref() {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => LEAST,
        };
        usize::from(said.max(LEAST)) - HEADERS
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

/// The instances of a user class (RFC 3004 section 4).
fn user_classes(mut value: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = value.split_first()?;
        let (class, rest) = rest.split_at_checked(usize::from(*len))?;
        value = rest;
        Some(class)
    })
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
