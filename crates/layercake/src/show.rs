//! How answers look, and writing them.

mod screen;
mod table;
mod terminal;

use crate::args::Output;
use crate::commands::Failure;
pub(crate) use screen::Screen;
use serde_json::Value;
use std::error::Error;
use std::io::Write;
pub(crate) use table::{Column, Layout, Table, shortened};
pub(crate) use terminal::{Size, reader_gone, size as terminal_size};

/// Standard output that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct Unwritten(#[source] std::io::Error);

impl Unwritten {
    /// Whether its reader has gone, which is no mistake: `layercake events | head`.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::BrokenPipe
    }
}

/// Prints an answer in the asked form; `table` makes the one for people, `names` the names.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn answer(
    output: Output,
    answer: &Value,
    table: impl FnOnce() -> String,
    names: impl FnOnce() -> Vec<String>,
) -> Result<(), Failure> {
    match output {
        Output::Table => people(&table()),
        Output::Name => text(&names().join("\n")),
        Output::Json => text(&serde_json::to_string_pretty(answer)?),
        Output::Yaml => text(serde_saphyr::to_string(answer)?.trim_end()),
    }
}

/// Prints text for people: on a terminal long lines are broken between words.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn people(said: &str) -> Result<(), Failure> {
    match terminal_size() {
        Some(size) => text(&terminal::wrapped(said, size.width)),
        None => text(said),
    }
}

/// Prints text and the end of its last line.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| Unwritten(error).into())
}

/// Prints a remark that is not part of the answer. Where nobody can be told nothing can be done.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints what went wrong.
pub(crate) fn error(error: &dyn Error) {
    note(&format!("layercake: {}", layercake_server::api::chain(error)));
}

/// A table that fits the terminal; whole in a pipe.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let width = terminal_size().map(|size| size.width);
    Table::new(columns, rows).lines(width).join("\n")
}

/// A size as people read it: three digits and a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if size < 10.0 => format!("{size:.2} {}", UNITS[unit]),
        _ if size < 100.0 => format!("{size:.1} {}", UNITS[unit]),
        _ => format!("{size:.0} {}", UNITS[unit]),
    }
}

/// How long something has taken or will, in two units at most.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) if s < 10 => format!("{s}.{}s", millis / 100 % 10),
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

/// A time of day in UTC, to the millisecond: it is what logs of many machines can be put beside.
pub(crate) fn time_of_day(millis: u64) -> String {
    let seconds = millis / 1000;
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{:03}", millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_short() {
        let sizes = [999, 1000, 1 << 20, 150 << 20, u64::MAX].map(size);
        assert_eq!(sizes, ["999 B", "0.98 KiB", "1.00 MiB", "150 MiB", "16777216 TiB"]);
        let durations = [0, 1_234, 59_999, 61_000, 3_600_000, 90_000_000].map(duration);
        assert_eq!(durations, ["0.0s", "1.2s", "59s", "1m01s", "1h00m", "1d01h"]);
        assert_eq!(time_of_day(86_400_000 * 3 + 3_723_004), "01:02:03.004");
    }
}
