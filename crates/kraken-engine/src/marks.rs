//! What operators say of nodes: that steps are kept from being taken (hold, freeze, busy), or that a node is restarted.

use kraken_model::{Millis, Path};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why something is wanted, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
    /// When it ends by itself; `None`: when somebody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Of a restart: that nothing is stopped first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
}

/// Something that an operator said, with who, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Who.
    pub by: Arc<str>,
    /// Why, and until when.
    #[serde(flatten)]
    pub terms: Terms,
}

/// What a mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkKind {
    /// No step is taken.
    Hold,
    /// No disruptive step is taken.
    Freeze,
    /// The node is in use: what its mutations exclude then is not done.
    Busy,
    /// The node is to be off once.
    Restart,
}

/// Everything that operators say of one node, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// No step is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Mark>,
    /// No disruptive step is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Mark>,
    /// It is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Mark>,
    /// It is to be off once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Mark>,
}

/// The value that says that a node is in use. An application without it has no use for
/// [`crate::Command::Busy`].
#[derive(Clone, Debug)]
pub struct InUse {
    /// The variable.
    pub variable: Path,
    /// Its value while the node is in use.
    pub busy: Arc<str>,
    /// Its value when it is not.
    pub free: Arc<str>,
}

impl Default for InUse {
    fn default() -> Self {
        Self { variable: Path::known("busy"), busy: "BUSY".into(), free: "FREE".into() }
    }
}

impl Terms {
    /// Whether their time is over.
    pub(crate) fn are_over(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Marks {
    /// The kinds, in the order in which people are told.
    pub const KINDS: [MarkKind; 4] =
        [MarkKind::Hold, MarkKind::Freeze, MarkKind::Busy, MarkKind::Restart];

    /// The mark of a kind.
    #[must_use]
    pub fn get(&self, kind: MarkKind) -> Option<&Mark> {
        match kind {
            MarkKind::Hold => self.hold.as_ref(),
            MarkKind::Freeze => self.freeze.as_ref(),
            MarkKind::Busy => self.busy.as_ref(),
            MarkKind::Restart => self.restart.as_ref(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Self::KINDS.iter().all(|kind| self.get(*kind).is_none())
    }

    /// Every mark with its kind.
    pub fn iter(&self) -> impl Iterator<Item = (MarkKind, &Mark)> {
        Self::KINDS.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// Makes a mark, or takes it away.
    pub fn set(&mut self, kind: MarkKind, mark: Option<Mark>) {
        *self.of(kind) = mark;
    }

    pub(crate) fn of(&mut self, kind: MarkKind) -> &mut Option<Mark> {
        match kind {
            MarkKind::Hold => &mut self.hold,
            MarkKind::Freeze => &mut self.freeze,
            MarkKind::Busy => &mut self.busy,
            MarkKind::Restart => &mut self.restart,
        }
    }
}

/// Who, why, and until when: `anna (replacing a DIMM) until 2026-11-25T18:00:00Z`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.by, self.terms)
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hard {
            f.write_str(", hard")?;
        }
        if let Some(why) = &self.why {
            write!(f, " ({why})")?;
        }
        match self.until {
            Some(until) => write!(f, " until {}", until.rfc3339()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for MarkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hold => "held",
            Self::Freeze => "frozen",
            Self::Busy => "in use",
            Self::Restart => "restart requested",
        })
    }
}
