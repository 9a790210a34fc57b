//! What both ends of a session share: the port, and how long things may take.

use std::time::Duration;

/// How long a join may take from the connection to the answer. Under emulation a handshake takes
/// a second.
pub(crate) const JOIN_WITHIN: Duration = Duration::from_secs(15);

/// Room for the largest datagram, and one byte more, so that one that is too large is seen as such.
pub(crate) const DATAGRAM_ROOM: usize = kraken_sync::MAX_DATAGRAM_BYTES + 1;

/// How many datagrams are taken in a row before anything else gets its turn.
pub(crate) const BURST: usize = 64;
