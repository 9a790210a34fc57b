//! From the engine's entries to durable records and to those who watch.

mod writer;

use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::past::Moment;
use kraken_engine::Entry;
use kraken_model::{Document, NodeId};
use kraken_store::{CfgWrite, JournalRecord, Store, StoreError, ValueWrite};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use writer::Writer;

/// How many batches of entries wait to be written before the engine is made to wait too.
const QUEUE: usize = 64;

/// How many entries are handed over at once, at most.
pub(crate) const HAND_OVER: usize = 256;

/// How many events a slow watcher may be behind before it has to read from the store.
const WATCH_BACKLOG: usize = 4096;

/// How long whoever depends on it waits for what is on its way into the journal, at most.
pub(crate) const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// One thing that happened, with its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: greater than that of any event before, and never that of another one. After a crash there may
    /// be a gap.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What goes into the journal, in the order in which it happened.
#[derive(Debug)]
enum Item {
    Entries(Vec<Entry>),
    /// What nodes should be, with what belongs to it and what is to be said of it.
    Commit(Box<Commit>),
    /// What everything is between two entries.
    Moment(Moment),
    /// What is known of nodes after all entries so far.
    Checkpoint(Vec<(NodeId, Option<Document>)>),
    /// Somebody wants to know when everything before is written.
    Written(oneshot::Sender<()>),
}

/// What is written in one transaction: all of it or nothing.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) cfg: Vec<CfgWrite>,
    pub(crate) values: Vec<ValueWrite>,
    pub(crate) entries: Vec<Entry>,
    /// Takes the revision, once it is durable.
    pub(crate) reply: oneshot::Sender<Result<u64, StoreError>>,
}

/// Where the engine's entries go. There is one, with whoever turns the engine: the journal ends
/// when the engine does.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: mpsc::Sender<Item>,
    wanted: Arc<Notify>,
}

/// Where events are watched, once they are written.
pub(crate) type Events = broadcast::Sender<Arc<Event>>;

impl Journal {
    /// A journal, where it can be watched, and the task that writes it until it is dropped.
    pub(crate) fn start(keeper: Keeper, clock: Clock) -> (Self, Events, JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let events = Events::new(WATCH_BACKLOG);
        let wanted = Arc::new(Notify::new());
        let writer = Writer::new(keeper, clock, events.clone(), Arc::clone(&wanted));
        let task = tokio::spawn(writer.run(receiver));
        (Self { queue, wanted }, events, task)
    }

    /// Takes entries; waits when the store is far behind.
    pub(crate) async fn append(&self, entries: Vec<Entry>) {
        self.send(Item::Entries(entries)).await;
    }

    /// Writes this after all entries so far, and gives the revision; nothing when the journal has ended.
    pub(crate) async fn commit(
        &self,
        cfg: Vec<CfgWrite>,
        values: Vec<ValueWrite>,
        entries: Vec<Entry>,
    ) -> Option<Result<u64, StoreError>> {
        let (reply, written) = oneshot::channel();
        self.send(Item::Commit(Box::new(Commit { cfg, values, entries, reply }))).await;
        written.await.ok()
    }

    /// Takes what everything is, after all entries so far.
    pub(crate) async fn snapshot(&self, moment: Moment) {
        self.send(Item::Moment(moment)).await;
    }

    /// Takes what is known by now of the nodes of which something else is since the last time.
    pub(crate) async fn checkpoint(&self, nodes: Vec<(NodeId, Option<Document>)>) {
        self.send(Item::Checkpoint(nodes)).await;
    }

    /// Tells when all entries so far are written.
    pub(crate) async fn tell_written(&self, reply: oneshot::Sender<()>) {
        self.send(Item::Written(reply)).await;
    }

    /// Waits until the journal wants to know what everything is. Cancel-safe.
    pub(crate) async fn snapshot_wanted(&self) {
        self.wanted.notified().await;
    }

    async fn send(&self, item: Item) {
        if self.queue.send(item).await.is_err() {
            tracing::error!("the journal has ended before the engine");
        }
    }
}

fn record(entry: &Entry) -> JournalRecord {
    let body = serde_json::to_vec(entry).unwrap_or_else(|error| {
        tracing::error!(%error, "an entry cannot be written as JSON");
        Vec::new()
    });
    JournalRecord { seq: 0, at: entry.at, node: entry.node.clone(), body }
}

/// What a record says.
pub(crate) fn entry(record: &JournalRecord) -> Option<Entry> {
    serde_json::from_slice(&record.body)
        .inspect_err(|error| tracing::warn!(%error, seq = record.seq, "unreadable entry"))
        .ok()
}

fn events(records: &[JournalRecord]) -> Vec<Event> {
    let event = |record: &JournalRecord| Some(Event { seq: record.seq, entry: entry(record)? });
    records.iter().filter_map(event).collect()
}

/// Events from the store: those of `node`, or all, from number `from` on, `limit` at most.
pub(crate) async fn read(
    keeper: &Keeper,
    from: u64,
    limit: usize,
    node: Option<NodeId>,
) -> Result<Vec<Event>, StoreError> {
    let records = keeper.with(move |store| store.journal(from, limit, node.as_ref())).await?;
    Ok(events(&records))
}

/// The latest events before number `before`, oldest first, `limit` at most.
pub(crate) async fn read_before(
    keeper: &Keeper,
    before: u64,
    limit: usize,
    node: Option<NodeId>,
) -> Result<Vec<Event>, StoreError> {
    let read = move |store: &mut dyn Store| store.journal_before(before, limit, node.as_ref());
    Ok(events(&keeper.with(read).await?))
}
