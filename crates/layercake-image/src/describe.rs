//! What is known of an image: names, kind, and how it is started.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// How an image runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Its `/sbin/init` is systemd, which becomes pid 1 of the container.
    Systemd,
    /// One command, given with the image.
    Plain,
}

/// How an image is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What kind of image it is.
    pub kind: Kind,
    /// Program and arguments; empty for systemd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Why an image could not be started as described.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// There is nothing to start.
    #[error(
        "the image has no systemd as /sbin/init, so it needs a command to start; give one with --command"
    )]
    NoCommand,
    /// A variable cannot be passed to a program.
    #[error("`{name}` cannot be an environment variable: no `=` and no zero byte in the name")]
    Env {
        /// The name of the variable.
        name: String,
    },
    /// No program takes such an argument.
    #[error("a command or a value of the environment has a zero byte in it")]
    ZeroByte,
}

impl Entry {
    pub(crate) fn check(&self) -> Result<(), EntryError> {
        if self.kind == Kind::Plain && self.command.first().is_none_or(String::is_empty) {
            return Err(EntryError::NoCommand);
        }
        for name in self.env.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(EntryError::Env { name: name.clone() });
            }
        }
        if self.command.iter().chain(self.env.values()).any(|text| text.contains('\0')) {
            return Err(EntryError::ZeroByte);
        }
        Ok(())
    }
}

/// Longest tag in bytes.
const MAX_TAG_BYTES: usize = 128;

/// A name for an image: letters, digits and `._:+-`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Tag(String);

/// Why a text is not a tag.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` cannot name an image: wanted are at most {MAX_TAG_BYTES} letters, digits and `._:+-`, a letter or digit first, and not the form of a digest"
)]
pub struct TagError {
    text: String,
}

impl Tag {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._:+-".contains(c);
        let good = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= MAX_TAG_BYTES
            && text.chars().all(inner)
            && !text.starts_with("sha256:")
            && text.parse::<Digest>().is_err();
        if good { Ok(Self(text.to_owned())) } else { Err(TagError { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;

    fn try_from(text: String) -> Result<Self, TagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the store keeps beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMeta {
    /// Which image.
    pub digest: Digest,
    /// How large it is.
    pub size_bytes: u64,
    /// How many files, directories, links and devices are in it.
    pub file_count: u64,
    /// Where it came from.
    pub source: String,
    /// When it came first, in seconds since 1970.
    pub imported_at_unix_secs: u64,
    /// How it is started, as told at its last import.
    pub entry: Entry,
    /// For which processors its programs are, as `uname -m` names them; none if no program was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// What its last import left out or took otherwise than it was written, a line for each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// What the store keeps under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) digest: Digest,
    /// Kept with the name, so that one content may run in two ways under two names.
    pub(crate) entry: Entry,
}

/// An image and its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// The image.
    #[serde(flatten)]
    pub meta: ImageMeta,
    /// Its names, sorted.
    pub tags: Vec<Tag>,
}

/// What a node has to know to fetch and start an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Which image.
    pub digest: Digest,
    /// How large it is.
    pub size_bytes: u64,
    /// How it is started.
    #[serde(flatten)]
    pub entry: Entry,
    /// For which processors its programs are, as `uname -m` names them, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
}

/// Now, as it is written into metadata.
pub(crate) fn now_unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
