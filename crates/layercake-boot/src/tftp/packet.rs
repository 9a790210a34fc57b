//! The packets of TFTP (RFC 1350) with options (RFC 2347, 2348, 2349, 7440).

/// A request longer than this is refused (RFC 2347, "the maximum size of a request packet").
pub const MAX_REQUEST_BYTES: usize = 512;

/// The error codes that are sent (RFC 1350 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    Undefined = 0,
    /// There is no such file for this machine.
    NotFound = 1,
    /// This machine may not have it.
    AccessViolation = 2,
    /// Too many transfers.
    Full = 3,
    /// Not a packet we know.
    IllegalOperation = 4,
}

/// Why a datagram on the server's port is not a read request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("request of {0} bytes; at most {MAX_REQUEST_BYTES} are allowed")]
    TooLong(usize),
    /// WRQ.
    #[error("write request; this server only reads")]
    Write,
    /// Another opcode, or none.
    #[error("not a request")]
    NotARequest,
    /// File name or mode without the NUL that ends it, or not text.
    #[error("request without file name and mode")]
    Unterminated,
    /// netascii or mail.
    #[error("mode {0:?}; only octet (binary) is served")]
    Mode(String),
}

impl RequestError {
    /// The code for the answer.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Write => ErrorCode::AccessViolation,
            Self::Mode(_) => ErrorCode::Undefined,
            _ => ErrorCode::IllegalOperation,
        }
    }
}

/// An option of a request that is understood; others are not acknowledged (RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOption {
    /// Bytes in a block, 8 to 65464 (RFC 2348).
    Blksize(u16),
    /// How large is the file? (RFC 2349)
    Tsize,
    /// Seconds until a packet is sent again, 1 to 255 (RFC 2349).
    Timeout(u8),
    /// Blocks that are sent before an acknowledgement, 1 to 65535 (RFC 7440).
    Windowsize(u16),
}

/// A read request (RRQ).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file name as sent.
    pub filename: String,
    /// The options that are understood, in the order sent, each once.
    pub options: Vec<RequestOption>,
}

impl ReadRequest {
    /// Reads a datagram that reached the server's port.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(bytes.len()));
        }
        let fields = match bytes {
            [0, 1, fields @ ..] => fields,
            [0, 2, ..] => return Err(RequestError::Write),
            _ => return Err(RequestError::NotARequest),
        };
        // Some firmware takes the byte behind the name that it was told for a part of it: the end of
        // the options, which is no character of any text.
        let name = fields.iter().position(|&b| b == 0).map_or(fields, |end| &fields[..end]);
        let odd = name.iter().rev().take_while(|&&b| b == 0xff).count();
        let name = &name[..name.len() - odd];
        let terminated = [name, &fields[name.len() + odd..]].concat();
        let mut strings = Strings { rest: &terminated };
        let filename = strings.next().ok_or(RequestError::Unterminated)?.to_owned();
        let mode = strings.next().ok_or(RequestError::Unterminated)?;
        if !mode.eq_ignore_ascii_case("octet") {
            return Err(RequestError::Mode(mode.chars().take(16).collect()));
        }
        let mut options: Vec<RequestOption> = Vec::new();
        while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
            if let Some(option) = read_option(name, value)
                && !options
                    .iter()
                    .any(|o| std::mem::discriminant(o) == std::mem::discriminant(&option))
            {
                options.push(option);
            }
        }
        Ok(Self { filename, options })
    }
}

/// An option whose value is out of range is treated as unknown: the client then goes on without it.
fn read_option(name: &str, value: &str) -> Option<RequestOption> {
    let number: u64 = value.parse().ok()?;
    match name.to_ascii_lowercase().as_str() {
        "blksize" if (8..=65464).contains(&number) => {
            u16::try_from(number).ok().map(RequestOption::Blksize)
        }
        "tsize" => Some(RequestOption::Tsize),
        "timeout" if number >= 1 => u8::try_from(number).ok().map(RequestOption::Timeout),
        "windowsize" if number >= 1 => u16::try_from(number).ok().map(RequestOption::Windowsize),
        _ => None,
    }
}

/// Strings that each end with NUL; the first that does not, or is not UTF-8, ends them all.
struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|&b| b == 0);
        let text = end.and_then(|end| std::str::from_utf8(&self.rest[..end]).ok());
        self.rest = match (end, text) {
            (Some(end), Some(_)) => &self.rest[end + 1..],
            _ => &[],
        };
        text
    }
}

/// What the peer of a transfer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPacket {
    /// Everything up to this block has arrived.
    Ack(u16),
    /// It gives up, with this code.
    Error(u16),
    /// Anything else.
    Other,
}

impl PeerPacket {
    /// Reads a datagram of a running transfer.
    pub fn parse(bytes: &[u8]) -> Self {
        match *bytes {
            [0, 4, high, low, ..] => Self::Ack(u16::from_be_bytes([high, low])),
            [0, 5, high, low, ..] => Self::Error(u16::from_be_bytes([high, low])),
            _ => Self::Other,
        }
    }
}

/// DATA.
pub(super) fn data(block: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(4 + payload.len());
    packet.extend_from_slice(&[0, 3]);
    packet.extend_from_slice(&block.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// ERROR. The message is ours and short.
pub(super) fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5];
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend(message.bytes().filter(|b| *b != 0).take(200));
    packet.push(0);
    packet
}

/// OACK with names and values.
pub(super) fn oack<'a>(options: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<u8> {
    let mut packet = vec![0, 6];
    for (name, value) in options {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
        packet.extend_from_slice(value.to_string().as_bytes());
        packet.push(0);
    }
    packet
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_with_options_is_read() {
        let read = ReadRequest::parse(
            b"\0\x01/boot/n1.ipxe\0OCTET\0blksize\x001468\0tsize\x000\0BlkSize\x0099\0x\0y\0windowsize\x0016\0timeout\x003\0",
        )
        .unwrap();
        assert_eq!(read.filename, "/boot/n1.ipxe");
        use RequestOption::{Blksize, Timeout, Tsize, Windowsize};
        assert_eq!(read.options, [Blksize(1468), Tsize, Windowsize(16), Timeout(3)]);
    }

    #[test]
    fn what_is_not_a_read_request_is_refused_with_its_reason() {
        let refused = |bytes: &[u8]| ReadRequest::parse(bytes).unwrap_err();
        assert_eq!(refused(b"\0\x02f\0octet\0"), RequestError::Write);
        assert_eq!(refused(b"\0\x01f\0netascii\0"), RequestError::Mode("netascii".into()));
        assert_eq!(refused(b"\0\x01f\0octet"), RequestError::Unterminated);
        assert_eq!(refused(b"\0\x01f"), RequestError::Unterminated);
        assert_eq!(refused(b"\0\x01a\xffb\0octet\0"), RequestError::Unterminated);
        assert_eq!(refused(b"\0\x04\0\x01"), RequestError::NotARequest);
        assert_eq!(refused(b""), RequestError::NotARequest);
        assert_eq!(refused(&[0; 513]), RequestError::TooLong(513));
    }

    #[test]
    fn the_end_of_the_options_behind_a_name_is_no_part_of_it() {
        let read = ReadRequest::parse(b"\0\x01undionly.kpxe\xff\0octet\0tsize\x000\0").unwrap();
        assert_eq!((read.filename.as_str(), read.options.len()), ("undionly.kpxe", 1));
    }

    #[test]
    fn options_out_of_range_are_treated_as_unknown() {
        let read = ReadRequest::parse(
            b"\0\x01f\0octet\0blksize\x007\0timeout\x000\0windowsize\x0070000\0tsize\0x\0",
        );
        assert_eq!(read.unwrap().options, []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = ReadRequest::parse(&bytes);
            let _ = PeerPacket::parse(&bytes);
        }
    }
}
