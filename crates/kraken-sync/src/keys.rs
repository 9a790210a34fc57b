//! The keys of a session, and what they seal.
//!
//! A datagram is `kind (1) | session (8) | counter (8) | sealed frames | tag (16)`, numbers
//! big-endian. The first three are authenticated with the rest (RFC 8439 §2.8). Each direction has
//! its own key (HKDF-SHA256, RFC 5869, from the TLS exporter, RFC 8446 §7.5), so a counter is a
//! nonce that never repeats, and a datagram sent back to its sender opens nothing.

use crate::SessionId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use std::fmt;

/// Largest datagram, in bytes of UDP payload: with the headers of IPv6 and UDP it fits the path of
/// 1280 bytes that every IPv6 link has (RFC 8200 §5), with room for a tunnel.
pub const MAX_DATAGRAM_BYTES: usize = 1200;

/// After so many datagrams in one direction the keys are spent, and the node has to join again.
/// There is no other rekeying. At a million a second this takes nine years.
pub const MAX_SEALED: u64 = 1 << 48;

/// How far behind the newest a datagram may be and still be taken: beyond it is a replay.
pub const REPLAY_WINDOW: u64 = 256;

pub(crate) const HEADER_BYTES: usize = 17;
pub(crate) const TAG_BYTES: usize = 16;

/// Version and kind of a sealed datagram, its first byte.
const SEALED_1: u8 = 0x51;

/// Which end of the session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// The one that was joined.
    Parent,
    /// The one that joined.
    Child,
}

/// A datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// It is not a datagram of this protocol.
    #[error("not a sync datagram")]
    NotOurs,
    /// It belongs to no session that is open here.
    #[error("the session is not known")]
    UnknownSession,
    /// It came before, or is older than the replay window.
    #[error("the datagram is a replay or too old")]
    Replayed,
    /// The seal does not fit: forged, damaged, or of another session.
    #[error("the seal does not fit")]
    BadSeal,
}

/// The keys of a session are spent; the node has to join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the session are spent")]
pub struct KeysSpent;

/// Raw key bytes: the cipher needs no preparation, and a prepared key is sixteen times as large.
#[derive(Clone)]
struct Key([u8; 32]);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

impl Key {
    fn derive(exporter: &[u8; 32], label: &[u8]) -> Self {
        struct Len;
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                32
            }
        }
        let mut key = [0; 32];
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"kraken-sync 1").extract(exporter);
        // Both calls fail only for output lengths other than this constant one.
        let filled = prk.expand(&[label], Len).and_then(|okm| okm.fill(&mut key));
        assert!(filled.is_ok(), "32 bytes are a valid length for HKDF-SHA256");
        Self(key)
    }

    #[allow(clippy::expect_used)]
    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0);
        LessSafeKey::new(key.expect("32 bytes are a key of this cipher"))
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The keys and counters of one end of one session.
///
/// Not `Clone`, and to be derived once per TLS connection: two copies would use a nonce twice.
pub struct SessionKeys {
    seal: Key,
    open: Key,
    sealed: u64,
    window: ReplayWindow,
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) session: SessionId,
    pub(crate) counter: u64,
}

impl Header {
    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, OpenError> {
        let sized = (HEADER_BYTES + TAG_BYTES..=MAX_DATAGRAM_BYTES).contains(&datagram.len());
        if !sized || datagram[0] != SEALED_1 {
            return Err(OpenError::NotOurs);
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&datagram[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Self { session: SessionId(word(1)), counter: word(9) })
    }
}

/// What a datagram held.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) frames: &'a [u8],
    /// No later one was opened before it.
    pub(crate) newest: bool,
}

impl SessionKeys {
    /// The keys of one end, from what both exported from their TLS connection.
    #[must_use]
    pub fn derive(exporter_secret: &[u8; 32], role: KeyRole) -> Self {
        let up = Key::derive(exporter_secret, b"child to parent");
        let down = Key::derive(exporter_secret, b"parent to child");
        let (seal, open) = match role {
            KeyRole::Parent => (down, up),
            KeyRole::Child => (up, down),
        };
        Self { seal, open, sealed: 0, window: ReplayWindow::default() }
    }

    /// How many datagrams were sealed.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Seals a buffer whose first [`HEADER_BYTES`] are free for the header.
    pub(crate) fn seal(
        &mut self,
        session: SessionId,
        buffer: &mut Vec<u8>,
    ) -> Result<(), KeysSpent> {
        if self.sealed >= MAX_SEALED {
            return Err(KeysSpent);
        }
        let counter = self.sealed;
        self.sealed += 1;
        buffer[0] = SEALED_1;
        buffer[1..9].copy_from_slice(&session.0.to_be_bytes());
        buffer[9..HEADER_BYTES].copy_from_slice(&counter.to_be_bytes());
        let (header, frames) = buffer.split_at_mut(HEADER_BYTES);
        let sealed = self.seal.cipher().seal_in_place_separate_tag(
            nonce(counter),
            Aad::from(&*header),
            frames,
        );
        let tag = sealed.map_err(|_| KeysSpent)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a datagram in place.
    pub(crate) fn open<'a>(
        &mut self,
        header: Header,
        datagram: &'a mut [u8],
    ) -> Result<Opened<'a>, OpenError> {
        if self.window.is_replay(header.counter) {
            return Err(OpenError::Replayed);
        }
        let (head, body) = datagram.split_at_mut(HEADER_BYTES);
        let opened =
            self.open.cipher().open_in_place(nonce(header.counter), Aad::from(&*head), body);
        let frames = opened.map_err(|_| OpenError::BadSeal)?;
        // Only now: a forged counter must not move the window.
        let newest = self.window.take(header.counter);
        Ok(Opened { frames, newest })
    }
}

const WORDS: usize = (REPLAY_WINDOW / 64) as usize + 1;

/// Which of the latest counters were seen: a bitmap in a ring of words (RFC 6479).
#[derive(Debug, Default)]
struct ReplayWindow {
    /// One more than the highest counter seen.
    next: u64,
    words: [u64; WORDS],
}

impl ReplayWindow {
    fn bit(counter: u64) -> (usize, u64) {
        ((counter / 64) as usize % WORDS, 1 << (counter % 64))
    }

    fn is_replay(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter >= MAX_SEALED;
        }
        let (word, bit) = Self::bit(counter);
        self.next - counter > REPLAY_WINDOW || self.words[word] & bit != 0
    }

    /// Marks a counter that is no replay; says whether it is the highest so far.
    fn take(&mut self, counter: u64) -> bool {
        let newest = counter >= self.next;
        if newest {
            // Words entered for the first time still hold what they said one turn ago. The word
            // of the highest counter so far (or word 0 at the start, which is clear) is kept.
            let old = self.next.saturating_sub(1) / 64;
            for entered in (old + 1..=counter / 64).take(WORDS) {
                self.words[entered as usize % WORDS] = 0;
            }
            if counter / 64 - old >= WORDS as u64 {
                self.words = [0; WORDS];
            }
            self.next = counter + 1;
        }
        let (word, bit) = Self::bit(counter);
        self.words[word] |= bit;
        newest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const SESSION: SessionId = SessionId(7);

    fn pair() -> (SessionKeys, SessionKeys) {
        let exported = [3; 32];
        (
            SessionKeys::derive(&exported, KeyRole::Parent),
            SessionKeys::derive(&exported, KeyRole::Child),
        )
    }

    fn sealed(keys: &mut SessionKeys, frames: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; HEADER_BYTES];
        buffer.extend_from_slice(frames);
        keys.seal(SESSION, &mut buffer).unwrap();
        buffer
    }

    fn opened(keys: &mut SessionKeys, mut datagram: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        let header = Header::parse(&datagram)?;
        keys.open(header, &mut datagram).map(|o| o.frames.to_vec())
    }

    #[test]
    fn what_one_end_seals_only_the_other_opens_and_only_once() {
        let (mut parent, mut child) = pair();
        let datagram = sealed(&mut child, b"hello");
        assert_eq!(opened(&mut child, datagram.clone()), Err(OpenError::BadSeal));
        assert_eq!(opened(&mut parent, datagram.clone()).unwrap(), b"hello");
        assert_eq!(opened(&mut parent, datagram), Err(OpenError::Replayed));
    }

    #[test]
    fn one_changed_bit_anywhere_opens_nothing_and_costs_nothing() {
        let (mut parent, mut child) = pair();
        let datagram = sealed(&mut child, b"hello");
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(opened(&mut parent, damaged).is_err(), "bit {bit}");
        }
        assert!(opened(&mut parent, datagram).is_ok(), "the window was not moved by forgeries");
    }

    #[test]
    fn spent_keys_seal_nothing_more() {
        let (_, mut child) = pair();
        child.sealed = MAX_SEALED;
        assert_eq!(child.seal(SESSION, &mut vec![0; HEADER_BYTES]), Err(KeysSpent));
    }

    proptest! {
        #[test]
        fn the_window_takes_each_counter_once(
            steps in proptest::collection::vec((0u64..700, any::<bool>()), 1..400)
        ) {
            let mut window = ReplayWindow::default();
            let (mut seen, mut next, mut base) = (HashSet::new(), 0u64, 0u64);
            for (offset, jump) in steps {
                if jump { base += offset; }
                let counter = base.saturating_sub(offset / 2) + offset % 97;
                let replay = seen.contains(&counter) || next > counter + REPLAY_WINDOW;
                prop_assert_eq!(window.is_replay(counter), replay);
                if !replay {
                    prop_assert_eq!(window.take(counter), counter >= next);
                    seen.insert(counter);
                    next = next.max(counter + 1);
                }
            }
        }
    }
}
