//! What the engine says.

use crate::{DispatchId, Entry};
use kraken_model::{Change, Document, Invalid, Millis, NodeId, Side};
use kraken_plan::MutationId;
use std::sync::Arc;

/// Something that is to be done outside, in the order in which it is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A step is to be taken.
    Dispatch(Order),
    /// A step that was dispatched is to be dropped; what it still says is ignored.
    Interrupt {
        /// The attempt.
        id: DispatchId,
        /// What was attempted.
        mutation: MutationId,
        /// Why, for a person.
        reason: String,
    },
    /// Something for the journal.
    Journal(Entry),
    /// A document has changed. When a node has been taken away, all that it held is removed; this
    /// is said of its cfg even when that held nothing, and so it is of a new node.
    Changed {
        /// The node.
        node: NodeId,
        /// Which of its documents.
        side: Side,
        /// What its values are now.
        changes: Vec<Change>,
    },
    /// Which step a node may take by itself has changed: [`NodeView::permitted`](crate::NodeView::permitted).
    Permitted {
        /// The node.
        node: NodeId,
    },
    /// Part of a discovery does not fit the schemas and was left out.
    Refused {
        /// The node.
        node: NodeId,
        /// Who said so.
        by: Arc<str>,
        /// What does not fit, and why.
        reasons: Vec<Invalid>,
    },
}

/// A step that a module is to take for a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Which attempt this is.
    pub id: DispatchId,
    /// The step.
    pub mutation: MutationId,
    /// The node.
    pub node: NodeId,
    /// What it should be.
    pub cfg: Document,
    /// What is known of it.
    pub dsc: Document,
    /// When the attempt counts as failed.
    pub deadline: Millis,
}
