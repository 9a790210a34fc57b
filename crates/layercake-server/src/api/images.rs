//! Images in the store.

use super::Problem;
use crate::server::App;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use kraken_model::NodeSet;
use layercake_image::{Cancel, ImageInfo, ImportError, ImportOptions, Source, StoreError, Tag};
use serde::Deserialize;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Importing {
    /// What the image is called from then on.
    name: String,
    /// The main process, as a JSON list; without, the image is one with systemd.
    command: Option<String>,
}

fn refused(error: &StoreError) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not done", super::chain(error))
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<ImageInfo>>, Problem> {
    let store = app.images.clone();
    let listed = spawn_blocking(move || store.list()).await;
    let listed = listed.map_err(|error| Problem::internal("cannot list the images", &error))?;
    listed.map(Json).map_err(|error| refused(&error))
}

/// One image, by its name or digest.
pub(super) async fn inspect(
    State(app): State<Arc<App>>,
    Path(image): Path<String>,
) -> Result<Json<ImageInfo>, Problem> {
    let store = app.images.clone();
    let inspected = spawn_blocking(move || store.inspect(&image)).await;
    let inspected =
        inspected.map_err(|error| Problem::internal("cannot read the image", &error))?;
    inspected.map(Json).map_err(|error| match &error {
        StoreError::Unknown { .. } => Problem::not_found("no such image", super::chain(&error)),
        _ => refused(&error),
    })
}

/// The largest part of a refused upload that is still read, so that who sends it hears why.
const MAX_DISCARDED: usize = 1 << 30;

/// Imports a tar archive or squashfs that is sent as the body.
pub(super) async fn import(
    State(app): State<Arc<App>>,
    Query(asked): Query<Importing>,
    body: Body,
) -> Result<Json<ImageInfo>, Problem> {
    let bad = |detail: String| Problem::bad_request("cannot import that", detail);
    let tag: Tag = asked.name.parse().map_err(|e: layercake_image::TagError| bad(e.to_string()))?;
    let command = asked.command.as_deref().map(serde_json::from_str::<Vec<String>>).transpose();
    let command = command.map_err(|e| bad(format!("the command is no JSON list: {e}")))?;
    let options = ImportOptions {
        tag: Some(tag.clone()),
        command: command.unwrap_or_default(),
        ..ImportOptions::default()
    };
    // Who hangs up has called the import off, also while the archive is packed.
    let _called_off = CalledOff(options.cancel.clone());
    let (sender, receiver) = mpsc::channel(4);
    let store = app.images.clone();
    let importing = spawn_blocking(move || {
        let upload = Upload { pieces: receiver, rest: Bytes::new(), ended: false };
        let source = Source::stream("the upload", upload);
        store.import(&source, &options, &mut |_| {})?;
        Ok::<_, ImportError>(store.inspect(tag.as_str())?)
    });
    feed(body, sender).await;
    let imported = importing.await;
    let imported = imported.map_err(|e| Problem::internal("the import broke off", &e))?;
    let mut imported = imported.map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not imported", super::chain(&error))
    })?;
    imported.meta.remarks.extend(runs_nowhere(&app, imported.meta.arch.as_deref()));
    Ok(Json(imported))
}

/// A remark on an image that no node of the cluster can run.
fn runs_nowhere(app: &App, arch: Option<&str>) -> Option<String> {
    let (arch, known) = (arch?, app.architectures());
    let runs = known.iter().any(|machine| layercake_schema::runs_on(arch, machine));
    if known.is_empty() || runs {
        return None;
    }
    let known: Vec<_> = known.into_iter().collect();
    Some(format!("it is built for {arch}, and the nodes of the cluster are {}", known.join(", ")))
}

struct CalledOff(Cancel);

impl Drop for CalledOff {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A part of an upload. Only after the end nothing is missing: a channel that closes without it is an
/// upload that broke off.
enum Piece {
    Data(Bytes),
    End,
    Broken(String),
}

/// Passes a request's body on, piece by piece, until its end, or until nobody reads any more.
async fn feed(mut body: Body, pieces: mpsc::Sender<Piece>) {
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => Piece::Data(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => Piece::Broken(format!("the upload broke off: {error}")),
        };
        let length = if let Piece::Data(data) = &piece { data.len() } else { 0 };
        if pieces.is_closed() || pieces.send(piece).await.is_err() {
            discarded += length;
            if discarded > MAX_DISCARDED {
                return;
            }
        }
    }
    // The import has ended already if this cannot be sent.
    let _ = pieces.send(Piece::End).await;
}

/// A body, read where blocking is allowed. An upload that broke off is an error and not an end: a
/// cut archive could look whole.
struct Upload {
    pieces: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.rest = data,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Broken(why)) => return Err(io::Error::other(why)),
                None => return Err(io::Error::other("the upload broke off")),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(image): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let used = app.image_users(&image);
    if !used.is_empty() {
        let (count, nodes) = (used.len(), NodeSet::from_iter(used).fold());
        let who = if count == 1 { "1 node runs".to_owned() } else { format!("{count} nodes run") };
        let detail = format!("{who} this image, or should: {nodes}; give them another one first");
        return Err(Problem::new(StatusCode::CONFLICT, "in use", detail));
    }
    let store = app.images.clone();
    let removing = spawn_blocking(move || match image.parse::<Tag>() {
        Ok(tag) => store.untag(&tag),
        Err(_) => store.remove(&store.inspect(&image)?.meta.digest),
    });
    let removed = removing.await;
    let removed = removed.map_err(|error| Problem::internal("cannot remove the image", &error))?;
    removed.map_err(|error| refused(&error))?;
    Ok(Json(serde_json::json!({})))
}
