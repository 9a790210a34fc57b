//! A store that lasts as long as the process.

use crate::{
    Bounds, CfgWrite, Commit, Committed, JournalRecord, Loaded, PastRow, Snapshot, Store,
    StoreError, TRIM_STEP, ValueWrite, check_bodies,
};
use kraken_model::{Document, Millis, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

/// A store in memory: for what need not last, such as a node's own view of itself.
#[derive(Debug)]
pub struct Memory {
    loaded: (BTreeMap<NodeId, Document>, BTreeMap<NodeId, Document>),
    revision: u64,
    epoch: u64,
    checkpointed: u64,
    journal: VecDeque<JournalRecord>,
    next: u64,
    written: u64,
    past: BTreeMap<(Option<NodeId>, u64), Vec<u8>>,
    snapshots: BTreeMap<u64, (Snapshot, u64)>,
    values: BTreeMap<(String, String), Vec<u8>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            loaded: Default::default(),
            revision: 0,
            epoch: 0,
            checkpointed: 0,
            journal: VecDeque::new(),
            next: 1,
            written: 0,
            past: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            values: BTreeMap::new(),
        }
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows after one of them, latest last of each node, with the snapshots they are of.
    fn rows_after(
        &self,
        after: Option<&PastRow>,
    ) -> impl Iterator<Item = (&Option<NodeId>, u64, &Vec<u8>)> {
        let from = match after {
            Some(row) => Bound::Excluded((row.node.clone(), u64::MAX)),
            None => Bound::Unbounded,
        };
        self.past.range((from, Bound::Unbounded)).map(|((node, seq), body)| (node, *seq, body))
    }
}

fn write(into: &mut BTreeMap<NodeId, Document>, node: &NodeId, doc: Option<&Document>) {
    match doc {
        Some(doc) => into.insert(node.clone(), doc.clone()),
        None => into.remove(node),
    };
}

fn all(map: &BTreeMap<NodeId, Document>) -> Vec<(NodeId, Document)> {
    map.iter().map(|(node, doc)| (node.clone(), doc.clone())).collect()
}

impl Store for Memory {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let (cfg, checkpoint) = (all(&self.loaded.0), all(&self.loaded.1));
        let (checkpointed, revision) = (self.checkpointed, self.revision);
        Ok(Loaded { cfg, checkpoint, checkpointed, revision })
    }

    fn open_epoch(&mut self) -> Result<u64, StoreError> {
        self.epoch += 1;
        Ok(self.epoch)
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, StoreError> {
        let first = self.append(commit.records)?;
        for CfgWrite { node, doc } in commit.cfg {
            write(&mut self.loaded.0, node, doc.as_ref());
        }
        self.put_all(commit.values)?;
        self.revision += u64::from(!commit.cfg.is_empty());
        Ok(Committed { revision: self.revision, first })
    }

    fn append(&mut self, records: &[JournalRecord]) -> Result<u64, StoreError> {
        check_bodies(records)?;
        let first = self.next;
        for record in records {
            self.journal.push_back(JournalRecord { seq: self.next, ..record.clone() });
            self.next += 1;
            self.written += record.weight();
        }
        Ok(first)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn journal(
        &mut self,
        from: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let start = self.journal.partition_point(|r| r.seq < from);
        let wanted = |r: &&JournalRecord| node.is_none() || r.node.as_ref() == node;
        Ok(self.journal.range(start..).filter(wanted).take(limit).cloned().collect())
    }

    fn journal_range(&mut self) -> Result<Range<u64>, StoreError> {
        Ok(self.journal.front().map_or(self.next, |r| r.seq)..self.next)
    }

    fn journal_before(
        &mut self,
        before: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let end = self.journal.partition_point(|r| r.seq < before);
        let wanted = |r: &&JournalRecord| node.is_none() || r.node.as_ref() == node;
        let latest = self.journal.range(..end).rev().filter(wanted).take(limit);
        let mut records: Vec<JournalRecord> = latest.cloned().collect();
        records.reverse();
        Ok(records)
    }

    fn trim(&mut self, bounds: &Bounds, now: Millis) -> Result<bool, StoreError> {
        let snapshots = self.snapshots.values().copied();
        let (next, checkpointed) = (self.next, self.checkpointed);
        let Some(base) = bounds.base(snapshots, next, self.written, now, checkpointed) else {
            return Ok(false);
        };
        self.snapshots.retain(|seq, _| *seq >= base);
        let spent = self.journal.partition_point(|record| record.seq < base);
        self.journal.drain(..spent.min(TRIM_STEP));
        if spent > TRIM_STEP {
            return Ok(true);
        }
        let needed: BTreeMap<Option<NodeId>, (u64, bool)> = self
            .rows_after(None)
            .filter(|(_, seq, _)| *seq <= base)
            .map(|(node, seq, body)| (node.clone(), (seq, body.is_empty())))
            .collect();
        self.past.retain(|(node, seq), _| *seq > base || needed.get(node) == Some(&(*seq, false)));
        Ok(false)
    }

    fn begin_snapshot(&mut self, at: Millis, is_start: bool) -> Result<u64, StoreError> {
        let snapshot = Snapshot { seq: self.next, at, is_whole: false, is_start };
        self.snapshots.insert(self.next, (snapshot, self.written));
        Ok(self.next)
    }

    fn write_snapshot(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        rows: &[PastRow],
        is_last: bool,
    ) -> Result<(), StoreError> {
        let until = rows.last().filter(|_| !is_last).map(|row| &row.node);
        let mut latest: BTreeMap<Option<NodeId>, Vec<u8>> = self
            .rows_after(after)
            .take_while(|(node, ..)| until.is_none_or(|until| *node <= until))
            .filter(|(_, of, _)| *of <= seq)
            .map(|(node, _, body)| (node.clone(), body.clone()))
            .collect();
        for PastRow { node, body } in rows {
            if latest.remove(node).as_ref() != Some(body) {
                self.past.insert((node.clone(), seq), body.clone());
            }
        }
        for (gone, _) in latest.into_iter().filter(|(_, body)| !body.is_empty()) {
            self.past.insert((gone, seq), Vec::new());
        }
        if let Some((snapshot, _)) = self.snapshots.get_mut(&seq).filter(|_| is_last) {
            snapshot.is_whole = true;
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.snapshots.values().map(|(snapshot, _)| *snapshot).collect())
    }

    fn past(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        limit: usize,
    ) -> Result<Vec<PastRow>, StoreError> {
        let latest: BTreeMap<&Option<NodeId>, &Vec<u8>> = self
            .rows_after(after)
            .filter(|(_, of, _)| *of <= seq)
            .map(|(node, _, body)| (node, body))
            .collect();
        let there = latest.into_iter().filter(|(_, body)| !body.is_empty());
        let rows = there.map(|(node, body)| PastRow { node: node.clone(), body: body.clone() });
        Ok(rows.take(limit).collect())
    }

    fn past_of(&mut self, seq: u64, node: Option<&NodeId>) -> Result<Option<Vec<u8>>, StoreError> {
        let range = (node.cloned(), 0)..=(node.cloned(), seq);
        let latest = self.past.range(range).next_back();
        Ok(latest.map(|(_, body)| body.clone()).filter(|body| !body.is_empty()))
    }

    fn checkpoint(&mut self, nodes: &[(NodeId, Option<Document>)]) -> Result<(), StoreError> {
        for (node, doc) in nodes {
            write(&mut self.loaded.1, node, doc.as_ref());
        }
        self.checkpointed = self.next;
        Ok(())
    }

    fn put(&mut self, namespace: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.values.insert((namespace.to_owned(), key.to_owned()), value.to_owned());
        Ok(())
    }

    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(&(namespace.to_owned(), key.to_owned())).cloned())
    }

    fn delete(&mut self, namespace: &str, key: &str) -> Result<bool, StoreError> {
        Ok(self.values.remove(&(namespace.to_owned(), key.to_owned())).is_some())
    }

    fn put_all(&mut self, values: &[ValueWrite]) -> Result<(), StoreError> {
        for ValueWrite { namespace, key, value } in values {
            let place = (namespace.clone(), key.clone());
            match value {
                Some(value) => self.values.insert(place, value.clone()),
                None => self.values.remove(&place),
            };
        }
        Ok(())
    }

    fn list(&mut self, namespace: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let from = (namespace.to_owned(), String::new());
        let within = self.values.range(from..).take_while(|((n, _), _)| n == namespace);
        Ok(within.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}
