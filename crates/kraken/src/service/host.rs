//! Whoever starts and stops one service.

use crate::health::Pauses;
use crate::host::{GRACE, Hosted, panic_text};
use kraken_engine::Failure;
use kraken_model::{Change, NodeId};
use kraken_plan::Service as Declared;
use kraken_plan::service::{Ask, ERROR, RUNNING, STOPPED};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The longest reason that is told, in characters.
const MAX_REASON: usize = 1000;

/// A step, and who waits for it.
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) deadline: tokio::time::Instant,
    pub(super) answer: oneshot::Sender<Result<(), Failure>>,
}

/// How a service is.
#[derive(Clone, Debug)]
pub(super) struct Life {
    state: &'static str,
    reason: Option<String>,
    restarts: u64,
}

impl Default for Life {
    fn default() -> Self {
        Self { state: STOPPED, reason: None, restarts: 0 }
    }
}

impl Life {
    /// As values of the node.
    pub(super) fn changes(&self, name: &str) -> Vec<Change> {
        let restarts = i64::try_from(self.restarts).unwrap_or(i64::MAX);
        let fact = |of, value| Change { path: Declared::path(name, of), value };
        vec![
            Change::set(Declared::path(name, "state"), self.state),
            fact("reason", self.reason.as_deref().map(Into::into)),
            fact("restarts", (restarts > 0).then(|| restarts.into())),
        ]
    }
}

/// Whoever starts and stops one service.
pub(crate) struct ServiceHost {
    hosted: Hosted,
    node: NodeId,
    asked: mpsc::Receiver<Asked>,
    life: Arc<Mutex<Life>>,
    /// Its run, while there is one.
    running: JoinSet<()>,
    /// Ends that run.
    stop: CancellationToken,
    began: Instant,
    /// Whether something was opened and is still to be closed.
    is_open: bool,
    pauses: Pauses,
    /// When it broke off: until when it is not started again.
    rests_until: Option<tokio::time::Instant>,
}

impl ServiceHost {
    pub(super) fn new(
        hosted: Hosted,
        node: NodeId,
        asked: mpsc::Receiver<Asked>,
        life: Arc<Mutex<Life>>,
    ) -> Self {
        hosted.context.health().inspect(|health| health.stopped());
        Self {
            hosted,
            node,
            asked,
            life,
            running: JoinSet::new(),
            stop: CancellationToken::new(),
            began: Instant::now(),
            is_open: false,
            pauses: Pauses::default(),
            rests_until: None,
        }
    }

    /// Does what is asked until the application ends. What the service has its node do goes on then.
    pub(crate) async fn keep(mut self) {
        let stop = self.hosted.context.stop.clone();
        loop {
            // Every arm is cancel-safe: what is asked is dropped half-way only when all ends.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.running.join_next() => self.broke_off(ended).await,
                Some(asked) = self.asked.recv() => tokio::select! {
                    () = self.serve(asked) => {}
                    () = stop.cancelled() => break,
                },
            }
        }
        if tokio::time::timeout(GRACE, self.running.join_next()).await.is_err() {
            tracing::warn!(service = self.hosted.module.name(), "did not end; it is dropped");
        }
    }

    async fn serve(&mut self, asked: Asked) {
        let Asked { ask, deadline, mut answer } = asked;
        let done = match ask {
            Ask::Discover => {
                self.tell(Vec::new()).await;
                Ok(())
            }
            Ask::Start | Ask::Restart => {
                let opened = tokio::select! {
                    opened = self.open(deadline) => opened,
                    // Interrupted, or out of time.
                    () = answer.closed() => return,
                };
                self.start(opened).await
            }
            Ask::Stop | Ask::Clear => {
                self.end().await;
                Ok(())
            }
        };
        // Whoever asked may have gone.
        let _ = answer.send(done);
    }

    /// Opens the service when it does not run; after it broke off, not before it has rested. Half of
    /// the time is left to the opening, whatever the pause.
    async fn open(&mut self, deadline: tokio::time::Instant) -> Result<Vec<Change>, Failure> {
        if self.life().state == RUNNING {
            return Ok(Vec::new());
        }
        if let Some(until) = self.rests_until {
            let now = tokio::time::Instant::now();
            tokio::time::sleep_until(until.min(now + (deadline - now) / 2)).await;
        }
        self.close().await;
        self.is_open = true;
        let (module, context) = (Arc::clone(&self.hosted.module), self.hosted.context.clone());
        let opened = contained(async move {
            match module.service() {
                Some(service) => service.open(&context).await,
                None => Ok(Vec::new()),
            }
        });
        opened.await.unwrap_or_else(|reason| Err(Failure { reason, permanent: false }))
    }

    /// Has what was opened run, and says so.
    async fn start(&mut self, opened: Result<Vec<Change>, Failure>) -> Result<(), Failure> {
        let found = match opened {
            Ok(found) => found,
            Err(failure) => {
                self.change(|life| {
                    (life.state, life.reason) = (ERROR, Some(told(&failure.reason)));
                });
                self.hosted.context.health().inspect(|health| health.trouble(&failure.reason));
                self.tell(Vec::new()).await;
                return Err(failure);
            }
        };
        let is_new = self.life().state != RUNNING;
        self.change(|life| (life.state, life.reason) = (RUNNING, None));
        // Before anything follows from its running.
        self.hosted.context.health().inspect(|health| health.running());
        // What it finds from here on is found by one that is known to run.
        self.tell(found).await;
        if is_new {
            self.stop = self.hosted.context.stop.child_token();
            self.began = Instant::now();
            let (module, mut context) =
                (Arc::clone(&self.hosted.module), self.hosted.context.clone());
            context.stop = self.stop.clone();
            self.running.spawn(async move { module.run(context).await });
        }
        Ok(())
    }

    /// Stops the service.
    async fn end(&mut self) {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.running.join_next()).await.is_err() {
            tracing::warn!(service = self.hosted.module.name(), "did not end; it is cut off");
            self.running.shutdown().await;
        }
        self.close().await;
        self.rests_until = None;
        self.change(|life| (life.state, life.reason) = (STOPPED, None));
        self.hosted.context.health().inspect(|health| health.stopped());
        self.tell(self.forgotten()).await;
    }

    /// Nobody asked it to end, so it is to be started again, and not at once when that happens often.
    async fn broke_off(&mut self, ended: Result<(), JoinError>) {
        let reason = match ended {
            Ok(()) => "it ended by itself".to_owned(),
            Err(error) => format!("it panicked: {}", panic_text(error)),
        };
        self.hosted.context.health().inspect(|health| health.broke_off(&reason));
        let pause = self.pauses.after(self.began.elapsed());
        self.rests_until = Some(tokio::time::Instant::now() + pause);
        self.change(|life| {
            (life.state, life.reason) = (ERROR, Some(told(&reason)));
            life.restarts += 1;
        });
        self.tell(self.forgotten()).await;
    }

    async fn close(&mut self) {
        if !self.is_open {
            return;
        }
        let module = Arc::clone(&self.hosted.module);
        let closed = contained(async move {
            if let Some(service) = module.service() {
                service.close().await;
            }
        });
        if let Err(reason) = closed.await {
            self.hosted.context.health().inspect(|health| health.trouble(&reason));
        }
        self.is_open = false;
    }

    /// Says how the service is, and what it found.
    async fn tell(&self, found: Vec<Change>) {
        let life = self.life().changes(self.hosted.module.name());
        self.hosted.context.discover_with(&self.node, found, life).await;
    }

    /// What it said of its node, and nobody looks at any more.
    fn forgotten(&self) -> Vec<Change> {
        let context = &self.hosted.context;
        let view = context.views().get(&self.node).unwrap_or_default();
        let said = view.dsc.iter().map(|(path, _)| path).filter(|path| context.may_discover(path));
        said.cloned().map(Change::remove).collect()
    }

    fn life(&self) -> Life {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Life)) {
        change(&mut self.life.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A part of a service at work: its panic is a reason, and it ends when it is no longer waited for.
async fn contained<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match task.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(format!("it panicked: {}", panic_text(error))),
        None => Err("it was cancelled".to_owned()),
    }
}

fn told(reason: &str) -> String {
    let words = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    words.take(MAX_REASON).collect()
}
