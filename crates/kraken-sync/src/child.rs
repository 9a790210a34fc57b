//! The child's end of its session.

use crate::frame::{self, Frame, Hello, Packer};
use crate::inbox::{Arrival, Inbox};
use crate::keys::{Header, KeysSpent, OpenError, SessionKeys};
use crate::log::LogQueue;
use crate::outbox::Outbox;
use crate::rtt::{Cadence, Rtt};
use crate::{
    MAX_TRANSFER_BYTES, Malformed, Refusal, Revision, Revisions, SessionId, Silence, Welcome,
};
use kraken_model::{Document, Millis, Side};
use serde::Serialize;
use std::time::Duration;

/// How long a leaving child tries to get its last words through before it says good-bye, and how
/// long it then waits for the answer.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// What happens to a child.
#[derive(Debug)]
pub enum ChildInput<'a> {
    /// A datagram came from the parent's address. It is opened in place.
    Datagram {
        /// The datagram.
        bytes: &'a mut [u8],
    },
    /// What the child discovered has changed. Taken before the join too.
    Dsc {
        /// The whole of it now.
        document: Document,
    },
    /// A line of log. Taken before the join too.
    Log {
        /// The stream.
        stream: &'a str,
        /// The line.
        line: &'a str,
    },
    /// Time passed.
    Tick,
    /// Go in order: finish what is on its way, say good-bye.
    Leave,
}

/// What a child wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildOutput {
    /// Send a datagram to the parent.
    Send {
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// What the child should be has changed.
    Cfg {
        /// All of it.
        document: Document,
        /// The revision of that in this session.
        revision: Revision,
    },
    /// The parent says nothing any more. The session is over; join again.
    ParentSilent {
        /// When it was last heard.
        since: Millis,
    },
    /// The session has sealed as much as it may. It is over; join again.
    KeysSpent,
    /// The dsc is too large to be sent; the parent keeps the one it has.
    DscTooLarge {
        /// How large it would be.
        bytes: usize,
    },
    /// The good-bye was answered, or not in time. The session is over.
    Left {
        /// Whether the parent knows.
        acknowledged: bool,
    },
}

/// How often what happened, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChildCounters {
    /// Datagrams that came.
    pub received: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Refused: not of this session, replayed, or with a bad seal.
    pub refused: u64,
    /// Refused: opened, but malformed.
    pub malformed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// Until then the last words may arrive.
    Finishing { until: Millis },
    /// Good-bye was said, and no answer is waited for after a while. It is repeated without
    /// slowing down: there is little time and nothing else to send.
    Said { at: Millis, until: Millis },
}

/// A hello that was not answered yet.
#[derive(Debug, Clone, Copy)]
struct Asked {
    first: Millis,
    last: Millis,
    times: u32,
}

#[derive(Debug)]
struct Link {
    session: SessionId,
    keys: SessionKeys,
    hello_ms: u64,
    silence: Silence,
    cfg: Document,
    inbox: Inbox,
    room: usize,
    rtt: Rtt,
    cadence: Cadence,
    sequence: u64,
    received: u64,
    next_hello: Millis,
    answered: Option<Millis>,
    asked: Option<Asked>,
    leaving: Option<Leaving>,
}

/// A child: its dsc and log live as long as this, whether or not it has a parent.
#[derive(Debug)]
pub struct Child {
    dsc: Outbox,
    log: LogQueue,
    link: Option<Box<Link>>,
    held: Revisions,
    random: u64,
    counters: ChildCounters,
}

impl Child {
    /// A child without a parent. The seed makes its hellos differ in time from its neighbours'.
    #[must_use]
    pub fn new(jitter_seed: u64) -> Self {
        Self {
            dsc: Outbox::unknown(Side::Dsc, Document::new()),
            log: LogQueue::default(),
            link: None,
            held: Revisions::default(),
            random: jitter_seed,
            counters: ChildCounters::default(),
        }
    }

    /// A parent let the child in: a new session begins, in place of the one there may be.
    pub fn joined(
        &mut self,
        now: Millis,
        keys: SessionKeys,
        welcome: &Welcome,
        out: &mut Vec<ChildOutput>,
    ) {
        let hello_ms = welcome.hello_ms.max(1);
        self.dsc.restart();
        self.log.restart();
        self.link = Some(Box::new(Link {
            session: welcome.session,
            keys,
            hello_ms,
            silence: welcome.silence,
            cfg: welcome.cfg.clone(),
            inbox: Inbox::holding(welcome.cfg_revision),
            room: MAX_TRANSFER_BYTES * 2,
            rtt: Rtt::default(),
            cadence: Cadence::new(now, hello_ms),
            sequence: 0,
            received: 0,
            next_hello: now,
            answered: None,
            asked: None,
            leaving: None,
        }));
        let (document, revision) = (welcome.cfg.clone(), welcome.cfg_revision);
        out.push(ChildOutput::Cfg { document, revision });
        self.send(now, Packer::default(), out);
    }

    /// Whether there is a session.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.link.is_some()
    }

    /// How far the session is, or the last one was: for the next join.
    #[must_use]
    pub fn held(&self) -> Revisions {
        let cfg = self.link.as_ref().map_or(self.held.cfg, |link| link.inbox.held());
        Revisions { cfg, dsc: self.link.as_ref().map_or(self.held.dsc, |_| self.dsc.acked()) }
    }

    /// Whether the parent has all that was said.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.link.is_some() && self.dsc.is_settled() && self.log.is_empty()
    }

    /// How often what happened.
    #[must_use]
    pub fn counters(&self) -> ChildCounters {
        self.counters
    }

    /// Takes an input and says what follows.
    pub fn step(&mut self, now: Millis, input: ChildInput<'_>, out: &mut Vec<ChildOutput>) {
        let mut packer = Packer::default();
        match input {
            ChildInput::Datagram { bytes } => {
                self.counters.received += 1;
                match self.datagram(now, bytes, &mut packer, out) {
                    Ok(()) => {}
                    Err(Refusal::Sealed(_)) => self.counters.refused += 1,
                    Err(Refusal::Malformed(_)) => self.counters.malformed += 1,
                }
            }
            ChildInput::Dsc { document } => drop(self.dsc.set(document)),
            ChildInput::Log { stream, line } => self.log.push(stream, line),
            ChildInput::Tick => {}
            ChildInput::Leave => match &mut self.link {
                Some(link) if link.leaving.is_none() => {
                    link.leaving = Some(Leaving::Finishing { until: now.plus(LEAVE_PATIENCE) });
                }
                Some(_) => {}
                None => out.push(ChildOutput::Left { acknowledged: false }),
            },
        }
        self.send(now, packer, out);
    }

    /// When `step` wants to be called again at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let link = self.link.as_ref()?;
        let own = match link.leaving {
            // Nothing else is sent after the good-bye.
            Some(Leaving::Said { at, until }) => {
                return Some(until.min(at.plus(link.rtt.timeout(1))));
            }
            Some(Leaving::Finishing { until }) => until.min(link.hello_at()),
            None => link.hello_at(),
        };
        let streams = [self.dsc.next_deadline(&link.rtt), self.log.next_deadline(&link.rtt)];
        streams.into_iter().flatten().chain(link.silent_at()).chain([own]).min()
    }

    /// Ends the session; what comes in its place is the caller's to say.
    fn end(&mut self) -> Option<Millis> {
        self.held = self.held();
        self.link.take().map(|link| link.cadence.last())
    }

    fn datagram(
        &mut self,
        now: Millis,
        bytes: &mut [u8],
        packer: &mut Packer,
        out: &mut Vec<ChildOutput>,
    ) -> Result<(), Refusal> {
        let header = Header::parse(bytes)?;
        let link = self.link.as_deref_mut().filter(|link| link.session == header.session);
        let link = link.ok_or(OpenError::UnknownSession)?;
        let opened = link.keys.open(header, bytes)?;
        let frames = frame::decode(opened.frames)?;
        link.received += 1;
        link.cadence.heard(now);
        let mut left = false;
        for frame in frames {
            match frame {
                Frame::Echo(echo) => {
                    link.echo(now, &echo);
                    self.dsc.peer_holds(now, echo.held, &mut link.rtt);
                }
                Frame::Ack(Side::Dsc, ack) => self.dsc.acknowledge(now, &ack, &mut link.rtt),
                Frame::Piece(Side::Cfg, piece) => {
                    if let Arrival::Complete { whole, changes } =
                        link.inbox.accept(&piece, &mut link.room)?
                    {
                        let mut document = if whole { Document::new() } else { link.cfg.clone() };
                        document.apply(&changes);
                        link.cfg = document.clone();
                        let revision = link.inbox.held();
                        out.push(ChildOutput::Cfg { document, revision });
                    }
                    packer.push(&Frame::Ack(Side::Cfg, link.inbox.ack()));
                }
                Frame::LogAck { next } => self.log.acknowledge(now, next, &mut link.rtt),
                Frame::ByeAck => left = matches!(link.leaving, Some(Leaving::Said { .. })),
                // Only a child says these.
                Frame::Hello(_)
                | Frame::Ack(Side::Cfg, _)
                | Frame::Piece(Side::Dsc, _)
                | Frame::Log(_)
                | Frame::Bye => return Err(Malformed::Contradiction.into()),
            }
        }
        if left {
            self.end();
            out.push(ChildOutput::Left { acknowledged: true });
        }
        Ok(())
    }

    /// Adds what is due, seals and sends.
    fn send(&mut self, now: Millis, mut packer: Packer, out: &mut Vec<ChildOutput>) {
        let Some(link) = self.link.as_deref_mut() else { return };
        if link.silent_at().is_some_and(|at| at <= now) {
            let left = link.leaving.is_some();
            let since = self.end().unwrap_or(now);
            out.push(if left {
                ChildOutput::Left { acknowledged: false }
            } else {
                ChildOutput::ParentSilent { since }
            });
            return;
        }
        let settled = self.dsc.is_settled() && self.log.is_empty();
        if link.leave(now, settled, &mut packer).is_err() {
            self.end();
            out.push(ChildOutput::Left { acknowledged: false });
            return;
        }
        let Some(link) = self.link.as_deref_mut() else { return };
        if !matches!(link.leaving, Some(Leaving::Said { .. })) {
            if link.hello_at() <= now {
                let frame = Frame::Hello(link.hello(now, self.dsc.newest(), &mut self.random));
                packer.push(&frame);
            }
            if let Err(oversized) = self.dsc.poll(now, &link.rtt, &mut packer) {
                out.push(ChildOutput::DscTooLarge { bytes: oversized.bytes });
            }
            self.log.poll(now, &link.rtt, &mut packer);
        }
        let sent = &mut self.counters.sent;
        let sealed = packer.seal(&mut link.keys, link.session, |bytes| {
            *sent += 1;
            out.push(ChildOutput::Send { bytes });
        });
        if sealed == Err(KeysSpent) {
            self.end();
            out.push(ChildOutput::KeysSpent);
        }
    }
}

/// The good-bye was not answered in time.
struct GivenUp;

impl Link {
    /// When the next hello is due: in its turn, or sooner when the last one was not answered.
    fn hello_at(&self) -> Millis {
        match self.asked {
            Some(asked) => self.next_hello.min(asked.last.plus(self.rtt.timeout(asked.times))),
            None => self.next_hello,
        }
    }

    /// When the parent's silence will mean something; it can only be silent when asked.
    fn silent_at(&self) -> Option<Millis> {
        let patience = self.cadence.patience(self.hello_ms, self.silence);
        self.asked.map(|asked| asked.first.max(self.cadence.last()).plus(patience))
    }

    fn hello(&mut self, now: Millis, newest: Revision, random: &mut u64) -> Hello {
        self.sequence += 1;
        let asked = self.asked.get_or_insert(Asked { first: now, last: now, times: 0 });
        (asked.last, asked.times) = (now, asked.times + 1);
        // A tenth to either side, so that children who joined together drift apart.
        let tenth = self.hello_ms / 10;
        let jitter = splitmix(random) % (2 * tenth + 1);
        self.next_hello = now.plus(Duration::from_millis(self.hello_ms - tenth + jitter));
        let (held, received) = (self.inbox.held(), self.received);
        Hello { sequence: self.sequence, newest, held, received }
    }

    fn echo(&mut self, now: Millis, echo: &Hello) {
        if echo.sequence != self.sequence {
            return;
        }
        if let Some(asked) = self.asked.take() {
            self.rtt.sample(now.since(asked.last));
            if let Some(before) = self.answered {
                self.cadence.regular(now.since(before), u64::from(asked.times - 1));
            }
            self.answered = Some(now);
        }
    }

    fn leave(&mut self, now: Millis, settled: bool, packer: &mut Packer) -> Result<(), GivenUp> {
        match self.leaving {
            Some(Leaving::Finishing { until }) if settled || now >= until => {
                let until = now.plus(LEAVE_PATIENCE);
                self.leaving = Some(Leaving::Said { at: now, until });
                packer.push(&Frame::Bye);
            }
            Some(Leaving::Said { until, .. }) if now >= until => return Err(GivenUp),
            Some(Leaving::Said { at, until }) if at.plus(self.rtt.timeout(1)) <= now => {
                self.leaving = Some(Leaving::Said { at: now, until });
                packer.push(&Frame::Bye);
            }
            _ => {}
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for jitter.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
