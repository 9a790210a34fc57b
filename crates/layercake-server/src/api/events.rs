//! What happened, and what is happening now.

use super::{Problem, select, times};
use crate::server::App;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use kraken::{Event, Kraken, What};
use kraken_model::{NodeId, NodeSet, nearest};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// The header of an answer that holds a remark on it, for a person.
const NOTE: HeaderName = HeaderName::from_static("layercake-note");

/// How many events one answer holds at most.
const MAX_EVENTS: usize = 10_000;

/// How many events wait for a slow reader before reading the journal waits for it.
const READ_AHEAD: usize = 256;

/// How many events are read at a time.
const PAGE: usize = 2000;

/// Up to how many nodes are looked up one by one: for more, everything is read.
const FEW: usize = 64;

/// Which events are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The first one, by number.
    from: Option<u64>,
    /// How many at most; the latest ones when neither `from` nor `since` is given.
    limit: Option<usize>,
    /// Of which nodes, as a node set.
    nodes: Option<String>,
    /// Of which kinds, separated by commas.
    kind: Option<String>,
    /// Not before.
    since: Option<String>,
    /// Not after.
    until: Option<String>,
    /// Whether to go on with what happens from then on, as server-sent events.
    #[serde(default)]
    follow: bool,
}

/// What an event has to be to be told.
#[derive(Default)]
pub(super) struct Wanted {
    nodes: Option<NodeSet>,
    kinds: Option<Vec<String>>,
}

/// The numbers between which events lie; the end does not belong to them.
#[derive(Clone, Copy)]
pub(super) struct Span {
    first: u64,
    end: u64,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    if asked.follow && asked.until.is_some() {
        let detail = "whoever follows wants what is still to come: leave `until` out";
        return Err(Problem::bad_request("no end belongs here", detail));
    }
    let nodes = asked.nodes.as_deref().map(|set| select::nodes(&app, set)).transpose()?;
    let kinds = asked.kind.as_deref().map(kinds).transpose()?;
    let wanted = Wanted { nodes, kinds };
    let limit = asked.limit.unwrap_or(200).min(MAX_EVENTS);
    // Watching begins before reading, so that nothing falls between the two.
    let kraken = app.kraken()?;
    let live = kraken.watch();
    let mut span = span(kraken, asked.since.as_deref(), asked.until.as_deref()).await?;
    span.first = span.first.max(asked.from.unwrap_or(0));
    let is_from_start = asked.from.is_some() || asked.since.is_some();
    let past = find(kraken, &wanted, span, limit, is_from_start).await?;
    let note = match &asked.since {
        Some(since) => before_the_beginning(kraken, since).await?,
        None => None,
    };
    if !asked.follow {
        return Ok(noted(Json(past).into_response(), note));
    }
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::spawn(follow(kraken.clone(), wanted, past, live, sender));
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default());
    Ok(noted((StatusCode::OK, stream).into_response(), note))
}

/// That the journal begins later than somebody asks, if it does.
async fn before_the_beginning(kraken: &Kraken, since: &str) -> Result<Option<String>, Problem> {
    let since = times::passed(since, kraken.clock().now())?;
    let first = kraken.events(0, 1, None).await?.into_iter().next();
    Ok(first.map(|first| first.entry.at).filter(|begins| since < *begins).map(|begins| {
        format!("the journal begins at {}: what was before is not kept", begins.rfc3339())
    }))
}

/// The same answer, with a remark for whoever reads it.
fn noted(mut response: Response, note: Option<String>) -> Response {
    if let Some(note) = note.and_then(|note| HeaderValue::try_from(note).ok()) {
        response.headers_mut().insert(NOTE, note);
    }
    response
}

fn kinds(text: &str) -> Result<Vec<String>, Problem> {
    let kinds: Vec<String> = text.split(',').map(|kind| kind.trim().to_owned()).collect();
    match kinds.iter().find(|kind| !What::NAMES.contains(&kind.as_str())) {
        None => Ok(kinds),
        Some(unknown) => {
            let near = nearest(unknown, What::NAMES.iter().copied());
            let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            let names = What::NAMES.join(", ");
            let detail = format!("{unknown:?} is none{near}; there are {names}");
            Err(Problem::bad_request("not a kind of event", detail))
        }
    }
}

/// The numbers of what happened between two times.
pub(super) async fn span(
    kraken: &Kraken,
    since: Option<&str>,
    until: Option<&str>,
) -> Result<Span, Problem> {
    let now = kraken.clock().now();
    let mut span = Span { first: 0, end: u64::MAX };
    if let Some(since) = since {
        span.first = kraken.first_event(times::passed(since, now)?).await?;
    }
    if let Some(until) = until {
        let last = times::passed(until, now)?;
        span.end = kraken.first_event(last.plus(Duration::from_millis(1))).await?;
    }
    Ok(span)
}

impl Wanted {
    /// All that is told of one node.
    pub(super) fn of(node: NodeId) -> Self {
        Self { nodes: Some(std::iter::once(node).collect()), kinds: None }
    }

    fn is(&self, event: &Event) -> bool {
        let is_its = |set: &NodeSet| event.entry.node.as_ref().is_some_and(|n| set.contains(n));
        let is_one = |kinds: &Vec<String>| kinds.iter().any(|k| k == event.entry.what.name());
        self.nodes.as_ref().is_none_or(is_its) && self.kinds.as_ref().is_none_or(is_one)
    }
}

/// The events that are wanted, oldest first: the first ones of a span, or the last.
pub(super) async fn find(
    kraken: &Kraken,
    wanted: &Wanted,
    span: Span,
    limit: usize,
    is_from_start: bool,
) -> Result<Vec<Event>, Problem> {
    let mut found = Vec::new();
    match wanted.nodes.as_ref().filter(|set| set.len() <= FEW) {
        None => found = search(kraken, wanted, span, limit, is_from_start, None).await?,
        Some(few) => {
            for node in few.iter() {
                let node = Some(node.clone());
                found.extend(search(kraken, wanted, span, limit, is_from_start, node).await?);
            }
            found.sort_unstable_by_key(|event| event.seq);
        }
    }
    match is_from_start {
        true => found.truncate(limit),
        false => drop(found.drain(..found.len().saturating_sub(limit))),
    }
    Ok(found)
}

/// The same among the events of one node, or among all.
async fn search(
    kraken: &Kraken,
    wanted: &Wanted,
    mut span: Span,
    limit: usize,
    is_from_start: bool,
    node: Option<NodeId>,
) -> Result<Vec<Event>, Problem> {
    let mut found = Vec::new();
    while found.len() < limit {
        let page = match is_from_start {
            true => kraken.events(span.first, PAGE, node.clone()).await?,
            false => {
                let mut page = kraken.events_before(span.end, PAGE, node.clone()).await?;
                page.reverse();
                page
            }
        };
        let Some(last) = page.last().map(|event| event.seq) else { break };
        let is_within = |event: &Event| (span.first..span.end).contains(&event.seq);
        let is_end = !page.last().is_some_and(is_within);
        let room = limit - found.len();
        found.extend(page.into_iter().filter(|e| is_within(e) && wanted.is(e)).take(room));
        match is_from_start {
            _ if is_end => break,
            true => span.first = last + 1,
            false => span.end = last,
        }
    }
    if !is_from_start {
        found.reverse();
    }
    Ok(found)
}

/// Sends what was, then what is, until the reader goes. A reader that falls far behind is given
/// what it missed from the store.
async fn follow(
    kraken: Kraken,
    asked: Wanted,
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
            if asked.is(event) && sender.send(Ok(message(event))).await.is_err() {
                return;
            }
        }
    }
}

fn message(event: &Event) -> Message {
    let data = serde_json::to_string(event).unwrap_or_default();
    Message::default().id(event.seq.to_string()).data(data)
}
