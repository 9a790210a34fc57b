//! What must never be otherwise, by name.

use kraken_model::{Millis, NodeId};
use std::fmt;

/// Something that must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No disruptive step without knowledge from after the start of the parent.
    Fresh,
    /// No step above a limit, none closer to the one before than a limit says, and none that makes more
    /// nodes unavailable than may be.
    Limits,
    /// No step on a node that is held.
    Held,
    /// No disruptive step on a node in use.
    Busy,
    /// No disruptive step while everything, or this node, is frozen.
    Frozen,
    /// A node that ran as it should when the parent came back, and to which nothing happened, is
    /// not disrupted.
    Adopted,
    /// Nodes that run as they should and are cut off, many at once, are not disrupted for that.
    Storm,
    /// The same of nodes of one failure domain, such as a rack.
    Domain,
    /// A node that runs as it should and is cut off is recovered once at the most, and only if its policy says so.
    Recovered,
    /// A write that was acknowledged is there after any crash.
    CfgKept,
    /// Once faults have stopped every node becomes what its cfg wants, within a bound.
    Converges,
    /// Every value of dsc is written by those who may, and nobody else.
    OneWriter,
    /// A datagram that was taken changes nothing when it comes again.
    Replay,
    /// Two steps are never under way on one node, and what ends had begun.
    OneStep,
    /// An answer to an earlier run of the parent changes nothing.
    Epochs,
    /// Parent and node take from each other what was really so, in order.
    InOrder,
    /// A step that was interrupted does nothing any more.
    Interrupted,
    /// The journal says all that changed, and every step before it is taken.
    Journal,
    /// A node takes no disruptive step by itself that its parent has not permitted, and none while it is out
    /// of touch.
    Permitted,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When.
    pub at: Millis,
    /// On which node; `None`: on the fleet.
    pub node: Option<NodeId>,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_ref().map_or("the fleet", |node| node.as_str());
        let seconds = self.at.0 as f64 / 1000.0;
        write!(f, "{:?} is violated at {seconds:.3} s: {node} {}", self.invariant, self.what)
    }
}
