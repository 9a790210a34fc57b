//! How answers look.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use crate::args::Output;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::error::Error;
use std::io::Write;

/// Prints an answer in the asked form; `table` makes the one for people, `names` the names.
pub(crate) fn answer(
    output: Output,
    answer: &Value,
    table: impl FnOnce() -> String,
    names: impl FnOnce() -> Vec<String>,
) {
    match output {
        Output::Table => text(&table()),
        Output::Name => text(&names().join("\n")),
        Output::Json => text(&serde_json::to_string_pretty(answer).unwrap_or_default()),
        Output::Yaml => text(serde_saphyr::to_string(answer).unwrap_or_default().trim_end()),
    }
}

/// Prints text and the end of its last line. A reader that has gone is no error.
pub(crate) fn text(text: &str) {
    if !text.is_empty() {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// Prints a remark that is not part of the answer.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints what went wrong.
pub(crate) fn error(error: &dyn Error) {
    eprintln!("layercake: {}", layercake_server::api::chain(error));
}

/// A table without lines, as wide as it needs to be or the terminal is.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Trailing blanks would make a golden file of every table invisible in review.
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
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

    #[test]
    fn a_table_has_no_trailing_blanks() {
        let table = table(&["A", "B"], [vec!["1".into(), String::new()]]);
        assert_eq!(table, "A  B\n1");
    }
}
