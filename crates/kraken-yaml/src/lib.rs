//! YAML as people write it by hand: a tree in which everything knows its place, and a report of
//! everything that is wrong with it.
//!
//! In: the text of a file. Out: a [`Node`], or in the [`Report`] every [`Diagnostic`] at once, each
//! with file, line and column, what is wrong, why, and what to do. Whoever reads a section adds to
//! the same report what it finds wrong with the meaning.
//!
//! Promises: the input is bounded in size and depth; anchors and aliases are refused, so nothing in
//! it can grow beyond what is written; no text makes it panic.

mod diagnostic;
mod section;
mod tree;

pub use diagnostic::{Diagnostic, Pos, Report};

pub use tree::{Data, Node, read};
