//! A store in one file.

mod file;
mod past;

use crate::{
    Bounds, Commit, Committed, JournalRecord, Loaded, MAX_DEFERRED_RECORDS, PastRow, Snapshot,
    Store, StoreError, TRIM_STEP, ValueWrite, check_bodies,
};
use file::{create, explain, guarded, io, open_file};
use kraken_model::{Document, Millis, NodeId};
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The form in which everything is kept. Another one gets another number.
const FORMAT: u64 = 1;

/// How much memory the database may use for pages, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// The name of the number below which every number may have been given to a record, whether or not that
/// became durable.
const RESERVED: &str = "reserved_records";

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CFG: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cfg");
const CHECKPOINT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checkpoint");
/// By number: when, to which node (empty: none), what.
const JOURNAL: TableDefinition<'_, u64, (u64, &str, &[u8])> = TableDefinition::new("journal");
const BY_NODE: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("journal_by_node");
const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");

/// A store in one file, which one process at a time may open.
///
/// After a write failed, the file is closed and opened again, so that the store works once more as
/// soon as its disk does.
pub struct Embedded {
    path: PathBuf,
    /// Nothing while the file could not be opened again.
    database: Option<Database>,
    /// Appended, numbered, and not on the disk yet.
    deferred: Vec<JournalRecord>,
    /// The number of the next record.
    next: u64,
    /// Numbers from here on were never given to a record: the file says so. Those before may have been, by a
    /// process that was killed before what it had appended was durable.
    reserved: u64,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What went wrong in the database, before it is known which file that is.
struct Fault(redb::Error);

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Fault {
    fn damaged(reason: impl ToString) -> Self {
        Self(redb::Error::Corrupted(reason.to_string()))
    }
}

impl Embedded {
    /// Opens the store in a file, which is created when there is none.
    ///
    /// # Errors
    /// When the file cannot be written, is in use, is damaged, or was written in a form that is
    /// not known here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => create(&path)?,
            Err(error) => return Err(io(&path, error)),
        }
        let mut store = Self { path, database: None, deferred: Vec::new(), next: 1, reserved: 1 };
        store.next = store.read(first_unused)?;
        // Until something is written no number is this process's own.
        store.reserved = store.next;
        Ok(store)
    }

    /// The open database; opens it when the last failure has closed it.
    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_file(&self.path)?,
        };
        Ok(self.database.insert(database))
    }

    fn read<T>(&mut self, work: impl FnOnce(&Reader) -> Result<T, Fault>) -> Result<T, StoreError> {
        let path = self.path.clone();
        let database = self.database()?;
        let done = guarded(|| work(&Reader(database.begin_read()?)));
        done.map_err(|fault| explain(&path, fault))
    }

    /// Does something in one transaction, with everything that was appended, and makes it durable.
    fn write<T>(
        &mut self,
        records: &[JournalRecord],
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        check_bodies(records)?;
        self.database()?;
        let path = self.path.clone();
        let next = self.next + records.len() as u64;
        let fresh: Vec<JournalRecord> = (self.next..)
            .zip(records)
            .map(|(seq, record)| JournalRecord { seq, ..record.clone() })
            .collect();
        let Some(database) = &self.database else { unreachable!("opened above") };
        let mut stamp = 0;
        let mut outcome = None;
        let mut reserved = self.reserved;
        let done = guarded(|| {
            let transaction = database.begin_write()?;
            let is_written = write_journal(&transaction, self.deferred.iter().chain(&fresh), next)?;
            if is_written {
                reserved = next + MAX_DEFERRED_RECORDS as u64;
                count_to(&transaction, RESERVED, reserved)?;
            }
            let result = work(&transaction)?;
            stamp = count(&transaction, "writes")?;
            outcome = Some(result);
            transaction.commit()?;
            Ok(())
        });
        if let Err(fault) = done {
            let error = explain(&path, fault);
            // A commit that failed may be on the disk all the same. Only the disk knows.
            self.database = None;
            let Some(stamp) = Some(stamp).filter(|s| *s != 0) else { return Err(error) };
            let written = self
                .read(|tables| tables.number("writes"))
                .map_err(|source| StoreError::Unclear { path, source: Box::new(source) })?;
            if written != stamp {
                return Err(error);
            }
        }
        self.deferred.clear();
        self.next = next;
        self.reserved = reserved;
        // Set whenever the transaction came as far as its stamp.
        outcome.ok_or_else(|| StoreError::Damaged {
            path: self.path.clone(),
            reason: "a write is there that was not made".to_owned(),
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Best effort: whoever needs to know calls `flush`. A store that is closed in order leaves no gap in
        // the numbers.
        if self.reserved != self.next || !self.deferred.is_empty() {
            let next = self.next;
            let _ = self.write(&[], |transaction| count_to(transaction, RESERVED, next));
        }
    }
}

/// The name under which what concerns a node is kept; empty for what concerns all.
fn name_of(row: &PastRow) -> &str {
    row.node.as_ref().map_or("", NodeId::as_str)
}

fn node_of(name: &str) -> Result<Option<NodeId>, Fault> {
    match name {
        "" => Ok(None),
        name => NodeId::new(name).map(Some).map_err(Fault::damaged),
    }
}

/// Sets a number that is kept.
fn count_to(transaction: &WriteTransaction, name: &str, number: u64) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(name, number)?;
    Ok(())
}

/// Adds one to a number that is kept, and gives the sum.
fn count(transaction: &WriteTransaction, name: &str) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let sum = meta.get(name)?.map_or(0, |n| n.value()) + 1;
    meta.insert(name, sum)?;
    Ok(sum)
}

fn write_documents<'a>(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
    documents: impl Iterator<Item = (&'a NodeId, Option<&'a Document>)>,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(table)?;
    for (node, doc) in documents {
        match doc {
            Some(doc) => {
                let bytes = serde_json::to_vec(doc).map_err(Fault::damaged)?;
                table.insert(node.as_str(), bytes.as_slice())?;
            }
            None => {
                table.remove(node.as_str())?;
            }
        }
    }
    Ok(())
}

fn write_values(transaction: &WriteTransaction, values: &[ValueWrite]) -> Result<(), Fault> {
    if values.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(VALUES)?;
    for ValueWrite { namespace, key, value } in values {
        let place = (namespace.as_str(), key.as_str());
        match value {
            Some(value) => table.insert(place, value.as_slice())?,
            None => table.remove(place)?,
        };
    }
    Ok(())
}

/// The first number that was surely never given to a record.
fn first_unused(tables: &Reader) -> Result<u64, Fault> {
    let (next, reserved) = (tables.number("next_record")?, tables.number(RESERVED)?);
    let reserved = match reserved {
        // Written before numbers were reserved, when so many may have been given and lost.
        0 if next > 0 => next + MAX_DEFERRED_RECORDS as u64,
        reserved => reserved,
    };
    Ok(next.max(reserved).max(1))
}

/// Writes records, and says whether there were any.
fn write_journal<'a>(
    transaction: &WriteTransaction,
    records: impl Iterator<Item = &'a JournalRecord>,
    next: u64,
) -> Result<bool, Fault> {
    let mut journal = transaction.open_table(JOURNAL)?;
    let mut by_node = transaction.open_table(BY_NODE)?;
    let mut written = 0;
    for record in records {
        let node = record.node.as_ref().map_or("", NodeId::as_str);
        journal.insert(record.seq, (record.at.0, node, record.body.as_slice()))?;
        by_node.insert((node, record.seq), ())?;
        written += record.weight();
    }
    if written > 0 {
        let mut meta = transaction.open_table(META)?;
        let before = meta.get("journal_written")?.map_or(0, |n| n.value());
        meta.insert("journal_written", before + written)?;
        meta.insert("next_record", next)?;
    }
    Ok(written > 0)
}

/// The tables as they were at one moment.
struct Reader(redb::ReadTransaction);

impl Reader {
    /// A number that is kept; 0 when it is not.
    fn number(&self, name: &str) -> Result<u64, Fault> {
        match self.0.open_table(META) {
            Ok(meta) => Ok(meta.get(name)?.map_or(0, |n| n.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn documents(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
    ) -> Result<Vec<(NodeId, Document)>, Fault> {
        let mut documents = Vec::new();
        for entry in self.0.open_table(table)?.iter()? {
            let (name, bytes) = entry?;
            let node = NodeId::new(name.value()).map_err(Fault::damaged)?;
            let unreadable = |error| Fault::damaged(format!("the document of {node}: {error}"));
            let doc = serde_json::from_slice(bytes.value()).map_err(unreadable)?;
            documents.push((node, doc));
        }
        Ok(documents)
    }

    fn records(
        &self,
        from: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, Fault> {
        let journal = self.0.open_table(JOURNAL)?;
        let mut records = Vec::new();
        match node {
            None => {
                for entry in journal.range(from..)?.take(limit) {
                    let (seq, kept) = entry?;
                    records.push(record(seq.value(), kept.value())?);
                }
            }
            Some(node) => {
                let range = (node.as_str(), from)..=(node.as_str(), u64::MAX);
                for entry in self.0.open_table(BY_NODE)?.range(range)?.take(limit) {
                    let seq = entry?.0.value().1;
                    let missing = || Fault::damaged(format!("record {seq} is missing"));
                    records.push(record(seq, journal.get(seq)?.ok_or_else(missing)?.value())?);
                }
            }
        }
        Ok(records)
    }

    /// The latest records before a number, latest first.
    fn records_before(
        &self,
        before: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, Fault> {
        let journal = self.0.open_table(JOURNAL)?;
        let mut records = Vec::new();
        match node {
            None => {
                for entry in journal.range(..before)?.rev().take(limit) {
                    let (seq, kept) = entry?;
                    records.push(record(seq.value(), kept.value())?);
                }
            }
            Some(node) => {
                let range = (node.as_str(), 0)..(node.as_str(), before);
                for entry in self.0.open_table(BY_NODE)?.range(range)?.rev().take(limit) {
                    let seq = entry?.0.value().1;
                    let missing = || Fault::damaged(format!("record {seq} is missing"));
                    records.push(record(seq, journal.get(seq)?.ok_or_else(missing)?.value())?);
                }
            }
        }
        Ok(records)
    }
}

fn record(seq: u64, (at, node, body): (u64, &str, &[u8])) -> Result<JournalRecord, Fault> {
    Ok(JournalRecord { seq, at: Millis(at), node: node_of(node)?, body: body.to_vec() })
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.read(|tables| {
            let (cfg, checkpoint) = (tables.documents(CFG)?, tables.documents(CHECKPOINT)?);
            let (checkpointed, revision) =
                (tables.number("checkpointed")?, tables.number("revision")?);
            Ok(Loaded { cfg, checkpoint, checkpointed, revision })
        })
    }

    fn open_epoch(&mut self) -> Result<u64, StoreError> {
        self.write(&[], |transaction| count(transaction, "epoch"))
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, StoreError> {
        let first = self.next;
        let revision = self.write(commit.records, |transaction| {
            let documents = commit.cfg.iter().map(|w| (&w.node, w.doc.as_ref()));
            write_documents(transaction, CFG, documents)?;
            write_values(transaction, commit.values)?;
            if commit.cfg.is_empty() {
                let meta = transaction.open_table(META)?;
                return Ok(meta.get("revision")?.map_or(0, |revision| revision.value()));
            }
            count(transaction, "revision")
        })?;
        Ok(Committed { revision, first })
    }

    fn append(&mut self, records: &[JournalRecord]) -> Result<u64, StoreError> {
        check_bodies(records)?;
        let first = self.next;
        let is_reserved = first + records.len() as u64 <= self.reserved;
        if !is_reserved || self.deferred.len() + records.len() > MAX_DEFERRED_RECORDS {
            self.write(records, |_| Ok(()))?;
            return Ok(first);
        }
        for record in records {
            self.deferred.push(JournalRecord { seq: self.next, ..record.clone() });
            self.next += 1;
        }
        Ok(first)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.deferred.is_empty() {
            return Ok(());
        }
        self.write(&[], |_| Ok(()))
    }

    fn journal(
        &mut self,
        from: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let mut records = self.read(|tables| tables.records(from, limit, node))?;
        let wanted =
            |r: &&JournalRecord| r.seq >= from && (node.is_none() || r.node.as_ref() == node);
        let room = limit - records.len();
        records.extend(self.deferred.iter().filter(wanted).take(room).cloned());
        Ok(records)
    }

    fn journal_range(&mut self) -> Result<Range<u64>, StoreError> {
        let first = self.read(|tables| {
            let journal = tables.0.open_table(JOURNAL)?;
            Ok(journal.first()?.map(|(seq, _)| seq.value()))
        })?;
        let first = first.or_else(|| self.deferred.first().map(|r| r.seq));
        Ok(first.unwrap_or(self.next)..self.next)
    }

    fn journal_before(
        &mut self,
        before: u64,
        limit: usize,
        node: Option<&NodeId>,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let wanted =
            |r: &&JournalRecord| r.seq < before && (node.is_none() || r.node.as_ref() == node);
        let deferred = self.deferred.iter().rev().filter(wanted);
        let mut records: Vec<JournalRecord> = deferred.take(limit).cloned().collect();
        let room = limit - records.len();
        records.extend(self.read(|tables| tables.records_before(before, room, node))?);
        records.reverse();
        Ok(records)
    }

    fn trim(&mut self, bounds: &Bounds, now: Millis) -> Result<bool, StoreError> {
        let (kept, written, swept, checkpointed) = self.read(|tables| {
            let number = |name| tables.number(name);
            let (swept, checkpointed) = (number("swept")?, number("checkpointed")?);
            Ok((tables.snapshots()?, number("journal_written")?, swept, checkpointed))
        })?;
        let snapshots = kept.iter().map(|kept| (kept.snapshot, kept.written));
        match bounds.base(snapshots, self.next, written, now, checkpointed) {
            Some(base) if base > swept => {
                self.write(&[], |transaction| past::trim(transaction, base, TRIM_STEP))
            }
            _ => Ok(false),
        }
    }

    fn begin_snapshot(&mut self, at: Millis, is_start: bool) -> Result<u64, StoreError> {
        let seq = self.next;
        self.write(&[], |transaction| past::begin(transaction, seq, at, is_start))?;
        Ok(seq)
    }

    fn write_snapshot(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        rows: &[PastRow],
        is_last: bool,
    ) -> Result<(), StoreError> {
        self.write(&[], |transaction| past::write(transaction, seq, after, rows, is_last))
    }

    fn snapshots(&mut self) -> Result<Vec<Snapshot>, StoreError> {
        self.read(|tables| Ok(tables.snapshots()?.into_iter().map(|kept| kept.snapshot).collect()))
    }

    fn past(
        &mut self,
        seq: u64,
        after: Option<&PastRow>,
        limit: usize,
    ) -> Result<Vec<PastRow>, StoreError> {
        self.read(|tables| tables.past(seq, after, limit))
    }

    fn past_of(&mut self, seq: u64, node: Option<&NodeId>) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|tables| tables.past_of(seq, node))
    }

    fn checkpoint(&mut self, nodes: &[(NodeId, Option<Document>)]) -> Result<(), StoreError> {
        let next = self.next;
        self.write(&[], |transaction| {
            count_to(transaction, "checkpointed", next)?;
            let documents = nodes.iter().map(|(node, doc)| (node, doc.as_ref()));
            write_documents(transaction, CHECKPOINT, documents)
        })
    }

    fn put(&mut self, namespace: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(&[], |transaction| {
            transaction.open_table(VALUES)?.insert((namespace, key), value)?;
            Ok(())
        })
    }

    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|tables| {
            let values = tables.0.open_table(VALUES)?;
            Ok(values.get((namespace, key))?.map(|v| v.value().to_vec()))
        })
    }

    fn delete(&mut self, namespace: &str, key: &str) -> Result<bool, StoreError> {
        self.write(&[], |transaction| {
            Ok(transaction.open_table(VALUES)?.remove((namespace, key))?.is_some())
        })
    }

    fn put_all(&mut self, values: &[ValueWrite]) -> Result<(), StoreError> {
        self.write(&[], |transaction| write_values(transaction, values))
    }

    fn list(&mut self, namespace: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|tables| {
            let mut list = Vec::new();
            for entry in tables.0.open_table(VALUES)?.range((namespace, "")..)? {
                let (key, value) = entry?;
                if key.value().0 != namespace {
                    break;
                }
                list.push((key.value().1.to_owned(), value.value().to_vec()));
            }
            Ok(list)
        })
    }
}
