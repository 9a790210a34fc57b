//! What the engine is told.

use crate::{Lesson, Limit, MarkKind, Storm, Terms};
use kraken_model::{Change, Document, NodeId, Registry};
use kraken_plan::ModuleSet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// What a node should be was changed, is valid, and is durable already.
    ///
    /// Before the first [`Input::Tick`] this is what was kept being read back: it is not journalled
    /// again.
    Configure {
        /// The node.
        node: NodeId,
        /// What it should be; `None`: it is taken away.
        cfg: Option<Document>,
        /// Who wants that.
        by: Arc<str>,
    },
    /// What was known of a node before a restart: stale until a discovery names it again. What has
    /// been discovered since the start stays. Nothing, when there is no such node.
    Restore {
        /// The node.
        node: NodeId,
        /// What was known of it.
        dsc: Document,
    },
    /// Something was found out about a node. What does not fit the schemas is refused, the rest is
    /// applied. Naming the value that is known already is how stale knowledge is confirmed.
    Discover {
        /// The node.
        node: NodeId,
        /// What its values are now, in order; `None` at a variable means unknown.
        changes: Vec<Change>,
        /// Who found out.
        by: Arc<str>,
    },
    /// A module's answer to a dispatch. `Ok` proves nothing: the discovery does.
    Finished {
        /// The attempt that it answers.
        id: DispatchId,
        /// What the module says.
        result: Result<(), Failure>,
    },
    /// Who had a dispatch in hand is gone, and nothing is wrong with the step: it is dropped, and does not count as a
    /// failure.
    Abandoned {
        /// The attempt.
        id: DispatchId,
        /// Why, for a person.
        reason: Arc<str>,
    },
    /// What an operator wants. Holds, freezes and uses end with the engine: whoever drives it gives
    /// them again after a restart, before the first [`Input::Tick`], and they are not journalled
    /// again.
    Command {
        /// The command.
        command: Command,
        /// Who gave it.
        by: Arc<str>,
    },
    /// Other limits hold from now on, for what begins from now on. Those who wait keep their turn.
    Limits(Vec<Limit>),
    /// Another storm guard from now on. Storms that last are judged by the rule that counted when they began.
    Storm(Storm),
    /// Other modules and schemas from now on. What cfg says has to fit the new schemas already.
    Modules {
        /// What modules can do.
        set: Arc<ModuleSet>,
        /// What may stand in a document.
        registry: Arc<Registry>,
        /// Who wants that.
        by: Arc<str>,
    },
    /// What steps took before a restart ([`Engine::lessons`](crate::Engine::lessons)).
    Recall(Vec<Lesson>),
    /// Time has passed. The first one starts the engine: nothing is dispatched before it, so that
    /// what was kept can be put in place, in any order.
    Tick,
}

/// An operator's command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Nothing is dispatched for this node until it is released. What is under way goes on.
    Hold {
        /// The node.
        node: NodeId,
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// Ends a hold; also lets this one node pass storm holds.
    Release {
        /// The node.
        node: NodeId,
    },
    /// Nothing disruptive is dispatched.
    Freeze {
        /// For this node; `None`: for any.
        node: Option<NodeId>,
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// Ends a freeze. That of everything ends all storm holds too, and leaves freezes of nodes alone; that of a
    /// node lets it pass the storm hold that it is in.
    Thaw {
        /// Of this node; `None`: of everything.
        node: Option<NodeId>,
    },
    /// The node is in use ([`crate::InUse`]), and discovered to be so.
    Busy {
        /// The node.
        node: NodeId,
        /// Why, and until when.
        #[serde(flatten)]
        terms: Terms,
    },
    /// The node is no longer in use, and discovered not to be.
    Free {
        /// The node.
        node: NodeId,
    },
    /// The node is to be off once, and then what its cfg wants again. Nothing happens when the application does not
    /// say what a restart is ([`crate::Settings::restart`]).
    Restart {
        /// The node.
        node: NodeId,
        /// Why, until when it may wait, and whether it is hard.
        #[serde(flatten)]
        terms: Terms,
    },
    /// Withdraws a restart whose node is not off yet.
    WithdrawRestart {
        /// The node.
        node: NodeId,
    },
    /// Forgets the failures of a node: everything may be tried again, at once.
    Retry {
        /// The node.
        node: NodeId,
    },
    /// The machine of a node, which was found running, may be taken over, whatever runs on it.
    TakeOver {
        /// The node.
        node: NodeId,
    },
}

/// Which attempt is meant, among all that there ever are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DispatchId {
    /// Which run of the engine: grows with every start.
    pub epoch: u64,
    /// The node.
    pub node: NodeId,
    /// Which attempt on that node in this epoch, of whatever mutation.
    pub attempt: u32,
}

/// Why a module could not take a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, for a person.
    pub reason: String,
    /// Whether trying again is pointless until the node's cfg changes or a person says so.
    pub permanent: bool,
}

impl Command {
    /// The node that it is about; `None`: all of them.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Hold { node, .. }
            | Self::Release { node }
            | Self::Busy { node, .. }
            | Self::Free { node }
            | Self::Restart { node, .. }
            | Self::WithdrawRestart { node }
            | Self::Retry { node }
            | Self::TakeOver { node } => Some(node),
            Self::Freeze { node, .. } | Self::Thaw { node } => node.as_ref(),
        }
    }

    /// The mark that it makes (with its terms) or ends (`None`), when it is about one.
    #[must_use]
    pub fn mark(&self) -> Option<(MarkKind, Option<&Terms>)> {
        match self {
            Self::Hold { terms, .. } => Some((MarkKind::Hold, Some(terms))),
            Self::Release { .. } => Some((MarkKind::Hold, None)),
            Self::Freeze { terms, .. } => Some((MarkKind::Freeze, Some(terms))),
            Self::Thaw { .. } => Some((MarkKind::Freeze, None)),
            Self::Busy { terms, .. } => Some((MarkKind::Busy, Some(terms))),
            Self::Free { .. } => Some((MarkKind::Busy, None)),
            Self::Restart { terms, .. } => Some((MarkKind::Restart, Some(terms))),
            Self::WithdrawRestart { .. } => Some((MarkKind::Restart, None)),
            Self::Retry { .. } | Self::TakeOver { .. } => None,
        }
    }
}

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.epoch, self.node, self.attempt)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
