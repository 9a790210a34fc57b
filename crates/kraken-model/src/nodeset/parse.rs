//! From text to names.

use super::{MAX_DIGITS, MAX_NODES, MAX_TEXT_BYTES, NodeLookup, NodeSet, NodeSetError};
use super::{NamesOnly, NodeSetErrorKind};
use crate::node::NodeIdError;
use crate::{NodeId, Side, nearest};
use std::cell::RefCell;

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

/// The nodes that a text names and that do not exist, and where the first of them stands.
#[derive(Default)]
struct Missing {
    at: usize,
    nodes: Vec<NodeId>,
}

pub(super) fn parse(text: &str, cluster: &dyn NodeLookup) -> Result<NodeSet, NodeSetError> {
    let mut reader = Reader::new(text)?;
    let mut missing = Missing::default();
    let set = reader.set(cluster, &mut missing)?;
    if missing.nodes.is_empty() {
        return Ok(set);
    }
    let nodes: NodeSet = missing.nodes.into_iter().collect();
    let reason = cluster.all().unwrap_or_default().correct(&nodes);
    Err(reader.error_of(NodeSetErrorKind::NoSuchNode, missing.at, reason))
}

/// A lookup that notes every node that is asked for.
#[derive(Default)]
struct Noting(RefCell<Vec<NodeId>>);

impl NodeLookup for Noting {
    fn contains(&self, node: &NodeId) -> bool {
        self.0.borrow_mut().push(node.clone());
        true
    }

    fn all(&self) -> Option<NodeSet> {
        None
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        NamesOnly.group(name)
    }

    fn select(&self, side: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        NamesOnly.select(side, path, value)
    }
}

pub(super) fn named(text: &str) -> Option<NodeSet> {
    let noting = Noting::default();
    parse(text, &noting).ok()?;
    Some(noting.0.into_inner().into_iter().collect())
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
        self.error_of(NodeSetErrorKind::Form, at, reason)
    }

    fn error_of(
        &self,
        kind: NodeSetErrorKind,
        at: usize,
        reason: impl Into<String>,
    ) -> NodeSetError {
        let position = self.text.get(..at).map_or(at, |before| before.chars().count()) + 1;
        NodeSetError { position, reason: reason.into(), kind }
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

    /// The length of the key of the selector that follows, in bytes: `run_state` of `run_state=ERROR`.
    fn selector(&self) -> Option<usize> {
        let rest = self.rest();
        let key = rest.find(|c: char| !(is_word(c) || c == ':')).unwrap_or(rest.len());
        (key > 0 && rest[key..].starts_with('=')).then_some(key)
    }

    /// Whether what follows is a group, every node, or a selector, rather than names.
    fn is_selector(&self) -> bool {
        self.rest().starts_with(['@', '*']) || self.selector().is_some()
    }

    /// The whole set.
    fn set(
        &mut self,
        cluster: &dyn NodeLookup,
        missing: &mut Missing,
    ) -> Result<NodeSet, NodeSetError> {
        self.skip_spaces();
        if self.peek().is_none() {
            return Ok(NodeSet::new());
        }
        let mut set = if self.peek() == Some('!') {
            self.every(0, cluster)?
        } else {
            self.term(cluster, missing)?
        };
        loop {
            // A run of plain names is collected first: sorted once, not once for each.
            let mut plain = Vec::new();
            let operator = loop {
                let operator = self.operator()?;
                if operator != Some(',') || self.is_selector() {
                    break operator;
                }
                self.nodes(&mut plain, cluster, missing)?;
            };
            if !plain.is_empty() {
                set.extend(plain);
            }
            let Some(operator) = operator else { return Ok(set) };
            let other = self.term(cluster, missing)?;
            set = match operator {
                '!' => set.difference(&other),
                '&' => set.intersection(&other),
                '^' => set.symmetric_difference(&other),
                _ => set.union(&other),
            };
        }
    }

    fn every(&self, at: usize, cluster: &dyn NodeLookup) -> Result<NodeSet, NodeSetError> {
        let unknown = || "nothing is known here of all nodes";
        cluster.all().ok_or_else(|| self.error_of(NodeSetErrorKind::Unknown, at, unknown()))
    }

    fn term(
        &mut self,
        cluster: &dyn NodeLookup,
        missing: &mut Missing,
    ) -> Result<NodeSet, NodeSetError> {
        let start = self.at;
        if let Some(key) = self.selector() {
            return self.select(key, cluster);
        }
        if !self.is_selector() {
            let mut names = Vec::new();
            self.nodes(&mut names, cluster, missing)?;
            return Ok(names.into_iter().collect());
        }
        if self.peek() == Some('@') {
            self.at += 1;
        }
        if self.peek() == Some('*') {
            self.at += 1;
            return self.every(start, cluster);
        }
        match self.take(is_word) {
            "" => Err(self.error("the name of a group belongs here")),
            name => cluster
                .group(name)
                .map_err(|why| self.error_of(NodeSetErrorKind::Unknown, start, why)),
        }
    }

    /// The nodes with a value; the key has so many bytes.
    fn select(&mut self, key: usize, cluster: &dyn NodeLookup) -> Result<NodeSet, NodeSetError> {
        let start = self.at;
        let (key, _) = self.rest().split_at(key);
        self.at += key.len() + 1;
        let value = self.take(is_value);
        let (side, path) = match key.split_once(':') {
            None => (None, key),
            Some(("cfg", path)) => (Some(Side::Cfg), path),
            Some(("dsc", path)) => (Some(Side::Dsc), path),
            Some((other, _)) => {
                let near = nearest(other, ["cfg", "dsc"]).unwrap_or("cfg");
                let reason = format!("no values are called {other:?}, did you mean {near}:?");
                return Err(self.error_of(NodeSetErrorKind::Unknown, start, reason));
            }
        };
        cluster
            .select(side, path, value)
            .map_err(|why| self.error_of(NodeSetErrorKind::Unknown, start, why))
    }

    /// Adds the nodes that one pattern names, and notes those that do not exist.
    fn nodes(
        &mut self,
        nodes: &mut Vec<NodeId>,
        cluster: &dyn NodeLookup,
        missing: &mut Missing,
    ) -> Result<(), NodeSetError> {
        let (start, before) = (self.at, nodes.len());
        let key = &self.rest()[..self.rest().find(|c| !is_word(c)).unwrap_or_default()];
        if self.rest()[key.len()..].starts_with("!=") {
            let hint = format!("write *!{key}=VALUE for the nodes with another value or none");
            return Err(self.error_at(start, format!("'!=' is no operator: {hint}")));
        }
        self.names(nodes)?;
        let absent = nodes[before..].iter().filter(|node| !cluster.contains(node));
        let is_first = missing.nodes.is_empty();
        missing.nodes.extend(absent.cloned());
        if is_first {
            missing.at = start;
        }
        Ok(())
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
                let refused = |error: NodeIdError| {
                    let lower = name.to_ascii_lowercase();
                    let meant = NodeId::new(&lower).map(|node| format!("; did you mean {node}?"));
                    self.error_at(start, format!("{error}{}", meant.unwrap_or_default()))
                };
                names.push(node.map_err(refused)?);
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

/// A character of a value: everything that is no operator, no space, no bracket and no quote.
fn is_value(c: char) -> bool {
    is_word(c) || matches!(c, ':' | '/' | '+' | '~' | '%' | '@' | '=')
}
