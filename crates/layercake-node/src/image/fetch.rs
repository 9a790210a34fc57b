//! Bringing an image to the node: HTTP, resumed after a break, verified while it streams.
//!
//! `GET {base}/sha256/<hex>`, with `Range: bytes=N-` (RFC 9110 section 14) once N bytes are here.
//! Anyone may serve the bytes; what counts is that they have the digest that was asked for.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, HOST, RANGE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use layercake_seed::ImageBase;
use tokio::net::TcpStream;

use super::digest::Hasher;
use super::{Digest, Store};

/// How often in a row the transfer may break without one byte of progress.
pub const MAX_FRUITLESS_ATTEMPTS: u32 = 5;
/// The first pause before trying again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A server that is silent for so long is as good as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// How far a fetch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of which image.
    pub digest: Digest,
    /// Bytes here.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Why an image could not be brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It does not fit.
    #[error("the image has {size} bytes, and only {room} are free on this node")]
    NoRoom {
        /// What it needs.
        size: u64,
        /// What there is.
        room: u64,
    },
    /// The store cannot be used.
    #[error("cannot use the image store at {path}")]
    Store {
        /// Which file or directory.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// The server has other bytes.
    #[error("the image is corrupt: {url} serves {found}; import the image again on the server")]
    Corrupt {
        /// Where it came from.
        url: String,
        /// What it is.
        found: Digest,
    },
    /// The server has another number of bytes.
    #[error("{url} has {found} bytes where {expected} were expected")]
    Size {
        /// Where it came from.
        url: String,
        /// What cfg says.
        expected: u64,
        /// What the server says.
        found: u64,
    },
    /// The server refuses.
    #[error("{url} answers {status}")]
    Refused {
        /// Where it was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The connection broke too often.
    #[error("cannot fetch {url}, {attempts} attempts in a row brought nothing")]
    Broken {
        /// Where it was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// The last reason.
        #[source]
        source: TransferError,
    },
}

/// Why one attempt ended early. Another may go further.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// HTTP failed.
    #[error("the transfer broke")]
    Http(#[source] hyper::Error),
    /// Nothing came.
    #[error("the server was silent for {} s", SILENCE_LIMIT.as_secs())]
    Silent,
    /// The server is busy or has a passing fault.
    #[error("the server answers {0}")]
    Busy(StatusCode),
    /// The server sent another part than was asked for.
    #[error("the server sent a part that was not asked for")]
    WrongPart,
    /// It ended before all bytes were here.
    #[error("the server closed the connection early")]
    Early,
}

enum Ended {
    Fatal(FetchError),
    MayRetry(TransferError),
}

impl From<TransferError> for Ended {
    fn from(error: TransferError) -> Self {
        Self::MayRetry(error)
    }
}

impl From<FetchError> for Ended {
    fn from(error: FetchError) -> Self {
        Self::Fatal(error)
    }
}

/// The part that is here: its file, its length, and the hash of what is in it.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    done: u64,
}

impl Partial {
    /// Takes up what an earlier run left.
    fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut partial =
            Self { path: path.to_owned(), file: file.try_clone()?, hasher: Hasher::new(), done: 0 };
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    partial.hasher.update(&buffer[..read]);
                    partial.done += read as u64;
                }
            }
        }
        if partial.done > size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.hasher = Hasher::new();
        self.done = 0;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn store_error(&self, source: io::Error) -> FetchError {
        FetchError::Store { path: self.path.clone(), source }
    }
}

/// One image to bring from one server.
pub struct Fetch<'a> {
    /// Below which URL images lie.
    pub base: &'a ImageBase,
    /// Where it goes.
    pub store: &'a Store,
    /// Which image.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Told about every piece.
    pub on_progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Fetch<'_> {
    /// Brings the image into the store, unless it is there.
    ///
    /// Cancel-safe: what was received stays as a partial file and is taken up by the next fetch.
    pub async fn run(&self) -> Result<(), FetchError> {
        if self.store.has(self.digest) {
            return Ok(());
        }
        let path = self.store.partial_path(self.digest);
        let mut partial = self.open_partial(path).await?;
        let room = self.store.room_bytes().map_err(|source| partial.store_error(source))?;
        if self.size.saturating_sub(partial.done) > room {
            return Err(FetchError::NoRoom { size: self.size, room });
        }
        let mut fruitless = 0;
        while partial.done < self.size {
            let before = partial.done;
            match self.attempt(&mut partial).await {
                Ok(()) => {}
                Err(Ended::Fatal(error)) => return Err(error),
                Err(Ended::MayRetry(source)) => {
                    fruitless = if partial.done > before { 0 } else { fruitless + 1 };
                    if fruitless >= MAX_FRUITLESS_ATTEMPTS {
                        return Err(FetchError::Broken {
                            url: self.url(),
                            attempts: fruitless,
                            source,
                        });
                    }
                    tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(fruitless)).await;
                }
            }
        }
        self.finish(partial)
    }

    async fn open_partial(&self, path: PathBuf) -> Result<Partial, FetchError> {
        let size = self.size;
        // Hashing what is there may take a second: not on the thread that sends hellos.
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Partial::open(&path, size)
        });
        match opened.await {
            Ok(Ok(partial)) => Ok(partial),
            Ok(Err(source)) => Err(FetchError::Store { path, source }),
            Err(stopped) => Err(FetchError::Store { path, source: io::Error::other(stopped) }),
        }
    }

    fn finish(&self, partial: Partial) -> Result<(), FetchError> {
        let path = partial.path.clone();
        let found = partial.hasher.finish();
        let store_error = |source| FetchError::Store { path: path.clone(), source };
        if found != self.digest {
            fs::remove_file(&path).map_err(store_error)?;
            return Err(FetchError::Corrupt { url: self.url(), found });
        }
        fs::rename(&path, self.store.path(self.digest)).map_err(store_error)
    }

    fn path(&self) -> String {
        format!("{}/sha256/{}", self.base.path(), self.digest.to_hex())
    }

    fn url(&self) -> String {
        format!("http://{}{}", self.base.addr(), self.path())
    }

    /// One connection, as far as it goes.
    async fn attempt(&self, partial: &mut Partial) -> Result<(), Ended> {
        let connect = TcpStream::connect(self.base.addr());
        let stream = in_time(connect).await?.map_err(TransferError::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(TransferError::Http)?;
        let mut request = Request::get(self.path()).header(HOST, self.base.addr().to_string());
        if partial.done > 0 {
            request = request.header(RANGE, format!("bytes={}-", partial.done));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| FetchError::Refused {
            url: self.url(),
            status: StatusCode::BAD_REQUEST,
        })?;
        // The connection is driven beside the transfer, on this task, so that it ends with it.
        let transfer = async {
            let sending = sender.send_request(request);
            let response = in_time(sending).await?.map_err(TransferError::Http)?;
            self.receive(response, partial).await
        };
        tokio::pin!(connection);
        tokio::pin!(transfer);
        let mut connection_is_open = true;
        loop {
            // Both arms only borrow: a step of one loses nothing of the other.
            tokio::select! {
                ended = &mut transfer => return ended,
                _ = &mut connection, if connection_is_open => connection_is_open = false,
            }
        }
    }

    async fn receive(
        &self,
        response: Response<Incoming>,
        partial: &mut Partial,
    ) -> Result<(), Ended> {
        self.check_answer(&response, partial)?;
        let mut body = response.into_body();
        while let Some(frame) = in_time(body.frame()).await? {
            let Ok(bytes) = frame.map_err(TransferError::Http)?.into_data() else { continue };
            if partial.done + bytes.len() as u64 > self.size {
                let found = partial.done + bytes.len() as u64;
                fs::remove_file(&partial.path).map_err(|source| partial.store_error(source))?;
                return Err(self.wrong_size(found).into());
            }
            partial.append(&bytes).map_err(|source| partial.store_error(source))?;
            (self.on_progress)(Progress {
                digest: self.digest,
                done: partial.done,
                total: self.size,
            });
        }
        if partial.done < self.size { Err(TransferError::Early.into()) } else { Ok(()) }
    }

    /// Makes what is here fit to what the server is about to send.
    fn check_answer(
        &self,
        response: &Response<Incoming>,
        partial: &mut Partial,
    ) -> Result<(), Ended> {
        let status = response.status();
        match status {
            StatusCode::OK => {
                partial.restart().map_err(|source| partial.store_error(source))?;
                let length = hyper::body::Body::size_hint(response.body()).exact();
                match length.filter(|length| *length != self.size) {
                    Some(found) => Err(self.wrong_size(found).into()),
                    None => Ok(()),
                }
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
                match range.and_then(parse_content_range) {
                    Some((start, total))
                        if start == partial.done && total.is_none_or(|t| t == self.size) =>
                    {
                        Ok(())
                    }
                    Some((_, Some(found))) if found != self.size => {
                        Err(self.wrong_size(found).into())
                    }
                    _ => {
                        partial.restart().map_err(|source| partial.store_error(source))?;
                        Err(TransferError::WrongPart.into())
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart().map_err(|source| partial.store_error(source))?;
                Err(TransferError::WrongPart.into())
            }
            StatusCode::TOO_MANY_REQUESTS => Err(TransferError::Busy(status).into()),
            _ if status.is_server_error() => Err(TransferError::Busy(status).into()),
            _ => Err(FetchError::Refused { url: self.url(), status }.into()),
        }
    }

    fn wrong_size(&self, found: u64) -> FetchError {
        FetchError::Size { url: self.url(), expected: self.size, found }
    }
}

async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, TransferError> {
    tokio::time::timeout(SILENCE_LIMIT, step).await.map_err(|_| TransferError::Silent)
}

/// `bytes 5-9/10` or `bytes 5-9/*` (RFC 9110 section 14.4): where it starts, and the whole length.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_as_the_rfc_writes_them() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["bytes */10", "5-9/10", "bytes 5-9", "bytes x-9/10", ""] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
