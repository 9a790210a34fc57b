//! One copy of what thousands of nodes say alike.

use kraken_model::{Document, Path, Shape, Value};
use rustc_hash::{FxHashMap, FxHashSet};

/// How many addresses are remembered; beyond that they are kept as they come.
const MAX_PATHS: usize = 65_536;

/// How many shapes of documents are remembered: nodes of one kind go through a few dozen.
const MAX_SHAPES: usize = 4_096;

/// Shares the text of addresses, and of the value that was last seen at each: a fleet says the same
/// thing again and again. What few nodes say, such as a MAC address, is not kept for long.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    known: FxHashMap<Path, Value>,
    shapes: FxHashSet<Shape>,
}

impl Interner {
    /// The same address and value, in shared memory where there is some.
    pub(crate) fn share(&mut self, path: &Path, value: &Value) -> (Path, Value) {
        if let Some((known, last)) = self.known.get_key_value(path.as_str()) {
            let path = known.clone();
            if last == value {
                return (path, last.clone());
            }
            self.known.insert(path.clone(), value.clone());
            return (path, value.clone());
        }
        if self.known.len() < MAX_PATHS {
            self.known.insert(path.clone(), value.clone());
        }
        (path.clone(), value.clone())
    }

    /// The same document, in shared memory where there is some.
    pub(crate) fn document(&mut self, document: Document) -> Document {
        let entries = document.iter().map(|(path, value)| self.share(path, value)).collect();
        // What was a document is one again.
        let mut document = Document::from_entries(entries).unwrap_or(document);
        self.share_shape(&mut document);
        document
    }

    /// Lets a document share its addresses with all that hold values at the same ones: they take as
    /// much room as the values.
    pub(crate) fn share_shape(&mut self, document: &mut Document) {
        match self.shapes.get(document.shape()) {
            Some(shape) => document.take_shape(shape),
            None if self.shapes.len() < MAX_SHAPES => {
                self.shapes.insert(document.shape().clone());
            }
            None => {}
        }
    }
}
