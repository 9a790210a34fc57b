//! Who a node is.

use serde::{Deserialize, Deserializer, Serialize};
use smol_str::SmolStr;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// A node's name, which is its identity: a DNS label (RFC 1123 §2.1), lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeId(SmolStr);

/// A text is not a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node name: 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
)]
pub struct NodeIdError(String);

impl NodeId {
    /// A node's name from text.
    ///
    /// # Errors
    /// When the text is not a DNS label.
    pub fn new(name: &str) -> Result<Self, NodeIdError> {
        let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let bytes = name.as_bytes();
        let inner = bytes.iter().all(|c| edge(Some(c)) || *c == b'-');
        if bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && inner {
            Ok(Self(name.into()))
        } else {
            Err(NodeIdError(name.chars().take(80).collect()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(name: &str) -> Result<Self, NodeIdError> {
        Self::new(name)
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

/// Which of a node's two documents is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What people want the node to be. Truth flows from parent to child.
    Cfg,
    /// What was discovered of the node. Truth flows from child to parent.
    Dsc,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cfg => "cfg",
            Self::Dsc => "dsc",
        })
    }
}
