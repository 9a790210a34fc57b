//! Lines and messages, without input or output.

use serde::Deserialize;
use serde_json::Value;

/// The longest line that is read. The answers used here are below 1 KiB; the greeting is about 200 bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Splits a stream of bytes into lines, holding at most one unfinished line.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    /// How much of `pending` was already searched for an end of line.
    searched: usize,
}

/// A line that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE_BYTES} bytes")]
pub struct LineTooLong;

impl Lines {
    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Takes the next complete line, without its end. Empty lines are skipped.
    ///
    /// # Errors
    /// When the line, complete or not, is longer than [`MAX_LINE_BYTES`]; the stream is then lost.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        loop {
            let end = self.pending[self.searched..].iter().position(|&b| b == b'\n');
            let Some(end) = end.map(|at| at + self.searched) else {
                self.searched = self.pending.len();
                return if self.searched > MAX_LINE_BYTES { Err(LineTooLong) } else { Ok(None) };
            };
            if end > MAX_LINE_BYTES {
                return Err(LineTooLong);
            }
            let mut line: Vec<u8> = self.pending.drain(..=end).collect();
            self.searched = 0;
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

/// What QEMU may say.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line of every connection.
    Greeting,
    /// The answer to a command.
    Return {
        /// The number of the command.
        id: Option<u64>,
        /// What it returns.
        value: Value,
    },
    /// The refusal of a command.
    Error {
        /// The number of the command; absent when the command could not be read.
        id: Option<u64>,
        /// The kind of error, for programs.
        class: String,
        /// The error, for people.
        desc: String,
    },
    /// Something happened.
    Event {
        /// What happened, like `SHUTDOWN`.
        name: String,
    },
}

/// A line that is not QMP.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not JSON, or not of the types that QMP has.
    #[error("not a QMP message")]
    Json(#[source] serde_json::Error),
    /// A JSON object without any member that says what it is.
    #[error("a message that is neither greeting, return, error nor event")]
    Kind,
}

#[derive(Deserialize)]
struct RawError {
    class: String,
    desc: String,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "QMP")]
    greeting: Option<serde::de::IgnoredAny>,
    // `"return": null` is an answer too, so absence has to be told from null.
    #[serde(rename = "return", default, deserialize_with = "present")]
    value: Option<Value>,
    error: Option<RawError>,
    event: Option<String>,
    id: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// When the line is not a message of the protocol.
    pub fn parse(line: &[u8]) -> Result<Self, MessageError> {
        let raw: Raw = serde_json::from_slice(line).map_err(MessageError::Json)?;
        // An id that is not a number is not one of ours, and matches none.
        let id = raw.id.and_then(|id| id.as_u64());
        if let Some(name) = raw.event {
            Ok(Self::Event { name })
        } else if let Some(RawError { class, desc }) = raw.error {
            Ok(Self::Error { id, class, desc })
        } else if let Some(value) = raw.value {
            Ok(Self::Return { id, value })
        } else if raw.greeting.is_some() {
            Ok(Self::Greeting)
        } else {
            Err(MessageError::Kind)
        }
    }
}

/// One command as a line.
#[must_use]
pub fn command(id: u64, name: &str) -> Vec<u8> {
    let mut line = serde_json::json!({ "execute": name, "id": id }).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Feeds bytes from outside through the reader in two pieces and in one: for the fuzzer.
///
/// # Panics
/// When the two readings differ.
pub fn fuzz_lines(data: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Ok(Some(line)) = lines.next_line() {
                seen.push(Message::parse(&line).map_err(|error| error.to_string()));
            }
        }
        seen
    };
    let middle = data.len() / 2;
    let whole = read(&[data]);
    // A line over the limit may be noticed at different times; below it the pieces must not matter.
    if data.len() <= MAX_LINE_BYTES {
        assert_eq!(whole, read(&[&data[..middle], &data[middle..]]));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn messages_of_a_real_machine_are_read() {
        let parse = |line: &str| Message::parse(line.as_bytes()).unwrap();
        assert_eq!(
            parse(
                r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#
            ),
            Message::Greeting
        );
        assert_eq!(
            parse(r#"{"return": {"status": "running"}, "id": 7}"#),
            Message::Return { id: Some(7), value: serde_json::json!({"status": "running"}) }
        );
        assert_eq!(parse(r#"{"return": null}"#), Message::Return { id: None, value: Value::Null });
        assert_eq!(
            parse(
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false}}"#
            ),
            Message::Event { name: "SHUTDOWN".into() }
        );
        assert_eq!(
            parse(r#"{"id": 3, "error": {"class": "CommandNotFound", "desc": "no"}}"#),
            Message::Error { id: Some(3), class: "CommandNotFound".into(), desc: "no".into() }
        );
    }

    #[test]
    fn what_is_not_qmp_is_refused() {
        let deep = "[".repeat(100_000);
        for line in
            ["", "{", "[]", "7", "{}", r#"{"event": 7}"#, r#"{"error": "no"}"#, "\u{0}", &deep]
        {
            assert!(Message::parse(line.as_bytes()).is_err(), "{line:.20} was accepted");
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let stream = b"{\"a\":1}\r\n\n\r\n{\"b\":2}\n{\"c\"";
        let mut one_by_one = Lines::default();
        let mut seen = Vec::new();
        for byte in stream {
            one_by_one.push(&[*byte]);
            while let Some(line) = one_by_one.next_line().unwrap() {
                seen.push(String::from_utf8(line).unwrap());
            }
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn a_line_without_end_is_refused_at_the_limit() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }

    #[test]
    fn a_command_is_one_line() {
        assert_eq!(command(7, "query-status"), b"{\"execute\":\"query-status\",\"id\":7}\n");
    }
}
