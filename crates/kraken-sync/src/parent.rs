//! The parent's end of all its children's sessions.

use crate::child_session::{Life, Session};
use crate::frame::{self, Frame, Packer};
use crate::inbox::Arrival;
use crate::keys::{Header, OpenError, SessionKeys};
use crate::parent_io::{
    ChildView, ParentCounters, ParentInput, ParentOutput, ParentSettings, Refusal,
};
use crate::timers::{Timer, Timers, Why};
use crate::{Malformed, Secret, SessionId, Welcome};
use kraken_model::{Document, Millis, NodeId, Side};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A silence that is judged later than this part of the least silence was not listened to.
const LATE: u64 = 10;

/// All children's sessions. See the crate's documentation for what it promises.
#[derive(Debug)]
pub struct Parent {
    settings: ParentSettings,
    slots: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
    generation: u32,
    by_node: HashMap<NodeId, u32>,
    timers: Timers,
    counters: ParentCounters,
    room: usize,
}

impl Parent {
    /// A parent without children.
    #[must_use]
    pub fn new(settings: ParentSettings) -> Self {
        Self {
            settings,
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            by_node: HashMap::new(),
            timers: Timers::default(),
            counters: ParentCounters::default(),
            room: settings.max_assembly_bytes,
        }
    }

    /// Opens a session for a child whose proof was accepted, in place of the one it may have had.
    /// The answer is what to tell the child; `keys` come from the same TLS connection.
    pub fn admit(
        &mut self,
        now: Millis,
        node: &NodeId,
        keys: SessionKeys,
        cfg: Document,
        resume: Secret,
    ) -> Welcome {
        self.close(node);
        self.generation = self.generation.wrapping_add(1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let id = SessionId(u64::from(self.generation) << 32 | u64::from(slot));
        let session =
            Session::new(id, node.clone(), keys, cfg.clone(), now, self.settings.hello_ms);
        let cfg_revision = session.cfg.newest();
        let silent_at = session.silent_at(&self.settings);
        self.slots[slot as usize] = Some(Box::new(session));
        self.by_node.insert(node.clone(), slot);
        self.timers.push(Timer { at: silent_at, session: id, why: Why::Silence });
        let (hello_ms, silence) = (self.settings.hello_ms, self.settings.silence);
        Welcome { session: id, hello_ms, silence, cfg, cfg_revision, resume, now_ms: now }
    }

    /// Takes an input and says what follows.
    pub fn step(&mut self, now: Millis, input: ParentInput<'_>, out: &mut Vec<ParentOutput>) {
        match input {
            ParentInput::Datagram { from, bytes } => {
                self.counters.received += 1;
                if let Err(why) = self.datagram(now, from, bytes, out) {
                    self.count(why);
                    out.push(ParentOutput::Refused { from, why });
                }
            }
            ParentInput::Cfg { node, document } => self.configure(now, &node, document, out),
            ParentInput::Remove { node } => self.close(&node),
            ParentInput::Tick => {}
        }
        while let Some(timer) = self.timers.due(now) {
            match timer.why {
                Why::Silence => self.judge_silence(now, timer.session, out),
                Why::Retry => self.retry(now, timer, out),
            }
        }
    }

    /// When `step` wants to be called again at the latest; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// How often what happened.
    #[must_use]
    pub fn counters(&self) -> ParentCounters {
        self.counters
    }

    /// How many children have a session.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether no child has a session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// What is known of a child's session.
    #[must_use]
    pub fn child(&self, node: &NodeId) -> Option<ChildView> {
        let session = self.slots.get(*self.by_node.get(node)? as usize)?.as_ref()?;
        Some(ChildView {
            session: session.id,
            address: session.address,
            last_heard: session.cadence.last(),
            heard: session.life == Life::Heard,
            silent_at: session.silent_at(&self.settings),
            cfg_newest: session.cfg.newest(),
            cfg_held: session.cfg.acked(),
            dsc_held: session.dsc.held(),
            child_received: session.child_received,
            child_sent: session.keys.sealed(),
        })
    }

    fn close(&mut self, node: &NodeId) {
        if let Some(slot) = self.by_node.remove(node) {
            if let Some(mut session) = self.slots[slot as usize].take() {
                session.dsc.release(&mut self.room);
            }
            self.free.push(slot);
        }
    }

    fn count(&mut self, why: Refusal) {
        *match why {
            Refusal::Sealed(OpenError::NotOurs) => &mut self.counters.not_ours,
            Refusal::Sealed(OpenError::UnknownSession) => &mut self.counters.unknown_session,
            Refusal::Sealed(OpenError::Replayed) => &mut self.counters.replayed,
            Refusal::Sealed(OpenError::BadSeal) => &mut self.counters.bad_seal,
            Refusal::Malformed(_) => &mut self.counters.malformed,
        } += 1;
    }

    fn find(slots: &mut [Option<Box<Session>>], id: SessionId) -> Option<&mut Session> {
        let slot = slots.get_mut(id.0 as u32 as usize)?.as_deref_mut();
        slot.filter(|session| session.id == id)
    }

    fn datagram(
        &mut self,
        now: Millis,
        from: SocketAddr,
        bytes: &mut [u8],
        out: &mut Vec<ParentOutput>,
    ) -> Result<(), Refusal> {
        let header = Header::parse(bytes)?;
        let session =
            Self::find(&mut self.slots, header.session).ok_or(OpenError::UnknownSession)?;
        let opened = session.keys.open(header, bytes)?;
        let frames = frame::decode(opened.frames)?;
        let mut packer = Packer::default();
        if session.life == Life::Left {
            // Whatever was on its way when the child left must not bring it back.
            if frames.contains(&Frame::Bye) {
                packer.push(&Frame::ByeAck);
            }
        } else {
            if opened.newest {
                session.address = Some(from);
            }
            session.cadence.heard(now);
            if session.life != Life::Heard {
                if session.life == Life::Silent {
                    let at = session.silent_at(&self.settings);
                    self.timers.push(Timer { at, session: session.id, why: Why::Silence });
                }
                session.life = Life::Heard;
                out.push(ParentOutput::Heard { node: session.node.clone() });
            }
            let mut desk =
                Desk { now, room: &mut self.room, counters: &mut self.counters, out: &mut *out };
            for frame in frames {
                desk.take(session, frame, &mut packer)?;
            }
        }
        session.received += 1;
        self.flush(now, header.session, packer, out);
        Ok(())
    }

    fn configure(
        &mut self,
        now: Millis,
        node: &NodeId,
        document: Document,
        out: &mut Vec<ParentOutput>,
    ) {
        let Some(slot) = self.by_node.get(node) else { return };
        let Some(session) = &mut self.slots[*slot as usize] else { return };
        let id = session.id;
        if session.cfg.set(document) {
            self.flush(now, id, Packer::default(), out);
        }
    }

    /// Adds what is due of the child's cfg, seals and sends.
    fn flush(
        &mut self,
        now: Millis,
        id: SessionId,
        mut packer: Packer,
        out: &mut Vec<ParentOutput>,
    ) {
        let Some(session) = Self::find(&mut self.slots, id) else { return };
        let Some(to) = session.address else { return };
        if session.life == Life::Heard {
            if let Err(oversized) = session.cfg.poll(now, &session.rtt, &mut packer) {
                let (node, bytes) = (session.node.clone(), oversized.bytes);
                out.push(ParentOutput::CfgTooLarge { node, bytes });
            }
            if let Some(at) = session.cfg.next_deadline(&session.rtt)
                && session.retry_at.is_none_or(|planned| at < planned)
            {
                session.retry_at = Some(at);
                self.timers.push(Timer { at, session: id, why: Why::Retry });
            }
        }
        let sent = &mut self.counters.sent;
        let spent = packer.seal(&mut session.keys, id, |bytes| {
            *sent += 1;
            out.push(ParentOutput::Send { to, bytes });
        });
        // The child runs out of answers, finds its parent silent, and joins again.
        self.counters.keys_spent += u64::from(spent.is_err());
    }

    fn retry(&mut self, now: Millis, timer: Timer, out: &mut Vec<ParentOutput>) {
        let Some(session) = Self::find(&mut self.slots, timer.session) else { return };
        if session.retry_at == Some(timer.at) {
            session.retry_at = None;
            self.flush(now, timer.session, Packer::default(), out);
        }
    }

    fn judge_silence(&mut self, now: Millis, id: SessionId, out: &mut Vec<ParentOutput>) {
        let Some(session) = Self::find(&mut self.slots, id) else { return };
        let at = session.silent_at(&self.settings);
        if at > now {
            self.timers.push(Timer { at, session: id, why: Why::Silence });
            return;
        }
        let node = session.node.clone();
        if session.life == Life::Left {
            self.close(&node);
            return;
        }
        // Nobody looked when its time was over, because this process stood still: for so long it did
        // not listen either, and what was said lies in a socket, or was not answered and not said again.
        // Once: a process that is always late has to judge some time.
        let late = Duration::from_millis(self.settings.silence.min_ms / LATE);
        if now.since(at) > late && at != session.pardoned_until {
            session.pardoned_until = now.plus(session.patience(&self.settings));
            self.timers.push(Timer { at: session.pardoned_until, session: id, why: Why::Silence });
            return;
        }
        session.life = Life::Silent;
        session.dsc.release(&mut self.room);
        out.push(ParentOutput::Silent { node, since: session.cadence.last() });
    }
}

/// What frames may touch beside their session.
struct Desk<'a> {
    now: Millis,
    room: &'a mut usize,
    counters: &'a mut ParentCounters,
    out: &'a mut Vec<ParentOutput>,
}

impl Desk<'_> {
    fn take(
        &mut self,
        session: &mut Session,
        frame: Frame<'_>,
        packer: &mut Packer,
    ) -> Result<(), Refusal> {
        match frame {
            Frame::Hello(hello) => {
                self.counters.hellos += 1;
                packer.push(&Frame::Echo(session.hello(self.now, &hello)));
            }
            Frame::Ack(Side::Cfg, ack) => {
                session.cfg.acknowledge(self.now, &ack, &mut session.rtt);
            }
            Frame::Piece(Side::Dsc, piece) => {
                match session.dsc.accept(&piece, self.room)? {
                    Arrival::Waiting => {}
                    Arrival::NoRoom => self.counters.no_room += 1,
                    Arrival::Complete { whole, changes } => {
                        self.counters.changes += changes.len() as u64;
                        let node = session.node.clone();
                        self.out.push(ParentOutput::Discovered { node, changes, whole });
                    }
                }
                packer.push(&Frame::Ack(Side::Dsc, session.dsc.ack()));
            }
            Frame::Log(log) => {
                let arrival = session.log.accept(&log)?;
                self.counters.log_lost = self.counters.log_lost.saturating_add(arrival.lost);
                if arrival.lost > 0 {
                    let (node, lines) = (session.node.clone(), arrival.lost);
                    self.out.push(ParentOutput::LogLost { node, lines });
                }
                for (stream, lines) in arrival.lines {
                    self.counters.log_lines += lines.len() as u64;
                    let node = session.node.clone();
                    self.out.push(ParentOutput::Log { node, stream, lines });
                }
                packer.push(&Frame::LogAck { next: session.log.next() });
            }
            Frame::Bye => {
                session.life = Life::Left;
                self.out.push(ParentOutput::Left { node: session.node.clone() });
                packer.push(&Frame::ByeAck);
            }
            // Only a parent says these.
            Frame::Echo(_)
            | Frame::Ack(Side::Dsc, _)
            | Frame::Piece(Side::Cfg, _)
            | Frame::LogAck { .. }
            | Frame::ByeAck => return Err(Malformed::Contradiction.into()),
        }
        Ok(())
    }
}
