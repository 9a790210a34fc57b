//! The child's log on its way to the parent: in order, each line once per session, bounded at both
//! ends. When the queue is full the oldest lines go, and the parent learns how many.

use crate::frame::{Frame, LogFrame, Malformed, Packer};
use crate::rtt::Rtt;
use crate::wire::{Reader, put_blob};
use kraken_model::Millis;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes of log that a child keeps for its parent.
pub const MAX_LOG_QUEUE_BYTES: usize = 256 * 1024;

/// Longest line; the rest of a longer one is cut off, with a mark.
pub const MAX_LOG_LINE_BYTES: usize = 1000;

/// Longest name of a log stream; the rest is cut off.
pub const MAX_LOG_STREAM_BYTES: usize = 64;

/// Stands where a line was cut.
const CUT: &str = "…";

/// Most bytes of lines in one datagram.
const MAX_LINES_BYTES: usize = 1100;

/// What an entry counts for beside its text.
const ENTRY_BYTES: usize = 64;

/// Most datagrams of log on their way at once.
const WINDOW: u32 = 8;

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[derive(Debug)]
struct Entry {
    stream: Arc<str>,
    line: Box<str>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.line.len() + ENTRY_BYTES
    }
}

/// The child's end.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The number of the oldest line kept.
    floor: u64,
    /// Lines dropped since the parent last said what it has.
    dropped: u64,
    /// The number of the next line to be sent.
    cursor: u64,
    flying: u32,
    sent_at: Millis,
    times: u32,
    last_stream: Option<Arc<str>>,
}

impl LogQueue {
    pub(crate) fn push(&mut self, stream: &str, line: &str) {
        let name = cut(stream, MAX_LOG_STREAM_BYTES);
        let stream = match &self.last_stream {
            Some(last) if **last == *name => last.clone(),
            _ => self.last_stream.insert(name.into()).clone(),
        };
        let line = if line.len() > MAX_LOG_LINE_BYTES {
            [cut(line, MAX_LOG_LINE_BYTES - CUT.len()), CUT].concat().into()
        } else {
            line.into()
        };
        let entry = Entry { stream, line };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > MAX_LOG_QUEUE_BYTES {
            self.drop_oldest();
            self.dropped += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes();
            self.floor += 1;
            self.cursor = self.cursor.max(self.floor);
        }
    }

    fn end(&self) -> u64 {
        self.floor + self.entries.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new session: what was not acknowledged is numbered anew, behind what was lost.
    pub(crate) fn restart(&mut self) {
        self.floor = self.dropped;
        self.cursor = self.floor;
        (self.flying, self.times) = (0, 0);
    }

    pub(crate) fn acknowledge(&mut self, now: Millis, next: u64, rtt: &mut Rtt) {
        if next <= self.floor || next > self.end() {
            return;
        }
        if self.times == 1 && next == self.cursor {
            rtt.sample(now.since(self.sent_at));
        }
        while self.floor < next {
            self.drop_oldest();
        }
        (self.dropped, self.flying, self.times) = (0, 0, 0);
        self.sent_at = now;
        if self.cursor > self.floor {
            (self.flying, self.times) = (1, 1);
        }
    }

    pub(crate) fn poll(&mut self, now: Millis, rtt: &Rtt, packer: &mut Packer) {
        if self.times > 0 && now >= self.sent_at.plus(rtt.timeout(self.times)) {
            (self.cursor, self.flying) = (self.floor, 0);
        }
        let again = self.flying == 0;
        let window = if self.times > 1 { 1 } else { WINDOW };
        let mut sent = false;
        while self.flying < window && self.cursor < self.end() {
            let (first, mut lines) = (self.cursor, Vec::with_capacity(MAX_LINES_BYTES));
            for entry in self.entries.range((first - self.floor) as usize..) {
                let size = entry.stream.len() + entry.line.len() + 3;
                if !lines.is_empty() && lines.len() + size > MAX_LINES_BYTES {
                    break;
                }
                put_blob(&mut lines, entry.stream.as_bytes());
                put_blob(&mut lines, entry.line.as_bytes());
                self.cursor += 1;
            }
            packer.push(&Frame::Log(LogFrame { floor: self.floor, first, lines: &lines }));
            self.flying += 1;
            sent = true;
        }
        if sent {
            self.sent_at = now;
            self.times = if again { self.times.saturating_add(1) } else { self.times.max(1) };
        }
    }

    pub(crate) fn next_deadline(&self, rtt: &Rtt) -> Option<Millis> {
        (self.times > 0 && !self.is_empty()).then(|| self.sent_at.plus(rtt.timeout(self.times)))
    }
}

/// Lines of one stream.
pub(crate) type Lines = (Arc<str>, Vec<String>);

/// What lines brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LogArrival {
    /// So many lines are lost before these.
    pub(crate) lost: u64,
    /// New lines, in order, by stream.
    pub(crate) lines: Vec<Lines>,
}

/// The parent's end.
#[derive(Debug, Default)]
pub(crate) struct LogInbox {
    next: u64,
}

impl LogInbox {
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn accept(&mut self, frame: &LogFrame<'_>) -> Result<LogArrival, Malformed> {
        let lines = decode_lines(frame.lines)?;
        let mut arrival = LogArrival::default();
        if frame.floor > self.next {
            arrival.lost = frame.floor - self.next;
            self.next = frame.floor;
        }
        if frame.first > self.next {
            return Ok(arrival);
        }
        let known = (self.next - frame.first) as usize;
        for (stream, line) in lines.into_iter().skip(known) {
            self.next += 1;
            match arrival.lines.last_mut() {
                Some((last, lines)) if **last == *stream => lines.push(line.to_owned()),
                _ => arrival.lines.push((stream.into(), vec![line.to_owned()])),
            }
        }
        Ok(arrival)
    }
}

pub(crate) fn decode_lines(bytes: &[u8]) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut lines = Vec::new();
    while !reader.is_empty() {
        lines.push((reader.text(MAX_LOG_STREAM_BYTES)?, reader.text(MAX_LOG_LINE_BYTES)?));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_queue_drops_the_oldest_lines_and_the_parent_learns_how_many() {
        let mut queue = LogQueue::default();
        for line in 0..20_000 {
            queue.push("kernel", &format!("{line:040}"));
        }
        assert!(queue.bytes <= MAX_LOG_QUEUE_BYTES);
        let dropped = 20_000 - queue.entries.len() as u64;
        queue.restart();
        let mut lines = Vec::new();
        put_blob(&mut lines, b"kernel");
        put_blob(&mut lines, b"x");
        let frame = LogFrame { floor: queue.floor, first: queue.floor, lines: &lines };
        let mut inbox = LogInbox::default();
        assert_eq!(inbox.accept(&frame).unwrap().lost, dropped);
        assert_eq!(inbox.accept(&frame).unwrap(), LogArrival::default(), "once is enough");
        let end = queue.end();
        queue.acknowledge(Millis(0), end, &mut Rtt::default());
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut queue = LogQueue::default();
        queue.push(&"s".repeat(500), &"é".repeat(4_000));
        let entry = &queue.entries[0];
        assert!(entry.line.len() <= MAX_LOG_LINE_BYTES && entry.line.ends_with(CUT));
        assert_eq!(entry.stream.len(), MAX_LOG_STREAM_BYTES);
    }

    #[test]
    fn a_gap_that_may_still_arrive_is_waited_for() {
        let mut lines = Vec::new();
        put_blob(&mut lines, b"s");
        put_blob(&mut lines, b"x");
        let mut inbox = LogInbox::default();
        let early = LogFrame { floor: 0, first: 1, lines: &lines };
        assert_eq!(inbox.accept(&early).unwrap(), LogArrival::default());
        assert_eq!(inbox.next(), 0);
    }
}
