//! Images in the store.

use super::Problem;
use crate::server::App;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use layercake_image::{ImageInfo, ImportError, ImportOptions, Source, StoreError, Tag};
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
    let (sender, receiver) = mpsc::channel(4);
    let store = app.images.clone();
    let importing = spawn_blocking(move || {
        let upload = Upload { pieces: receiver, rest: Bytes::new() };
        let source = Source::stream("the upload", upload);
        store.import(&source, &options, &mut |_| {})?;
        Ok::<_, ImportError>(store.inspect(tag.as_str())?)
    });
    feed(body, sender).await;
    let imported = importing.await;
    let imported = imported.map_err(|e| Problem::internal("the import broke off", &e))?;
    imported.map(Json).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not imported", super::chain(&error))
    })
}

/// Passes a request's body on, piece by piece, until its end, or until nobody reads any more.
async fn feed(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => Err(io::Error::other(format!("the upload broke off: {error}"))),
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// A body, read where blocking is allowed. An upload that broke off is an error and not an end: a
/// cut archive could look whole.
struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
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
        let nodes: Vec<&str> = used.iter().map(|node| node.as_str()).collect();
        let detail = format!("{} run it: give them another image first", nodes.join(", "));
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
