//! What steps were found to take, kept over a restart.

use crate::keeper::Keeper;
use kraken_engine::Lesson;
use kraken_store::{Store, StoreError};

/// Where in the store it is.
const NAMESPACE: &str = "learned";

/// The key of it there.
const ALL: &str = "all";

/// What was kept. What cannot be read is learned anew.
pub(crate) fn kept(store: &mut dyn Store) -> Result<Vec<Lesson>, StoreError> {
    let Some(bytes) = store.get(NAMESPACE, ALL)? else { return Ok(Vec::new()) };
    let lessons = serde_json::from_slice(&bytes);
    let unreadable = |error| tracing::warn!(%error, "what steps were found to take is unreadable");
    Ok(lessons.map_err(unreadable).unwrap_or_default())
}

/// Keeps it. If that fails the next time will do: it is a help, and no truth that anything hangs on.
pub(crate) async fn keep(keeper: &Keeper, lessons: &[Lesson]) {
    let bytes = match serde_json::to_vec(lessons) {
        Ok(bytes) => bytes,
        Err(error) => return tracing::error!(%error, "what steps take cannot be written"),
    };
    if let Err(error) = keeper.with(move |store| store.put(NAMESPACE, ALL, &bytes)).await {
        tracing::error!(%error, "cannot keep what steps were found to take");
    }
}
