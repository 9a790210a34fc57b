//! A whole terminal that is drawn again and again, and put back as it was.

use super::terminal::{Size, size};
use super::{Unwritten, bytes};
use crate::commands::Failure;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Write};

/// Takes the alternate screen, on which nothing scrolls away, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";

/// Shows the cursor, and what was there before.
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn on, until this is dropped.
pub(crate) struct Screen {
    /// How keys were taken before, when there is a keyboard.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal; nothing when standard output is none that can be drawn on.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn enter() -> Result<Option<Self>, Failure> {
        let is_dumb = std::env::var("TERM").is_ok_and(|kind| kind == "dumb");
        if size().is_none() || is_dumb {
            return Ok(None);
        }
        let mut screen = Self { before: None };
        screen.enter_again()?;
        Ok(Some(screen))
    }

    /// Takes it again after [`Screen::leave`].
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn enter_again(&mut self) -> Result<(), Failure> {
        self.before = silence();
        bytes(ENTER)
    }

    /// Puts the terminal back as it was.
    pub(crate) fn leave(&mut self) {
        let mut out = std::io::stdout().lock();
        // Nothing can be done about a terminal that has gone.
        let _ = out.write_all(LEAVE).and_then(|()| out.flush());
        if let Some(before) = self.before.take() {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        }
    }

    /// Draws the lines of a terminal of this size, over those that were there.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn draw(&mut self, lines: impl FnOnce(Size) -> Vec<String>) -> Result<(), Failure> {
        let Some(size) = size() else {
            return Err(Unwritten(std::io::ErrorKind::BrokenPipe.into()).into());
        };
        bytes(drawn(&lines(size)).as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Lines from the top of a terminal, and nothing below them. A line is cleared before it is written:
/// after its last letter that would clear the letter too.
fn drawn(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("\x1b[2K{line}")).collect();
    let below = "\x1b[J";
    match lines.is_empty() {
        true => format!("\x1b[H{below}"),
        // The last letter of the last line must not be cleared either, so what is below comes first.
        false => format!("\x1b[H{below}{}", lines.join("\r\n")),
    }
}

/// Keeps typed keys from being shown; Ctrl-C and Ctrl-Z go on to mean what they mean.
fn silence() -> Option<Termios> {
    let stdin = std::io::stdin();
    let before = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent).ok()?;
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn lines_are_drawn_over_what_was_there_and_the_last_one_does_not_scroll() {
        let lines = ["one".to_owned(), "two".to_owned()];
        assert_eq!(drawn(&lines), "\x1b[H\x1b[J\x1b[2Kone\r\n\x1b[2Ktwo");
        assert_eq!(drawn(&[]), "\x1b[H\x1b[J");
    }
}
