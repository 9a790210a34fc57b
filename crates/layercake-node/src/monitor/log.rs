//! A container's output as a bounded file of lines.
//!
//! A line is `<unix-ms> <stream> <text>`. When the file is full it becomes `<name>.1`, so between
//! one and two times the limit is kept.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::unix_ms;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The program's standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// The console of a systemd image.
    Console,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Console => "console",
        }
    }
}

/// How much output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes in a file before the next is begun; there are two.
    pub file_bytes: u64,
    /// Bytes in a line; a longer one is cut into several.
    pub line_bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 1024 * 1024, line_bytes: 8 * 1024 }
    }
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub unix_ms: u64,
    /// Where it came from.
    pub stream: Stream,
    /// What it says, without its end.
    pub text: String,
}

/// Reads a line of a log file. `None` when it is none.
#[must_use]
pub fn parse_log_line(line: &[u8]) -> Option<LogLine> {
    let line = String::from_utf8_lossy(line);
    let (unix_ms, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    let streams = [Stream::Stdout, Stream::Stderr, Stream::Console];
    Some(LogLine {
        unix_ms: unix_ms.parse().ok()?,
        stream: streams.into_iter().find(|known| known.as_str() == stream)?,
        text: text.to_owned(),
    })
}

/// The file, and the one before it.
pub(crate) struct RotatingLog {
    path: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    written: u64,
    /// The last lines that say something.
    last: VecDeque<Vec<u8>>,
}

/// How many lines before an end are told with it, and how much of each is kept for that.
const LAST_LINES: usize = 3;
const LAST_LINE_BYTES: usize = 1024;

impl RotatingLog {
    /// Opens the log to append. A log that cannot be written is no reason to stop a container:
    /// lines are then lost until it can be again.
    pub(crate) fn open(path: PathBuf, limits: LogLimits) -> Self {
        let mut log = Self { path, limits, file: None, written: 0, last: VecDeque::new() };
        log.reopen();
        log
    }

    pub(super) fn limits(&self) -> LogLimits {
        self.limits
    }

    fn reopen(&mut self) {
        self.file = File::options().create(true).append(true).open(&self.path).ok();
        self.written =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }

    /// The last lines that say something, the oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    pub(crate) fn line(&mut self, stream: Stream, text: &[u8]) {
        if !text.trim_ascii().is_empty() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(text[..text.len().min(LAST_LINE_BYTES)].to_vec());
        }
        if self.written >= self.limits.file_bytes {
            let mut previous = self.path.clone().into_os_string();
            previous.push(".1");
            if fs::rename(&self.path, previous).is_ok() {
                self.reopen();
            }
        }
        if self.file.is_none() {
            self.reopen();
        }
        match self.write(stream, text) {
            Ok(written) => self.written += written,
            Err(_) => self.file = None,
        }
    }

    fn write(&mut self, stream: Stream, text: &[u8]) -> io::Result<u64> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut line = format!("{} {} ", unix_ms(), stream.as_str()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        // One write per line: a reader never sees the beginning of one without its end.
        file.write_all(&line)?;
        Ok(line.len() as u64)
    }
}

/// Cuts a stream of bytes into lines.
pub(super) struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    pub(super) fn push(&mut self, bytes: &[u8], log: &mut RotatingLog) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            let is_whole = piece.ends_with(b"\n");
            let limit = log.limits().line_bytes;
            while self.pending.len() > limit {
                let rest = self.pending.split_off(limit);
                log.line(self.stream, &std::mem::replace(&mut self.pending, rest));
            }
            if is_whole {
                self.finish(log);
            }
        }
    }

    /// Writes what has come of a line that will not be finished.
    pub(super) fn finish(&mut self, log: &mut RotatingLog) {
        let line = std::mem::take(&mut self.pending);
        // A terminal ends its lines with a carriage return too.
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !line.is_empty() {
            log.line(self.stream, text);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(path: &std::path::Path) -> Vec<String> {
        let content = fs::read(path).unwrap();
        let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| parse_log_line(line).unwrap().text).collect()
    }

    #[test]
    fn lines_are_cut_where_they_end_and_where_they_are_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let limits = LogLimits { file_bytes: 1 << 20, line_bytes: 4 };
        let mut log = RotatingLog::open(path.clone(), limits);
        let mut lines = Lines::new(Stream::Stdout);
        lines.push(b"a\r\nbc", &mut log);
        lines.push(b"d\nefghijk\n\nend", &mut log);
        lines.finish(&mut log);
        assert_eq!(texts(&path), ["a", "bcd", "efgh", "ijk", "", "end"]);
    }

    #[test]
    fn a_full_file_gives_way_to_the_next_and_no_more_than_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let limits = LogLimits { file_bytes: 200, line_bytes: 64 };
        let mut log = RotatingLog::open(path.clone(), limits);
        for number in 0..100 {
            log.line(Stream::Stderr, format!("line {number}").as_bytes());
        }
        assert_eq!(texts(&path).last().unwrap(), "line 99");
        let files = fs::read_dir(dir.path()).unwrap();
        let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size < 300), "{sizes:?}");
    }

    #[test]
    fn the_last_lines_that_say_something_are_kept_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RotatingLog::open(dir.path().join("log"), LogLimits::default());
        assert_eq!(log.last_lines(), [""; 0]);
        for line in ["a", "b", " ", "c", "", "d"] {
            log.line(Stream::Stdout, line.as_bytes());
        }
        assert_eq!(log.last_lines(), ["b", "c", "d"]);
        log.line(Stream::Stderr, &vec![b'x'; 10_000]);
        assert_eq!(log.last_lines()[2].len(), LAST_LINE_BYTES);
    }

    #[test]
    fn what_is_no_line_is_not_read() {
        for bad in ["", "1", "1 stdout", "x stdout a", "1 stdin a"] {
            assert_eq!(parse_log_line(bad.as_bytes()), None, "{bad}");
        }
    }
}
