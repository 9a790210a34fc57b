//! What a datagram says once it is open: frames, one behind the other.

use crate::changes::MAX_TRANSFER_BYTES;
use crate::keys::{HEADER_BYTES, KeysSpent, MAX_DATAGRAM_BYTES, SessionKeys, TAG_BYTES};
use crate::wire::{Reader, put_blob, put_varint};
use crate::{Revision, SessionId};
use kraken_model::Side;

/// Longest piece of a transfer: with its own head it fills a datagram.
pub(crate) const MAX_PIECE_BYTES: usize = 1120;

/// Most pieces of a transfer.
pub(crate) const MAX_PIECES: usize = MAX_TRANSFER_BYTES.div_ceil(MAX_PIECE_BYTES);

/// How much may stand in one datagram before it is sealed.
const MAX_PLAIN_BYTES: usize = MAX_DATAGRAM_BYTES - TAG_BYTES;

/// Bytes are not frames, or not changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("it ends too early")]
    Truncated,
    /// A number is above 64 bits.
    #[error("a number is too large")]
    Number,
    /// Something is above its limit.
    #[error("something is above its limit")]
    TooLong,
    /// An unknown kind.
    #[error("kind {0} is not known")]
    Tag(u8),
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// Text is not an address.
    #[error("text is not an address")]
    Path,
    /// Changes are not sorted by address.
    #[error("changes are not in order")]
    Order,
    /// Numbers contradict each other.
    #[error("numbers contradict each other")]
    Contradiction,
}

/// A sign of life, with what its sender holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Counts the hellos of a session; an echo carries the number of its hello.
    pub(crate) sequence: u64,
    /// The newest revision of the sender's own document.
    pub(crate) newest: Revision,
    /// The revision it holds of the peer's document: an acknowledgement.
    pub(crate) held: Revision,
    /// How many datagrams it has taken in: with the peer's own count, the loss of the path.
    pub(crate) received: u64,
}

/// Which part of a document's transfer has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) to: Revision,
    /// All pieces before this one are there.
    pub(crate) base: u32,
    /// Bit `i`: piece `base + i` is there.
    pub(crate) bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) held: Revision,
    pub(crate) partial: Option<Partial>,
}

/// A piece of what leads from one revision to another. `from` zero: from nothing, whatever the
/// receiver holds is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) from: Revision,
    pub(crate) to: Revision,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

/// Lines of the child's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFrame<'a> {
    /// The oldest line that the child still has; what the parent lacks before it is lost.
    pub(crate) floor: u64,
    /// The number of the first line here.
    pub(crate) first: u64,
    /// Pairs of stream and line, see [`crate::log`].
    pub(crate) lines: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Hello(Hello),
    Echo(Hello),
    Ack(Side, Ack),
    Piece(Side, Piece<'a>),
    Log(LogFrame<'a>),
    LogAck { next: u64 },
    Bye,
    ByeAck,
}

const HELLO: u8 = 1;
const ECHO: u8 = 2;
const ACK: u8 = 3;
const PIECE: u8 = 5;
const LOG: u8 = 7;
const LOG_ACK: u8 = 8;
const BYE: u8 = 9;
const BYE_ACK: u8 = 10;

fn tag(base: u8, side: Side) -> u8 {
    base + u8::from(side == Side::Dsc)
}

impl<'a> Frame<'a> {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) | Self::Echo(hello) => {
                out.push(if matches!(self, Self::Hello(_)) { HELLO } else { ECHO });
                for n in [hello.sequence, hello.newest.0, hello.held.0, hello.received] {
                    put_varint(out, n);
                }
            }
            Self::Ack(side, ack) => {
                out.push(tag(ACK, *side));
                put_varint(out, ack.held.0);
                match ack.partial {
                    Some(Partial { to, base, bits }) => {
                        put_varint(out, to.0);
                        put_varint(out, base.into());
                        put_varint(out, bits);
                    }
                    None => put_varint(out, 0),
                }
            }
            Self::Piece(side, piece) => {
                out.push(tag(PIECE, *side));
                put_varint(out, piece.from.0);
                put_varint(out, piece.to.0);
                put_varint(out, piece.index.into());
                put_varint(out, piece.count.into());
                put_blob(out, piece.bytes);
            }
            Self::Log(LogFrame { floor, first, lines }) => {
                out.push(LOG);
                put_varint(out, *floor);
                put_varint(out, *first);
                put_blob(out, lines);
            }
            Self::LogAck { next } => {
                out.push(LOG_ACK);
                put_varint(out, *next);
            }
            Self::Bye => out.push(BYE),
            Self::ByeAck => out.push(BYE_ACK),
        }
    }

    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        match reader.u8()? {
            HELLO => Ok(Self::Hello(hello(reader)?)),
            ECHO => Ok(Self::Echo(hello(reader)?)),
            kind @ (ACK | 4) => Ok(Self::Ack(side(kind, ACK), ack(reader)?)),
            kind @ (PIECE | 6) => Ok(Self::Piece(side(kind, PIECE), piece(reader)?)),
            LOG => {
                let (floor, first) = (reader.varint()?, reader.varint()?);
                let lines = reader.blob(MAX_PLAIN_BYTES)?;
                if floor > first || first > u64::MAX / 2 {
                    return Err(Malformed::Contradiction);
                }
                Ok(Self::Log(LogFrame { floor, first, lines }))
            }
            LOG_ACK => Ok(Self::LogAck { next: reader.varint()? }),
            BYE => Ok(Self::Bye),
            BYE_ACK => Ok(Self::ByeAck),
            kind => Err(Malformed::Tag(kind)),
        }
    }
}

fn side(kind: u8, cfg: u8) -> Side {
    if kind == cfg { Side::Cfg } else { Side::Dsc }
}

fn index(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    Ok(u32::try_from(reader.size(MAX_PIECES)?).unwrap_or(u32::MAX))
}

fn hello(reader: &mut Reader<'_>) -> Result<Hello, Malformed> {
    Ok(Hello {
        sequence: reader.varint()?,
        newest: Revision(reader.varint()?),
        held: Revision(reader.varint()?),
        received: reader.varint()?,
    })
}

fn ack(reader: &mut Reader<'_>) -> Result<Ack, Malformed> {
    let held = Revision(reader.varint()?);
    let to = Revision(reader.varint()?);
    if to.0 == 0 {
        return Ok(Ack { held, partial: None });
    }
    let partial = Some(Partial { to, base: index(reader)?, bits: reader.varint()? });
    Ok(Ack { held, partial })
}

fn piece<'a>(reader: &mut Reader<'a>) -> Result<Piece<'a>, Malformed> {
    let (from, to) = (Revision(reader.varint()?), Revision(reader.varint()?));
    let (index, count) = (index(reader)?, index(reader)?);
    let bytes = reader.blob(MAX_PIECE_BYTES)?;
    // All pieces but the last are full: so a transfer cannot be many pieces and no bytes.
    let full = index + 1 >= count || bytes.len() == MAX_PIECE_BYTES;
    if from >= to || index >= count || !full {
        return Err(Malformed::Contradiction);
    }
    Ok(Piece { from, to, index, count, bytes })
}

/// All frames of an open datagram, or none.
pub(crate) fn decode(plain: &[u8]) -> Result<Vec<Frame<'_>>, Malformed> {
    let mut reader = Reader::new(plain);
    let mut frames = Vec::with_capacity(4);
    while !reader.is_empty() {
        frames.push(Frame::take(&mut reader)?);
    }
    Ok(frames)
}

/// Packs frames into as few datagrams as hold them.
#[derive(Default)]
pub(crate) struct Packer {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Packer {
    pub(crate) fn push(&mut self, frame: &Frame<'_>) {
        if self.open.is_empty() {
            self.open.resize(HEADER_BYTES, 0);
        }
        let start = self.open.len();
        frame.put(&mut self.open);
        if self.open.len() > MAX_PLAIN_BYTES && start > HEADER_BYTES {
            let mut next = vec![0; HEADER_BYTES];
            next.extend_from_slice(&self.open[start..]);
            self.open.truncate(start);
            self.full.push(std::mem::replace(&mut self.open, next));
        }
    }

    /// Seals what was packed and hands each datagram over.
    pub(crate) fn seal(
        self,
        keys: &mut SessionKeys,
        session: SessionId,
        mut send: impl FnMut(Vec<u8>),
    ) -> Result<(), KeysSpent> {
        let open = (!self.open.is_empty()).then_some(self.open);
        for mut datagram in self.full.into_iter().chain(open) {
            datagram.reserve_exact(TAG_BYTES);
            keys.seal(session, &mut datagram)?;
            send(datagram);
        }
        Ok(())
    }
}

/// For fuzzing: any bytes, as the frames of an open datagram and as changes.
pub fn fuzz_frames(data: &[u8]) {
    if let Ok(frames) = decode(data) {
        let mut again = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut again));
        assert_eq!(decode(&again).as_ref(), Ok(&frames));
        for frame in &frames {
            if let Frame::Log(log) = frame {
                let _ = crate::log::decode_lines(log.lines);
            }
        }
    }
    if let Ok(changes) = crate::changes::decode(data) {
        let mut writer = crate::changes::Writer::default();
        changes.iter().for_each(|c| writer.put(&c.path, c.value.as_ref()));
        assert_eq!(crate::changes::decode(&writer.bytes).as_ref(), Ok(&changes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_piece_fills_a_datagram_and_no_more() {
        let bytes = [7; MAX_PIECE_BYTES];
        let top = Revision(u64::MAX);
        let (index, count) = (MAX_PIECES as u32 - 1, MAX_PIECES as u32);
        let piece = Piece { from: Revision(u64::MAX - 1), to: top, index, count, bytes: &bytes };
        let mut packer = Packer::default();
        packer.push(&Frame::Bye);
        packer.push(&Frame::Piece(Side::Dsc, piece));
        packer.push(&Frame::Bye);
        let mut keys = SessionKeys::derive(&[0; 32], crate::KeyRole::Child);
        let mut sizes = Vec::new();
        packer.seal(&mut keys, SessionId(1), |datagram| sizes.push(datagram.len())).unwrap();
        assert!(sizes.iter().all(|size| *size <= MAX_DATAGRAM_BYTES), "{sizes:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..100), tag in 1u8..11
        ) {
            fuzz_frames(&bytes);
            bytes[0] = tag;
            fuzz_frames(&bytes);
        }
    }
}
