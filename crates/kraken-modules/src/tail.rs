//! The last lines that a command printed, for the journal.

use std::collections::VecDeque;
use std::sync::Arc;

/// How many lines are kept of one command.
const LINES: usize = 20;

/// The most that is kept of a line, in bytes.
const LINE_BYTES: usize = 400;

/// The last lines of what is printed.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<Arc<str>>,
    left_out: u64,
}

impl Tail {
    /// Takes the next line. Empty ones say nothing.
    pub(crate) fn add(&mut self, line: &str) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(line[..line.floor_char_boundary(LINE_BYTES)].into());
    }

    /// The lines, in order, and how many there were before them; nothing when nothing was printed.
    pub(crate) fn finish(self) -> Option<(Vec<Arc<str>>, u64)> {
        (!self.lines.is_empty()).then(|| (self.lines.into(), self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_those_before_counted() {
        let mut tail = Tail::default();
        tail.add("");
        (0..25).for_each(|n| tail.add(&format!("line {n}\n")));
        let (lines, left_out) = tail.finish().unwrap_or_default();
        assert_eq!((lines.len(), left_out), (LINES, 5));
        assert_eq!((&*lines[0], &*lines[19]), ("line 5", "line 24"));
        assert_eq!(Tail::default().finish(), None);
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let mut tail = Tail::default();
        tail.add(&format!("x{}", "ä".repeat(LINE_BYTES)));
        let (lines, _) = tail.finish().unwrap_or_default();
        assert_eq!(lines[0].len(), LINE_BYTES - 1);
    }
}
