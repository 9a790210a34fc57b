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
//! - Records are numbered from 1 without gaps, in the order of their acknowledgement.
//! - The journal holds the newest records, at least as many as its bound says.
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

/// How many records a journal keeps unless it is told otherwise. At some 200 bytes each they take
/// 200 MB, and at one change a second they reach back eleven days.
pub const JOURNAL_RECORDS: u64 = 1_000_000;

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

/// A node's new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfgWrite {
    /// The node.
    pub node: NodeId,
    /// What it is to be; nothing removes it.
    pub doc: Option<Document>,
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
    /// How many commits there were.
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

    /// Writes configuration and what is to be said of it, both or neither, and gives the revision.
    ///
    /// # Errors
    /// When it cannot be made durable; then nothing of it is there.
    fn commit(&mut self, cfg: &[CfgWrite], records: &[JournalRecord]) -> Result<u64, StoreError>;

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

    /// Writes what is known of nodes; nothing removes a node.
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
