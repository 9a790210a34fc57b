//! What a parent keeps of one child.

use crate::frame::Hello;
use crate::inbox::Inbox;
use crate::log::LogInbox;
use crate::outbox::Outbox;
use crate::rtt::{Cadence, Rtt};
use crate::{ParentSettings, SessionId, SessionKeys};
use kraken_model::{Document, Millis, NodeId, Side};
use std::net::SocketAddr;
use std::time::Duration;

/// Whether a child is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Let in, not heard yet. Then: heard or silent.
    Admitted,
    /// Heard. Then: silent or left.
    Heard,
    /// Not heard for too long. Then: heard, or gone with the next join.
    Silent,
    /// Said good-bye. The session stays for a while, to answer a repeated good-bye.
    Left,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) node: NodeId,
    pub(crate) keys: SessionKeys,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) life: Life,
    pub(crate) cadence: Cadence,
    pub(crate) rtt: Rtt,
    pub(crate) cfg: Outbox,
    pub(crate) dsc: Inbox,
    pub(crate) log: LogInbox,
    pub(crate) retry_at: Option<Millis>,
    pub(crate) received: u64,
    pub(crate) child_received: u64,
    last_hello: Option<(Millis, u64)>,
    /// Not silent before then, whatever was heard: its parent had not listened.
    pub(crate) pardoned_until: Millis,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        node: NodeId,
        keys: SessionKeys,
        cfg: Document,
        now: Millis,
        hello_ms: u64,
    ) -> Self {
        Self {
            id,
            node,
            keys,
            address: None,
            life: Life::Admitted,
            cadence: Cadence::new(now, hello_ms),
            rtt: Rtt::default(),
            cfg: Outbox::acknowledged(Side::Cfg, cfg),
            dsc: Inbox::default(),
            log: LogInbox::default(),
            retry_at: None,
            received: 0,
            child_received: 0,
            last_hello: None,
            pardoned_until: Millis(0),
        }
    }

    pub(crate) fn silent_at(&self, settings: &ParentSettings) -> Millis {
        self.cadence.last().plus(self.patience(settings)).max(self.pardoned_until)
    }

    pub(crate) fn patience(&self, settings: &ParentSettings) -> Duration {
        self.cadence.patience(settings.hello_ms, settings.silence)
    }

    /// Takes a hello, and gives what answers it.
    pub(crate) fn hello(&mut self, now: Millis, hello: &Hello) -> Hello {
        let earlier = self.last_hello;
        if earlier.is_none_or(|(_, sequence)| hello.sequence > sequence) {
            if let Some((at, sequence)) = earlier {
                self.cadence.regular(now.since(at), hello.sequence - sequence - 1);
            }
            self.last_hello = Some((now, hello.sequence));
            self.child_received = hello.received;
        }
        self.cfg.peer_holds(now, hello.held, &mut self.rtt);
        Hello {
            sequence: hello.sequence,
            newest: self.cfg.newest(),
            held: self.dsc.held(),
            received: self.received + 1,
        }
    }
}
