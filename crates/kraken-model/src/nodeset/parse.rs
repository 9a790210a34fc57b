//! From text to names.

use super::{MAX_DIGITS, MAX_NODES, MAX_TEXT_BYTES, NodeSet, NodeSetError};
use crate::NodeId;

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    /// How many names may still be made.
    room: usize,
}

/// One range: every `step`-th number from `first` to `last`, with at least `width` digits.
struct Range {
    first: u64,
    last: u64,
    step: u64,
    width: usize,
}

impl Range {
    fn count(&self) -> u64 {
        (self.last - self.first) / self.step + 1
    }
}

enum Part<'a> {
    Literal(&'a str),
    Ranges(Vec<Range>),
}

pub(super) fn parse(
    text: &str,
    resolve: &dyn Fn(&str) -> Option<NodeSet>,
) -> Result<NodeSet, NodeSetError> {
    let mut reader = Reader::new(text)?;
    reader.skip_spaces();
    if reader.peek().is_none() {
        return Ok(NodeSet::new());
    }
    let mut set = if reader.peek() == Some('!') {
        reader.ask("*", 0, resolve)?
    } else {
        reader.term(resolve)?
    };
    loop {
        // A run of plain names is collected first: sorted once, not once for each.
        let mut plain = Vec::new();
        let operator = loop {
            let operator = reader.operator()?;
            if operator != Some(',') || reader.is_selector() {
                break operator;
            }
            reader.names(&mut plain)?;
        };
        if !plain.is_empty() {
            set.extend(plain);
        }
        let Some(operator) = operator else { return Ok(set) };
        let other = reader.term(resolve)?;
        set = match operator {
            '!' => set.difference(&other),
            '&' => set.intersection(&other),
            '^' => set.symmetric_difference(&other),
            _ => set.union(&other),
        };
    }
}

pub(super) fn expand(text: &str) -> Result<Vec<NodeId>, NodeSetError> {
    let mut reader = Reader::new(text)?;
    let mut names = Vec::new();
    loop {
        reader.skip_spaces();
        reader.names(&mut names)?;
        match reader.operator()? {
            None => return Ok(names),
            Some(',') => {}
            Some(other) => {
                return Err(reader.error(format!("only names belong here, not {other:?}")));
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, NodeSetError> {
        let reader = Self { text, at: 0, room: MAX_NODES };
        if text.len() > MAX_TEXT_BYTES {
            return Err(reader.error(format!("longer than {MAX_TEXT_BYTES} bytes")));
        }
        Ok(reader)
    }

    fn error(&self, reason: impl Into<String>) -> NodeSetError {
        self.error_at(self.at, reason)
    }

    fn error_at(&self, at: usize, reason: impl Into<String>) -> NodeSetError {
        let position = self.text.get(..at).map_or(at, |before| before.chars().count()) + 1;
        NodeSetError { position, reason: reason.into() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes the characters that fit.
    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !fits(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// The operator before the next term; nothing at the end. Space alone is a comma.
    fn operator(&mut self) -> Result<Option<char>, NodeSetError> {
        let before = self.at;
        self.skip_spaces();
        match self.peek() {
            None => Ok(None),
            Some(operator @ (',' | '!' | '&' | '^')) => {
                self.at += 1;
                self.skip_spaces();
                Ok(Some(operator))
            }
            Some(_) if self.at > before => Ok(Some(',')),
            Some(other) => Err(self.error(format!("{other:?} cannot be part of a node's name"))),
        }
    }

    /// Whether what follows is a group, every node, or a selector, rather than names.
    fn is_selector(&self) -> bool {
        let rest = self.rest();
        let key = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        rest.starts_with(['@', '*']) || (key > 0 && rest[key..].starts_with('='))
    }

    fn ask(
        &self,
        name: &str,
        at: usize,
        resolve: &dyn Fn(&str) -> Option<NodeSet>,
    ) -> Result<NodeSet, NodeSetError> {
        let unknown = || match name {
            "*" => self.error_at(at, "nothing is known here of all nodes"),
            name if name.contains('=') => self.error_at(at, format!("{name} cannot be selected")),
            name => self.error_at(at, format!("there is no group {name:?}")),
        };
        resolve(name).ok_or_else(unknown)
    }

    fn term(&mut self, resolve: &dyn Fn(&str) -> Option<NodeSet>) -> Result<NodeSet, NodeSetError> {
        let start = self.at;
        if !self.is_selector() {
            let mut names = Vec::new();
            self.names(&mut names)?;
            return Ok(names.into_iter().collect());
        }
        let group = self.peek() == Some('@');
        if group {
            self.at += 1;
        }
        if self.peek() == Some('*') {
            self.at += 1;
            return self.ask("*", start, resolve);
        }
        let from = self.at;
        self.take(is_word);
        if !group {
            self.at += 1;
            self.take(|c| is_word(c) || matches!(c, ':' | '/'));
        }
        match &self.text[from..self.at] {
            "" => Err(self.error("the name of a group belongs here")),
            name => self.ask(name, start, resolve),
        }
    }

    /// Adds the names that one pattern stands for.
    fn names(&mut self, names: &mut Vec<NodeId>) -> Result<(), NodeSetError> {
        let start = self.at;
        let mut parts = Vec::new();
        let mut count: u64 = 1;
        loop {
            match self.peek() {
                Some('[') => {
                    let ranges = self.ranges()?;
                    let numbers =
                        ranges.iter().fold(0, |sum: u64, r| sum.saturating_add(r.count()));
                    count = count.saturating_mul(numbers);
                    parts.push(Part::Ranges(ranges));
                }
                Some(c) if is_name(c) => parts.push(Part::Literal(self.take(is_name))),
                _ => break,
            }
        }
        if parts.is_empty() {
            return Err(self.error(match self.peek() {
                Some(other) => format!("the name of a node belongs here, not {other:?}"),
                None => "the name of a node belongs here".to_owned(),
            }));
        }
        match usize::try_from(count).ok().and_then(|count| self.room.checked_sub(count)) {
            Some(room) => self.room = room,
            None => {
                let reason = format!("stands for more than {MAX_NODES} names");
                return Err(self.error_at(start, reason));
            }
        }
        let mut name = String::new();
        self.spell(start, &parts, &mut name, names)
    }

    /// Adds every name that begins with `name` and goes on with `parts`.
    fn spell(
        &self,
        start: usize,
        parts: &[Part<'_>],
        name: &mut String,
        names: &mut Vec<NodeId>,
    ) -> Result<(), NodeSetError> {
        use fmt::Write;
        use std::fmt;
        let length = name.len();
        match parts.split_first() {
            None => {
                let node = NodeId::new(name);
                names.push(node.map_err(|error| self.error_at(start, error.to_string()))?);
            }
            Some((Part::Literal(text), rest)) => {
                name.push_str(text);
                self.spell(start, rest, name, names)?;
            }
            Some((Part::Ranges(ranges), rest)) => {
                for range in ranges {
                    for n in 0..range.count() {
                        let number = range.first + n * range.step;
                        // Writing to a string cannot fail.
                        let _ = write!(name, "{number:0width$}", width = range.width);
                        self.spell(start, rest, name, names)?;
                        name.truncate(length);
                    }
                }
            }
        }
        name.truncate(length);
        Ok(())
    }

    fn ranges(&mut self) -> Result<Vec<Range>, NodeSetError> {
        let open = self.at;
        self.at += 1;
        let mut ranges = Vec::new();
        loop {
            ranges.push(self.range()?);
            match self.peek() {
                Some(',') => self.at += 1,
                Some(']') => {
                    self.at += 1;
                    return Ok(ranges);
                }
                Some(other) => {
                    return Err(self.error(format!("',' or ']' belongs here, not {other:?}")));
                }
                None => return Err(self.error_at(open, "this '[' is never closed")),
            }
        }
    }

    fn range(&mut self) -> Result<Range, NodeSetError> {
        let start = self.at;
        let (text, first) = self.number()?;
        let width = if text.starts_with('0') { text.len() } else { 0 };
        let mut range = Range { first, last: first, step: 1, width };
        if self.peek() == Some('-') {
            self.at += 1;
            let (end, last) = self.number()?;
            if end.len() > 1 && end.starts_with('0') && end.len() != text.len() {
                return Err(
                    self.error_at(start, format!("{text} and {end} are padded differently"))
                );
            }
            if last < first {
                return Err(self.error_at(start, format!("{text}-{end} runs backwards")));
            }
            range.last = last;
        }
        if self.peek() == Some('/') {
            self.at += 1;
            let at = self.at;
            range.step = self.number()?.1;
            if range.step == 0 {
                return Err(self.error_at(at, "a step of 0 leads nowhere"));
            }
        }
        Ok(range)
    }

    fn number(&mut self) -> Result<(&'a str, u64), NodeSetError> {
        let start = self.at;
        let text = self.take(|c| c.is_ascii_digit());
        if text.is_empty() {
            return Err(self.error("a number belongs here"));
        }
        if text.len() > MAX_DIGITS {
            return Err(self.error_at(start, format!("more than {MAX_DIGITS} digits")));
        }
        let number = text.parse().map_err(|_| self.error_at(start, "not a number"))?;
        Ok((text, number))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
