//! What nodes were at some time, from snapshots and the journal since.

use crate::journal;
use crate::keeper::Keeper;
use crate::views::View;
use kraken_engine::{Entry, Mark, MarkKind, Marks, What};
use kraken_model::{Document, Millis, NodeId};
use kraken_store::{Loaded, PastRow, Snapshot, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many rows or records are read or written at a time: the store is for others in between.
const PAGE: usize = 2000;

/// Up to how many nodes are looked up one by one rather than with all others.
const FEW: usize = 1000;

/// How many times reading begins anew because the journal was trimmed meanwhile.
const TRIES: usize = 3;

/// What a node was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What it should be.
    pub cfg: Document,
    /// What was known of it.
    pub dsc: Document,
    /// What operators said of it.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
}

/// What all nodes, or those that were asked for, were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Then {
    /// The nodes that there were.
    pub nodes: BTreeMap<NodeId, Past>,
    /// The freeze of everything.
    pub freeze: Option<Mark>,
}

/// What nodes were cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The journal does not reach back so far.
    #[error("what was at {} is not kept: {}", at.rfc3339(), reach(*since))]
    NotKept {
        /// When that was.
        at: Millis,
        /// How far back it reaches.
        since: Option<Millis>,
    },
    /// A run of the application began, and what was so then is not written down, or not yet.
    #[error(
        "what was at {} is not known: it was not written down when the application started at {}, \
         or still is being; ask for an earlier time, or again in a moment",
        at.rfc3339(), start.rfc3339()
    )]
    NotWritten {
        /// When that was.
        at: Millis,
        /// When it started.
        start: Millis,
    },
    /// The journal cannot be read.
    #[error("cannot read the journal")]
    Store(#[from] StoreError),
}

fn reach(since: Option<Millis>) -> String {
    match since {
        Some(since) => format!("the journal reaches back to {}", since.rfc3339()),
        None => "the journal is empty".to_owned(),
    }
}

/// What concerns all nodes, in a snapshot.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Everything {
    freeze: Option<Mark>,
}

/// Everything that is so at one moment, on its way into a snapshot.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) at: Millis,
    pub(crate) is_start: bool,
    pub(crate) nodes: BTreeMap<NodeId, View>,
    pub(crate) freeze: Option<Mark>,
}

impl Moment {
    /// Writes all of it as the snapshot `seq`.
    pub(crate) async fn write(
        self: Arc<Self>,
        keeper: &Keeper,
        seq: u64,
    ) -> Result<(), StoreError> {
        let everything = Everything { freeze: self.freeze.clone() };
        let mut rows = vec![row(None, &everything)?];
        let mut after: Option<PastRow> = None;
        let mut nodes = self.nodes.iter();
        loop {
            for (node, view) in nodes.by_ref().take(PAGE) {
                let marks = view.marks.as_deref().cloned().unwrap_or_default();
                let past = Past { cfg: view.cfg.clone(), dsc: view.dsc.clone(), marks };
                rows.push(row(Some(node), &past)?);
            }
            let is_last = nodes.len() == 0;
            let (part, previous) = (std::mem::take(&mut rows), after.take());
            let write = move |store: &mut dyn Store| {
                store.write_snapshot(seq, previous.as_ref(), &part, is_last)?;
                Ok(part.into_iter().next_back())
            };
            after = keeper.with(write).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

fn row(node: Option<&NodeId>, body: &impl Serialize) -> Result<PastRow, StoreError> {
    let unwritable = |error: serde_json::Error| StoreError::Damaged {
        path: "the journal".into(),
        reason: error.to_string(),
    };
    let body = serde_json::to_vec(body).map_err(unwritable)?;
    Ok(PastRow { node: node.cloned(), body })
}

impl Then {
    /// What an entry changes.
    pub fn apply(&mut self, entry: &Entry) {
        let made = |terms: &kraken_engine::Terms| {
            Some(Mark { by: Arc::clone(&entry.by), terms: terms.clone() })
        };
        let Some(node) = &entry.node else {
            match &entry.what {
                What::Frozen { terms } => self.freeze = made(terms),
                What::Thawed => self.freeze = None,
                _ => {}
            }
            return;
        };
        match &entry.what {
            What::Configured { changes } => {
                self.nodes.entry(node.clone()).or_default().cfg.apply(changes);
                return;
            }
            What::Removed => {
                self.nodes.remove(node);
                return;
            }
            _ => {}
        }
        let Some(past) = self.nodes.get_mut(node) else { return };
        learn(&mut past.dsc, &entry.what);
        match &entry.what {
            What::Held { terms } => past.marks.set(MarkKind::Hold, made(terms)),
            What::Released => past.marks.set(MarkKind::Hold, None),
            What::Frozen { terms } => past.marks.set(MarkKind::Freeze, made(terms)),
            What::Thawed => past.marks.set(MarkKind::Freeze, None),
            What::Busy { terms } => past.marks.set(MarkKind::Busy, made(terms)),
            What::Free => past.marks.set(MarkKind::Busy, None),
            What::RestartAsked { terms } => past.marks.set(MarkKind::Restart, made(terms)),
            What::Restarted | What::RestartWithdrawn => past.marks.set(MarkKind::Restart, None),
            _ => {}
        }
    }
}

/// What was known of a node, after something has happened to it.
fn learn(dsc: &mut Document, what: &What) {
    match what {
        What::Discovered { changes } => drop(dsc.apply(changes)),
        What::Forgotten { variables } => {
            variables.iter().for_each(|path| drop(dsc.remove(path.as_str())));
        }
        What::Removed => *dsc = Document::new(),
        _ => {}
    }
}

/// What was kept, with the checkpoint as it would have been at the last moment: the journal says
/// what came after it. A switch that was seen just before a crash is not made again.
pub(crate) fn last_known(store: &mut dyn Store) -> Result<Loaded, StoreError> {
    let mut loaded = store.load()?;
    let mut known: Option<BTreeMap<NodeId, Document>> = None;
    loop {
        let records = store.journal(loaded.checkpointed, PAGE, None)?;
        let Some(last) = records.last() else { break };
        loaded.checkpointed = last.seq + 1;
        let known = known
            .get_or_insert_with(|| std::mem::take(&mut loaded.checkpoint).into_iter().collect());
        for record in &records {
            if let (Some(node), Some(entry)) = (&record.node, journal::entry(record)) {
                learn(known.entry(node.clone()).or_default(), &entry.what);
            }
        }
    }
    loaded.checkpoint.extend(known.into_iter().flatten());
    Ok(loaded)
}

/// The snapshot from which what was at a time can be worked out.
fn base(snapshots: &[Snapshot], at: Millis) -> Result<Snapshot, PastError> {
    for snapshot in snapshots.iter().rev().filter(|snapshot| snapshot.at <= at) {
        if snapshot.is_whole {
            return Ok(*snapshot);
        }
        if snapshot.is_start {
            return Err(PastError::NotWritten { at, start: snapshot.at });
        }
    }
    let since = snapshots.iter().find(|snapshot| snapshot.is_whole).map(|snapshot| snapshot.at);
    Err(PastError::NotKept { at, since })
}

/// What nodes were at a time; all, or those of a set that there were.
pub(crate) async fn at(
    keeper: &Keeper,
    at: Millis,
    nodes: Option<BTreeSet<NodeId>>,
) -> Result<Then, PastError> {
    let mut snapshots = keeper.with(|store| store.snapshots()).await?;
    for _ in 0..TRIES {
        let base = base(&snapshots, at)?;
        let mut then = read_snapshot(keeper, base.seq, nodes.as_ref()).await?;
        replay(keeper, base.seq, at, nodes.as_ref(), &mut then).await?;
        // Trimming takes a snapshot away before anything that it needs.
        snapshots = keeper.with(|store| store.snapshots()).await?;
        if snapshots.contains(&base) {
            return Ok(then);
        }
    }
    Err(PastError::NotKept { at, since: snapshots.first().map(|snapshot| snapshot.at) })
}

async fn read_snapshot(
    keeper: &Keeper,
    seq: u64,
    nodes: Option<&BTreeSet<NodeId>>,
) -> Result<Then, PastError> {
    let everything = keeper.with(move |store| store.past_of(seq, None)).await?;
    let everything: Everything = everything.and_then(|body| parse(&body)).unwrap_or_default();
    let mut then = Then { nodes: BTreeMap::new(), freeze: everything.freeze };
    let mut keep = |row: &PastRow| {
        let node = row.node.as_ref().filter(|node| nodes.is_none_or(|set| set.contains(*node)));
        if let Some((node, past)) = node.and_then(|node| Some((node, parse(&row.body)?))) {
            then.nodes.insert(node.clone(), past);
        }
    };
    if let Some(few) = nodes.filter(|nodes| nodes.len() <= FEW) {
        let few: Vec<NodeId> = few.iter().cloned().collect();
        let read = move |store: &mut dyn Store| {
            let row = |node: NodeId| {
                let body = store.past_of(seq, Some(&node))?;
                Ok(body.map(|body| PastRow { node: Some(node), body }))
            };
            few.into_iter().map(row).collect::<Result<Vec<_>, StoreError>>()
        };
        keeper.with(read).await?.iter().flatten().for_each(&mut keep);
        return Ok(then);
    }
    let mut after: Option<PastRow> = None;
    loop {
        let rows = keeper.with(move |store| store.past(seq, after.as_ref(), PAGE)).await?;
        rows.iter().for_each(&mut keep);
        after = rows.into_iter().next_back();
        if after.is_none() {
            return Ok(then);
        }
    }
}

async fn replay(
    keeper: &Keeper,
    mut from: u64,
    at: Millis,
    nodes: Option<&BTreeSet<NodeId>>,
    then: &mut Then,
) -> Result<(), PastError> {
    loop {
        let records = keeper.with(move |store| store.journal(from, PAGE, None)).await?;
        let Some(last) = records.last() else { return Ok(()) };
        from = last.seq + 1;
        for record in &records {
            if record.at > at {
                return Ok(());
            }
            let is_wanted = match (&record.node, nodes) {
                (Some(node), Some(set)) => set.contains(node),
                _ => true,
            };
            if let Some(entry) = is_wanted.then(|| journal::entry(record)).flatten() {
                then.apply(&entry);
            }
        }
    }
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<T> {
    let parsed = serde_json::from_slice(body);
    parsed.inspect_err(|error| tracing::warn!(%error, "unreadable row of a snapshot")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn snapshot(seq: u64, is_whole: bool, is_start: bool) -> Snapshot {
        Snapshot { seq, at: Millis(seq * 10), is_whole, is_start }
    }

    #[test]
    fn a_time_is_told_from_the_last_whole_snapshot_of_its_run_or_not_at_all() {
        let kept = [
            snapshot(1, true, true),
            snapshot(5, true, false),
            snapshot(7, false, false),
            snapshot(9, false, true),
            snapshot(12, true, false),
        ];
        let from = |at| base(&kept, Millis(at)).map(|base| base.seq);
        assert_eq!([10, 49, 50, 89].map(|at| from(at).unwrap()), [1, 1, 5, 5]);
        assert_eq!(from(500).unwrap(), 12);
        let unwritten = from(100).unwrap_err();
        assert!(
            matches!(unwritten, PastError::NotWritten { start: Millis(90), .. }),
            "{unwritten}"
        );
        let before = from(9).unwrap_err();
        assert!(matches!(before, PastError::NotKept { since: Some(Millis(10)), .. }), "{before}");
        assert!(base(&[], Millis(1)).unwrap_err().to_string().contains("empty"));
    }
}
