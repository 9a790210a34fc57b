//! Tells when a machine's power changed without being asked to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{PowerDriver, PowerError, PowerState};

/// Between two questions to one controller there is at least this much time, however often it claims that
/// something changed. Well below the second within which an exit is noticed.
const MIN_GAP: Duration = Duration::from_millis(100);

/// A stream of what one machine's power is, an item for every change. The first item comes at once.
///
/// It is driven by [`PowerDriver::changed_from`] where a driver has that, and otherwise by asking every
/// `interval`, spread by a quarter so that a thousand machines are not asked in step. Ends when dropped.
#[derive(Debug)]
pub struct Watch {
    reports: mpsc::Receiver<Result<PowerState, PowerError>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// The next change: a state, or an error that has not been reported before. Cancel-safe.
    ///
    /// `None` only when the runtime shuts down.
    pub async fn next(&mut self) -> Option<Result<PowerState, PowerError>> {
        self.reports.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts to watch a machine; `interval` is how often to ask where nothing tells.
#[must_use]
pub fn watch(driver: Arc<dyn PowerDriver>, interval: Duration) -> Watch {
    // One place in the channel: a slow reader gets the newest state next, not a backlog.
    let (sender, reports) = mpsc::channel(1);
    let task = tokio::spawn(run(driver, interval, sender));
    Watch { reports, task }
}

async fn run(
    driver: Arc<dyn PowerDriver>,
    interval: Duration,
    reports: mpsc::Sender<Result<PowerState, PowerError>>,
) {
    let mut reported: Option<Result<PowerState, String>> = None;
    for round in 0_u64.. {
        let status = driver.status().await;
        let known = *status.as_ref().unwrap_or(&PowerState::Unknown);
        let now = status.as_ref().map(|state| *state).map_err(PowerError::to_string);
        if reported.as_ref() != Some(&now) {
            reported = Some(now);
            if reports.send(status).await.is_err() {
                return;
            }
        }
        let wait = spread(interval, driver.machine(), round);
        tokio::time::sleep(MIN_GAP).await;
        tokio::select! {
            () = driver.changed_from(known) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// `interval`, an eighth longer or shorter, the same for the same machine and round in every run.
fn spread(interval: Duration, machine: &impl Hash, round: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (machine, round).hash(&mut hasher);
    let share = f64::from(u16::try_from(hasher.finish() & 0xffff).unwrap_or(0)) / 65_536.0;
    interval.mul_f64(0.875 + share / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_spread_by_a_quarter_and_differ_between_machines() {
        let interval = Duration::from_secs(8);
        let waits: Vec<_> = (0..100).map(|n| spread(interval, &format!("n{n}"), 0)).collect();
        assert!(waits.iter().all(|w| (7.0..9.0).contains(&w.as_secs_f64())));
        let distinct: std::collections::HashSet<_> = waits.iter().collect();
        assert!(distinct.len() > 90, "only {} different waits", distinct.len());
    }
}
