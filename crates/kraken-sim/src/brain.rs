//! Who plans for the fleet: an engine that is driven here, in virtual time, or one elsewhere.

use kraken_engine::{DispatchId, Engine, Failure, Input, Output};
use kraken_model::{Change, Document, Millis, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// The engine of the parent, or what stands in for one that runs elsewhere.
pub(crate) enum Brain {
    /// Driven here.
    Here(Box<Engine>),
    /// Driven by somebody else, who brings orders and takes what is said.
    Elsewhere(Mirror),
}

/// What is known of an engine elsewhere: how it last saw the nodes, and what it is still to be told.
#[derive(Default)]
pub(crate) struct Mirror {
    nodes: HashMap<NodeId, Seen>,
    said: Vec<Said>,
}

/// What the engine knows of a node.
pub(crate) struct Known<'a> {
    pub(crate) wanted: &'a Document,
    pub(crate) dsc: &'a Document,
    /// Whether an operator holds it.
    pub(crate) is_held: bool,
    /// The disruptive step that it may take by itself now.
    pub(crate) permitted: Option<&'a Arc<str>>,
}

/// How an engine elsewhere sees a node.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is wanted of it now.
    pub cfg: Document,
    /// What it is known to be.
    pub dsc: Document,
    /// Whether an operator holds it.
    pub is_held: bool,
    /// The disruptive step that it may take by itself now.
    pub permitted: Option<Arc<str>>,
}

/// What an engine elsewhere, and whoever drives it, is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Something was found out about a node.
    Found {
        /// The node.
        node: NodeId,
        /// What its values are now.
        changes: Vec<Change>,
        /// Which module found out.
        by: Arc<str>,
    },
    /// Something on a node printed lines, which reached the parent.
    Printed {
        /// The node.
        node: NodeId,
        /// What printed them.
        stream: String,
        /// The lines.
        lines: Vec<String>,
    },
    /// A module's answer to an order.
    Answer {
        /// The attempt that it answers.
        id: DispatchId,
        /// What the module says.
        result: Result<(), Failure>,
    },
}

impl Brain {
    pub(crate) fn step(&mut self, now: Millis, input: Input, outputs: &mut Vec<Output>) {
        match self {
            Self::Here(engine) => engine.step(now, input, outputs),
            Self::Elsewhere(mirror) => mirror.hear(input),
        }
    }

    pub(crate) fn node(&self, id: &NodeId) -> Option<Known<'_>> {
        match self {
            Self::Here(engine) => engine.node(id).map(|view| Known {
                wanted: view.wanted,
                dsc: view.dsc,
                is_held: view.marks.hold.is_some(),
                permitted: view.permitted,
            }),
            Self::Elsewhere(mirror) => mirror.nodes.get(id).map(|node| Known {
                wanted: &node.cfg,
                dsc: &node.dsc,
                is_held: node.is_held,
                permitted: node.permitted.as_ref(),
            }),
        }
    }

    /// When the engine wants to be woken; one elsewhere wakes by itself.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.here().and_then(Engine::next_deadline)
    }

    pub(crate) fn here(&self) -> Option<&Engine> {
        match self {
            Self::Here(engine) => Some(engine),
            Self::Elsewhere(_) => None,
        }
    }

    pub(crate) fn here_mut(&mut self) -> Option<&mut Engine> {
        match self {
            Self::Here(engine) => Some(engine),
            Self::Elsewhere(_) => None,
        }
    }

    pub(crate) fn mirror_mut(&mut self) -> Option<&mut Mirror> {
        match self {
            Self::Here(_) => None,
            Self::Elsewhere(mirror) => Some(mirror),
        }
    }
}

impl Mirror {
    fn hear(&mut self, input: Input) {
        match input {
            // Of a node that was taken away, nobody wants to know.
            Input::Discover { node, changes, by } if self.nodes.contains_key(&node) => {
                self.said.push(Said::Found { node, changes, by });
            }
            Input::Finished { id, result } => self.said.push(Said::Answer { id, result }),
            // Everything else comes from people, whom the engine hears itself.
            _ => {}
        }
    }

    pub(crate) fn print(&mut self, node: NodeId, stream: &str, lines: &[String]) {
        if self.nodes.contains_key(&node) {
            let (stream, lines) = (stream.to_owned(), lines.to_vec());
            self.said.push(Said::Printed { node, stream, lines });
        }
    }

    /// How the engine sees a node now. Whether it saw it before.
    pub(crate) fn see(&mut self, node: NodeId, seen: Seen) -> bool {
        self.nodes.insert(node, seen).is_some()
    }

    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }

    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }
}
