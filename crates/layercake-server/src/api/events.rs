//! What happened, and what is happening now.

use super::{Problem, select};
use crate::server::App;
use axum::extract::{Query, State};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use kraken::{Event, Kraken};
use kraken_model::NodeSet;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// How many events one answer holds at most.
const MAX_EVENTS: usize = 10_000;

/// How many events wait for a slow reader before reading the journal waits for it.
const READ_AHEAD: usize = 256;

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The first one, by number.
    from: Option<u64>,
    /// How many at most; the latest ones when `from` is not given.
    limit: Option<usize>,
    /// Of which nodes, as a node set.
    nodes: Option<String>,
    /// Whether to go on with what happens from then on, as server-sent events.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let nodes = asked.nodes.as_deref().map(|set| select::nodes(&app, set)).transpose()?;
    let limit = asked.limit.unwrap_or(200).min(MAX_EVENTS);
    // Watching begins before reading, so that nothing falls between the two.
    let kraken = app.kraken()?;
    let live = kraken.watch();
    let past = past(kraken, asked.from, limit, nodes.as_ref()).await?;
    if !asked.follow {
        return Ok(Json(past).into_response());
    }
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::spawn(follow(kraken.clone(), nodes, past, live, sender));
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default());
    Ok((StatusCode::OK, stream).into_response())
}

fn wanted(nodes: Option<&NodeSet>, event: &Event) -> bool {
    nodes.is_none_or(|set| event.entry.node.as_ref().is_some_and(|node| set.contains(node)))
}

async fn past(
    kraken: &Kraken,
    from: Option<u64>,
    limit: usize,
    nodes: Option<&NodeSet>,
) -> Result<Vec<Event>, Problem> {
    // Without a beginning the latest are meant: read enough of the end to find that many.
    let read = match from {
        Some(from) => kraken.events(from, MAX_EVENTS, None).await?,
        None => kraken.latest_events(MAX_EVENTS).await?,
    };
    let mut found: Vec<Event> = read.into_iter().filter(|e| wanted(nodes, e)).collect();
    match from {
        Some(_) => found.truncate(limit),
        None => drop(found.drain(..found.len().saturating_sub(limit))),
    }
    Ok(found)
}

/// Sends what was, then what is, until the reader goes. A reader that falls far behind is given
/// what it missed from the store.
async fn follow(
    kraken: Kraken,
    nodes: Option<NodeSet>,
    past: Vec<Event>,
    mut live: tokio::sync::broadcast::Receiver<Arc<Event>>,
    sender: mpsc::Sender<Result<Message, Infallible>>,
) {
    let mut next = past.last().map_or(0, |event| event.seq + 1);
    for event in past {
        if sender.send(Ok(message(&event))).await.is_err() {
            return;
        }
    }
    let stopping = kraken.stopping();
    loop {
        let received = tokio::select! {
            received = live.recv() => received,
            () = stopping.cancelled() => return,
        };
        let events = match received {
            Ok(event) => vec![event],
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(_)) => {
                let missed = kraken.events(next, MAX_EVENTS, None).await.unwrap_or_default();
                missed.into_iter().map(Arc::new).collect()
            }
        };
        for event in &events {
            if event.seq < next {
                continue;
            }
            next = event.seq + 1;
            if wanted(nodes.as_ref(), event) && sender.send(Ok(message(event))).await.is_err() {
                return;
            }
        }
    }
}

fn message(event: &Event) -> Message {
    let data = serde_json::to_string(event).unwrap_or_default();
    Message::default().id(event.seq.to_string()).data(data)
}
