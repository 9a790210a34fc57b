//! The task that writes the journal.

use super::{Commit, Event, Events, Item, record};
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::past::Moment;
use kraken_engine::Entry;
use kraken_model::{Document, Millis, NodeId};
use kraken_store::{Bounds, Committed, JournalRecord, Store, StoreError, TRIM_STEP};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// How many batches are received at once.
const BATCH: usize = 8;

/// How many batches are taken in while the store refuses them, before the engine is made to wait.
const MOST_WAITING: usize = 64;

/// How many entries are written in one transaction, at most, unless they are one batch.
const MOST_AT_ONCE: usize = 2048;

/// How often, at most, what was written is made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// How long to wait before a store that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often an idle journal is looked at for what has become too old.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// How many times a snapshot is written anew before the next one has to do.
const SNAPSHOT_TRIES: usize = 10;

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

/// Writes what it is given, in order. Entries that a store refuses wait, and after them the engine, rather than be
/// lost: what a person is told was done must be found again. A commit does not wait: whoever asked for it is told.
pub(super) struct Writer {
    keeper: Keeper,
    clock: Clock,
    events: Events,
    wanted: Arc<Notify>,
    /// Received, and not written yet.
    todo: VecDeque<Item>,
    /// When a store that refused is tried again.
    retry_at: Option<Instant>,
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
    pub(super) fn new(keeper: Keeper, clock: Clock, events: Events, wanted: Arc<Notify>) -> Self {
        Self {
            keeper,
            clock,
            events,
            wanted,
            todo: VecDeque::new(),
            retry_at: None,
            is_flushed: true,
            flushed_at: Instant::now(),
            unkept: BTreeMap::new(),
            is_trimming: true,
            records_since_trim: 0,
            pace: Pace::default(),
            snapshots: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, mut receiver: mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        loop {
            // The first entries after a quiet time are made durable at once, and then ever so often: a
            // kill loses a moment.
            let patience = match (self.retry_at, self.is_flushed, self.is_trimming) {
                (Some(at), ..) => at.saturating_duration_since(Instant::now()),
                (None, false, _) => FLUSH_EVERY.saturating_sub(self.flushed_at.elapsed()),
                (None, true, true) => Duration::ZERO,
                (None, true, false) => TRIM_EVERY,
            };
            let has_room = self.todo.len() < MOST_WAITING && !self.is_flush_due();
            tokio::select! {
                biased;
                // Nothing is received when another arm is taken.
                received = receiver.recv_many(&mut batch, BATCH), if has_room => {
                    if received == 0 {
                        break;
                    }
                    self.todo.extend(batch.drain(..));
                    self.go_on().await;
                }
                Some(_) = self.snapshots.join_next() => {
                    self.pace.is_pending = false;
                    // What lies before an earlier one may now be spared.
                    self.trim().await;
                }
                () = tokio::time::sleep(patience) => match (self.retry_at, self.is_flushed) {
                    (Some(_), _) => self.go_on().await,
                    (None, false) => self.flush().await,
                    (None, true) if self.is_trimming => self.trim().await,
                    (None, true) => self.is_trimming = true,
                },
            }
            if self.pace.is_due(&self.keeper.bounds(), self.clock.now()) {
                self.pace.is_pending = true;
                self.wanted.notify_one();
            }
        }
        while !self.todo.is_empty() {
            tokio::time::sleep(RETRY).await;
            self.go_on().await;
        }
        self.flush().await;
        while self.snapshots.join_next().await.is_some() {}
    }

    /// Does what is to be done, as far as the store lets it.
    async fn go_on(&mut self) {
        self.retry_at = None;
        while let Some(item) = self.todo.pop_front() {
            let done = match item {
                Item::Entries(entries) => self.write(entries, None).await,
                Item::Commit(commit) => self.write(Vec::new(), Some(commit)).await,
                Item::Moment(moment) => self.snapshot(moment).await,
                Item::Checkpoint(nodes) => {
                    self.checkpoint(nodes).await;
                    Ok(())
                }
                Item::Written(reply) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                    Ok(())
                }
            };
            if let Err(error) = done {
                tracing::error!(%error, "cannot write the journal; trying again");
                self.refuse(error);
                self.retry_at = Some(Instant::now() + RETRY);
                return;
            }
        }
        if self.records_since_trim >= TRIM_STEP {
            self.trim().await;
        }
    }

    /// Tells whoever waits for a commit that the store takes nothing now. Only one does, at the most.
    fn refuse(&mut self, error: StoreError) {
        let is_commit = |item: &Item| matches!(item, Item::Commit(_));
        let waiting = self.todo.iter().position(is_commit).and_then(|at| self.todo.remove(at));
        if let Some(Item::Commit(commit)) = waiting {
            let _ = commit.reply.send(Err(error));
        }
    }

    /// Writes entries, with those that follow them, up to a commit and with it. On an error the entries are
    /// still to be written, and the commit was answered.
    async fn write(
        &mut self,
        mut entries: Vec<Entry>,
        mut commit: Option<Box<Commit>>,
    ) -> Result<(), StoreError> {
        while commit.is_none() {
            match self.todo.pop_front() {
                Some(Item::Entries(more)) if entries.len() < MOST_AT_ONCE => entries.extend(more),
                Some(Item::Commit(next)) => commit = Some(next),
                Some(other) => {
                    self.todo.push_front(other);
                    break;
                }
                None => break,
            }
        }
        let said = commit.as_ref().map_or(&[][..], |commit| &commit.entries);
        let records: Vec<JournalRecord> = entries.iter().chain(said).map(record).collect();
        let bytes = records.iter().map(|record| record.body.len() as u64).sum::<u64>();
        let count = records.len();
        let Some(commit) = commit else {
            let append = move |store: &mut dyn Store| store.append(&records);
            let first = match self.keeper.with(append).await {
                Ok(first) => first,
                Err(error) => {
                    self.todo.push_front(Item::Entries(entries));
                    return Err(error);
                }
            };
            self.is_flushed = false;
            self.written(first, entries, (count, bytes));
            return Ok(());
        };
        let Commit { cfg, values, entries: said, reply } = *commit;
        let keep = move |store: &mut dyn Store| {
            store.commit(&kraken_store::Commit { cfg: &cfg, values: &values, records: &records })
        };
        match self.keeper.with(keep).await {
            Ok(Committed { revision, first }) => {
                (self.is_flushed, self.flushed_at) = (true, Instant::now());
                entries.extend(said);
                self.written(first, entries, (count, bytes));
                let _ = reply.send(Ok(revision));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                // They have the next turn; whether they are refused too shows then.
                if !entries.is_empty() {
                    self.todo.push_front(Item::Entries(entries));
                }
            }
        }
        Ok(())
    }

    /// What follows from entries having been written, so many and so large: those who watch are told.
    fn written(&mut self, first: u64, entries: Vec<Entry>, (count, bytes): (usize, u64)) {
        self.pace.records += count as u64;
        self.pace.bytes += bytes;
        self.records_since_trim += count;
        if self.events.receiver_count() == 0 {
            return;
        }
        for (seq, entry) in (first..).zip(entries) {
            // Whoever was watching may have gone.
            let _ = self.events.send(Arc::new(Event { seq, entry }));
        }
    }

    /// Begins a snapshot, and has it written while the journal goes on.
    async fn snapshot(&mut self, moment: Moment) -> Result<(), StoreError> {
        let (at, is_start) = (moment.at, moment.is_start);
        let begun = self.keeper.with(move |store| store.begin_snapshot(at, is_start)).await;
        let seq = match begun {
            Ok(seq) => seq,
            Err(error) => {
                self.todo.push_front(Item::Moment(moment));
                return Err(error);
            }
        };
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
        Ok(())
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
        let is_stuck = self.retry_at.is_some();
        !is_stuck && !self.is_flushed && self.flushed_at.elapsed() >= FLUSH_EVERY
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
