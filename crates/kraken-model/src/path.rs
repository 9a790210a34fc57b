//! Addresses of values.

use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest address, in bytes.
pub(crate) const MAX_PATH_BYTES: usize = 200;

/// The address of a value: segments joined by dots, such as `images.compute.digest`.
///
/// A segment is made of letters, digits, `_` and `-`. Cloning shares the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Path(Arc<str>);

/// A text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address: segments of letters, digits, '_' and '-', joined by dots, {MAX_PATH_BYTES} bytes at most"
)]
pub struct PathError(String);

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

impl Path {
    /// An address from text.
    ///
    /// # Errors
    /// When the text is not an address.
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.len() <= MAX_PATH_BYTES && text.split('.').all(is_segment) {
            Ok(Self(text.into()))
        } else {
            Err(PathError(text.chars().take(80).collect()))
        }
    }

    /// An address that the program itself spells.
    ///
    /// # Panics
    /// When the text is not an address: a mistake in the program, not in its input.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn known(text: &str) -> Self {
        Self::new(text).expect("an address spelt in the program")
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, from the outermost.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether this address is `prefix` or lies below it.
    #[must_use]
    pub fn is_under(&self, prefix: &str) -> bool {
        self.0.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A set of addresses: like an address, but a segment may be `*`, which stands for any one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// A pattern from text.
    ///
    /// # Errors
    /// When a segment is neither `*` nor a segment of an address.
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.len() <= MAX_PATH_BYTES && text.split('.').all(|s| s == "*" || is_segment(s)) {
            Ok(Self(text.into()))
        } else {
            Err(PathError(text.chars().take(80).collect()))
        }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, when the pattern names just one.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// Whether an address belongs to this set.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut wanted = self.0.split('.');
        let mut given = path.split('.');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(w), Some(g)) if w == "*" || w == g => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_made_of_clean_segments() {
        assert!(Path::new("ipv4.interfaces.boot.mac").is_ok());
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a.*", &"x".repeat(201)] {
            assert!(Path::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn being_under_a_prefix_respects_segments() {
        let path = Path::known("images.compute.state");
        assert!(path.is_under("images"));
        assert!(path.is_under("images.compute.state"));
        assert!(!path.is_under("image"));
        assert!(!path.is_under("images.comp"));
    }

    #[test]
    fn a_star_stands_for_one_segment() {
        let pattern = Pattern::new("images.*.state").unwrap();
        assert!(pattern.matches("images.a.state"));
        assert!(!pattern.matches("images.a.b.state"));
        assert!(!pattern.matches("images.state"));
    }
}
