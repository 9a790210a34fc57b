//! One conversation over a unix socket.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::wire::{self, LineTooLong, Lines, MAX_LINE_BYTES, Message, MessageError};

/// How many bytes may come before the answer that is waited for. Events come in between, rarely.
const MAX_BYTES_BEFORE_ANSWER: usize = 16 * MAX_LINE_BYTES;

/// How many events are kept for [`Connection::next_event`] while an answer is waited for; the oldest go
/// first. They are hints to look, so losing some loses nothing.
const MAX_KEPT_EVENTS: usize = 64;

/// A conversation that failed. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody answers at the socket.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("the connection broke")]
    Transport(#[source] io::Error),
    /// The other end closed the connection before it answered.
    #[error("the connection was closed before the answer to {waiting_for} came")]
    Closed {
        /// What was waited for.
        waiting_for: String,
    },
    /// No answer by the deadline.
    #[error("no answer to {waiting_for} within {limit:?}")]
    Deadline {
        /// What was waited for.
        waiting_for: String,
        /// How long it was given.
        limit: Duration,
    },
    /// More came than can belong to an answer.
    #[error("more than {MAX_BYTES_BEFORE_ANSWER} bytes came before the answer to {waiting_for}")]
    Flood {
        /// What was waited for.
        waiting_for: String,
    },
    /// A line that does not end.
    #[error("what came is not QMP")]
    Line(#[source] LineTooLong),
    /// A line that is not a message.
    #[error("what came is not QMP")]
    Message(#[source] MessageError),
    /// The conversation did not begin as it should.
    #[error("expected the greeting, but something else came first")]
    NoGreeting,
    /// The command was understood and refused.
    #[error("{command} was refused: {desc} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// The kind of error.
        class: String,
        /// The reason given.
        desc: String,
    },
}

/// A connection that has negotiated its capabilities and takes commands, one at a time.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    lines: Lines,
    next_id: u64,
    events: VecDeque<String>,
}

impl Connection {
    /// Connects, waits for the greeting and leaves negotiation mode, all within `limit`.
    ///
    /// # Errors
    /// When any of that fails or takes longer.
    pub async fn open(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let deadline = Instant::now() + limit;
        let late = |what: &str| QmpError::Deadline { waiting_for: what.to_owned(), limit };
        let stream = timeout_at(deadline, UnixStream::connect(path))
            .await
            .map_err(|_| late("the connection"))?
            .map_err(|source| QmpError::Connect { path: path.to_owned(), source })?;
        let mut this =
            Self { stream, lines: Lines::default(), next_id: 1, events: VecDeque::new() };
        let greeting = "the greeting";
        let first = timeout_at(deadline, this.read_message(greeting, &mut 0))
            .await
            .map_err(|_| late(greeting))??;
        if first != Message::Greeting {
            return Err(QmpError::NoGreeting);
        }
        this.converse("qmp_capabilities", deadline, limit).await?;
        Ok(this)
    }

    /// Runs one command without arguments and returns its answer, within `limit`.
    ///
    /// # Errors
    /// When the command is refused, the answer does not come in time, or what comes is not QMP.
    pub async fn execute(&mut self, command: &str, limit: Duration) -> Result<Value, QmpError> {
        self.converse(command, Instant::now() + limit, limit).await
    }

    /// Waits for the next event and returns its name. There is no deadline: events may never come.
    ///
    /// # Errors
    /// When the connection ends or what comes is not QMP.
    pub async fn next_event(&mut self) -> Result<String, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.read_message("an event", &mut 0).await? {
                Message::Event { name } => return Ok(name),
                Message::Greeting | Message::Return { .. } | Message::Error { .. } => {}
            }
        }
    }

    async fn converse(
        &mut self,
        command: &str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        timeout_at(deadline, self.ask(command))
            .await
            .map_err(|_| QmpError::Deadline { waiting_for: command.to_owned(), limit })?
    }

    async fn ask(&mut self, command: &str) -> Result<Value, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        self.stream.write_all(&wire::command(id, command)).await.map_err(QmpError::Transport)?;
        let mut bytes_read = 0;
        loop {
            match self.read_message(command, &mut bytes_read).await? {
                Message::Return { id: Some(of), value } if of == id => return Ok(value),
                Message::Error { id: of, class, desc } if of.is_none_or(|of| of == id) => {
                    return Err(QmpError::Refused { command: command.to_owned(), class, desc });
                }
                Message::Event { name } => {
                    if self.events.len() == MAX_KEPT_EVENTS {
                        self.events.pop_front();
                    }
                    self.events.push_back(name);
                }
                // An answer to nothing we asked.
                Message::Greeting | Message::Return { .. } | Message::Error { .. } => {}
            }
        }
    }

    async fn read_message(
        &mut self,
        waiting_for: &str,
        bytes_read: &mut usize,
    ) -> Result<Message, QmpError> {
        let mut buffer = [0_u8; 4096];
        loop {
            if let Some(line) = self.lines.next_line().map_err(QmpError::Line)? {
                return Message::parse(&line).map_err(QmpError::Message);
            }
            let got = self.stream.read(&mut buffer).await.map_err(QmpError::Transport)?;
            if got == 0 {
                return Err(QmpError::Closed { waiting_for: waiting_for.to_owned() });
            }
            *bytes_read += got;
            if *bytes_read > MAX_BYTES_BEFORE_ANSWER {
                return Err(QmpError::Flood { waiting_for: waiting_for.to_owned() });
            }
            self.lines.push(&buffer[..got]);
        }
    }
}

#[cfg(test)]
mod tests;
