//! What the engine is told.

use crate::Limit;
use kraken_model::{Change, Document, NodeId};
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
    /// What an operator wants. Holds and freezes end with the engine: whoever drives it gives them
    /// again after a restart, before the first [`Input::Tick`], and they are not journalled again.
    Command {
        /// The command.
        command: Command,
        /// Who gave it.
        by: Arc<str>,
    },
    /// Other limits hold from now on, for what begins from now on. Those who wait keep their turn.
    Limits(Vec<Limit>),
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
    },
    /// Ends a hold; also lets this one node pass a storm hold.
    Release {
        /// The node.
        node: NodeId,
    },
    /// Nothing disruptive is dispatched for any node.
    Freeze,
    /// Ends a freeze, and a storm hold.
    Thaw,
    /// Forgets the failures of a node: everything may be tried again, at once.
    Retry {
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
