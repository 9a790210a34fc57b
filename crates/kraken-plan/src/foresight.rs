//! Findings about a node that follow from a change of its cfg alone, which no mutation declares.

use kraken_model::Change;

/// What is found out about a node once its cfg is another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foresight {
    /// The values that are found then, beside what is known.
    pub changes: Vec<Change>,
    /// The step that is under way goes on all the same, and what is found is so when it has ended.
    pub goes_on: bool,
}
