//! What nodes were: snapshots beside the journal, each the difference to the one before.

use super::{Fault, JOURNAL, META, Reader, count_to, name_of, node_of};
use crate::{PastRow, Snapshot};
use kraken_model::{Millis, NodeId};
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};
use std::collections::BTreeMap;

/// By node (empty: what concerns all) and number of the snapshot: what was so from then on; empty
/// when there was nothing. A snapshot holds what differs from the one before.
const PAST: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("past");

/// By number of the first record after it: when, whether it is whole, whether it is of a start, and
/// how many bytes of journal had been written.
const SNAPSHOTS: TableDefinition<'_, u64, (u64, bool, bool, u64)> =
    TableDefinition::new("snapshots");

/// A snapshot as it is kept.
pub(super) struct Kept {
    pub(super) snapshot: Snapshot,
    /// How many bytes of journal had been written before it.
    pub(super) written: u64,
}

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(PAST)?;
    transaction.open_table(SNAPSHOTS)?;
    Ok(())
}

pub(super) fn begin(
    transaction: &WriteTransaction,
    seq: u64,
    at: Millis,
    is_start: bool,
) -> Result<(), Fault> {
    let written = transaction.open_table(META)?.get("journal_written")?.map_or(0, |n| n.value());
    transaction.open_table(SNAPSHOTS)?.insert(seq, (at.0, false, is_start, written))?;
    Ok(())
}

/// Writes the rows of the nodes after one name up to the last of them, or to the end.
pub(super) fn write(
    transaction: &WriteTransaction,
    seq: u64,
    after: Option<&PastRow>,
    rows: &[PastRow],
    is_last: bool,
) -> Result<(), Fault> {
    let mut past = transaction.open_table(PAST)?;
    let from = after.map_or(("", 0), |row| (name_of(row), u64::MAX));
    let until = rows.last().filter(|_| !is_last).map(name_of);
    let mut latest: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in past.range(from..)? {
        let (key, bytes) = entry?;
        let (name, of) = key.value();
        if until.is_some_and(|until| name > until) {
            break;
        }
        if of <= seq {
            latest.insert(name.to_owned(), bytes.value().to_vec());
        }
    }
    for row in rows {
        if latest.remove(name_of(row)).as_ref() != Some(&row.body) {
            past.insert((name_of(row), seq), row.body.as_slice())?;
        }
    }
    for (gone, _) in latest.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        past.insert((gone.as_str(), seq), [].as_slice())?;
    }
    if is_last {
        let mut snapshots = transaction.open_table(SNAPSHOTS)?;
        let kept = snapshots.get(seq)?.map(|kept| kept.value());
        let missing = || Fault::damaged(format!("snapshot {seq} was never begun"));
        let (at, _, is_start, written) = kept.ok_or_else(missing)?;
        snapshots.insert(seq, (at, true, is_start, written))?;
    }
    Ok(())
}

impl Reader {
    /// Every snapshot, oldest first.
    pub(super) fn snapshots(&self) -> Result<Vec<Kept>, Fault> {
        let table = match self.0.open_table(SNAPSHOTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut snapshots = Vec::new();
        for entry in table.iter()? {
            let (seq, kept) = entry?;
            let (at, is_whole, is_start, written) = kept.value();
            let snapshot = Snapshot { seq: seq.value(), at: Millis(at), is_whole, is_start };
            snapshots.push(Kept { snapshot, written });
        }
        Ok(snapshots)
    }

    /// The rows as of a snapshot, in the order of names, after one of them.
    pub(super) fn past(
        &self,
        seq: u64,
        after: Option<&PastRow>,
        limit: usize,
    ) -> Result<Vec<PastRow>, Fault> {
        let mut rows: Vec<PastRow> = Vec::new();
        let mut current: Option<(String, Vec<u8>)> = None;
        let from = after.map_or(("", 0), |row| (name_of(row), u64::MAX));
        let mut push = |current: Option<(String, Vec<u8>)>| -> Result<bool, Fault> {
            if let Some((name, body)) = current.filter(|(_, body)| !body.is_empty()) {
                rows.push(PastRow { node: node_of(&name)?, body });
            }
            Ok(rows.len() >= limit)
        };
        for entry in self.0.open_table(PAST)?.range(from..)? {
            let (key, bytes) = entry?;
            let (name, of) = key.value();
            if current.as_ref().is_some_and(|(current, _)| current != name) && push(current.take())?
            {
                return Ok(rows);
            }
            if of <= seq {
                current = Some((name.to_owned(), bytes.value().to_vec()));
            }
        }
        push(current)?;
        Ok(rows)
    }

    /// The row of one node (or of what concerns all) as of a snapshot.
    pub(super) fn past_of(
        &self,
        seq: u64,
        node: Option<&NodeId>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let name = node.map_or("", NodeId::as_str);
        let past = self.0.open_table(PAST)?;
        let latest = past.range((name, 0)..=(name, seq))?.next_back().transpose()?;
        Ok(latest.map(|(_, bytes)| bytes.value().to_vec()).filter(|body| !body.is_empty()))
    }
}

/// Takes the oldest records away, up to `base`, which is the oldest snapshot from then on; then
/// everything that only earlier snapshots needed. `steps` bounds what is done; says whether there
/// is more.
pub(super) fn trim(transaction: &WriteTransaction, base: u64, steps: usize) -> Result<bool, Fault> {
    // First of all: nobody may build on a snapshot whose records are going.
    transaction.open_table(SNAPSHOTS)?.retain(|seq, _| seq >= base)?;
    let mut journal = transaction.open_table(JOURNAL)?;
    let mut by_node = transaction.open_table(super::BY_NODE)?;
    let first = journal.first()?.map_or(base, |(seq, _)| seq.value());
    let until = base.min(first.saturating_add(steps as u64));
    for seq in first..until {
        if let Some(old) = journal.remove(seq)? {
            by_node.remove((old.value().1, seq))?;
        }
    }
    if until < base {
        return Ok(true);
    }
    sweep(transaction, base, steps)
}

/// Takes rows away that are older than what the snapshot `base` needs. Goes on where the last call
/// has ended: that is kept under the name of the node.
fn sweep(transaction: &WriteTransaction, base: u64, steps: usize) -> Result<bool, Fault> {
    let mut past = transaction.open_table(PAST)?;
    let mut marks = transaction.open_table(super::VALUES)?;
    let from = marks.get((SWEEP, ""))?.map(|v| String::from_utf8_lossy(v.value()).into_owned());
    let from = from.unwrap_or_default();
    let mut spent: Vec<(String, u64)> = Vec::new();
    let mut latest: Option<(String, u64, bool)> = None;
    let mut stopped = None;
    for (seen, entry) in past.range((from.as_str(), 0)..)?.enumerate() {
        let (key, bytes) = entry?;
        let (name, seq) = key.value();
        if latest.as_ref().is_none_or(|(of, ..)| of != name) {
            // Nothing need be said of a node that was not there at the oldest snapshot.
            spent.extend(latest.take().filter(|(.., is_gone)| *is_gone).map(|(n, s, _)| (n, s)));
            if seen >= steps {
                stopped = Some(name.to_owned());
                break;
            }
        }
        if seq <= base {
            let row = (name.to_owned(), seq, bytes.value().is_empty());
            spent.extend(latest.replace(row).filter(|(of, ..)| of == name).map(|(n, s, _)| (n, s)));
        }
    }
    spent.extend(latest.filter(|(.., is_gone)| *is_gone).map(|(n, s, _)| (n, s)));
    for (name, seq) in &spent {
        past.remove((name.as_str(), *seq))?;
    }
    match &stopped {
        Some(name) => drop(marks.insert((SWEEP, ""), name.as_bytes())?),
        None => {
            marks.remove((SWEEP, ""))?;
            count_to(transaction, "swept", base)?;
        }
    }
    Ok(stopped.is_some())
}

/// Where it is kept how far a sweep has come; no namespace of a caller's begins so.
const SWEEP: &str = "\u{0}sweep";
