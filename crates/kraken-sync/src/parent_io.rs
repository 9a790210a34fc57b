//! What goes into a parent and what comes out of it.

use crate::{Malformed, OpenError, Revision, SessionId, Silence};
use kraken_model::{Change, Document, Millis, NodeId};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a parent treats its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSettings {
    /// How often a child says hello, in milliseconds.
    pub hello_ms: u64,
    /// How silence is judged, at both ends.
    pub silence: Silence,
    /// Most bytes that unfinished transfers of all children together may take.
    pub max_assembly_bytes: usize,
}

impl Default for ParentSettings {
    fn default() -> Self {
        Self {
            hello_ms: 10_000,
            silence: Silence { min_ms: 15_000, max_ms: 120_000 },
            max_assembly_bytes: 64 << 20,
        }
    }
}

/// What happens to a parent.
#[derive(Debug)]
pub enum ParentInput<'a> {
    /// A datagram came. It is opened in place.
    Datagram {
        /// From where, as the socket says.
        from: SocketAddr,
        /// The datagram.
        bytes: &'a mut [u8],
    },
    /// What a child should be has changed.
    Cfg {
        /// Which child.
        node: NodeId,
        /// Its whole cfg now.
        document: Document,
    },
    /// A child is no more: its session ends without a word.
    Remove {
        /// Which child.
        node: NodeId,
    },
    /// Time passed.
    Tick,
}

/// What a parent wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentOutput {
    /// Send a datagram.
    Send {
        /// To where.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// A child said what it discovered.
    Discovered {
        /// Which child.
        node: NodeId,
        /// What changed, in the order of the addresses.
        changes: Vec<Change>,
        /// The changes are all that the child says of itself (always so after a join): what it
        /// said before and is not among them is gone, and what is among them is confirmed.
        whole: bool,
    },
    /// A child is heard for the first time after its join, or after its silence.
    Heard {
        /// Which child.
        node: NodeId,
    },
    /// A child says nothing any more.
    Silent {
        /// Which child.
        node: NodeId,
        /// When it was last heard.
        since: Millis,
    },
    /// A child said good-bye.
    Left {
        /// Which child.
        node: NodeId,
    },
    /// Lines of a child's log. They are the child's words: show them with care.
    Log {
        /// Which child.
        node: NodeId,
        /// The stream.
        stream: Arc<str>,
        /// The lines, in order.
        lines: Vec<String>,
    },
    /// Lines of a child's log are lost: its queue was full.
    LogLost {
        /// Which child.
        node: NodeId,
        /// How many.
        lines: u64,
    },
    /// A child's cfg cannot be sent; it keeps the one it has.
    CfgTooLarge {
        /// Which child.
        node: NodeId,
        /// How large it would be.
        bytes: usize,
    },
    /// A datagram was not taken. Counted too; nothing else happened.
    Refused {
        /// From where.
        from: SocketAddr,
        /// Why.
        why: Refusal,
    },
}

/// Why a datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It could not be opened.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// It was opened, but says nothing sensible.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// How often what happened, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ParentCounters {
    /// Datagrams that came.
    pub received: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Hellos among what came.
    pub hellos: u64,
    /// Refused: not a sync datagram.
    pub not_ours: u64,
    /// Refused: unknown session.
    pub unknown_session: u64,
    /// Refused: replayed or too old.
    pub replayed: u64,
    /// Refused: bad seal.
    pub bad_seal: u64,
    /// Refused: opened, but malformed.
    pub malformed: u64,
    /// Pieces dropped because too many transfers were unfinished.
    pub no_room: u64,
    /// Changes of dsc taken.
    pub changes: u64,
    /// Lines of log taken.
    pub log_lines: u64,
    /// Lines of log lost at the children.
    pub log_lost: u64,
    /// Sessions whose keys are spent.
    pub keys_spent: u64,
}

/// What a parent knows of a child's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildView {
    /// The session.
    pub session: SessionId,
    /// Where the latest datagram came from.
    pub address: Option<SocketAddr>,
    /// When it was last heard (or let in).
    pub last_heard: Millis,
    /// Whether it counts as heard now.
    pub heard: bool,
    /// When its silence will mean something.
    pub silent_at: Millis,
    /// The newest cfg.
    pub cfg_newest: Revision,
    /// The cfg that the child holds.
    pub cfg_held: Revision,
    /// The dsc that is held here.
    pub dsc_held: Revision,
    /// Datagrams that the child took in, as it says.
    pub child_received: u64,
    /// Datagrams that were sent to it.
    pub child_sent: u64,
}
