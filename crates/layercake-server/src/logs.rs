//! What nodes print: the latest lines of each, for people who ask.

use axum::body::Bytes;
use kraken_model::NodeId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use tokio::sync::broadcast;

/// How many lines of each node are remembered.
const LINES: usize = 1000;

/// How many lines a slow reader may be behind.
const BACKLOG: usize = 1024;

/// The latest lines of every node.
pub(crate) struct Logs {
    nodes: Mutex<HashMap<NodeId, VecDeque<Bytes>>>,
    live: broadcast::Sender<(NodeId, Bytes)>,
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self { nodes: Mutex::default(), live: broadcast::Sender::new(BACKLOG) }
    }

    /// Remembers a line that a stream of a node, such as an image, printed.
    pub(crate) fn add(&self, node: &NodeId, stream: &str, line: &str) {
        let line = Bytes::from(format!("{stream}: {line}\n"));
        {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            let lines = nodes.entry(node.clone()).or_default();
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line.clone());
        }
        // Nobody may be looking.
        let _ = self.live.send((node.clone(), line));
    }

    /// The lines of a node, oldest first, and all lines of all nodes from now on.
    pub(crate) fn read(&self, node: &NodeId) -> (Vec<Bytes>, broadcast::Receiver<(NodeId, Bytes)>) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = nodes.get(node).map(|lines| lines.iter().cloned().collect());
        (lines.unwrap_or_default(), self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_latest_lines_are_kept_and_new_ones_told() {
        let logs = Logs::new();
        let node = NodeId::new("n1").unwrap();
        for number in 0..=LINES {
            logs.add(&node, "web", &number.to_string());
        }
        let (lines, mut live) = logs.read(&node);
        assert_eq!(lines.len(), LINES);
        assert_eq!(&lines[0][..], b"web: 1\n");
        logs.add(&node, "web", "new");
        assert_eq!(live.try_recv().unwrap(), (node, Bytes::from("web: new\n")));
    }
}
