//! One's own document on its way to the peer.
//!
//! Every content the document had has a revision. For each address the revision of its latest
//! change is kept until the peer acknowledges it, so a delta `from -> to` says, for every address
//! that changed after `from`, what it holds at `to`, whether or not that is what it held at `from`.
//! Such a delta is right for a peer at *any* revision between the two: losses, repetitions and
//! overtaking are harmless, and the next delta may start before the last one is acknowledged.
//!
//! A delta of one datagram gives way to a newer one at once. A longer one is finished first:
//! otherwise a document that changes all the time would never arrive.

use crate::Revision;
use crate::changes::Writer;
use crate::frame::{Ack, Frame, MAX_PIECE_BYTES, Packer, Partial, Piece};
use crate::rtt::Rtt;
use kraken_model::{Document, Millis, Path, Side, diff};

/// How many changed addresses are remembered beyond as many as the document has, before the whole
/// document is the shorter way.
const SPARE_CHANGES: usize = 256;

/// Most pieces on their way at once.
const WINDOW: usize = 16;

/// A document is larger than a transfer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oversized {
    pub(crate) bytes: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    at: Millis,
    times: u32,
    acked: bool,
}

#[derive(Debug)]
struct Transfer {
    from: Revision,
    to: Revision,
    bytes: Vec<u8>,
    pieces: Vec<Sent>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    side: Side,
    document: Document,
    newest: Revision,
    acked: Revision,
    /// The latest revision in which each address changed, for all changes after `tracked_from`; by
    /// address. Mostly empty, and there are many of these: so no map.
    dirty: Vec<(Path, Revision)>,
    tracked_from: Revision,
    transfer: Option<Box<Transfer>>,
    /// The revision that is too large to be sent, until the document changes.
    oversized: Option<Revision>,
}

impl Outbox {
    /// A document that the peer holds already, as its revision 1.
    pub(crate) fn acknowledged(side: Side, document: Document) -> Self {
        let mut outbox = Self::unknown(side, document);
        outbox.acked = outbox.newest;
        outbox
    }

    /// A document of which the peer knows nothing.
    pub(crate) fn unknown(side: Side, document: Document) -> Self {
        Self {
            side,
            document,
            newest: Revision(1),
            acked: Revision(0),
            dirty: Vec::new(),
            tracked_from: Revision(1),
            transfer: None,
            oversized: None,
        }
    }

    /// A new peer that knows nothing: the same document from the start.
    pub(crate) fn restart(&mut self) {
        *self = Self::unknown(self.side, self.document.clone());
    }

    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    pub(crate) fn acked(&self) -> Revision {
        self.acked
    }

    /// Whether the peer holds all there is, or all that can be sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.acked == self.newest || self.oversized == Some(self.newest)
    }

    /// The document now. Says whether that is a new revision.
    pub(crate) fn set(&mut self, document: Document) -> bool {
        let changes = diff(&self.document, &document);
        self.document = document;
        if changes.is_empty() {
            return false;
        }
        self.newest.0 += 1;
        for change in changes {
            self.changed(change.path);
        }
        if self.dirty.len() > self.document.len() + SPARE_CHANGES {
            self.dirty.clear();
            self.tracked_from = self.newest;
        }
        true
    }

    fn changed(&mut self, path: Path) {
        match self.dirty.binary_search_by(|(other, _)| other.cmp(&path)) {
            Ok(at) => self.dirty[at].1 = self.newest,
            Err(at) => self.dirty.insert(at, (path, self.newest)),
        }
    }

    /// What the peer says it holds, and has of what is on its way.
    pub(crate) fn acknowledge(&mut self, now: Millis, ack: &Ack, rtt: &mut Rtt) {
        self.peer_holds(now, ack.held, rtt);
        match (&mut self.transfer, &ack.partial) {
            (Some(transfer), Some(partial)) if transfer.to == partial.to => {
                transfer.mark(now, partial, rtt);
            }
            // The peer has dropped what it had of it, for want of room or after a silence.
            (Some(transfer), None) => transfer.pieces.iter_mut().for_each(|s| s.acked = false),
            _ => {}
        }
    }

    /// The revision that the peer says it holds.
    pub(crate) fn peer_holds(&mut self, now: Millis, held: Revision, rtt: &mut Rtt) {
        if held <= self.acked || held > self.newest {
            return;
        }
        self.acked = held;
        self.dirty.retain(|(_, changed)| *changed > held);
        if self.dirty.is_empty() {
            self.dirty = Vec::new();
        }
        if let Some(transfer) = self.transfer.take_if(|t| t.to <= held)
            && let Some(Sent { at, times: 1, acked: false }) = transfer.pieces.last()
        {
            rtt.sample(now.since(*at));
        }
    }

    fn begin(&mut self) -> Result<(), Oversized> {
        let replaceable = self.transfer.as_ref().is_none_or(|t| t.pieces.len() == 1);
        let wanted = self.transfer.as_ref().map_or(self.acked, |t| t.to) < self.newest;
        if !wanted || !replaceable || self.oversized == Some(self.newest) {
            return Ok(());
        }
        let tracked = self.acked.0 > 0 && self.acked >= self.tracked_from;
        let from = if tracked { self.acked } else { Revision(0) };
        let mut writer = Writer::default();
        if tracked {
            for (path, _) in &self.dirty {
                writer.put(path, self.document.get(path.as_str()));
            }
        } else {
            self.document.iter().for_each(|(path, value)| writer.put(path, Some(value)));
        }
        if !writer.fits() {
            self.oversized = Some(self.newest);
            return Err(Oversized { bytes: writer.bytes.len() });
        }
        let count = writer.bytes.len().div_ceil(MAX_PIECE_BYTES).max(1);
        let pieces = vec![Sent::default(); count];
        let transfer = Transfer { from, to: self.newest, bytes: writer.bytes, pieces };
        self.transfer = Some(Box::new(transfer));
        Ok(())
    }

    /// Packs what is due. An oversized document is reported once per revision.
    pub(crate) fn poll(
        &mut self,
        now: Millis,
        rtt: &Rtt,
        packer: &mut Packer,
    ) -> Result<(), Oversized> {
        let begun = self.begin();
        if let Some(transfer) = &mut self.transfer {
            transfer.send(now, rtt, self.side, packer);
        }
        begun
    }

    /// When something is due next.
    pub(crate) fn next_deadline(&self, rtt: &Rtt) -> Option<Millis> {
        let pieces = self.transfer.as_ref()?.pieces.iter();
        pieces.filter(|s| !s.acked && s.times > 0).map(|s| s.at.plus(rtt.timeout(s.times))).min()
    }
}

impl Transfer {
    fn mark(&mut self, now: Millis, partial: &Partial, rtt: &mut Rtt) {
        let base = partial.base as usize;
        let mut sampled = false;
        for (index, piece) in self.pieces.iter_mut().enumerate().take(base.saturating_add(64)) {
            let there = index < base || partial.bits >> (index - base) & 1 == 1;
            if there && !piece.acked && piece.times == 1 && !sampled {
                rtt.sample(now.since(piece.at));
                sampled = true;
            }
            // Also back to "not there": the peer may have dropped what it had and begun again.
            piece.acked = there;
        }
        // Were it complete, the peer would hold the revision: one piece always goes on asking.
        if self.pieces.iter().all(|s| s.acked)
            && let Some(last) = self.pieces.last_mut()
        {
            last.acked = false;
        }
    }

    fn send(&mut self, now: Millis, rtt: &Rtt, side: Side, packer: &mut Packer) {
        let due = |s: &Sent| s.times == 0 || s.at.plus(rtt.timeout(s.times)) <= now;
        let flying = self.pieces.iter().filter(|s| !s.acked && !due(s)).count();
        let count = u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        let chunks =
            self.bytes.chunks(MAX_PIECE_BYTES).chain(self.bytes.is_empty().then_some(&[][..]));
        let waiting = self.pieces.iter_mut().zip(chunks).enumerate();
        let waiting = waiting.filter(|(_, (s, _))| !s.acked && due(s));
        for (index, (sent, bytes)) in waiting.take(WINDOW.saturating_sub(flying)) {
            *sent = Sent { at: now, times: sent.times + 1, acked: false };
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let piece = Piece { from: self.from, to: self.to, index, count, bytes };
            packer.push(&Frame::Piece(side, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::SessionId;
    use crate::frame;
    use crate::inbox::{Arrival, Inbox};
    use crate::keys::{HEADER_BYTES, Header, KeyRole, SessionKeys};

    fn document(values: u32, mark: i64) -> Document {
        let mut document = Document::new();
        for value in 0..values {
            document.set(Path::known(&format!("v.v{value}")), format!("{value:0100}"));
        }
        document.set(Path::known("mark"), mark);
        document
    }

    struct Rig {
        outbox: Outbox,
        inbox: Inbox,
        room: usize,
        got: Document,
        now: Millis,
        sent: usize,
        keys: (SessionKeys, SessionKeys),
    }

    impl Rig {
        fn new(document: Document, room: usize) -> Self {
            let keys = [KeyRole::Child, KeyRole::Parent].map(|r| SessionKeys::derive(&[0; 32], r));
            Self {
                outbox: Outbox::unknown(Side::Dsc, document),
                inbox: Inbox::default(),
                room,
                got: Document::new(),
                now: Millis(0),
                sent: 0,
                keys: keys.into(),
            }
        }

        /// Ten seconds pass; of the datagrams that are due those arrive whose number passes.
        fn ten_seconds(&mut self, passes: impl Fn(usize) -> bool) {
            self.now = Millis(self.now.0 + 10_000);
            let (mut packer, mut rtt) = (Packer::default(), Rtt::default());
            self.outbox.poll(self.now, &rtt, &mut packer).unwrap();
            let mut flying = Vec::new();
            packer.seal(&mut self.keys.0, SessionId(0), |bytes| flying.push(bytes)).unwrap();
            for mut bytes in flying {
                self.sent += 1;
                if !passes(self.sent) {
                    continue;
                }
                assert!(bytes.len() > HEADER_BYTES);
                let header = Header::parse(&bytes).unwrap();
                let opened = self.keys.1.open(header, &mut bytes).unwrap();
                for frame in frame::decode(opened.frames).unwrap() {
                    let Frame::Piece(_, piece) = frame else { panic!("{frame:?}") };
                    if let Arrival::Complete { whole, changes } =
                        self.inbox.accept(&piece, &mut self.room).unwrap()
                    {
                        self.got = if whole { Document::new() } else { self.got.clone() };
                        self.got.apply(&changes);
                    }
                    self.outbox.acknowledge(self.now, &self.inbox.ack(), &mut rtt);
                }
            }
        }
    }

    #[test]
    fn a_long_transfer_survives_that_the_receiver_drops_what_it_had() {
        let mut rig = Rig::new(document(1_500, 1), 1 << 20);
        for round in 0..60 {
            rig.ten_seconds(|n| n % 3 != 0);
            if round == 5 {
                rig.inbox.release(&mut rig.room);
            }
        }
        assert_eq!(rig.got, document(1_500, 1));
        assert!(rig.outbox.is_settled());
        assert_eq!(rig.room, 1 << 20, "all room is given back");
    }

    #[test]
    fn a_document_that_changes_all_the_time_still_arrives() {
        let mut rig = Rig::new(document(500, 0), 1 << 20);
        for mark in 1..60 {
            rig.ten_seconds(|n| n % 4 != 0);
            rig.outbox.set(document(500, mark));
        }
        let mark = rig.got.get("mark").and_then(kraken_model::Value::as_int);
        assert!(mark.is_some_and(|mark| mark > 40), "{mark:?}");
    }

    #[test]
    fn without_room_nothing_is_kept_and_with_room_it_arrives() {
        let mut rig = Rig::new(document(200, 1), 0);
        (0..5).for_each(|_| rig.ten_seconds(|_| true));
        assert_eq!((rig.inbox.held(), rig.got.len()), (Revision(0), 0));
        rig.room = 1 << 20;
        (0..9).for_each(|_| rig.ten_seconds(|_| true));
        assert_eq!(rig.got, document(200, 1));
    }

    #[test]
    fn a_value_that_returns_to_what_it_was_is_sent_again() {
        let mut rig = Rig::new(document(1, 1), 1 << 20);
        rig.ten_seconds(|_| true);
        // The peer takes 2, but its acknowledgement is lost; then 1 returns.
        rig.outbox.set(document(1, 2));
        let (acked, dirty) = (rig.outbox.acked, rig.outbox.dirty.clone());
        rig.ten_seconds(|_| true);
        (rig.outbox.acked, rig.outbox.dirty) = (acked, dirty);
        rig.outbox.set(document(1, 1));
        rig.ten_seconds(|_| true);
        assert_eq!(rig.got, document(1, 1));
    }

    #[test]
    fn what_is_remembered_of_changes_is_bounded() {
        let mut rig = Rig::new(Document::new(), 1 << 20);
        rig.ten_seconds(|_| true);
        for round in 0..5_000 {
            let mut document = Document::new();
            document.set(Path::known(&format!("only.this{round}")), true);
            rig.outbox.set(document);
        }
        assert!(rig.outbox.dirty.len() <= SPARE_CHANGES + 2);
        (0..3).for_each(|_| rig.ten_seconds(|_| true));
        assert_eq!(rig.got, rig.outbox.document);
    }
}
