//! From the engine's entries to durable records and to those who watch.

use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::past::Moment;
use kraken_engine::Entry;
use kraken_model::{Document, Millis, NodeId};
use kraken_store::{Bounds, JournalRecord, Store, StoreError, TRIM_STEP};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// How many batches of entries wait to be written before the engine is made to wait too.
const QUEUE: usize = 64;

/// How many entries are handed over at once, at most.
pub(crate) const HAND_OVER: usize = 256;

/// How many events a slow watcher may be behind before it has to read from the store.
const WATCH_BACKLOG: usize = 4096;

/// How many batches are written at once.
const BATCH: usize = 8;

/// How often, at most, what was written is made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// How long whoever depends on it waits for what is on its way into the journal, at most.
pub(crate) const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait before a store that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often an idle journal is looked at for what has become too old.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// How many times a snapshot is written anew before the next one has to do.
const SNAPSHOT_TRIES: usize = 10;

/// One thing that happened, with its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: one more than that of the event before.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What goes into the journal, in the order in which it happened.
#[derive(Debug)]
enum Item {
    Entries(Vec<Entry>),
    /// What everything is between two entries.
    Moment(Moment),
    /// What is known of nodes after all entries so far.
    Checkpoint(Vec<(NodeId, Option<Document>)>),
    /// Somebody wants to know when everything before is written.
    Written(oneshot::Sender<()>),
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
        let writer = Writer {
            keeper,
            clock,
            events: events.clone(),
            wanted: Arc::clone(&wanted),
            is_flushed: true,
            flushed_at: Instant::now(),
            unkept: BTreeMap::new(),
            is_trimming: true,
            records_since_trim: 0,
            pace: Pace::default(),
            snapshots: JoinSet::new(),
        };
        let task = tokio::spawn(writer.run(receiver));
        (Self { queue, wanted }, events, task)
    }

    /// Takes entries; waits when the store is far behind.
    pub(crate) async fn append(&self, entries: Vec<Entry>) {
        self.send(Item::Entries(entries)).await;
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

/// When the next snapshot is due: often enough that trimming to one leaves little too much, and
/// seldom enough that a large fleet is not written down again and again.
#[derive(Debug, Default)]
struct Pace {
    records: u64,
    bytes: u64,
    /// When the last one was.
    at: Millis,
    /// How many nodes there were.
    nodes: u64,
    /// One was asked for, or is being written.
    is_pending: bool,
}

impl Pace {
    fn is_due(&self, bounds: &Bounds, now: Millis) -> bool {
        if self.is_pending || self.records == 0 {
            return false;
        }
        let enough = (bounds.records / 8).max((2 * self.nodes).min(bounds.records / 2));
        self.records >= enough
            || self.bytes >= bounds.bytes / 8
            || now.since(self.at) >= bounds.age / 8
    }
}

/// The task that writes the journal.
struct Writer {
    keeper: Keeper,
    clock: Clock,
    events: Events,
    wanted: Arc<Notify>,
    is_flushed: bool,
    /// When something was last made durable.
    flushed_at: Instant,
    /// What is known of nodes and could not be kept yet.
    unkept: BTreeMap<NodeId, Option<Document>>,
    /// There may be more to take away.
    is_trimming: bool,
    records_since_trim: usize,
    pace: Pace,
    /// Snapshots that are being written: one at most, but for that of a start.
    snapshots: JoinSet<()>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        loop {
            // The first entries after a quiet time are made durable at once, and then ever so often: a
            // kill loses a moment.
            let patience = match (self.is_flushed, self.is_trimming) {
                (false, _) => FLUSH_EVERY.saturating_sub(self.flushed_at.elapsed()),
                (true, true) => Duration::ZERO,
                (true, false) => TRIM_EVERY,
            };
            tokio::select! {
                biased;
                // Nothing is received when another arm is taken.
                received = receiver.recv_many(&mut batch, BATCH), if !self.is_flush_due() => match received {
                    0 => break,
                    _ => self.take(std::mem::take(&mut batch)).await,
                },
                Some(_) = self.snapshots.join_next() => {
                    self.pace.is_pending = false;
                    // What lies before an earlier one may now be spared.
                    self.trim().await;
                }
                () = tokio::time::sleep(patience) => match (self.is_flushed, self.is_trimming) {
                    (false, _) => self.flush().await,
                    (true, true) => self.trim().await,
                    (true, false) => self.is_trimming = true,
                },
            }
            if self.pace.is_due(&self.keeper.bounds(), self.clock.now()) {
                self.pace.is_pending = true;
                self.wanted.notify_one();
            }
        }
        self.flush().await;
        while self.snapshots.join_next().await.is_some() {}
    }

    async fn take(&mut self, items: Vec<Item>) {
        let mut entries = Vec::new();
        for item in items {
            match item {
                Item::Entries(more) => entries.extend(more),
                Item::Moment(moment) => {
                    self.write(std::mem::take(&mut entries)).await;
                    self.snapshot(moment).await;
                }
                Item::Checkpoint(nodes) => {
                    self.write(std::mem::take(&mut entries)).await;
                    self.checkpoint(nodes).await;
                }
                Item::Written(reply) => {
                    self.write(std::mem::take(&mut entries)).await;
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
            }
        }
        self.write(entries).await;
        if self.records_since_trim >= TRIM_STEP {
            self.trim().await;
        }
    }

    async fn write(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let records: Arc<[JournalRecord]> = entries.iter().map(record).collect();
        self.pace.records += records.len() as u64;
        self.pace.bytes += records.iter().map(|record| record.body.len() as u64).sum::<u64>();
        self.records_since_trim += records.len();
        self.is_flushed = false;
        // Entries wait, and after them the engine, rather than be lost: what a person is told was
        // done must be found again.
        let write = || {
            let records = Arc::clone(&records);
            self.keeper.with(move |store| store.append(&records))
        };
        let first = until_done("write the journal", write).await;
        if self.events.receiver_count() == 0 {
            return;
        }
        for (seq, entry) in (first..).zip(entries) {
            // Whoever was watching may have gone.
            let _ = self.events.send(Arc::new(Event { seq, entry }));
        }
    }

    /// Begins a snapshot, and has it written while the journal goes on.
    async fn snapshot(&mut self, moment: Moment) {
        let (at, is_start) = (moment.at, moment.is_start);
        let begin = || self.keeper.with(move |store| store.begin_snapshot(at, is_start));
        let seq = until_done("begin a snapshot", begin).await;
        let nodes = moment.nodes.len() as u64;
        self.pace = Pace { records: 0, bytes: 0, at, nodes, is_pending: true };
        let (keeper, moment) = (self.keeper.clone(), Arc::new(moment));
        self.snapshots.spawn(async move {
            for _ in 0..SNAPSHOT_TRIES {
                match Arc::clone(&moment).write(&keeper, seq).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, "cannot write a snapshot"),
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// Keeps what is known of nodes, so that the next start knows which were running without reading far
    /// back. What cannot be kept is tried again with the next: until then the entries say it.
    async fn checkpoint(&mut self, nodes: Vec<(NodeId, Option<Document>)>) {
        self.unkept.extend(nodes);
        let nodes: Vec<_> = std::mem::take(&mut self.unkept).into_iter().collect();
        let keep = move |store: &mut dyn Store| Ok((store.checkpoint(&nodes), nodes));
        match self.keeper.with(keep).await {
            Ok((Ok(()), _)) => (self.is_flushed, self.flushed_at) = (true, Instant::now()),
            Ok((Err(error), nodes)) => {
                tracing::error!(%error, "cannot checkpoint what was discovered");
                self.unkept.extend(nodes);
            }
            Err(error) => tracing::error!(%error, "cannot checkpoint what was discovered"),
        }
    }

    fn is_flush_due(&self) -> bool {
        !self.is_flushed && self.flushed_at.elapsed() >= FLUSH_EVERY
    }

    async fn flush(&mut self) {
        let flushed = self.keeper.with(|store| store.flush()).await;
        self.is_flushed = flushed
            .inspect_err(|error| tracing::error!(%error, "cannot flush the journal"))
            .is_ok();
        // A disk that refuses is not asked more often than one that does not.
        self.flushed_at = Instant::now();
    }

    async fn trim(&mut self) {
        self.records_since_trim = 0;
        let (bounds, now) = (self.keeper.bounds(), self.clock.now());
        let trimmed = self.keeper.with(move |store| store.trim(&bounds, now)).await;
        let trimmed =
            trimmed.inspect_err(|error| tracing::error!(%error, "cannot trim the journal"));
        self.is_trimming = trimmed.unwrap_or(false);
    }
}

/// Does something with the store, again and again until it works.
async fn until_done<T, F: Future<Output = Result<T, StoreError>>>(
    what: &str,
    mut work: impl FnMut() -> F,
) -> T {
    loop {
        match work().await {
            Ok(done) => return done,
            Err(error) => {
                tracing::error!(%error, "cannot {what}; trying again");
                tokio::time::sleep(RETRY).await;
            }
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
