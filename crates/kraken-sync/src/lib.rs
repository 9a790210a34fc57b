//! Tree state synchronisation: a parent tells its children what they should be (*cfg*), and they
//! tell it what they are (*dsc*), over sealed datagrams.
//!
//! Everything here is a state machine that is told what happened and when, and says what to do:
//! no clock, no socket, no thread, no randomness of its own. `now` must never go back, so whoever
//! drives it takes a monotonic clock.
//!
//! # From the join to the good-bye
//!
//! 1. The parent mints a token for one boot of one node ([`TokenBook::mint`]) and says when that
//!    boot is expected ([`TokenBook::expect`]).
//! 2. The node opens TLS 1.3 to the parent, whose key it knows, and sends a [`JoinRequest`]. The
//!    parent judges the proof ([`TokenBook::present`]), makes the changed records durable, and
//!    admits the node ([`Parent::admit`]), which gives the [`Welcome`] to answer with.
//! 3. Both derive [`SessionKeys`] from the exporter of that TLS connection. The node starts
//!    ([`Child::joined`]), and datagrams of at most [`MAX_DATAGRAM_BYTES`] go to and fro.
//! 4. Every `hello_ms` the child says hello and the parent answers: silence is judged by both ends,
//!    each by what the path showed so far. A change goes out at once, as what changed since the
//!    revision that the peer acknowledged, and is repeated until acknowledged. Log lines go up.
//! 5. The child leaves with a good-bye, or is found silent. A child that finds its parent silent
//!    joins again with the secret from its [`Welcome`].
//!
//! # What is promised
//!
//! - **Convergence.** When neither document changes any more, and of the datagrams sent in either
//!   direction infinitely many arrive (in any order, any number of times, between any others that
//!   are damaged, forged or recorded), then after finitely many repetitions the parent has reported
//!   the child's dsc and the child has reported the parent's cfg. A document that keeps changing
//!   arrives in states it really had, and no transfer is starved by newer changes. When an end
//!   restarts, this holds from the next join on. Conditions: a document fits a transfer
//!   ([`MAX_TRANSFER_BYTES`], [`MAX_CHANGES`], [`MAX_VALUES`], [`MAX_LIST_DEPTH`]; otherwise an
//!   output says so), the room for unfinished transfers is not held by others, and the peer is not
//!   judged silent before a datagram arrives; if so, it joins again.
//! - **Authenticity.** Nothing forged, damaged, replayed or of another session changes any state,
//!   besides a counter. A datagram that was recorded and held back is as good as a late one.
//! - **Economy.** The whole document goes only to a peer that knows nothing of it: after a join, or
//!   when more addresses changed than the document has. A hello is 40 to 70 bytes.
//! - **Log.** Lines arrive in order, each once per session; after a join, lines whose
//!   acknowledgement was lost may come again. What the child's full queue dropped is counted.
//! - **Bounds.** Every queue, window and claim of a peer has a limit, documented as a constant.
//!
//! # What it does not do
//!
//! It does not hide traffic patterns. Whoever can hold back a datagram and send it from elsewhere
//! can make the parent answer there until the child's next datagram. Keys change only by joining
//! again, at the latest after [`MAX_SEALED`] datagrams.

mod changes;
mod child;
mod child_session;
mod frame;
mod fuzz;
mod inbox;
mod join;
mod keys;
mod log;
mod outbox;
mod parent;
mod parent_io;
mod rtt;
mod secret;
mod timers;
mod tokens;
mod wire;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use changes::{MAX_CHANGES, MAX_LIST_DEPTH, MAX_TRANSFER_BYTES, MAX_VALUES};
pub use child::{Child, ChildCounters, ChildInput, ChildOutput, LEAVE_PATIENCE};
pub use frame::{Malformed, fuzz_frames};
pub use fuzz::fuzz_datagram;
pub use join::{
    AWAY, JOIN_VERSION, JoinError, JoinReply, JoinRequest, MAX_BOOT_ID_BYTES, MAX_JOIN_BYTES,
    Proof, REFUSED, Revisions, Welcome, fuzz_join, is_boot_id, message_len,
};
pub use keys::{
    KeyRole, KeysSpent, MAX_DATAGRAM_BYTES, MAX_SEALED, OpenError, REPLAY_WINDOW, SessionKeys,
};
pub use log::{MAX_LOG_LINE_BYTES, MAX_LOG_QUEUE_BYTES, MAX_LOG_STREAM_BYTES};
pub use parent::Parent;
pub use parent_io::{
    ChildView, ParentCounters, ParentInput, ParentOutput, ParentSettings, Refusal,
};
pub use rtt::Silence;
pub use secret::{HexError, Secret, SecretHash};
pub use tokens::{TokenBook, TokenCounters, TokenEntry, TokenRecord, TokenRefusal, fuzz_tokens};

/// A session between a parent and a child: from one join to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// The number of one content of one document within one session. Zero: nothing yet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
