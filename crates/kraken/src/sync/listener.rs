//! The door: TLS connections of nodes that join, one message each way.

use super::link::JOIN_WITHIN;
use super::parent::SyncError;
use super::{random, stream};
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::tls::Identity;
use crate::views::Views;
use kraken_model::{Millis, NodeId};
use kraken_store::StoreError;
use kraken_sync::{
    JoinReply, JoinRequest, KeyRole, Secret, SessionKeys, TokenBook, TokenRecord, Welcome,
};
use serde_json::json;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Where in the store the tokens are, as hashes.
const NAMESPACE: &str = "tokens";

/// How many joins are under way at once; more wait in the listen queue.
const AT_ONCE: usize = 256;

/// How many joins of one address are under way at once. One machine that opens connections and
/// says nothing must not take all the places.
const AT_ONCE_FROM_ONE: usize = 8;

/// A node whose proof was accepted, on its way to a session.
pub(crate) struct Admission {
    pub(crate) node: NodeId,
    pub(crate) keys: SessionKeys,
    pub(crate) resume: Secret,
    /// What to tell the node; nothing when it is not in the cluster any more.
    pub(crate) reply: oneshot::Sender<Option<Welcome>>,
}

/// Lets nodes in that have a token, or the secret of their boot.
pub(crate) struct Doorman {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    book: Mutex<TokenBook>,
    keeper: Keeper,
    admissions: mpsc::Sender<Admission>,
    clock: Clock,
    joined: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    crowded: AtomicU64,
    away: AtomicU64,
    under_way: Crowd,
}

/// How many joins are under way from where.
type Crowd = Arc<std::sync::Mutex<HashMap<IpAddr, usize>>>;

/// A place among the joins of one address, given back when it is dropped.
struct Seat {
    crowd: Crowd,
    of: IpAddr,
}

impl Seat {
    /// A place, unless the address has as many as it may.
    fn take(crowd: &Crowd, of: IpAddr) -> Option<Self> {
        let mut taken = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(of).or_default();
        if *count == AT_ONCE_FROM_ONE {
            return None;
        }
        *count += 1;
        Some(Self { crowd: Arc::clone(crowd), of })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.of)),
        }
    }
}

impl Doorman {
    pub(crate) async fn open(
        address: SocketAddr,
        identity: &Identity,
        keeper: Keeper,
        admissions: mpsc::Sender<Admission>,
        clock: Clock,
    ) -> Result<Arc<Self>, SyncError> {
        let at = |source| SyncError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        let records = keeper.with(|store| store.list(NAMESPACE)).await.map_err(SyncError::Keep)?;
        let records = records.into_iter().filter_map(|(node, bytes)| {
            serde_json::from_slice::<TokenRecord>(&bytes)
                .inspect_err(|error| tracing::error!(node, %error, "unreadable token record"))
                .ok()
        });
        Ok(Arc::new(Self {
            listener,
            address,
            acceptor: TlsAcceptor::from(identity.server_config()?),
            book: Mutex::new(TokenBook::import(records)),
            keeper,
            admissions,
            clock,
            joined: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            away: AtomicU64::new(0),
            under_way: Crowd::default(),
        }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn counters(&self) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "joined": of(&self.joined),
            "refused": of(&self.refused),
            "broken": of(&self.broken),
            "crowded": of(&self.crowded),
            "away": of(&self.away),
        })
    }

    /// Does something with the tokens, and makes what changed durable before it returns.
    pub(crate) async fn book<T>(
        &self,
        work: impl FnOnce(&mut TokenBook) -> T,
    ) -> Result<T, StoreError> {
        let mut book = self.book.lock().await;
        let result = work(&mut book);
        let changes = book.take_changes();
        if !changes.is_empty() {
            let keep = move |store: &mut dyn kraken_store::Store| {
                for record in &changes {
                    match &record.entry {
                        Some(_) => {
                            let bytes = serde_json::to_vec(record).unwrap_or_default();
                            store.put(NAMESPACE, record.node.as_str(), &bytes)?;
                        }
                        None => drop(store.delete(NAMESPACE, record.node.as_str())?),
                    }
                }
                Ok(())
            };
            self.keeper.with(keep).await?;
        }
        Ok(result)
    }

    /// Takes connections until `stop`.
    pub(crate) async fn serve(self: Arc<Self>, views: Arc<Views>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut joins = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            while joins.try_join_next().is_some() {}
            match accepted {
                Ok((stream, from)) => {
                    let Some(seat) = Seat::take(&self.under_way, from.ip()) else {
                        self.crowded.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%from, "too many joins at once from there");
                        continue;
                    };
                    let (doorman, views) = (Arc::clone(&self), Arc::clone(&views));
                    joins.spawn(async move {
                        doorman.one(stream, from, &views).await;
                        drop((place, seat));
                    });
                }
                // Out of file descriptors: those that are open end in time.
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn one(&self, stream: TcpStream, from: SocketAddr, views: &Views) {
        match tokio::time::timeout(JOIN_WITHIN, self.join(stream, from, views)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%from, %error, source, "a join broke off");
            }
            Err(_) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%from, "a join took too long");
            }
        }
    }

    async fn join(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        views: &Views,
    ) -> Result<(), stream::StreamError> {
        let mut tls = self.acceptor.accept(stream).await?;
        let request = stream::read_request(&mut tls).await?;
        let secret = stream::secret(tls.get_ref().1)?;
        let node = request.node.clone();
        let now = self.clock.now();
        if !views.contains(&node) && self.knows(now, &request).await {
            self.away.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%node, %from, "not in the cluster at present");
            stream::send(&mut tls, JoinReply::away().encode()).await?;
            return Ok(tls.shutdown().await?);
        }
        let judged = self
            .book(|book| book.present(now, &node, &request.boot_id, &request.proof, random()))
            .await;
        let refusal = match judged {
            Ok(Ok(resume)) => match self.admit(&request, &secret, resume).await {
                Some(welcome) => {
                    self.joined.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%node, %from, boot = request.boot_id, "joined");
                    let reply = JoinReply::Welcome(Box::new(welcome));
                    stream::send(&mut tls, reply.encode()).await?;
                    return Ok(tls.shutdown().await?);
                }
                None => "the node is not in the cluster".to_owned(),
            },
            Ok(Err(refusal)) => refusal.to_string(),
            // Without durable tokens a used one could be used again.
            Err(error) => format!("the tokens cannot be kept: {error}"),
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%node, %from, refusal, "join refused");
        stream::send(&mut tls, JoinReply::refused().encode()).await?;
        Ok(tls.shutdown().await?)
    }

    /// Whether a node that is not in the cluster could join if it were. What it shows is not used up: it is all that the
    /// node has.
    async fn knows(&self, now: Millis, request: &JoinRequest) -> bool {
        let JoinRequest { node, boot_id, proof, .. } = request;
        self.book.lock().await.knows(now, node, boot_id, proof).is_ok()
    }

    async fn admit(
        &self,
        request: &JoinRequest,
        secret: &[u8; 32],
        resume: Secret,
    ) -> Option<Welcome> {
        let keys = SessionKeys::derive(secret, KeyRole::Parent);
        let (reply, answer) = oneshot::channel();
        let admission = Admission { node: request.node.clone(), keys, resume, reply };
        self.admissions.send(admission).await.ok()?;
        answer.await.ok()?
    }
}
