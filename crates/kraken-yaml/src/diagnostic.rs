//! What is wrong with a file, and where.

use kraken_model::suggest;
use serde::Serialize;
use std::fmt;

/// A place in the file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pos {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The character in the line, counted from 1.
    pub column: usize,
    /// The keys that lead there, joined by dots.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// Why that is wrong.
    pub why: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.what, self.why)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for Diagnostic {}

/// How many are collected; whoever has more wrong mends these first.
const MAX: usize = 1000;

/// Everything that was found wrong so far.
#[derive(Debug)]
pub struct Report {
    file: String,
    found: Vec<Diagnostic>,
}

impl Report {
    /// An empty report on a file.
    #[must_use]
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    /// Adds what is wrong at a place, why, and what to do about it. Once for each place and path.
    pub fn add(
        &mut self,
        at: Pos,
        path: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) {
        // A mistake in a group is found once for every node in it, and said once.
        let same =
            |d: &Diagnostic| (d.line, d.column, d.path.as_str()) == (at.line, at.column, path);
        if self.found.len() < MAX && !self.found.iter().any(same) {
            let (file, path) = (self.file.clone(), path.to_owned());
            let (what, why, hint) = (what.into(), why.into(), hint.into());
            self.found.push(Diagnostic {
                file,
                line: at.line,
                column: at.column,
                path,
                what,
                why,
                hint,
            });
        }
    }

    /// Adds that a key is not known, with the nearest that is.
    pub fn unknown<'a>(
        &mut self,
        at: Pos,
        path: &str,
        key: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let hint = suggest(key, known);
        self.add(
            at,
            path,
            format!("unknown key {key:?}"),
            "nothing of this name belongs here",
            hint,
        );
    }

    /// Whether nothing was found wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything that was found, in the order of the file.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        self.found
    }
}
