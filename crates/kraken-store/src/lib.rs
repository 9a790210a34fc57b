//! What outlives the process: configuration, the last known discoveries, the journal, and secrets.
//!
//! In: whole documents of nodes, records of what happened, small values by name. Out: the same, on
//! the next start. [`Embedded`] keeps them in one file, [`Memory`] only until it is dropped; both
//! pass the same tests of this contract:
//!
//! - What [`Store::commit`], [`Store::checkpoint`], [`Store::put`], [`Store::put_all`],
//!   [`Store::delete`], [`Store::open_epoch`] and [`Store::flush`] acknowledged is durable, and each is done as a whole
//!   or not at all. When one fails, nothing of it is there.
//! - What [`Store::append`] acknowledged becomes durable with the next of those, or after
//!   [`MAX_DEFERRED_RECORDS`] records. Until then the end of the process may lose it.
//! - Records are numbered from 1, in the order of their acknowledgement. No number is given twice, not even that
//!   of a record which was lost with its process: the next one then begins behind a gap of at most
//!   [`MAX_DEFERRED_RECORDS`] numbers. Otherwise there are no gaps.
//! - [`Store::trim`] takes away the oldest records that are beyond the bounds, a few at a time. What is
//!   kept always begins at a whole snapshot, so that what nodes were at any time since is known.
//!
//! A store is synchronous and blocks on the disk: call it where blocking is allowed.

#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod memory;

#[cfg(feature = "embedded")]
pub use embedded::Embedded;
pub use error::StoreError;
pub use memory::Memory;

use kraken_model::{Document, Millis, NodeId};
use std::time::Duration;

/// How many records one call of [`Store::trim`] takes away at most: what others wait for.
pub const TRIM_STEP: usize = 4096;

/// How many appended records may wait for the disk. A journal that is read includes them.
pub const MAX_DEFERRED_RECORDS: usize = 256;

/// The longest body of a record, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Something that happened, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Its number, which the store gives it; what a caller writes here does not matter.
    pub seq: u64,
    /// When it happened.
    pub at: Millis,
    /// The node it happened to, when it was just one.
    pub node: Option<NodeId>,
    /// What happened, in whatever form its writer likes; JSON, so far.
    pub body: Vec<u8>,
}

/// How much of the journal is kept. Whichever bound is reached first counts; the oldest records go
/// a stretch at a time, so that up to an eighth more may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many records.
    pub records: u64,
    /// How many bytes they take, keys included.
    pub bytes: u64,
    /// How far they reach back.
    pub age: Duration,
}

impl Default for Bounds {
    /// A million records, 1 GiB, 90 days. At one change a second a million reach back eleven days.
    fn default() -> Self {
        let age = Duration::from_secs(90 * 86_400);
        Self { records: 1_000_000, bytes: 1 << 30, age }
    }
}

/// A moment at which it was written down what everything was, so that the journal need not reach
/// back for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the first record that comes after it.
    pub seq: u64,
    /// When.
    pub at: Millis,
    /// Whether all of it was written. Otherwise nothing is known from it.
    pub is_whole: bool,
    /// Whether a run began there: what the records before it say need not lead to it.
    pub is_start: bool,
}

/// What a node was at a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRow {
    /// The node; `None`: what concerns all of them. Sorts before every node.
    pub node: Option<NodeId>,
    /// What it was, in whatever form its writer likes, but not empty.
    pub body: Vec<u8>,
}

impl JournalRecord {
    /// How many bytes it takes in a journal, about.
    fn weight(&self) -> u64 {
        let name = self.node.as_ref().map_or(0, |node| node.as_str().len());
        (self.body.len() + 2 * name + 32) as u64
    }
}

impl Bounds {
    /// The snapshot at which the journal is to begin, among those that are kept, each with how many
    /// bytes had been written before it; `None` when nothing is to go. No record goes that says more
    /// than the checkpoint.
    fn base(
        &self,
        snapshots: impl DoubleEndedIterator<Item = (Snapshot, u64)>,
        next: u64,
        written: u64,
        now: Millis,
        checkpointed: u64,
    ) -> Option<u64> {
        let is_beyond = |(snapshot, before): &(Snapshot, u64)| {
            snapshot.is_whole
                && snapshot.seq <= checkpointed
                && (next.saturating_sub(snapshot.seq) >= self.records
                    || written.saturating_sub(*before) >= self.bytes
                    || now.since(snapshot.at) >= self.age)
        };
        snapshots.rev().find(is_beyond).map(|(snapshot, _)| snapshot.seq)
    }
}

/// A node's new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfgWrite {
    /// The node.
    pub node: NodeId,
    /// What it is to be; nothing removes it.
    pub doc: Option<Document>,
}

/// What is written together: all of it or, on an error, nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit<'a> {
    /// Configuration.
    pub cfg: &'a [CfgWrite],
    /// Values that belong to it.
    pub values: &'a [ValueWrite],
    /// Records of what has changed.
    pub records: &'a [JournalRecord],
}

/// Result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision of the configuration: one more than before when any of it was written.
    pub revision: u64,
    /// The number of the first record.
    pub first: u64,
}

/// A value that is to be kept under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueWrite {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub key: String,
    /// What it is to be; nothing removes it.
    pub value: Option<Vec<u8>>,
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What the nodes are to be, in the order of their names.
    pub cfg: Vec<(NodeId, Document)>,
    /// What was known of them last, in the order of their names.
    pub checkpoint: Vec<(NodeId, Document)>,
    /// The number of the first record that may say more than the checkpoint.
    pub checkpointed: u64,
    /// How many commits of configuration there were.
    pub revision: u64,
}

/// A place for what has to last.
pub trait Store: Send {
    /// All configuration and the last checkpoint.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Counts this start, and gives the count: 1 for the first.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn open_epoch(&mut self) -> Result<u64, StoreError>;

    /// Writes configuration, values that belong to it, and records of what has changed: all or nothing.
    ///
    /// # Errors
    /// When it cannot be made durable; then nothing of it is there.
    fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, StoreError>;

    /// Adds to the journal, and gives the number of the first record. It may be lost with the
    /// process until the next [`Store::flush`].
    ///
    /// # Errors
    /// When there is no room; then none of the records was taken.
    fn append(&mut self, records: &[JournalRecord]) -> Result<u64, StoreError>;

    /// Makes everything durable that was appended.
    ///
    /// # Errors
    /// When it cannot; it stays appended.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// The records from number `from` on, `limit` at most, of one node or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn journal(
        &mut self,
        from: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError>;

    /// The numbers of the oldest record that is kept and of the next one that will be written.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn journal_range(&mut self) -> Result<std::ops::Range<u64>, StoreError>;

    /// The latest records before number `before`, oldest first, `limit` at most, of one node or of
    /// all.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn journal_before(
        &mut self,
        before: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError>;

    /// The number of the first record of `at` or later: that of the next one when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn journal_from(&mut self, at: Millis) -> Result<u64, StoreError> {
        let mut range = self.journal_range()?;
        while range.start < range.end {
            let middle = range.start + (range.end - range.start) / 2;
            match self.journal(middle, 1, None)?.first() {
                Some(record) if record.at < at => range.start = middle + 1,
                _ => range.end = middle,
            }
        }
        Ok(range.start)
    }

    /// Takes away the oldest of what is beyond the bounds, [`TRIM_STEP`] records at most. Says
    /// whether there is more.
    ///
    /// # Errors
    /// When it cannot be made durable; then nothing of it is gone.
    fn trim(&mut self, bounds: &Bounds, now: Millis) -> Result<bool, StoreError>;

    /// Begins a snapshot of what everything is now, after all records so far; gives its number.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn begin_snapshot(&mut self, at: Millis, is_start: bool) -> Result<u64, StoreError>;

    /// Writes rows of the snapshot `seq`, which come in the order of their nodes: all there are
    /// after the row `after` of the call before. With the last of them it is whole.
    ///
    /// # Errors
    /// When it cannot be made durable; then none of these rows is there.
    fn write_snapshot(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        rows: &[PastRow],
        is_last: bool,
    ) -> Result<(), StoreError>;

    /// Every snapshot that is kept, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn snapshots(&mut self) -> Result<Vec<Snapshot>, StoreError>;

    /// The rows of a whole snapshot, in the order of their nodes, after the row `after`, `limit` at
    /// most.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn past(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        limit: usize,
    ) -> Result<Vec<PastRow>, StoreError>;

    /// The row of one node, or of what concerns all, in a whole snapshot.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn past_of(&mut self, seq: u64, node: Option<&NodeId>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes what is known of nodes; nothing removes a node. With these the checkpoint holds everything
    /// that the records so far say, which are not taken away before.
    ///
    /// # Errors
    /// When it cannot be made durable; then nothing of it is there.
    fn checkpoint(&mut self, nodes: &[(NodeId, Option<Document>)]) -> Result<(), StoreError>;

    /// Writes a value.
    ///
    /// # Errors
    /// When it cannot be made durable; then the old value is there.
    fn put(&mut self, namespace: &str, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// A value.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes a value. Says whether there was one.
    ///
    /// # Errors
    /// When it cannot be made durable; then the value is still there.
    fn delete(&mut self, namespace: &str, key: &str) -> Result<bool, StoreError>;

    /// Writes and removes values, all of them or, on an error, none.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn put_all(&mut self, values: &[ValueWrite]) -> Result<(), StoreError>;

    /// Every value of a namespace, in the order of the keys.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list(&mut self, namespace: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

fn check_bodies(records: &[JournalRecord]) -> Result<(), StoreError> {
    match records.iter().map(|r| r.body.len()).max() {
        Some(bytes) if bytes > MAX_BODY_BYTES => Err(StoreError::TooLarge { bytes }),
        _ => Ok(()),
    }
}
