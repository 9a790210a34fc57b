//! The store, as async code uses it: every call runs where blocking is allowed, one at a time.

use kraken_store::{Bounds, Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};

/// A handle on the store, shared by everything that keeps something.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<Mutex<Box<dyn Store>>>,
    bounds: Bounds,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// A handle on a store.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> Self {
        Self { store: Arc::new(Mutex::new(store)), bounds: Bounds::default() }
    }

    /// The same, whose journal is kept within these bounds by the application that is started with
    /// it.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// How much of the journal is kept.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Does something with the store, on a thread that may block.
    ///
    /// # Errors
    /// When the store does.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        let work = move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            work(store.as_mut())
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(failed) => match failed.try_into_panic() {
                // The store panicked: go on as the panic would have.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being dropped before the work began, and whoever waits here too.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_store::Memory;

    #[test]
    fn work_that_never_began_because_the_runtime_ends_is_no_panic() {
        let keeper = Keeper::new(Box::new(Memory::default()));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        let (begun, has_begun) = std::sync::mpsc::sync_channel(1);
        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let first = keeper.clone();
        runtime.spawn(async move {
            let work = move |_: &mut dyn Store| {
                begun.send(()).unwrap();
                // Ends with an error when the test is over.
                let _ = released.recv();
                Ok(())
            };
            first.with(work).await
        });
        let second = runtime.spawn(async move { keeper.with(|_| Ok(())).await });
        runtime.block_on(tokio::task::yield_now());
        has_begun.recv().unwrap();
        runtime.shutdown_background();
        drop(release);
        let ended = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(second);
        assert!(ended.unwrap_err().is_cancelled());
    }
}
