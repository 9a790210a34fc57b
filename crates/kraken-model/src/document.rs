//! Node documents: flat, sorted, copied on write.

use crate::{Path, Value};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A map from address to value, in the order of the addresses.
///
/// Cloning shares the content; the first change to a clone copies it. Documents that hold values at
/// the same addresses can share those too ([`Document::take_shape`]), whatever the values are. No
/// address lies below another one that holds a value, so a document always has a nested JSON form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Document {
    content: Arc<Content>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Content {
    shape: Shape,
    /// One for each address of the shape.
    values: Vec<Value>,
}

/// The addresses at which a document holds values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    paths: Arc<Vec<Path>>,
}

/// One difference between two documents: what an address now holds, or that it holds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The address that changed.
    pub path: Path,
    /// What it holds now; `None` when it was removed.
    pub value: Option<Value>,
}

/// Text or JSON is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A key cannot be part of an address.
    #[error("{0:?} cannot be part of an address")]
    Key(String),
    /// A value is of a kind that documents do not hold.
    #[error("{path}: {kind} cannot be a value: use text, a whole number, true, false or a list")]
    Kind {
        /// Where it stands.
        path: String,
        /// What was found there.
        kind: &'static str,
    },
    /// One address would hold a value and have others below it.
    #[error("{0} holds a value, so nothing can lie below it")]
    Nested(Path),
    /// The outermost level is not a map.
    #[error("a document is a map from names to values")]
    NotAMap,
}

impl Change {
    /// An address now holds a value.
    #[must_use]
    pub fn set(path: Path, value: impl Into<Value>) -> Self {
        Self { path, value: Some(value.into()) }
    }

    /// An address now holds nothing.
    #[must_use]
    pub fn remove(path: Path) -> Self {
        Self { path, value: None }
    }
}

impl Document {
    /// A document that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn paths(&self) -> &[Path] {
        &self.content.shape.paths
    }

    fn find(&self, path: &str) -> Result<usize, usize> {
        self.paths().binary_search_by(|p| p.as_str().cmp(path))
    }

    /// The addresses at which it holds values.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.content.shape
    }

    /// Shares the addresses with whoever else has this shape. Nothing changes when it is not the
    /// shape of this document.
    pub fn take_shape(&mut self, shape: &Shape) {
        let is_shared = Arc::ptr_eq(&self.content.shape.paths, &shape.paths);
        if !is_shared && self.content.shape == *shape {
            let content = Arc::make_mut(&mut self.content);
            content.shape = shape.clone();
            // Moved rather than shrunk: allocators leave what shrinks by less than half where it is.
            let mut values = Vec::with_capacity(content.values.len());
            values.append(&mut content.values);
            content.values = values;
        }
    }

    /// Holds what both say alike in the memory of the other one. What it says stays the same.
    pub fn share_values(&mut self, other: &Self) {
        let common = |(path, value): (&Path, &Value)| match other.find(path.as_str()) {
            Ok(at) if other.content.values[at] == *value => {
                (other.paths()[at].clone(), other.content.values[at].clone())
            }
            _ => (path.clone(), value.clone()),
        };
        let (paths, values) = self.iter().map(common).unzip();
        let shape = Shape { paths: Arc::new(paths) };
        self.content = Arc::new(Content { shape, values });
        self.take_shape(other.shape());
    }

    /// What an address holds.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.find(path).ok().map(|at| &self.content.values[at])
    }

    /// The text that an address holds, when it holds text.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_text()
    }

    /// Puts a value at an address. Says whether that changed anything.
    pub fn set(&mut self, path: Path, value: impl Into<Value>) -> bool {
        let value = value.into();
        match self.find(path.as_str()) {
            Ok(at) if self.content.values[at] == value => return false,
            Ok(at) => Arc::make_mut(&mut self.content).values[at] = value,
            Err(at) => {
                let content = Arc::make_mut(&mut self.content);
                Arc::make_mut(&mut content.shape.paths).insert(at, path);
                content.values.insert(at, value);
            }
        }
        true
    }

    /// Takes the value away from an address, and gives it back.
    pub fn remove(&mut self, path: &str) -> Option<Value> {
        let at = self.find(path).ok()?;
        let content = Arc::make_mut(&mut self.content);
        Arc::make_mut(&mut content.shape.paths).remove(at);
        Some(content.values.remove(at))
    }

    /// Everything it holds, in the order of the addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Path, &Value)> {
        self.paths().iter().zip(&self.content.values)
    }

    /// What lies at or below a prefix, in the order of the addresses.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Path, &'a Value)> {
        let from = self.paths().partition_point(|p| p.as_str() < prefix);
        // "a.b" and "a.b-c" both start with "a.b", and '-' sorts before '.', so what lies below is
        // not contiguous: go on as long as the text matches, and pick by segment.
        self.paths()[from..]
            .iter()
            .zip(&self.content.values[from..])
            .take_while(move |(p, _)| p.as_str().starts_with(prefix))
            .filter(move |(p, _)| p.is_under(prefix))
    }

    /// The names one segment below a prefix, sorted, each once: `names("images")` are the images.
    pub fn names<'a>(&'a self, prefix: &'a str) -> Vec<&'a str> {
        let mut names: Vec<&str> = self
            .under(prefix)
            .filter_map(|(path, _)| path.as_str().get(prefix.len() + 1..)?.split('.').next())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How many values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.content.values.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.values.is_empty()
    }

    /// Whether the content is the very same memory, which implies that it is equal.
    #[must_use]
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.content, &other.content)
    }

    /// Applies changes in order. Says whether that changed anything.
    pub fn apply(&mut self, changes: &[Change]) -> bool {
        let mut changed = false;
        for change in changes {
            changed |= match &change.value {
                Some(value) => self.set(change.path.clone(), value.clone()),
                None => self.remove(change.path.as_str()).is_some(),
            };
        }
        changed
    }

    /// The nested form: `a.b = 1` becomes `{"a": {"b": 1}}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for (path, value) in self.iter() {
            let mut here = &mut root;
            let mut segments = path.segments().peekable();
            while let Some(segment) = segments.next() {
                if segments.peek().is_none() {
                    here.insert(segment.to_owned(), json_of(value));
                    break;
                }
                let next = here
                    .entry(segment)
                    .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
                match next {
                    serde_json::Value::Object(map) => here = map,
                    // Two values, one below the other: documents built by `set` alone can hold
                    // that until a registry refuses it. The outer one is shown.
                    _ => break,
                }
            }
        }
        serde_json::Value::Object(root)
    }

    /// A document from its nested form; nulls are skipped.
    ///
    /// # Errors
    /// When the outermost level is not a map, a key cannot be part of an address, or a value is of
    /// a kind that documents do not hold.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, DocumentError> {
        let serde_json::Value::Object(map) = json else { return Err(DocumentError::NotAMap) };
        let mut entries = Vec::new();
        flatten("", map, &mut entries)?;
        Self::from_entries(entries)
    }

    /// A document from its entries, in any order; of two entries for one address the last stays.
    ///
    /// # Errors
    /// When an address would lie below another one that holds a value.
    pub fn from_entries(mut entries: Vec<(Path, Value)>) -> Result<Self, DocumentError> {
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|b, a| a.0 == b.0);
        let (paths, values) = entries.into_iter().unzip();
        let shape = Shape { paths: Arc::new(paths) };
        let document = Self { content: Arc::new(Content { shape, values }) };
        for (path, _) in document.iter() {
            if document.under(path.as_str()).nth(1).is_some() {
                return Err(DocumentError::Nested(path.clone()));
            }
        }
        Ok(document)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<Path, Value>::deserialize(deserializer)?;
        Self::from_entries(map.into_iter().collect()).map_err(serde::de::Error::custom)
    }
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(bool) => (*bool).into(),
        Value::Int(int) => (*int).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(json_of).collect(),
    }
}

fn flatten(
    prefix: &str,
    map: &serde_json::Map<String, serde_json::Value>,
    entries: &mut Vec<(Path, Value)>,
) -> Result<(), DocumentError> {
    for (key, json) in map {
        let text = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match json {
            serde_json::Value::Null => {}
            serde_json::Value::Object(inner) => flatten(&text, inner, entries)?,
            _ => {
                let path = Path::new(&text).map_err(|_| DocumentError::Key(text.clone()))?;
                entries.push((path, value_of(&text, json)?));
            }
        }
    }
    Ok(())
}

fn value_of(path: &str, json: &serde_json::Value) -> Result<Value, DocumentError> {
    let refuse = |kind| Err(DocumentError::Kind { path: path.to_owned(), kind });
    match json {
        serde_json::Value::Bool(bool) => Ok((*bool).into()),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Ok(int.into()),
            None => refuse("a fraction or a number beyond 64 bits"),
        },
        serde_json::Value::String(text) => Ok(text.as_str().into()),
        serde_json::Value::Array(list) => {
            let list: Result<Vec<Value>, _> = list.iter().map(|v| value_of(path, v)).collect();
            Ok(list?.into())
        }
        serde_json::Value::Null => refuse("nothing inside a list"),
        serde_json::Value::Object(_) => refuse("a map inside a list"),
    }
}

/// What turns `old` into `new`, in the order of the addresses.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.shares_with(new) {
        return changes;
    }
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((l, _)), Some((r, _))) => l.cmp(r),
        };
        let before = if order == Ordering::Greater { None } else { left.next() };
        let after = if order == Ordering::Less { None } else { right.next() };
        match (before, after) {
            (Some((path, _)), None) => changes.push(Change::remove(path.clone())),
            (before, Some((path, value))) if before.map(|(_, v)| v) != Some(value) => {
                changes.push(Change::set(path.clone(), value.clone()));
            }
            _ => {}
        }
    }
}

/// `base` with everything that `overlay` says on top of it, value by value.
///
/// A value of the overlay also replaces what lies below or above its address.
#[must_use]
pub fn merge(base: &Document, overlay: &Document) -> Document {
    if base.is_empty() {
        return overlay.clone();
    }
    let mut merged = base.clone();
    for (path, value) in overlay.iter() {
        let below: Vec<Path> =
            merged.under(path.as_str()).map(|(p, _)| p.clone()).filter(|p| p != path).collect();
        for inner in below {
            merged.remove(inner.as_str());
        }
        let mut outer = path.as_str();
        while let Some((shorter, _)) = outer.rsplit_once('.') {
            merged.remove(shorter);
            outer = shorter;
        }
        merged.set(path.clone(), value.clone());
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn document() -> impl Strategy<Value = Document> {
        let value = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,5}".prop_map(Value::from),
            proptest::collection::vec(any::<i64>().prop_map(Value::from), 0..3)
                .prop_map(Value::from),
        ];
        // Leaves at one depth: no address below another.
        proptest::collection::vec(("[a-c]\\.[a-c-]\\.[a-c]", value), 0..12).prop_map(|entries| {
            let entries = entries.into_iter().map(|(p, v)| (Path::known(&p), v)).collect();
            Document::from_entries(entries).unwrap()
        })
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_other_document(a in document(), b in document()) {
            let mut changed = a.clone();
            changed.apply(&diff(&a, &b));
            prop_assert_eq!(changed, b);
        }

        #[test]
        fn the_json_form_says_the_same(a in document()) {
            prop_assert_eq!(Document::from_json(&a.to_json()).unwrap(), a.clone());
            let flat = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Document>(&flat).unwrap(), a);
        }

        #[test]
        fn documents_that_agree_merge_the_same_in_any_order(a in document(), b in document()) {
            let mut b = b;
            for (path, value) in a.iter() {
                if b.get(path.as_str()).is_some() {
                    b.set(path.clone(), value.clone());
                }
            }
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        }

        #[test]
        fn what_lies_under_a_prefix_is_found_by_segment(a in document()) {
            for prefix in ["a", "a.a", "b.-", "c"] {
                let found: Vec<_> = a.under(prefix).collect();
                let wanted: Vec<_> = a.iter().filter(|(p, _)| p.is_under(prefix)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_changed_clone_leaves_the_original_alone() {
        let mut a = Document::new();
        assert!(a.set(Path::known("x"), 1));
        let b = a.clone();
        assert!(a.shares_with(&b));
        assert!(a.set(Path::known("x"), 2));
        assert!(!a.set(Path::known("x"), 2), "the same value changes nothing");
        assert_eq!(b.get("x"), Some(&Value::Int(1)));
    }

    #[test]
    fn documents_with_the_same_addresses_share_them_until_one_gets_another() {
        let document = |value: i64| {
            let entries = [("a.x", value), ("a.y", 0)].map(|(p, v)| (Path::known(p), v.into()));
            Document::from_entries(entries.into()).unwrap()
        };
        let (a, mut b) = (document(1), document(2));
        let are_shared = |a: &Document, b: &Document| {
            Arc::ptr_eq(&a.content.shape.paths, &b.content.shape.paths)
        };
        b.take_shape(a.shape());
        assert!(are_shared(&a, &b));
        assert!(b.set(Path::known("a.x"), 3));
        assert!(are_shared(&a, &b), "another value at the same address");
        assert_eq!((a, b.get("a.x")), (document(1), Some(&3.into())));
        let shape = b.shape().clone();
        assert!(b.set(Path::known("b"), 4));
        b.take_shape(&shape);
        assert_eq!((b.len(), b.get("a.y"), b.get("b")), (3, Some(&0.into()), Some(&4.into())));
        assert_eq!(shape, *document(1).shape());
    }

    #[test]
    fn what_two_documents_say_alike_is_in_the_memory_of_one() {
        let document = |x: &str| {
            // Short text is no memory of its own.
            let entries = [("a", x), ("b", "the same long text of both")];
            let entries = entries.map(|(p, v)| (Path::known(p), v.into()));
            Document::from_entries(entries.into()).unwrap()
        };
        let (mut a, b) = (document("mine"), document("yours"));
        a.share_values(&b);
        assert_eq!(a, document("mine"));
        let text = |document: &Document| document.text("b").unwrap().as_ptr();
        assert_eq!(text(&a), text(&b));
        assert!(Arc::ptr_eq(&a.content.shape.paths, &b.content.shape.paths));
    }

    #[test]
    fn of_two_entries_for_one_address_the_last_stays() {
        let entries = vec![(Path::known("x"), 1.into()), (Path::known("x"), 2.into())];
        assert_eq!(Document::from_entries(entries).unwrap().get("x"), Some(&Value::Int(2)));
    }

    #[test]
    fn a_value_with_others_below_it_is_refused() {
        let entries = vec![
            (Path::known("a"), 1.into()),
            (Path::known("a-b"), 1.into()),
            (Path::known("a.c"), 2.into()),
        ];
        let error = Document::from_entries(entries).unwrap_err();
        assert_eq!(error, DocumentError::Nested(Path::known("a")));
    }

    #[test]
    fn an_overlay_replaces_what_lies_below_and_above() {
        let one = |path: &str| Document::from_entries(vec![(Path::known(path), 1.into())]).unwrap();
        assert_eq!(merge(&one("a.b.c"), &one("a")), one("a"));
        assert_eq!(merge(&one("a"), &one("a.b.c")), one("a.b.c"));
    }

    #[test]
    fn json_that_is_no_document_is_refused_with_its_place() {
        let error = |json| Document::from_json(&json).unwrap_err().to_string();
        assert!(error(serde_json::json!({"a": {"b": 1.5}})).starts_with("a.b: a fraction"));
        assert!(error(serde_json::json!({"a b": 1})).contains("\"a b\""));
        assert!(error(serde_json::json!([1])).contains("map"));
    }
}
