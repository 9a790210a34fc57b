//! Sets of nodes, as people write them: `ml[001-130]!@rack3`.
//!
//! A set is names, joined from left to right by `,` (and), `!` (but not), `&` (that are also) and
//! `^` (in one of both, not in both). A name may have ranges: `r[1-2]n[01-04,10]` or `n[0-10/2]`; leading
//! zeros are kept. `@rack1` is a group, `*` or `@*` every node, `run_state=ERROR` whatever the
//! resolver makes of it, and a set that begins with `!` begins with every node.

use crate::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

mod fold;
mod parse;

/// How many names one text may stand for: more than any cluster has, and few enough that twenty
/// hostile bytes cost less than a tenth of a second.
pub(crate) const MAX_NODES: usize = 250_000;

/// The longest text, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;

/// A number with more digits than this is part of the name, not a number.
pub(crate) const MAX_DIGITS: usize = 15;

/// A set of nodes, in natural order: `n2` comes before `n10`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSet {
    nodes: Vec<NodeId>,
}

/// Text is not a node set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {reason}")]
pub struct NodeSetError {
    /// Which character is meant, counted from 1.
    pub position: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl NodeSet {
    /// No node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A set from text. `resolve` says which nodes a group has (`rack1` for `@rack1`), which there
    /// are at all (`*`), and which fit a selector (`run_state=ERROR`); nothing means that there is
    /// no such group.
    ///
    /// # Errors
    /// When the text is no node set, stands for more than 250,000 names, or names what `resolve`
    /// does not know.
    pub fn parse(
        text: &str,
        resolve: &dyn Fn(&str) -> Option<NodeSet>,
    ) -> Result<Self, NodeSetError> {
        parse::parse(text, resolve)
    }

    /// The names that a text without groups stands for, in the order in which it names them, and
    /// as often. This is what pairs one range with another.
    ///
    /// # Errors
    /// When the text is no list of names, or stands for more than 250,000.
    pub fn expand(text: &str) -> Result<Vec<NodeId>, NodeSetError> {
        parse::expand(text)
    }

    /// The shortest text that this program knows for the set; the same for the same set.
    #[must_use]
    pub fn fold(&self) -> String {
        fold::fold(&self.nodes)
    }

    /// The nodes, in natural order.
    pub fn iter(&self) -> std::slice::Iter<'_, NodeId> {
        self.nodes.iter()
    }

    /// How many nodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a node is in it.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.binary_search_by(|n| natural(n, node)).is_ok()
    }

    /// Adds a node. Says whether it is new.
    pub fn insert(&mut self, node: NodeId) -> bool {
        match self.nodes.binary_search_by(|n| natural(n, &node)) {
            Ok(_) => false,
            Err(at) => {
                self.nodes.insert(at, node);
                true
            }
        }
    }

    /// The nodes of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, true, true, true)
    }

    /// The nodes of this that the other does not have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, true, false, false)
    }

    /// The nodes of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, false, true, false)
    }

    /// The nodes of just one of them.
    #[must_use]
    pub fn symmetric_difference(&self, other: &Self) -> Self {
        self.combine(other, true, false, true)
    }

    fn combine(&self, other: &Self, left: bool, both: bool, right: bool) -> Self {
        let mut nodes = Vec::new();
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Self { nodes },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => natural(a, b),
            };
            let first = if order.is_le() { a.next() } else { None };
            let second = if order.is_ge() { b.next() } else { None };
            let wanted = match order {
                Ordering::Less => left,
                Ordering::Equal => both,
                Ordering::Greater => right,
            };
            if wanted {
                nodes.extend(first.or(second).cloned());
            }
        }
    }
}

/// The order in which a person counts: runs of digits by their value, everything else by its
/// letters, and what is equal by that, such as `n1` and `n01`, by the text.
fn natural(a: &NodeId, b: &NodeId) -> Ordering {
    let (mut x, mut y) = (a.as_str().as_bytes(), b.as_str().as_bytes());
    loop {
        let (Some(c), Some(d)) = (x.first(), y.first()) else {
            return x.len().cmp(&y.len()).then_with(|| a.cmp(b));
        };
        if c.is_ascii_digit() && d.is_ascii_digit() {
            let (left, right) = (digits(&mut x), digits(&mut y));
            match left.len().cmp(&right.len()).then_with(|| left.cmp(right)) {
                Ordering::Equal => {}
                order => return order,
            }
        } else if c == d {
            (x, y) = (&x[1..], &y[1..]);
        } else {
            return c.cmp(d);
        }
    }
}

/// Takes a run of digits away from the front, and gives it without leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    let zeros = run.iter().position(|c| *c != b'0').unwrap_or(run.len());
    &run[zeros..]
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
        nodes.sort_by(natural);
        nodes.dedup();
        Self { nodes }
    }
}

impl Extend<NodeId> for NodeSet {
    fn extend<I: IntoIterator<Item = NodeId>>(&mut self, nodes: I) {
        *self = self.union(&nodes.into_iter().collect());
    }
}

impl<'a> IntoIterator for &'a NodeSet {
    type Item = &'a NodeId;
    type IntoIter = std::slice::Iter<'a, NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}

impl IntoIterator for NodeSet {
    type Item = NodeId;
    type IntoIter = std::vec::IntoIter<NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.into_iter()
    }
}

impl FromStr for NodeSet {
    type Err = NodeSetError;

    /// A set without groups and selectors.
    fn from_str(text: &str) -> Result<Self, NodeSetError> {
        Self::parse(text, &|_| None)
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.fold())
    }
}

impl Serialize for NodeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.fold())
    }
}

impl<'de> Deserialize<'de> for NodeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
