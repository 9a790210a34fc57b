//! What the parent keeps durably, and finds again after a crash.

use crate::marks::KeptMarks;
use crate::per_node::PerNode;
use kraken_model::Document;
use kraken_sync::TokenRecord;

/// What is durable. Whatever is in here was there before anybody was told so.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// How many runs of the parent there were.
    pub(crate) epoch: u64,
    pub(crate) cfg: PerNode<Document>,
    /// What was known of nodes, a little stale.
    pub(crate) checkpoint: PerNode<Document>,
    /// What operators said.
    pub(crate) marks: KeptMarks,
    pub(crate) tokens: PerNode<TokenRecord>,
}
