//! How far every node is, on the screen all the time.
//!
//! On a terminal a table stays at the bottom and is drawn anew; what else is said appears above it. Without
//! one (a log file) a line is printed whenever a node is somewhere else.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::client::{Node, STATES};
use crate::run::human;

/// When the terminal does not say.
const DEFAULT_WIDTH: usize = 100;
/// Up, and clear to the end of the screen (ECMA-48, CUU and ED).
const CLEAR_BELOW: &str = "\x1b[J";

/// Where a node was, and since when.
struct Seen {
    states: [String; 4],
    since: Instant,
}

/// The screen.
pub(super) struct Screen {
    is_terminal: bool,
    started: Instant,
    seen: BTreeMap<String, Seen>,
    drawn: Vec<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { is_terminal, started: Instant::now(), seen: BTreeMap::new(), drawn: Vec::new() }
    }

    /// Says something that stays.
    pub(super) fn say(&mut self, text: &str) {
        let above = self.erase();
        emit(&format!("{above}{text}\n{}", self.table()));
    }

    /// Shows where nodes are, what is waited for, and what is done about each.
    pub(super) fn show(
        &mut self,
        nodes: &[Node],
        explained: &BTreeMap<String, String>,
        waits_for: &str,
    ) {
        let now = Instant::now();
        let moved: Vec<bool> = nodes.iter().map(|node| self.note(node, now)).collect();
        if self.is_terminal {
            let above = self.erase();
            let since = |name: &str| self.seen.get(name).map_or(now, |seen| seen.since);
            let rows = nodes.iter().map(|node| row(node, explained, now - since(&node.name)));
            let elapsed = human(now - self.started);
            let width = width();
            self.drawn =
                vec![cut(&format!("{elapsed:>12}  {waits_for}"), width), cut(&header(), width)];
            self.drawn.extend(rows.map(|row| cut(&row, width)));
            emit(&format!("{above}{}", self.table()));
            return;
        }
        for (node, _) in nodes.iter().zip(moved).filter(|(_, moved)| *moved) {
            let elapsed = now - self.started;
            emit(&format!("{:>10.1} s  {}\n", elapsed.as_secs_f64(), plain(node, explained)));
        }
    }

    /// Takes the table away; what was said stays.
    pub(super) fn close(&mut self) {
        let above = self.erase();
        self.drawn.clear();
        emit(&above);
    }

    fn note(&mut self, node: &Node, now: Instant) -> bool {
        let states = STATES.map(|state| node.text(state).to_owned());
        let moved = self.seen.get(&node.name).is_none_or(|seen| seen.states != states);
        if moved {
            self.seen.insert(node.name.clone(), Seen { states, since: now });
        }
        moved
    }

    fn erase(&self) -> String {
        match self.drawn.len() {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r{CLEAR_BELOW}"),
        }
    }

    fn table(&self) -> String {
        self.drawn.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn emit(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone (`| head`) is no reason to leave a lab behind.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH)
}

fn columns(name: &str, states: [&str; 4], elapsed: &str, text: &str) -> String {
    let [phys, boot, run, image] = states;
    format!("{name:<6} {phys:<12} {boot:<8} {run:<8} {image:<8} {elapsed:>12}  {text}")
        .trim_end()
        .to_owned()
}

fn header() -> String {
    columns("NODE", ["POWER", "BOOT", "RUN", "IMAGE"], "FOR", "")
}

fn row(node: &Node, explained: &BTreeMap<String, String>, elapsed: Duration) -> String {
    let states = STATES.map(|state| node.text(state));
    columns(&node.name, states, &human(elapsed), &reason(node, explained))
}

fn plain(node: &Node, explained: &BTreeMap<String, String>) -> String {
    columns(&node.name, STATES.map(|state| node.text(state)), "", &reason(node, explained))
}

/// What a node waits for: the first sentence of its explanation, without its name.
fn reason(node: &Node, explained: &BTreeMap<String, String>) -> String {
    let Some(text) = explained.get(&node.name) else { return String::new() };
    let first = text.lines().next().unwrap_or_default().trim();
    let named = first.strip_prefix(node.name.as_str()).and_then(|rest| rest.strip_prefix(": "));
    named.unwrap_or(first).to_owned()
}

/// The beginning of a line, so that a terminal does not break it and the count of lines stays right.
fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::node;
    use super::*;

    #[test]
    fn a_row_says_where_a_node_is_since_when_and_what_it_waits_for() {
        let node = node("n1", ["POWER_ON", "WAIT", "UNKNOWN", "UNKNOWN"]);
        let text = "n1: boot.serve is under way; waits for boot_state = INIT\n  then sync.join";
        let explained = BTreeMap::from([("n1".to_owned(), text.to_owned())]);
        let row = row(&node, &explained, Duration::from_millis(1500));
        let words: Vec<_> = row.split_whitespace().take(8).collect();
        assert_eq!(
            words,
            ["n1", "POWER_ON", "WAIT", "UNKNOWN", "UNKNOWN", "1.5", "s", "boot.serve"]
        );
        assert!(row.ends_with("boot_state = INIT"), "{row}");
        let at = |line: &str, word: &str| line.find(word);
        assert_eq!(at(&header(), "BOOT"), at(&row, "WAIT"));
    }

    #[test]
    fn a_node_has_moved_when_one_of_its_states_is_another() {
        let mut screen = Screen { is_terminal: false, ..Screen::new() };
        let now = Instant::now();
        let off = node("n1", ["POWER_OFF", "UNKNOWN", "UNKNOWN", "UNKNOWN"]);
        assert!(screen.note(&off, now));
        assert!(!screen.note(&off, now));
        assert!(screen.note(&node("n1", ["POWER_ON", "UNKNOWN", "UNKNOWN", "UNKNOWN"]), now));
    }

    #[test]
    fn lines_are_cut_by_characters_and_not_by_bytes() {
        assert_eq!(cut("größe", 4), "größ");
    }
}
