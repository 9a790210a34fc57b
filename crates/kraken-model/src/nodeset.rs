//! Sets of nodes, as people write them: `ml[001-130]!@rack3`.
//!
//! A set is names, joined from left to right by `,` (and), `!` (but not), `&` (that are also) and
//! `^` (in one of both, not in both). A name may have ranges: `r[1-2]n[01-04,10]` or `n[0-10/2]`; leading
//! zeros are kept. `@rack1` is a group, `*` or `@*` every node, `run_state=ERROR` the nodes with a
//! value (`cfg:run_state=SYNC`: with a wanted one), and a set that begins with `!` begins with every
//! node. Whatever a set names has to exist, wherever it stands in the set.

use crate::{NodeId, Side};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

mod fold;
mod near;
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

/// A cluster, as far as a node set refers to it.
pub trait NodeLookup {
    /// The presence of a node.
    fn contains(&self, node: &NodeId) -> bool;

    /// Every node; nothing where the nodes are not known.
    fn all(&self) -> Option<NodeSet>;

    /// The nodes of a group (`rack1` for `@rack1`).
    ///
    /// # Errors
    /// When there is no such group; the reason is for a person and ends with the nearest one.
    fn group(&self, name: &str) -> Result<NodeSet, String>;

    /// The nodes with a value (`run_state=ERROR`); with a side (`cfg:run_state=SYNC`) those that
    /// have it in that document.
    ///
    /// # Errors
    /// When the address or the value does not exist; the reason is for a person and ends with the
    /// nearest one.
    fn select(&self, side: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String>;
}

/// A text that is not a node set, or not one of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSetError {
    /// The character that is meant, counted from 1.
    pub position: usize,
    /// What is wrong with it.
    pub reason: String,
    /// The kind of mistake.
    pub kind: NodeSetErrorKind,
}

/// The kind of mistake in a node set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSetErrorKind {
    /// The text does not have the form of a node set.
    Form,
    /// It names nodes that do not exist.
    NoSuchNode,
    /// It names a group, an address or a value that does not exist.
    Unknown,
}

impl fmt::Display for NodeSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            NodeSetErrorKind::Form => write!(f, "at character {}: {}", self.position, self.reason),
            // What is unknown is named in the reason.
            NodeSetErrorKind::NoSuchNode => write!(f, "no such node: {}", self.reason),
            NodeSetErrorKind::Unknown => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for NodeSetError {}

/// A lookup that knows no cluster: every node may exist, and nothing else does.
struct NamesOnly;

impl NodeLookup for NamesOnly {
    fn contains(&self, _: &NodeId) -> bool {
        true
    }

    fn all(&self) -> Option<NodeSet> {
        None
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        Err(format!("no groups are known here, so there is no @{name}"))
    }

    fn select(&self, _: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        Err(format!("no values are known here, so nothing has {path}={value}"))
    }
}

impl NodeSet {
    /// No node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A set from text, of the nodes of a cluster.
    ///
    /// # Errors
    /// When the text is no node set, stands for more than 250,000 names, or names a node, a group,
    /// an address or a value that does not exist, wherever in the set.
    pub fn parse(text: &str, cluster: &dyn NodeLookup) -> Result<Self, NodeSetError> {
        parse::parse(text, cluster)
    }

    /// Every node that a text names, also those that it excludes; nothing when more than names has to
    /// be known to tell which nodes it stands for, or when it is no node set.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        parse::named(text)
    }

    /// The names that a text without groups stands for, in the order in which it names them, and
    /// as often. This is what pairs one range with another.
    ///
    /// # Errors
    /// When the text is no list of names, or stands for more than 250,000.
    pub fn expand(text: &str) -> Result<Vec<NodeId>, NodeSetError> {
        parse::expand(text)
    }

    /// The nodes of this set that the given ones were probably meant to be, in words, such as `n1 (did
    /// you mean n001?)`: those that differ in leading zeros only, or else the ones that are spelt
    /// nearly the same.
    #[must_use]
    pub fn correct(&self, missing: &Self) -> String {
        near::correct(missing, self)
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
        Self::parse(text, &NamesOnly)
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
