//! Changes of a document that are evaluated where they are written.

use crate::{Document, Invalid, Path, Registry, Side, Value};

/// A change of one document.
///
/// Whoever makes it need not have read the document, so that nothing is lost that others write
/// meanwhile: it is evaluated against the document as it is when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// This document and nothing else, whether or not there was one: for whoever owns all of it.
    Replace(Document),
    /// The document goes.
    Remove,
    /// Single values of a document that is there. Where there is none, none is made.
    Edit(Vec<Edit>),
}

/// A change of single values, if a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    action: Action,
    condition: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Set(Path, Value),
    Clear(Path),
}

/// Whether the document holds anything at or below an address, before any of the edits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    address: Path,
    holds: bool,
}

impl Edit {
    /// Puts a value at an address.
    #[must_use]
    pub fn set(path: Path, value: impl Into<Value>) -> Self {
        Self { action: Action::Set(path, value.into()), condition: None }
    }

    /// Takes away what is at an address and below it.
    #[must_use]
    pub fn clear(path: Path) -> Self {
        Self { action: Action::Clear(path), condition: None }
    }

    /// The same, only where something is at this address or below it.
    #[must_use]
    pub fn where_any(self, address: Path) -> Self {
        Self { condition: Some(Condition { address, holds: true }), ..self }
    }

    /// The same, only where nothing is at this address or below it.
    #[must_use]
    pub fn where_none(self, address: Path) -> Self {
        Self { condition: Some(Condition { address, holds: false }), ..self }
    }

    fn applies_to(&self, document: &Document) -> bool {
        let holds = |address: &Path| document.under(address.as_str()).next().is_some();
        self.condition.as_ref().is_none_or(|c| holds(&c.address) == c.holds)
    }
}

impl Patch {
    /// What becomes of a document; `None`: there is none.
    #[must_use]
    pub fn apply(&self, before: Option<&Document>) -> Option<Document> {
        let edits = match self {
            Self::Replace(document) => return Some(document.clone()),
            Self::Remove => return None,
            Self::Edit(edits) => edits,
        };
        let before = before?;
        let mut after = before.clone();
        for edit in edits.iter().filter(|edit| edit.applies_to(before)) {
            match &edit.action {
                Action::Set(path, value) => drop(after.set(path.clone(), value.clone())),
                Action::Clear(prefix) => {
                    let gone: Vec<Path> =
                        after.under(prefix.as_str()).map(|(path, _)| path.clone()).collect();
                    gone.iter().for_each(|path| drop(after.remove(path.as_str())));
                }
            }
        }
        Some(after)
    }

    /// Everything that it would write and that does not fit.
    #[must_use]
    pub fn validate(&self, registry: &Registry, side: Side) -> Vec<Invalid> {
        match self {
            Self::Replace(document) => registry.validate(side, document),
            Self::Remove => Vec::new(),
            Self::Edit(edits) => {
                let set = edits.iter().filter_map(|edit| match &edit.action {
                    Action::Set(path, value) => registry.check(side, path, value).err(),
                    Action::Clear(_) => None,
                });
                set.collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Field, Schema};

    fn document(values: &[(&str, &str)]) -> Document {
        let mut document = Document::new();
        for (path, value) in values {
            document.set(Path::known(path), *value);
        }
        document
    }

    #[test]
    fn an_edit_leaves_alone_what_it_does_not_name_and_makes_no_document() {
        let edit = Patch::Edit(vec![
            Edit::set(Path::known("power"), "off"),
            Edit::clear(Path::known("images")),
        ]);
        let before = document(&[("images.a.size", "1"), ("images.b.size", "2"), ("rack", "r1")]);
        let after = document(&[("power", "off"), ("rack", "r1")]);
        assert_eq!(edit.apply(Some(&before)), Some(after));
        assert_eq!(edit.apply(None), None);
    }

    #[test]
    fn conditions_look_at_the_document_as_it_was_before_any_edit() {
        let images = || Path::known("images");
        let edit = Patch::Edit(vec![
            Edit::clear(images()),
            Edit::set(Path::known("state"), "ACTIVE").where_any(images()),
            Edit::set(Path::known("state"), "IDLE").where_none(images()),
        ]);
        let with = document(&[("images.a.size", "1")]);
        assert_eq!(edit.apply(Some(&with)), Some(document(&[("state", "ACTIVE")])));
        // An address that merely begins alike is another one.
        let without = document(&[("images-of", "x")]);
        let after = document(&[("images-of", "x"), ("state", "IDLE")]);
        assert_eq!(edit.apply(Some(&without)), Some(after));
    }

    #[test]
    fn the_owner_of_a_document_replaces_and_removes_it() {
        let (one, two) = (document(&[("a", "1")]), document(&[("b", "2")]));
        assert_eq!(Patch::Replace(two.clone()).apply(Some(&one)), Some(two.clone()));
        assert_eq!(Patch::Replace(two.clone()).apply(None), Some(two));
        assert_eq!(Patch::Remove.apply(Some(&one)), None);
    }

    #[test]
    fn what_would_be_written_has_to_fit() {
        let lamp = Field::variable("lamp", &["UNKNOWN", "ON"], "whether it is lit").unwrap();
        let schema = Schema { name: "lamp".into(), fields: vec![lamp] };
        let registry = Registry::new(vec![schema]).unwrap();
        let wrong = |patch: Patch| patch.validate(&registry, Side::Cfg).len();
        let set = |value: &str| Edit::set(Path::known("lamp"), value);
        assert_eq!(wrong(Patch::Edit(vec![set("ON"), Edit::clear(Path::known("other"))])), 0);
        assert_eq!(wrong(Patch::Edit(vec![set("OFF"), set("ON")])), 1);
        assert_eq!(wrong(Patch::Replace(document(&[("lamp", "OFF"), ("x", "y")]))), 2);
        assert_eq!(wrong(Patch::Remove), 0);
    }
}
