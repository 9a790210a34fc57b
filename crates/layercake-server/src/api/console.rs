//! Consoles of machines, and what images print.

use super::{Problem, select};
use crate::server::App;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use layercake_power::Console;
use serde::Deserialize;
use std::convert::Infallible;
use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// How much of a console's past is shown before its present, in bytes.
const PAST: u64 = 64 * 1024;

/// How often a console's log is looked at for more. It is a file that a hypervisor writes; nothing
/// tells when.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long keys may take to reach a console.
const TYPE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Whether to go on with what comes from then on.
    #[serde(default)]
    follow: bool,
}

async fn console_of(app: &App, name: &str) -> Result<Console, Problem> {
    let node = select::node(app, name)?;
    let cfg = app.kraken()?.views().get(&node).map(|view| view.cfg).unwrap_or_default();
    let none = |detail: String| Problem::new(StatusCode::CONFLICT, "no console", detail);
    app.running()?.machines.console(&node, &cfg).await.map_err(none)
}

/// What a console said, from its log: any number of people can look on.
pub(super) async fn read(
    State(app): State<Arc<App>>,
    Path(node): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let console = console_of(&app, &node).await?;
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(tail(console.log, asked.follow, sender, app.kraken()?.stopping()));
    Ok(Body::from_stream(ReceiverStream::new(receiver)).into_response())
}

/// Sends the end of a file, and then what is added to it. A file that is replaced or cut, as when
/// a machine is switched on again, is read anew.
async fn tail(
    path: std::path::PathBuf,
    follow: bool,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    stop: CancellationToken,
) {
    let length = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
    let mut position = length.saturating_sub(PAST);
    loop {
        let length = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
        if length < position {
            position = 0;
        }
        if length > position {
            let piece = piece(&path, position, length - position).await;
            position += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if sender.send(piece).await.is_err() {
                return;
            }
            continue;
        }
        if !follow {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sender.closed() => return,
            () = stop.cancelled() => return,
        }
    }
}

async fn piece(path: &std::path::Path, from: u64, length: u64) -> std::io::Result<Bytes> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(from)).await?;
    let mut bytes = Vec::new();
    file.take(length.min(PAST)).read_to_end(&mut bytes).await?;
    Ok(bytes.into())
}

/// Types something into a console.
pub(super) async fn write(
    State(app): State<Arc<App>>,
    Path(node): Path<String>,
    keys: Bytes,
) -> Result<Json<serde_json::Value>, Problem> {
    let console = console_of(&app, &node).await?;
    let typing = async {
        let mut socket = UnixStream::connect(&console.socket).await?;
        socket.write_all(&keys).await?;
        socket.shutdown().await
    };
    let typed = tokio::time::timeout(TYPE_WITHIN, typing).await;
    let typed = typed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    typed.map_err(|error| {
        let detail = format!("{node} does not take keys: {error}; is it on?");
        Problem::new(StatusCode::CONFLICT, "not typed", detail)
    })?;
    Ok(Json(serde_json::json!({})))
}

/// What the images of a node printed, as far as it reached the server.
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Path(node): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let node = select::node(&app, &node)?;
    let (sender, receiver) = mpsc::channel(64);
    let (past, mut live) = app.running()?.logs.read(&node);
    let stop = app.kraken()?.stopping();
    tokio::spawn(async move {
        for line in past {
            if sender.send(Ok::<_, Infallible>(line)).await.is_err() {
                return;
            }
        }
        if !asked.follow {
            return;
        }
        loop {
            let received = tokio::select! {
                received = live.recv() => received,
                () = sender.closed() => return,
                () = stop.cancelled() => return,
            };
            let line = match received {
                Ok((of, line)) if of == node => line,
                Err(RecvError::Closed) => return,
                // Of another node; or there was more than a slow reader took.
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
            };
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)).into_response())
}
