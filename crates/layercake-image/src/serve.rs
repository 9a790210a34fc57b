//! Images over HTTP: `GET` and `HEAD` of `/images/sha256/<hex>`.
//!
//! Whoever knows a digest may have the bytes: it cannot be guessed, and nodes learn it over a sealed
//! channel. Errors say nothing about what else is there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::poll_read_buf;

use crate::range::{RangeAnswer, parse_range};
use crate::{Digest, ImageStore};

/// How many transfers run at once; more are asked to come back. Each costs a file handle and up to
/// some hundred KiB of buffers.
pub const MAX_TRANSFERS: usize = 1024;
/// How much of an image is read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// When a client that was turned away should come back.
const RETRY_AFTER_SECS: &str = "2";

/// Counters of the image service; read them with [`snapshot`](Self::snapshot).
#[derive(Debug, Default)]
pub struct ServeCounters {
    full: AtomicU64,
    partial: AtomicU64,
    not_modified: AtomicU64,
    not_found: AtomicU64,
    unsatisfiable: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
    aborted: AtomicU64,
    bytes_sent: AtomicU64,
    active: AtomicU64,
}

/// Values of [`ServeCounters`] at one moment.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServeCounts {
    /// Answers with a whole image (200), also to `HEAD`.
    pub full: u64,
    /// Answers with a part (206).
    pub partial: u64,
    /// The client has it already (304).
    pub not_modified: u64,
    /// No such image (404).
    pub not_found: u64,
    /// A range that is not there (416).
    pub unsatisfiable: u64,
    /// Turned away because too many transfers ran (503).
    pub busy: u64,
    /// Images that could not be read (500, or cut off).
    pub failed: u64,
    /// Transfers that the client did not take to the end.
    pub aborted: u64,
    /// Bytes of images handed to connections.
    pub bytes_sent: u64,
    /// Transfers that run now.
    pub active: u64,
}

impl ServeCounters {
    /// The values now.
    #[must_use]
    pub fn snapshot(&self) -> ServeCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServeCounts {
            full: get(&self.full),
            partial: get(&self.partial),
            not_modified: get(&self.not_modified),
            not_found: get(&self.not_found),
            unsatisfiable: get(&self.unsatisfiable),
            busy: get(&self.busy),
            failed: get(&self.failed),
            aborted: get(&self.aborted),
            bytes_sent: get(&self.bytes_sent),
            active: get(&self.active),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone)]
struct Service {
    store: ImageStore,
    counters: Arc<ServeCounters>,
    slots: Arc<Semaphore>,
}

/// The routes of the image service.
pub fn router(store: ImageStore, counters: Arc<ServeCounters>) -> Router {
    let slots = Arc::new(Semaphore::new(MAX_TRANSFERS));
    Router::new().route("/images/sha256/{hex}", get(serve)).with_state(Service {
        store,
        counters,
        slots,
    })
}

async fn serve(
    State(service): State<Service>,
    Path(hex): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let counters = &service.counters;
    let digest =
        Some(&hex).filter(|hex| !hex.starts_with("sha256:")).and_then(|hex| hex.parse().ok());
    let Some(digest): Option<Digest> = digest else {
        count(&counters.not_found);
        return (StatusCode::NOT_FOUND, "no such image\n").into_response();
    };
    match answer(&service, digest, &method, &headers).await {
        Ok(response) => response,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            count(&counters.not_found);
            (StatusCode::NOT_FOUND, "no such image\n").into_response()
        }
        Err(_) => {
            count(&counters.failed);
            (StatusCode::INTERNAL_SERVER_ERROR, "the image cannot be read\n").into_response()
        }
    }
}

async fn answer(
    service: &Service,
    digest: Digest,
    method: &Method,
    headers: &HeaderMap,
) -> io::Result<Response> {
    let counters = &service.counters;
    let mut file = File::open(service.store.blob_path(&digest)).await?;
    let len = file.metadata().await?.len();
    let etag = format!("\"{digest}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let fixed = [
        (ETAG, etag.clone()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        // The name is the content: it never changes.
        (CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
    ];
    // RFC 9110, section 13.1.2, with weak comparison.
    let has_it = |list: &str| {
        list.split(',')
            .any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == etag)
    };
    if text(IF_NONE_MATCH).is_some_and(has_it) {
        count(&counters.not_modified);
        return Ok((StatusCode::NOT_MODIFIED, fixed).into_response());
    }
    // Section 13.1.5: a range of something else is no use; section 14.2: only for GET.
    let wanted = text(RANGE).filter(|_| method == Method::GET);
    let wanted = wanted.filter(|_| text(IF_RANGE).is_none_or(|condition| condition == etag));
    let (status, part) = match wanted.map_or(RangeAnswer::Whole, |range| parse_range(range, len)) {
        RangeAnswer::Whole => (StatusCode::OK, 0..len),
        RangeAnswer::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        RangeAnswer::Unsatisfiable => {
            count(&counters.unsatisfiable);
            let range = [(CONTENT_RANGE, format!("bytes */{len}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, fixed, range).into_response());
        }
    };
    let size = part.end - part.start;
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let Ok(slot) = Arc::clone(&service.slots).try_acquire_owned() else {
            count(&counters.busy);
            let later = [(RETRY_AFTER, RETRY_AFTER_SECS)];
            return Ok(
                (StatusCode::SERVICE_UNAVAILABLE, later, "too many transfers\n").into_response()
            );
        };
        file.seek(io::SeekFrom::Start(part.start)).await?;
        Body::new(Transfer::new(file.take(size), slot, Arc::clone(counters)))
    };
    count(if status == StatusCode::OK { &counters.full } else { &counters.partial });
    let content =
        [(CONTENT_TYPE, "application/vnd.squashfs".to_owned()), (CONTENT_LENGTH, size.to_string())];
    let mut response = (status, fixed, content, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
        response.headers_mut().extend(range.parse().map(|range| (CONTENT_RANGE, range)));
    }
    Ok(response)
}

/// Bytes of a file on their way to one client; read only when the connection takes more.
struct Transfer {
    file: Take<File>,
    buffer: BytesMut,
    counters: Arc<ServeCounters>,
    _slot: OwnedSemaphorePermit,
}

impl Transfer {
    fn new(file: Take<File>, slot: OwnedSemaphorePermit, counters: Arc<ServeCounters>) -> Self {
        count(&counters.active);
        Self { file, buffer: BytesMut::new(), counters, _slot: slot }
    }
}

impl HttpBody for Transfer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let left = this.file.limit();
        if left == 0 {
            return Poll::Ready(None);
        }
        this.buffer.reserve(CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES)));
        let read = ready!(poll_read_buf(Pin::new(&mut this.file), context, &mut this.buffer));
        Poll::Ready(Some(match read {
            Ok(0) => {
                count(&this.counters.failed);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                this.counters.bytes_sent.fetch_add(n as u64, Ordering::Relaxed);
                Ok(Frame::data(this.buffer.split().freeze()))
            }
            Err(error) => {
                count(&this.counters.failed);
                Err(error)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.file.limit() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.file.limit())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.counters.active.fetch_sub(1, Ordering::Relaxed);
        if self.file.limit() > 0 {
            count(&self.counters.aborted);
        }
    }
}
