//! How a module is: whether it runs, how often it was started again, and what was not taken from it.

use crate::clock::Clock;
use kraken_engine::What;
use kraken_model::{Millis, NodeId, Path};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The pause before a module that broke off is started again; it doubles with every further time.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest such pause.
const PAUSE_CAP: Duration = Duration::from_secs(60);

/// A module that ran this long before it broke off is met as one that never did.
const STEADY: Duration = Duration::from_secs(120);

/// The most that is kept of an error, in bytes.
const MAX_ERROR_BYTES: usize = 1024;

/// What a module is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// It is being started.
    #[default]
    Starting,
    /// It runs.
    Running,
    /// It runs, and none of its looks has succeeded yet: it knows of nothing.
    Blind,
    /// It broke off, and is started again after a pause.
    BackOff,
    /// It has nothing more to watch. It still takes steps.
    Idle,
    /// It is a service, and nothing needs it.
    Stopped,
}

/// How a module is, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Its name.
    pub name: String,
    /// How it is run: `in process`, `exec`, `grpc`.
    pub kind: String,
    /// What it is doing.
    pub state: ModuleState,
    /// Since when.
    #[serde(default)]
    pub since: Millis,
    /// How often it broke off since the start of the application.
    pub restarts: u64,
    /// How many discoveries of it were taken.
    pub discoveries: u64,
    /// How many values were not taken from it: never declared, outside the schema, or of a node
    /// that is not there.
    pub refused: u64,
    /// Whether it floods now: it says so often that something has changed that only the latest of each
    /// value is taken, every now and then.
    #[serde(default)]
    pub floods: bool,
    /// How many values were held back while it flooded, and replaced by later ones.
    #[serde(default)]
    pub held_back: u64,
    /// What went wrong last, if anything ever did.
    pub last_error: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Millis>,
}

impl ModuleStatus {
    fn new(name: &str, kind: &str, now: Millis) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            state: ModuleState::Starting,
            since: now,
            restarts: 0,
            discoveries: 0,
            refused: 0,
            floods: false,
            held_back: 0,
            last_error: None,
            last_error_at: None,
        }
    }

    fn is(&mut self, state: ModuleState, now: Millis) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    fn failed(&mut self, reason: String, now: Millis) {
        (self.last_error, self.last_error_at) = (Some(reason), Some(now));
    }
}

#[derive(Debug)]
struct Known {
    status: ModuleStatus,
    /// It broke off, and does not run again yet.
    is_away: bool,
    /// A look of it has succeeded since the start.
    has_looked: bool,
}

/// What a module has done or suffered that belongs into the journal.
#[derive(Debug)]
pub(crate) struct News {
    /// Which module.
    pub(crate) by: Arc<str>,
    /// The node that it is about, if it is about one.
    pub(crate) node: Option<NodeId>,
    pub(crate) what: What,
}

/// The health of one module, shared by everything that has to do with it.
#[derive(Debug)]
pub struct Health {
    known: Mutex<Known>,
    news: mpsc::Sender<News>,
    clock: Clock,
}

impl Health {
    pub(crate) fn new(name: &str, kind: &str, news: mpsc::Sender<News>, clock: Clock) -> Arc<Self> {
        let status = ModuleStatus::new(name, kind, clock.now());
        let known = Known { status, is_away: false, has_looked: false };
        Arc::new(Self { news, clock, known: Mutex::new(known) })
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> ModuleStatus {
        self.change(|status| status.clone())
    }

    /// It is being started, and cannot do anything yet.
    pub fn starting(&self) {
        self.is(ModuleState::Starting);
    }

    /// It runs.
    pub fn running(&self) {
        let now = self.clock.now();
        let returned = self.know(|known| {
            known.status.is(ModuleState::Running, now);
            std::mem::take(&mut known.is_away).then(|| known.status.name.clone())
        });
        if let Some(name) = returned {
            self.journal(&name, What::ModuleRuns);
        }
    }

    /// It broke off and will be started again.
    pub fn broke_off(&self, reason: &str) {
        let now = self.clock.now();
        let (name, restarts) = self.know(|Known { status, is_away, .. }| {
            status.is(ModuleState::BackOff, now);
            *is_away = true;
            status.restarts += 1;
            status.failed(shorten(reason), now);
            (status.name.clone(), status.restarts)
        });
        tracing::error!(module = name, reason, "a module broke off; it is started again");
        let reason = shorten(reason).into();
        self.journal(&name, What::ModuleEnded { reason, restarts });
    }

    /// Something went wrong that did not end it.
    pub fn trouble(&self, reason: &str) {
        let now = self.clock.now();
        let news = self.change(|status| {
            let reason = shorten(reason);
            let is_news = status.last_error.as_ref() != Some(&reason);
            status.failed(reason, now);
            is_news.then(|| status.name.clone())
        });
        // What goes wrong every few seconds is said once.
        if let Some(module) = news {
            tracing::warn!(module, reason, "a module is in trouble");
        }
    }

    /// It looked, and found something out or found that there is nothing.
    pub fn looked(&self) {
        let now = self.clock.now();
        self.know(|Known { status, has_looked, .. }| {
            *has_looked = true;
            if status.state == ModuleState::Blind {
                status.is(ModuleState::Running, now);
            }
        });
    }

    /// It looked, and could not. As long as it never could, it is no module that runs well.
    pub fn cannot_look(&self, reason: &str) {
        self.trouble(&format!("cannot look: {reason}"));
        let now = self.clock.now();
        self.know(|Known { status, has_looked, .. }| {
            if !*has_looked && status.state == ModuleState::Running {
                status.is(ModuleState::Blind, now);
            }
        });
    }

    /// Something it said was not taken.
    pub fn refuse(&self, reason: &str) {
        let now = self.clock.now();
        let (module, refused) = self.change(|status| {
            status.refused += 1;
            status.failed(shorten(&format!("refused: {reason}")), now);
            (status.name.clone(), status.refused)
        });
        // Whoever lies without end fills no log.
        if refused.is_power_of_two() {
            tracing::warn!(module, refused, reason, "refused what a module discovered");
            let reason = shorten(reason).into();
            self.journal(&module, What::ModuleRefused { reason, refused });
        }
    }

    /// It has begun to flood; one of the values that change too often.
    pub(crate) fn floods(&self, node: &NodeId, path: &Path) {
        let module = self.change(|status| {
            status.floods = true;
            status.name.clone()
        });
        tracing::warn!(module, %node, %path, "a module floods: only the latest of each value is taken");
        let (node, path) = (node.clone(), path.clone());
        self.journal(&module, What::ModuleFloods { example: node, path });
    }

    /// Values were replaced by later ones before they were taken.
    pub(crate) fn held_back(&self, replaced: u64) {
        if replaced > 0 {
            self.change(|status| status.held_back += replaced);
        }
    }

    /// It floods no longer.
    pub(crate) fn calmed(&self, lasted: Duration, held_back: u64) {
        let module = self.change(|status| {
            status.floods = false;
            status.name.clone()
        });
        tracing::info!(module, held_back, "a module that flooded does so no longer");
        let lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        self.journal(&module, What::ModuleCalmed { held_back, lasted_ms });
    }

    pub(crate) fn stopped(&self) {
        self.is(ModuleState::Stopped);
    }

    pub(crate) fn idle(&self) {
        self.is(ModuleState::Idle);
    }

    pub(crate) fn taken(&self) {
        self.change(|status| status.discoveries += 1);
    }

    /// Modules break off after ever longer pauses, so the queue is full only if nobody empties it any more.
    fn journal(&self, module: &str, what: What) {
        let _ = self.news.try_send(News { by: module.into(), node: None, what });
    }

    fn is(&self, state: ModuleState) {
        let now = self.clock.now();
        self.change(|status| status.is(state, now));
    }

    fn change<T>(&self, change: impl FnOnce(&mut ModuleStatus) -> T) -> T {
        self.know(|known| change(&mut known.status))
    }

    fn know<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ERROR_BYTES)].to_owned()
}

/// How long to wait before something that broke off is started again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    in_a_row: u32,
}

impl Pauses {
    /// The next pause, after it had run for this long.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.in_a_row = 0;
        }
        let pause = PAUSE.saturating_mul(1 << self.in_a_row.min(16)).min(PAUSE_CAP);
        self.in_a_row = self.in_a_row.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_begin_anew_after_a_steady_run() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let first: Vec<_> = (0..3).map(|_| pauses.after(short)).collect();
        assert_eq!(first, [PAUSE, PAUSE * 2, PAUSE * 4]);
        for _ in 0..100 {
            assert!(pauses.after(short) <= PAUSE_CAP);
        }
        assert_eq!(pauses.after(short), PAUSE_CAP);
        assert_eq!(pauses.after(STEADY), PAUSE);
    }

    #[test]
    fn an_endless_error_is_kept_short() {
        let (news, _) = mpsc::channel(1);
        let health = Health::new("m", "exec", news, Clock::start());
        health.trouble(&"ä".repeat(MAX_ERROR_BYTES));
        assert!(health.status().last_error.is_some_and(|e| e.len() <= MAX_ERROR_BYTES));
    }

    #[test]
    fn a_module_that_never_could_look_is_blind_until_it_can() {
        let (news, _) = mpsc::channel(1);
        let health = Health::new("m", "exec", news, Clock::start());
        health.running();
        health.cannot_look("no such file");
        health.cannot_look("no such file");
        let status = health.status();
        assert_eq!(status.state, ModuleState::Blind);
        assert_eq!(status.last_error.as_deref(), Some("cannot look: no such file"));
        assert!(status.last_error_at >= Some(status.since));
        health.looked();
        health.cannot_look("it hangs");
        assert_eq!(health.status().state, ModuleState::Running, "it knows what it saw");
    }
}
