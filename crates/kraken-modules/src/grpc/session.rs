//! Speaking with a module from its start to its end.

use super::proto::module_client::ModuleClient;
use super::proto::{self, HelloRequest};
use super::{Grpc, Peer, Rate, words};
use hyper_util::rt::TokioIo;
use kraken::{Context, View};
use kraken_model::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// The version of the protocol.
const VERSION: u32 = 1;

/// How long a module may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// How long it may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Between two tries to reach it.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// How often it is asked whether it is still there, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// How many nodes wait to be read by the module. All others wait here, each once.
const NODES: usize = 64;

/// How many discoveries a second are taken; the module waits with the others.
const DISCOVERIES_PER_SECOND: u32 = 2000;

/// How much a module may send before it is read, in bytes: some hundred discoveries. Of more, HTTP/2
/// itself would take it for an attack, and break off.
const WINDOW: u32 = 16 * 1024;

/// One life of a module.
pub(super) struct Session<'a> {
    pub(super) grpc: &'a Grpc,
    pub(super) socket: &'a Path,
    pub(super) context: &'a Context,
}

impl Session<'_> {
    /// Speaks with the module until that is no longer possible; gives the reason.
    pub(super) async fn hold(&self) -> String {
        match self.greet().await {
            Ok(peer) => {
                self.grpc.set_peer(Some(peer.clone()));
                if let Some(health) = self.context.health() {
                    health.running();
                }
                self.watch(peer.client).await
            }
            Err(why) => why,
        }
    }

    async fn greet(&self) -> Result<Peer, String> {
        let name = &self.grpc.declared.name;
        let channel = self.connect().await?;
        let mut client = ModuleClient::new(channel);
        let hello = HelloRequest { version: VERSION, module: name.clone() };
        let hello = tokio::time::timeout(HELLO_WITHIN, client.hello(hello)).await;
        let said = hello
            .map_err(|_| format!("it did not say hello within {HELLO_WITHIN:?}"))?
            .map_err(|status| format!("it did not say hello: {}", said(&status)))?;
        let mutations: std::sync::Arc<[String]> = said.into_inner().mutations.into();
        let steps = self.grpc.declared.steps.iter().filter(|step| !step.is_look);
        let mut missing = steps.map(|step| step.mutation.name.as_ref());
        match missing.find(|name| mutations.iter().all(|known| known != name)) {
            Some(step) => Err(format!("it does not take {step}, which its file declares")),
            None => Ok(Peer { client, mutations }),
        }
    }

    async fn connect(&self) -> Result<Channel, String> {
        let endpoint = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(WINDOW)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true);
        let connect = async {
            loop {
                let path = self.socket.to_owned();
                let connector = tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
                });
                match endpoint.connect_with_connector(connector).await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(TRY_EVERY).await,
                }
            }
        };
        tokio::time::timeout(LISTENS_WITHIN, connect)
            .await
            .map_err(|_| format!("it did not listen on KRAKEN_SOCKET within {LISTENS_WITHIN:?}"))
    }

    async fn watch(&self, mut client: ModuleClient<Channel>) -> String {
        let (nodes, nodes_out) = mpsc::channel(NODES);
        let mut subscription = self.context.subscribe();
        let mut pending: BTreeMap<NodeId, Option<View>> = BTreeMap::new();
        let mut rate = Rate::new(DISCOVERIES_PER_SECOND);
        // Many a server answers only when it has something to say, and it has to be told of nodes
        // before that.
        let opening = client.watch(ReceiverStream::new(nodes_out));
        tokio::pin!(opening);
        let mut inbound: Option<Streaming<proto::Discovery>> = None;
        loop {
            // Every arm is cancel-safe: nothing is taken that is not handled.
            tokio::select! {
                opened = &mut opening, if inbound.is_none() => match opened {
                    Ok(opened) => inbound = Some(opened.into_inner()),
                    Err(status) => return format!("it does not watch: {}", said(&status)),
                },
                message = next(&mut inbound), if inbound.is_some() => match message {
                    Ok(Some(discovery)) => self.take_in(discovery, &mut rate).await,
                    Ok(None) => return "it stopped to watch".to_owned(),
                    Err(status) => return format!("it stopped to watch: {}", said(&status)),
                },
                changed = subscription.changed() => pending.extend(changed),
                place = nodes.reserve(), if !pending.is_empty() => {
                    let Ok(place) = place else { return "the connection broke off".to_owned() };
                    if let Some((node, view)) = pending.pop_first() {
                        place.send(words::view(&node, view.as_ref()));
                    }
                }
            }
        }
    }

    /// Takes what was found, as fast as is allowed: the module waits, and nobody else does.
    async fn take_in(&self, discovery: proto::Discovery, rate: &mut Rate) {
        loop {
            let wait = rate.wait(Instant::now());
            if wait.is_zero() {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        match words::discovery(discovery) {
            Ok((node, changes)) => self.context.discover(&node, changes).await,
            Err(why) => {
                if let Some(health) = self.context.health() {
                    health.refuse(&why);
                }
            }
        }
    }
}

async fn next(
    inbound: &mut Option<Streaming<proto::Discovery>>,
) -> Result<Option<proto::Discovery>, Status> {
    match inbound {
        Some(inbound) => inbound.message().await,
        None => std::future::pending().await,
    }
}

fn said(status: &Status) -> String {
    format!("{}: {}", status.code(), words::clean(status.message()))
}
