//! A store as the disk below it lets it be, and what of it outlives the process.

use kraken_model::{Document, Millis, NodeId};
use kraken_store::{
    Bounds, Commit, Committed, JournalRecord, Loaded, Memory, PastRow, Snapshot, Store, StoreError,
    ValueWrite,
};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// A store that keeps nothing while its disk is full. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    store: Memory,
    is_full: bool,
    /// Checkpoints, and only these, find no room.
    refuses_checkpoints: bool,
    /// The number of the first record that a crash would lose.
    durable: u64,
    /// The same, when a value was last removed.
    durable_at_removal: Option<u64>,
}

impl Disk {
    pub(crate) fn fill(&self, is_full: bool) {
        self.inner().is_full = is_full;
    }

    pub(crate) fn refuse_checkpoints(&self) {
        self.inner().refuses_checkpoints = true;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The number of the first record that a crash would have lost just before a value was last removed.
    pub(crate) fn durable_at_removal(&self) -> Option<u64> {
        self.inner().durable_at_removal
    }

    /// The number of the first record that a crash would lose.
    pub(crate) fn durable(&self) -> u64 {
        self.inner().durable
    }
}

fn full() -> StoreError {
    StoreError::Full { path: "/disk/kraken.redb".into() }
}

impl Inner {
    fn room(&mut self) -> Result<&mut Memory, StoreError> {
        if self.is_full { Err(full()) } else { Ok(&mut self.store) }
    }

    /// Does something that makes everything before it durable.
    fn keep<T>(
        &mut self,
        work: impl FnOnce(&mut Memory) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = work(self.room()?)?;
        self.durable = self.store.journal_range()?.end;
        Ok(done)
    }
}

impl Store for Disk {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.inner().store.load()
    }
    fn open_epoch(&mut self) -> Result<u64, StoreError> {
        self.inner().keep(|store| store.open_epoch())
    }
    fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, StoreError> {
        self.inner().keep(|store| store.commit(commit))
    }
    fn append(&mut self, records: &[JournalRecord]) -> Result<u64, StoreError> {
        self.inner().room()?.append(records)
    }
    fn flush(&mut self) -> Result<(), StoreError> {
        self.inner().keep(|store| store.flush())
    }
    fn journal(
        &mut self,
        from: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        self.inner().store.journal(from, limit, node)
    }
    fn journal_range(&mut self) -> Result<Range<u64>, StoreError> {
        self.inner().store.journal_range()
    }
    fn journal_before(
        &mut self,
        before: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        self.inner().store.journal_before(before, limit, node)
    }
    fn trim(&mut self, bounds: &Bounds, now: Millis) -> Result<bool, StoreError> {
        self.inner().keep(|store| store.trim(bounds, now))
    }
    fn begin_snapshot(&mut self, at: Millis, is_start: bool) -> Result<u64, StoreError> {
        self.inner().keep(|store| store.begin_snapshot(at, is_start))
    }
    fn write_snapshot(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        rows: &[PastRow],
        is_last: bool,
    ) -> Result<(), StoreError> {
        self.inner().keep(|store| store.write_snapshot(seq, after, rows, is_last))
    }
    fn snapshots(&mut self) -> Result<Vec<Snapshot>, StoreError> {
        self.inner().store.snapshots()
    }
    fn past(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        limit: usize,
    ) -> Result<Vec<PastRow>, StoreError> {
        self.inner().store.past(seq, after, limit)
    }
    fn past_of(&mut self, seq: u64, node: Option<&NodeId>) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner().store.past_of(seq, node)
    }
    fn checkpoint(&mut self, nodes: &[(NodeId, Option<Document>)]) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if inner.refuses_checkpoints {
            return Err(full());
        }
        inner.keep(|store| store.checkpoint(nodes))
    }
    fn put(&mut self, namespace: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.inner().keep(|store| store.put(namespace, key, value))
    }
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner().store.get(namespace, key)
    }
    fn delete(&mut self, namespace: &str, key: &str) -> Result<bool, StoreError> {
        self.inner().keep(|store| store.delete(namespace, key))
    }
    fn put_all(&mut self, values: &[ValueWrite]) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if values.iter().any(|write| write.value.is_none()) {
            inner.durable_at_removal = Some(inner.durable);
        }
        inner.keep(|store| store.put_all(values))
    }
    fn list(&mut self, namespace: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner().store.list(namespace)
    }
}
