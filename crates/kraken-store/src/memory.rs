//! A store that lasts as long as the process.

use crate::{
    CfgWrite, JOURNAL_RECORDS, JournalRecord, Loaded, Store, StoreError, ValueWrite, check_bodies,
};
use kraken_model::{Document, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// A store in memory: for what need not last, such as a node's own view of itself.
#[derive(Debug)]
pub struct Memory {
    loaded: (BTreeMap<NodeId, Document>, BTreeMap<NodeId, Document>),
    revision: u64,
    epoch: u64,
    journal: VecDeque<JournalRecord>,
    next: u64,
    bound: u64,
    values: BTreeMap<(String, String), Vec<u8>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_bound(JOURNAL_RECORDS)
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that keeps this many records.
    #[must_use]
    pub fn with_bound(records: u64) -> Self {
        Self {
            loaded: Default::default(),
            revision: 0,
            epoch: 0,
            journal: VecDeque::new(),
            next: 1,
            bound: records.max(1),
            values: BTreeMap::new(),
        }
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
        Ok(Loaded { cfg, checkpoint, revision: self.revision })
    }

    fn open_epoch(&mut self) -> Result<u64, StoreError> {
        self.epoch += 1;
        Ok(self.epoch)
    }

    fn commit(&mut self, cfg: &[CfgWrite], records: &[JournalRecord]) -> Result<u64, StoreError> {
        self.append(records)?;
        for CfgWrite { node, doc } in cfg {
            write(&mut self.loaded.0, node, doc.as_ref());
        }
        self.revision += 1;
        Ok(self.revision)
    }

    fn append(&mut self, records: &[JournalRecord]) -> Result<u64, StoreError> {
        check_bodies(records)?;
        let first = self.next;
        for record in records {
            self.journal.push_back(JournalRecord { seq: self.next, ..record.clone() });
            self.next += 1;
        }
        while self.journal.len() as u64 > self.bound {
            self.journal.pop_front();
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

    fn checkpoint(&mut self, nodes: &[(NodeId, Option<Document>)]) -> Result<(), StoreError> {
        for (node, doc) in nodes {
            write(&mut self.loaded.1, node, doc.as_ref());
        }
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
