//! Accepts connections and bounds them: how many, from whom, and how slow.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{StatusCode, header},
    response::IntoResponse,
};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::watchdog::Watchdog;
use crate::events::{BootEvent, Reporter, Service};

/// A failed accept means no more file descriptors as a rule; give connections time to end.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond all limits that are answered at a time; more are closed without a word.
const MAX_REFUSALS: usize = 256;
/// How long one of them may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// After so many seconds the same request may find a place.
const RETRY_AFTER_SECS: &str = "2";

/// What one server allows.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time of one address.
    pub max_connections_per_client: usize,
    /// From the connection, or from the end of the answer before, until a whole request is there.
    pub header_timeout: Duration,
    /// How long a client may take nothing of what it asked for.
    pub stall_timeout: Duration,
    /// How long connections may go on after the server was told to stop.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            // A node fetches its images side by side, each over a connection of its own, and tries
            // again what broke before the old connection has faded away.
            max_connections_per_client: 128,
            header_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves the router until `stop` says so; then lets connections end what they are at, for a while.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    reporter: Reporter,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let per_client = PerClient::default();
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        // All arms are cancel-safe: connections that were not accepted stay in the backlog.
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "HTTP listener cannot accept");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                    continue;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "an HTTP connection broke off");
                }
                continue;
            }
            () = stopped(&mut stop) => break,
        };
        let place = places.clone().try_acquire_owned();
        let guest = per_client.enter(peer.ip(), limits.max_connections_per_client);
        let (Ok(place), Some(guest)) = (place, guest) else {
            reporter.add(|c| &c.http_connections_refused, 1);
            let reason = format!(
                "more than {} connections at a time, or {} with those of others",
                limits.max_connections_per_client, limits.max_connections
            );
            let source = peer.ip().to_canonical();
            let (service, node) = (Service::Http, None);
            let refused = BootEvent::Refused { service, node, source, reason };
            reporter.report(Instant::now(), refused);
            if let Ok(place) = refusals.clone().try_acquire_owned() {
                let refused = refuse(stream, limits.header_timeout.min(REFUSAL_TIMEOUT));
                connections.spawn(async move {
                    refused.await;
                    drop(place);
                });
            }
            continue;
        };
        let connection =
            connection(stream, peer, router.clone(), limits, reporter.clone(), stop.clone());
        connections.spawn(async move {
            connection.await;
            drop((place, guest));
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.grace, ended).await;
}

/// Answers the one request of a connection for which there is no place: it may be made again.
async fn refuse(stream: TcpStream, patience: Duration) {
    let service = service_fn(|_: Request<Incoming>| async {
        let answer = (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, RETRY_AFTER_SECS), (header::CONNECTION, "close")],
            "too many connections at a time; try again\n",
        );
        Ok::<_, Infallible>(answer.into_response())
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that does not ask, or does not read, has had its chance.
    let _ = tokio::time::timeout(patience, connection).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    reporter: Reporter,
    mut stop: watch::Receiver<bool>,
) {
    // A seed is one small segment; it must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let stream = Watchdog::new(stream, limits.stall_timeout, reporter);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        hyper::service::Service::call(&router, request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stopped(&mut stop) => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "HTTP connection ended early");
    }
}

/// Returns when the server is to stop, also when whoever could say so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Connections of each address.
#[derive(Clone, Default)]
struct PerClient(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl PerClient {
    fn enter(&self, client: IpAddr, max: usize) -> Option<Guest> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Guest { clients: self.clone(), client })
    }
}

/// One connection, counted until it is dropped.
struct Guest {
    clients: PerClient,
    client: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
