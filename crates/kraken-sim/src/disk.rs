//! What the parent keeps durably, and finds again after a crash.

use crate::marks::KeptMarks;
use kraken_model::{Document, NodeId};
use kraken_sync::TokenRecord;
use std::collections::BTreeMap;

/// What is durable. Whatever is in here was there before anybody was told so.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// How many runs of the parent there were.
    pub(crate) epoch: u64,
    pub(crate) cfg: BTreeMap<usize, Document>,
    /// What was known of nodes, a little stale.
    pub(crate) checkpoint: BTreeMap<usize, Document>,
    /// What operators said.
    pub(crate) marks: KeptMarks,
    pub(crate) tokens: BTreeMap<NodeId, TokenRecord>,
}
