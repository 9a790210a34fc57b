//! A response body that shares the file's memory, and knows when it was sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::events::{BootEvent, Reporter};

/// What the connection is handed at a time: enough for speed, little enough that "sent" is not said
/// long before it is true.
const CHUNK_BYTES: usize = 256 * 1024;

/// A part of a file on its way to one machine.
pub(super) struct FileBody {
    rest: Bytes,
    /// Told when the connection has taken the last byte.
    event: Option<BootEvent>,
    reporter: Reporter,
}

impl FileBody {
    pub(super) fn new(part: Bytes, event: Option<BootEvent>, reporter: Reporter) -> Self {
        Self { rest: part, event, reporter }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(CHUNK_BYTES);
        let chunk = self.rest.split_to(len);
        self.reporter.add(|c| &c.http_bytes, len as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// hyper drops the body when it has taken its last chunk into the connection, or when the connection
/// broke before that; then there is a rest.
impl Drop for FileBody {
    fn drop(&mut self) {
        if self.rest.is_empty()
            && let Some(event) = self.event.take()
        {
            self.reporter.report(Instant::now(), event);
        }
    }
}
