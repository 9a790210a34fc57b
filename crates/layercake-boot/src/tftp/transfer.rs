//! One transfer as a state machine: no socket, no clock.
//!
//! Blocks are counted in `u64` and wrap only on the wire, so a file may have any number of them. An
//! acknowledgement is understood as a distance from the last acknowledged block; the window is far
//! smaller than the 65,536 numbers, so the distance is never ambiguous.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::packet::{self, PeerPacket, ReadRequest, RequestOption};

/// The block size of a request without `blksize` (RFC 1350).
pub const DEFAULT_BLOCK_BYTES: u16 = 512;
/// Blocks sent before an acknowledgement, whatever the client would like: this much fits the
/// receive buffers of firmware.
pub const MAX_WINDOW_BLOCKS: u16 = 64;
/// Unanswered repetitions after which the peer is taken for gone.
pub const MAX_RETRIES: u32 = 8;
/// Without a timeout from the client, the wait doubles up to this.
pub const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// A transfer never holds its place longer than this.
pub const MAX_TRANSFER_TIME: Duration = Duration::from_secs(3600);

/// What a transfer is bounded by.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest block that reaches the peer in one frame.
    pub max_block_bytes: u16,
    /// The first wait for an answer, where the client asked for none.
    pub retransmit_after: Duration,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The last block was acknowledged.
    Complete,
    /// The peer sent ERROR with this code. Firmware does so after it asked for the size.
    Abandoned(u16),
    /// The peer fell silent.
    TimedOut,
    /// The peer asked anew from the same port, and took nothing of this transfer since.
    Superseded,
}

/// What is to be done after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait for the peer, at most until [`Transfer::deadline`].
    Wait,
    /// Nothing more.
    Ended(Ended),
}

/// The sending side of one transfer.
#[derive(Debug)]
pub struct Transfer {
    file: Bytes,
    block_bytes: u64,
    window: u64,
    /// The acknowledged options, until the peer acknowledged them.
    oack: Option<Vec<u8>>,
    /// The last block that the peer has.
    acked: u64,
    /// The last block that was sent.
    sent: u64,
    /// A repeated acknowledgement of `acked` was answered; further ones tell nothing new.
    repeated: bool,
    /// The peer has acknowledged something.
    answered: bool,
    /// The peer has asked anew since it last answered.
    superseded: bool,
    first_wait: Duration,
    backoff: bool,
    retries: u32,
    retransmits: u64,
    deadline: Instant,
    give_up_at: Instant,
}

impl Transfer {
    /// Begins: the first packets go to `out`.
    pub fn start(
        now: Instant,
        request: &ReadRequest,
        file: Bytes,
        limits: Limits,
        out: &mut Vec<Vec<u8>>,
    ) -> Self {
        let mut transfer = Self {
            block_bytes: DEFAULT_BLOCK_BYTES.into(),
            window: 1,
            oack: None,
            acked: 0,
            sent: 0,
            repeated: false,
            answered: false,
            superseded: false,
            first_wait: limits.retransmit_after,
            backoff: true,
            retries: 0,
            retransmits: 0,
            deadline: now,
            give_up_at: now + MAX_TRANSFER_TIME,
            file,
        };
        let accepted: Vec<_> =
            request.options.iter().map(|option| transfer.accept(*option, limits)).collect();
        if !accepted.is_empty() {
            transfer.oack = Some(packet::oack(accepted));
        }
        transfer.send_window(out);
        transfer.deadline = now + transfer.wait();
        transfer
    }

    /// When [`Transfer::on_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Packets that were sent again so far.
    pub fn retransmits(&self) -> u64 {
        self.retransmits
    }

    /// Whether the peer has acknowledged anything. One that has not may have forgotten the transfer.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Bytes of the file that the peer has acknowledged so far.
    pub fn acknowledged_bytes(&self) -> u64 {
        (self.acked * self.block_bytes).min(self.file.len() as u64)
    }

    /// The peer has sent another request from the port of this transfer. As a rule it has forgotten
    /// this one, so nothing more is sent for it. But a request may also have been doubled on its way, or
    /// have been repeated because the first answer was late; then the peer still answers here, and the
    /// transfer goes on.
    pub fn supersede(&mut self) {
        self.superseded = true;
    }

    /// A datagram from the peer. What it sends that is no answer changes nothing.
    pub fn on_datagram(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Step {
        let ack = match PeerPacket::parse(bytes) {
            PeerPacket::Ack(ack) => ack,
            PeerPacket::Error(code) => return Step::Ended(Ended::Abandoned(code)),
            PeerPacket::Other => return Step::Wait,
        };
        if self.oack.is_some() {
            if ack == 0 {
                self.oack = None;
                self.progress(now, out);
            }
            return Step::Wait;
        }
        let distance = u64::from(ack.wrapping_sub(self.acked as u16));
        if distance > self.sent - self.acked {
            return Step::Wait;
        }
        if distance == 0 {
            // With a window, the peer says that its first block was lost (RFC 7440 section 4). In
            // lockstep, answering would double every packet from here on (RFC 1123 section 4.2.3.1).
            if self.window > 1 && !self.repeated {
                self.repeated = true;
                self.resend(out);
                self.deadline = now + self.wait();
            }
            return Step::Wait;
        }
        self.retransmits += self.sent - self.acked - distance;
        self.acked += distance;
        self.sent = self.acked;
        if self.acked == self.last_block() {
            return Step::Ended(Ended::Complete);
        }
        self.progress(now, out);
        Step::Wait
    }

    /// The deadline has passed without an answer.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) -> Step {
        if self.superseded {
            return Step::Ended(Ended::Superseded);
        }
        if self.retries == MAX_RETRIES || now >= self.give_up_at {
            return Step::Ended(Ended::TimedOut);
        }
        self.retries += 1;
        self.repeated = false;
        self.resend(out);
        self.deadline = now + self.wait();
        Step::Wait
    }

    fn accept(&mut self, option: RequestOption, limits: Limits) -> (&'static str, u64) {
        match option {
            RequestOption::Blksize(wanted) => {
                self.block_bytes = wanted.min(limits.max_block_bytes).into();
                ("blksize", self.block_bytes)
            }
            RequestOption::Tsize => ("tsize", self.file.len() as u64),
            RequestOption::Timeout(secs) => {
                self.first_wait = Duration::from_secs(secs.into());
                self.backoff = false;
                ("timeout", secs.into())
            }
            RequestOption::Windowsize(wanted) => {
                self.window = wanted.min(MAX_WINDOW_BLOCKS).into();
                ("windowsize", self.window)
            }
        }
    }

    fn progress(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.retries = 0;
        self.repeated = false;
        self.answered = true;
        self.superseded = false;
        self.send_window(out);
        self.deadline = now + self.wait();
    }

    fn wait(&self) -> Duration {
        if self.backoff {
            self.first_wait.saturating_mul(1 << self.retries.min(16)).min(MAX_BACKOFF)
        } else {
            self.first_wait
        }
    }

    /// The block that is shorter than the others, and may be empty, ends the file.
    fn last_block(&self) -> u64 {
        self.file.len() as u64 / self.block_bytes + 1
    }

    fn resend(&mut self, out: &mut Vec<Vec<u8>>) {
        self.sent = self.acked;
        let before = out.len();
        self.send_window(out);
        self.retransmits += (out.len() - before) as u64;
    }

    /// Everything that may be under way and is not.
    fn send_window(&mut self, out: &mut Vec<Vec<u8>>) {
        if let Some(oack) = &self.oack {
            out.push(oack.clone());
            return;
        }
        let end = (self.acked + self.window).min(self.last_block());
        for block in self.sent + 1..=end {
            // Both ends are within the file, whose length is a usize.
            let start = ((block - 1) * self.block_bytes) as usize;
            let stop = (start + self.block_bytes as usize).min(self.file.len());
            out.push(packet::data(block as u16, &self.file[start..stop]));
        }
        self.sent = end;
    }
}

/// Plays bytes from nowhere as a request and the datagrams of its peer: the entry for fuzzing.
pub fn fuzz_transfer(data: &[u8]) {
    let (request, peer) = data.split_at(data.len() / 2);
    let Ok(request) = ReadRequest::parse(request) else { return };
    let limits = Limits { max_block_bytes: 1468, retransmit_after: Duration::from_secs(1) };
    let (mut now, mut out) = (Instant::now(), Vec::new());
    let file = Bytes::from(vec![7; 5000]);
    let mut transfer = Transfer::start(now, &request, file, limits, &mut out);
    assert!(out.len() <= 1, "more than one packet before the peer has answered");
    out.clear();
    for datagram in peer.chunks(5) {
        let step = match datagram {
            [255, ..] => {
                now = transfer.deadline();
                transfer.on_timeout(now, &mut out)
            }
            [_, datagram @ ..] => transfer.on_datagram(now, datagram, &mut out),
            [] => Step::Wait,
        };
        assert!(out.len() <= MAX_WINDOW_BLOCKS.into(), "more than a window was sent");
        out.clear();
        if step != Step::Wait {
            return;
        }
    }
}
