//! The terminal that answers are shown on, if there is one.

use super::Unwritten;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use std::io::IsTerminal;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The size of the terminal that standard output is; nothing when it is none. A serial line that does
/// not know its size is taken for the usual 80 by 24, unless `COLUMNS` and `LINES` say otherwise.
pub(crate) fn size() -> Option<Size> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = tcgetwinsize(&out).ok();
    let variable = |name, usual| {
        let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
        said.filter(|size| *size > 0).unwrap_or(usual)
    };
    let (width, height) = told.map_or((0, 0), |told| (told.ws_col, told.ws_row));
    Some(Size {
        width: if width > 0 { width.into() } else { variable("COLUMNS", 80) },
        height: if height > 0 { height.into() } else { variable("LINES", 24) },
    })
}

/// How often is looked whether somebody still reads.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until nobody can read standard output any more: `layercake events --follow | head -1` ends
/// although nothing happens that it could fail to write. Cancel-safe.
pub(crate) async fn reader_gone() -> Unwritten {
    let out = std::io::stdout();
    loop {
        let mut asked = [PollFd::new(&out, PollFlags::empty())];
        let told = poll(&mut asked, Some(&Timespec::default()));
        if told.is_ok() && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return Unwritten(std::io::ErrorKind::BrokenPipe.into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Lines that are too long for a terminal, broken between words; what follows is indented. A word that
/// is longer than the terminal is wide stays whole.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    text.lines().map(|line| wrapped_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    if line.width() <= width {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start().len() + 2;
    // On a narrow terminal an indent would leave no room for words.
    let (line, indent) = if indent < width / 2 { (line, indent) } else { (line.trim_start(), 0) };
    let mut wrapped = String::new();
    let (mut at, mut is_begun) = (0, false);
    for word in line.split_inclusive(' ') {
        let (text, blank) = match word.strip_suffix(' ') {
            Some(text) => (text, 1),
            None => (word, 0),
        };
        if is_begun && at + text.width() > width {
            wrapped.truncate(wrapped.trim_end().len());
            wrapped.push('\n');
            wrapped.extend(std::iter::repeat_n(' ', indent));
            (at, is_begun) = (indent, false);
            if text.is_empty() {
                continue;
            }
        }
        wrapped.push_str(word);
        at += text.width() + blank;
        is_begun |= !text.is_empty();
    }
    wrapped.truncate(wrapped.trim_end().len());
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text =
            "n001: image.stop is under way; waits for image_state = IDLE\n  like this for 1.0 s";
        let lines = [
            "n001: image.stop is under",
            "  way; waits for",
            "  image_state = IDLE",
            "  like this for 1.0 s",
        ];
        assert_eq!(wrapped(text, 25), lines.join("\n"));
        assert_eq!(wrapped(text, 80), text);
        let digest = format!("  images.web.digest: {}", "7".repeat(30));
        assert_eq!(wrapped(&digest, 25), format!("  images.web.digest:\n    {}", "7".repeat(30)));
    }

    proptest::proptest! {
        #[test]
        fn wrapping_changes_nothing_but_white_space(text in "[a-e ]{0,60}", width in 1..40_usize) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let wrapped = wrapped(&text, width);
            proptest::prop_assert_eq!(words(&wrapped), words(&text));
            let longest = words(&text).iter().map(|word| word.width()).max().unwrap_or(0);
            for line in wrapped.lines().filter(|_| longest <= width / 2) {
                proptest::prop_assert!(line.width() <= width, "{:?}", line);
            }
        }
    }
}
