//! A module in another process: started, spoken to over gRPC, started again when it breaks off.

pub mod proto;
mod session;
mod words;

use crate::draft::Declared;
use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order, Pauses, chain};
use kraken_model::Path;
use kraken_process::{CommandError, Pipe};
use proto::module_client::ModuleClient;
use session::Session;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::Channel;

/// Where a module finds the path of the socket that it is to listen on.
const SOCKET: &str = "KRAKEN_SOCKET";

/// How many lines a second of what a module writes are passed on.
const LINES_PER_SECOND: u32 = 100;

/// How long a process that can no longer be spoken to is given to end by itself.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// The longest path of a socket, in bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The module of one file, behind a socket.
pub(crate) struct Grpc {
    declared: Arc<Declared>,
    run_dir: PathBuf,
    /// Who is spoken to; nothing while it is down.
    peer: Mutex<Option<Peer>>,
}

/// A module that said hello.
#[derive(Clone)]
struct Peer {
    client: ModuleClient<Channel>,
    mutations: Arc<[String]>,
}

impl Grpc {
    pub(crate) fn new(declared: Arc<Declared>, run_dir: PathBuf) -> Self {
        Self { declared, run_dir, peer: Mutex::default() }
    }

    fn set_peer(&self, peer: Option<Peer>) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
    }

    fn peer(&self) -> Option<Peer> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One life of the module; gives the reason for its end.
    async fn live(&self, context: &Context) -> String {
        let Some(program) = &self.declared.serve else { return "nothing serves it".to_owned() };
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(why) => return why,
        };
        let name = &self.declared.name;
        let run = program.service().env("KRAKEN_MODULE", name).env(SOCKET, &socket);
        let mut lines = Rate::new(LINES_PER_SECOND);
        let process = run.follow(|pipe, line| match (lines.may_pass(Instant::now()), pipe) {
            (false, _) => {}
            (true, Pipe::Out) => tracing::info!(module = name, "{line}"),
            (true, Pipe::Err) => tracing::warn!(module = name, "{line}"),
        });
        let session = Session { grpc: self, socket: &socket, context };
        // Whichever ends first takes the other along: a process that is dropped is killed.
        tokio::pin!(process);
        let why = tokio::select! {
            biased;
            ended = &mut process => return last(ended),
            why = session.hold() => why,
        };
        // Why a process has ended says more than that its socket has closed.
        match tokio::time::timeout(LAST_WORDS_WITHIN, process).await {
            Ok(ended) => last(ended),
            Err(_) => why,
        }
    }

    /// Where the module is to listen; what an earlier one left there is removed.
    fn socket(&self) -> Result<PathBuf, String> {
        let dir = &self.run_dir;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| format!("cannot make the directory {}: {error}", dir.display()))?;
        let socket = dir.join(format!("{}.sock", self.declared.name));
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            let path = socket.display();
            return Err(format!(
                "the socket path {path} has more than {MAX_SOCKET_PATH} bytes: use a shorter run directory"
            ));
        }
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", socket.display()))
            }
            _ => Ok(socket),
        }
    }
}

/// How a process has ended.
fn last(ended: Result<String, CommandError>) -> String {
    ended.map_or_else(|error| chain(&error), |_| "its process has ended".to_owned())
}

#[async_trait]
impl Module for Grpc {
    fn name(&self) -> &str {
        &self.declared.name
    }

    fn kind(&self) -> &'static str {
        "grpc"
    }

    fn discovers(&self, path: &Path) -> bool {
        self.declared.discovers(path)
    }

    async fn run(&self, context: Context) {
        let mut pauses = Pauses::default();
        let Some(health) = context.health() else { return };
        while !context.stop.is_cancelled() {
            health.starting();
            let began = Instant::now();
            let why = tokio::select! {
                () = context.stop.cancelled() => break,
                why = self.live(&context) => why,
            };
            self.set_peer(None);
            health.broke_off(&why);
            tokio::select! {
                () = context.stop.cancelled() => break,
                () = tokio::time::sleep(pauses.after(began.elapsed())) => {}
            }
        }
        self.set_peer(None);
    }

    async fn take(&self, order: &Order, _context: &Context) -> Result<(), Failure> {
        let fail = |reason: String| Failure { reason, permanent: false };
        let step = self.declared.steps.iter().find(|step| *step.mutation.name == *order.mutation);
        let Some(step) = step else {
            let reason = format!("the module {} does not know {}", self.name(), order.mutation);
            return Err(Failure { reason, permanent: true });
        };
        let Some(mut peer) = self.peer() else {
            return Err(fail(format!("the module {} is down; it is being started", self.name())));
        };
        // A look that the module has no step for: it tells by itself what it finds.
        if step.is_look && !peer.mutations.iter().any(|name| *name == *order.mutation) {
            return Ok(());
        }
        let timeout = step.mutation.timeout;
        let mut request = tonic::Request::new(words::order(order, timeout));
        request.set_timeout(timeout);
        peer.client.take(request).await.map(drop).map_err(|status| {
            let pointless = matches!(
                status.code(),
                Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented
            );
            let said = words::clean(status.message());
            let reason = if said.is_empty() { status.code().to_string() } else { said };
            Failure { reason, permanent: pointless }
        })
    }
}

/// So many a second and no more.
#[derive(Debug)]
struct Rate {
    most: u32,
    since: Option<Instant>,
    passed: u32,
}

impl Rate {
    fn new(most: u32) -> Self {
        Self { most, since: None, passed: 0 }
    }

    /// Whether one more may pass now.
    fn may_pass(&mut self, now: Instant) -> bool {
        self.wait(now).is_zero()
    }

    /// How long to wait until one more may pass; when not at all, it has passed.
    fn wait(&mut self, now: Instant) -> Duration {
        const SECOND: Duration = Duration::from_secs(1);
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= SECOND {
            self.since = Some(now);
            self.passed = 0;
        } else if self.passed >= self.most {
            return SECOND - now.duration_since(since);
        }
        self.passed += 1;
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_pass_in_a_second_and_then_as_many_in_the_next() {
        let (start, mut rate) = (Instant::now(), Rate::new(3));
        let passed = |rate: &mut Rate, at| (0..10).filter(|_| rate.may_pass(at)).count();
        assert_eq!(passed(&mut rate, start), 3);
        let later = start + Duration::from_millis(400);
        assert_eq!(rate.wait(later), Duration::from_millis(600));
        assert_eq!(passed(&mut rate, start + Duration::from_secs(1)), 3);
    }
}
