//! The store, as async code uses it: every call runs on the store's own thread, one after another.

use crate::departed::Remembrance;
use kraken_store::{Bounds, Store, StoreError};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// How many calls wait for the store before those who make them wait too.
const QUEUE: usize = 64;

/// A handle on the store, shared by everything that keeps something.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<Thread>,
    bounds: Bounds,
    remembrance: Remembrance,
}

/// What is to be done with the store.
type Work = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// The thread of a store. A store blocks on its disk; one thread of its own, rather than whichever is free,
/// also keeps what it allocates together.
struct Thread {
    /// Nothing once the store is to be closed.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    /// The store is closed when the last handle is gone, and may be opened again.
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // Panics of the work were given back to who asked for it.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// A handle on a store.
    ///
    /// # Panics
    /// When the system has no thread left.
    #[must_use]
    pub fn new(mut store: Box<dyn Store>) -> Self {
        let (work, mut todo) = mpsc::channel::<Work>(QUEUE);
        let run = move || {
            while let Some(work) = todo.blocking_recv() {
                work(store.as_mut());
            }
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(run);
        let thread = thread.unwrap_or_else(|error| panic!("cannot start a thread: {error}"));
        let thread = Thread { work: Some(work), thread: Some(thread) };
        let (bounds, remembrance) = (Bounds::default(), Remembrance::default());
        Self { store: Arc::new(thread), bounds, remembrance }
    }

    /// The same, whose journal is kept within these bounds by the application that is started with
    /// it.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The same, for an application that remembers nodes within these bounds after they were taken away.
    #[must_use]
    pub fn remembering(self, remembrance: Remembrance) -> Self {
        Self { remembrance, ..self }
    }

    pub(crate) fn remembrance(&self) -> Remembrance {
        self.remembrance
    }

    /// How much of the journal is kept.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Does something with the store, on a thread that may block. Once it has its turn it is done whether or not
    /// anybody waits for the result.
    ///
    /// # Errors
    /// When the store does.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let work = move |store: &mut dyn Store| {
            let done = catch_unwind(AssertUnwindSafe(|| work(store)));
            // Whoever asked may have gone.
            let _ = reply.send(done);
        };
        if let Some(queue) = &self.store.work {
            // The thread ends with this handle, not before.
            let _ = queue.send(Box::new(work)).await;
        }
        match answer.await {
            Ok(Ok(result)) => result,
            // The store panicked: go on as the panic would have.
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => {
                resume_unwind(Box::new("the thread of the store has ended") as Box<dyn Any + Send>)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_store::{Embedded, Memory};

    #[tokio::test]
    async fn a_store_that_panics_is_there_for_the_next() {
        let keeper = Keeper::new(Box::new(Memory::default()));
        let other = keeper.clone();
        let panics = tokio::spawn(async move { other.with::<()>(|_| panic!("damaged")).await });
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(keeper.with(|store| store.open_epoch()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_was_asked_for_is_done_in_order_although_nobody_waits_and_then_the_store_is_closed()
     {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        for round in 1..=20 {
            let keeper = Keeper::new(Box::new(Embedded::open(&path).unwrap()));
            let forgotten = keeper.clone();
            let asked =
                tokio::spawn(async move { forgotten.with(|store| store.open_epoch()).await });
            tokio::task::yield_now().await;
            asked.abort();
            assert_eq!(keeper.with(|store| store.open_epoch()).await.unwrap(), 2 * round);
        }
    }
}
