//! From the engine's entries to durable records and to those who watch.

use crate::keeper::Keeper;
use kraken_engine::Entry;
use kraken_model::NodeId;
use kraken_store::JournalRecord;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// How many entries wait to be written before the engine is made to wait too.
const QUEUE: usize = 8192;

/// How many events a slow watcher may be behind before it has to read from the store.
const WATCH_BACKLOG: usize = 4096;

/// How many entries are written at once.
const BATCH: usize = 2048;

/// After how long without a further entry what was written is made durable.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// How long to wait before a store that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One thing that happened, with its place in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its number: one more than that of the event before.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Where the engine's entries go. There is one, with whoever turns the engine: the journal ends
/// when the engine does.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: mpsc::Sender<Entry>,
}

/// Where events are watched, once they are written.
pub(crate) type Events = broadcast::Sender<Arc<Event>>;

impl Journal {
    /// A journal, where it can be watched, and the task that writes it until it is dropped.
    pub(crate) fn start(keeper: Keeper) -> (Self, Events, tokio::task::JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let events = Events::new(WATCH_BACKLOG);
        let task = tokio::spawn(write(keeper, receiver, events.clone()));
        (Self { queue }, events, task)
    }

    /// Takes an entry; waits when the store is far behind.
    pub(crate) async fn append(&self, entry: Entry) {
        if self.queue.send(entry).await.is_err() {
            tracing::error!("the journal has ended before the engine");
        }
    }
}

async fn write(
    keeper: Keeper,
    mut receiver: mpsc::Receiver<Entry>,
    events: broadcast::Sender<Arc<Event>>,
) {
    let mut batch = Vec::new();
    let mut flushed = true;
    loop {
        let received = receiver.recv_many(&mut batch, BATCH);
        // Entries that nothing followed for a moment are made durable: a kill loses a moment.
        let patience = if flushed { Duration::MAX } else { FLUSH_AFTER };
        match tokio::time::timeout(patience, received).await {
            Ok(0) => break,
            Ok(_) => flushed = false,
            Err(_) => {
                flushed = flush(&keeper).await;
                continue;
            }
        }
        let entries = std::mem::take(&mut batch);
        let records: Arc<[JournalRecord]> = entries.iter().map(record).collect();
        // Entries wait, and after them the engine, rather than be lost: what a person is told was
        // done must be found again.
        let first = loop {
            let records = Arc::clone(&records);
            match keeper.with(move |store| store.append(&records)).await {
                Ok(first) => break first,
                Err(error) => {
                    tracing::error!(%error, "cannot write the journal; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        for (seq, entry) in (first..).zip(entries) {
            // Nobody may be watching.
            let _ = events.send(Arc::new(Event { seq, entry }));
        }
    }
    flush(&keeper).await;
}

async fn flush(keeper: &Keeper) -> bool {
    let flushed = keeper.with(|store| store.flush()).await;
    flushed.inspect_err(|error| tracing::error!(%error, "cannot flush the journal")).is_ok()
}

fn record(entry: &Entry) -> JournalRecord {
    let body = serde_json::to_vec(entry).unwrap_or_else(|error| {
        tracing::error!(%error, "an entry cannot be written as JSON");
        Vec::new()
    });
    JournalRecord { seq: 0, at: entry.at, node: entry.node.clone(), body }
}

/// Events from the store: those of `node`, or all, from number `from` on, `limit` at most.
pub(crate) async fn read(
    keeper: &Keeper,
    from: u64,
    limit: usize,
    node: Option<NodeId>,
) -> Result<Vec<Event>, kraken_store::StoreError> {
    let records = keeper.with(move |store| store.journal(from, limit, node.as_ref())).await?;
    let parse = |record: JournalRecord| {
        let entry = serde_json::from_slice(&record.body)
            .inspect_err(|error| tracing::warn!(%error, seq = record.seq, "unreadable entry"))
            .ok()?;
        Some(Event { seq: record.seq, entry })
    };
    Ok(records.into_iter().filter_map(parse).collect())
}

/// The latest events, oldest first, `limit` at most.
pub(crate) async fn latest(
    keeper: &Keeper,
    limit: usize,
) -> Result<Vec<Event>, kraken_store::StoreError> {
    let range = keeper.with(|store| store.journal_range()).await?;
    read(keeper, range.end.saturating_sub(limit as u64).max(range.start), limit, None).await
}
