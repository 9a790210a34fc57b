//! YAML as a tree in which everything knows its place.

use crate::diagnostic::{Pos, Report};
use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// The longest file, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// How deep maps and lists may lie in each other.
const MAX_DEPTH: usize = 32;

/// Why there are no anchors and aliases.
const NO_ALIAS: &str = "nothing may stand for more than is written";

/// A value, with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Pos,
    /// What it is.
    pub data: Data,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Data {
    /// Text, and whether it was written without quotes.
    Scalar(String, bool),
    /// Values in order.
    List(Vec<Node>),
    /// Names, their places, and values; each name once.
    Map(Vec<(String, Pos, Node)>),
}

impl Node {
    /// The text, when it is some.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Data::Scalar(text, _) = &self.data { Some(text) } else { None }
    }

    /// Whether nothing is said (YAML 1.2, 10.3.2: the core schema's null).
    #[must_use]
    pub fn is_null(&self) -> bool {
        let null = ["", "~", "null", "Null", "NULL"];
        matches!(&self.data, Data::Scalar(text, true) if null.contains(&text.as_str()))
    }

    /// The value of a name in a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _, _)| k == key).map(|(_, _, node)| node)
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(String, Pos, Node)] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }
}

/// Reads a file; `None` when it cannot be read at all, and then the report says why.
pub fn read(text: &str, report: &mut Report) -> Option<Node> {
    let start = Pos { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        report.add(start, "", "the file is too long", format!("it may have {MAX_BYTES} bytes"), "");
        return None;
    }
    // Another crate of the same build may have switched comments on.
    let mut options = Options::default();
    options.emit_comments = false;
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options), report };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd, at) => {
                reader.report.add(at, "", "the file is empty", "nothing is said in it", "");
                return None;
            }
            (event, at) => {
                let root = reader.node(event, at, 0)?;
                return reader.end().map(|()| root);
            }
        }
    }
}

struct Reader<'a, 'r> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    report: &'r mut Report,
}

fn pos(span: &Span) -> Pos {
    Pos { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Option<(Event<'a>, Pos)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, pos(&span))),
            Err(error) => {
                let at = Pos { line: error.marker().line(), column: error.marker().col() + 1 };
                self.report.add(
                    at,
                    "",
                    "this is not YAML",
                    error.info(),
                    "look at indentation, quotes and brackets",
                );
                None
            }
        }
    }

    fn refuse(&mut self, at: Pos, what: &str, why: &str) -> Option<Node> {
        self.report.add(at, "", what, why, "");
        None
    }

    fn end(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Some(()),
                (Event::DocumentEnd, _) => {}
                (_, at) => {
                    self.refuse(at, "a second document", "a file is one document");
                    return None;
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Pos, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            return self.refuse(at, "too deep", "maps and lists may lie 32 deep in each other");
        }
        let data = match event {
            Event::Scalar(_, _, 1.., _)
            | Event::MappingStart(_, 1.., _)
            | Event::SequenceStart(_, 1.., _) => {
                return self.refuse(at, "an anchor", NO_ALIAS);
            }
            Event::Alias(_) => {
                return self.refuse(at, "an alias", NO_ALIAS);
            }
            Event::Scalar(text, style, ..) => {
                Data::Scalar(text.into_owned(), style == ScalarStyle::Plain)
            }
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Data::List(list),
                        (event, at) => list.push(self.node(event, at, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth)?,
            _ => return self.refuse(at, "this is not YAML", "a value belongs here"),
        };
        Some(Node { at, data })
    }

    fn map(&mut self, depth: usize) -> Option<Data> {
        let mut entries: Vec<(String, Pos, Node)> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Some(Data::Map(entries));
            }
            let Data::Scalar(key, _) = self.node(event, at, depth + 1)?.data else {
                self.refuse(at, "a key that is not text", "keys are names");
                return None;
            };
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            if let Some(line) = seen.insert(key.clone(), at.line) {
                let why = format!("it stands in line {line} already");
                self.report.add(at, "", format!("duplicate key {key:?}"), why, "join the two");
            } else {
                entries.push((key, at, value));
            }
        }
    }
}
