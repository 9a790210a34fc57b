//! Accepts connections and bounds them: how many, from whom, and how slow.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
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
use crate::events::Reporter;

/// A failed accept means no more file descriptors as a rule; give connections time to end.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

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
            max_connections_per_client: 16,
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
