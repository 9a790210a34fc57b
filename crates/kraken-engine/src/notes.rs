//! What is out of the ordinary about a node, whatever is done about it.

use crate::Engine;
use crate::node::Node;
use crate::status::For;
use std::time::Duration;

/// How far back recoveries are told of.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Engine {
    /// What is out of the ordinary about a node, a line each.
    pub(crate) fn notes_on(&self, node: &Node) -> Vec<String> {
        let recovered = self.repeated_recoveries(node, A_DAY).map(|(times, last)| {
            let ago = For { since: last, now: self.now };
            format!("was not heard and was recovered {times} times within a day, the last time {ago} ago")
        });
        recovered.into_iter().collect()
    }
}
