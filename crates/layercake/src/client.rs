//! Talks to the server's API, over its unix socket or over loopback.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use layercake_server::api::Problem;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How much of a stream is sent at a time.
const CHUNK: usize = 256 * 1024;

/// The largest answer that is read as a whole.
const MAX_ANSWER: usize = 1 << 30;

/// Where the server's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Http(String),
}

/// A server that cannot be talked to, or that refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "cannot reach the server at {address}; is `layercake serve` running? \
         name another place with --server or LAYERCAKE_SERVER"
    )]
    Connect { address: Address, source: std::io::Error },
    #[error("the connection to the server broke")]
    Broken(#[from] hyper::Error),
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
    #[error("{0}")]
    Refused(Problem),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").map(|a| a.trim_end_matches('/'));
        match (text.strip_prefix("unix:"), authority) {
            (Some(path), _) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            (_, Some(authority)) if !authority.is_empty() && !authority.contains('/') => {
                Ok(Self::Http(authority.to_owned()))
            }
            _ => Err("use unix:/path/of/the/socket or http://127.0.0.1:PORT".to_owned()),
        }
    }
}

/// The header of an answer that holds a remark on it.
const NOTE: &str = "layercake-note";

/// A way to the server. Every request is a connection of its own: the command line makes few.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: Address,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Body = BoxBody<Bytes, std::io::Error>;

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

impl Client {
    async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        let connected: Result<Box<dyn Stream>, _> = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).await.map(|s| Box::new(s) as _),
            Address::Http(authority) => {
                TcpStream::connect(authority).await.map(|s| Box::new(s) as _)
            }
        };
        connected.map_err(|source| ClientError::Connect { address: self.address.clone(), source })
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        let response = sender.send_request(request).await?;
        if response.status().is_success() {
            // What the server remarks on its answer; the answer itself may be read by a program.
            let note = response.headers().get(NOTE).and_then(|note| note.to_str().ok());
            note.into_iter().for_each(crate::show::note);
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        Err(ClientError::Refused(problem(status, &bytes)))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Request<Body>, ClientError> {
        let host = match &self.address {
            Address::Unix(_) => "localhost",
            Address::Http(authority) => authority,
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .body(body)
            .map_err(|error| ClientError::Nonsense(error.to_string()))
    }

    /// An answer, read as a whole.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        answer(self.send(self.request(Method::GET, path, empty())?).await?).await
    }

    /// Sends JSON, and reads the answer as a whole.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, ClientError> {
        let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
        let mut request = self.request(Method::POST, path, body.boxed())?;
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        answer(self.send(request).await?).await
    }

    /// Sends text or bytes, and reads the answer as a whole.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<T, ClientError> {
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
        answer(self.send(self.request(Method::POST, path, body)?).await?).await
    }

    /// Takes something away.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        answer(self.send(self.request(Method::DELETE, path, empty())?).await?).await
    }

    /// Sends a stream, telling `sent` how many bytes have gone, and reads the answer as a whole.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        mut source: impl AsyncRead + Send + Sync + Unpin + 'static,
        mut sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<T, ClientError> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = source.read(&mut chunk).await;
                let last = !matches!(read, Ok(1..));
                let frame = read.map(|length| {
                    chunk.truncate(length);
                    sent(length as u64);
                    Frame::data(Bytes::from(chunk))
                });
                let end = last && frame.is_ok();
                if end || sender.send(frame).await.is_err() || last {
                    return;
                }
            }
        });
        let stream = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let body = BodyExt::boxed(stream);
        answer(self.send(self.request(Method::POST, path, body)?).await?).await
    }

    /// An answer that goes on, once the server has said that there is one.
    pub(crate) async fn open(&self, path: &str) -> Result<Pieces, ClientError> {
        Ok(Pieces(self.send(self.request(Method::GET, path, empty())?).await?.into_body()))
    }
}

/// An answer that goes on.
pub(crate) struct Pieces(Incoming);

impl Pieces {
    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.0.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

async fn answer<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
    let collected = body.collect().await.map_err(|e| ClientError::Nonsense(e.to_string()))?;
    let bytes = collected.to_bytes();
    let bytes = if bytes.is_empty() { &b"null"[..] } else { &bytes[..] };
    serde_json::from_slice(bytes).map_err(|error| ClientError::Nonsense(error.to_string()))
}

fn problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        status: status.as_u16(),
        title: "refused".to_owned(),
        detail: format!("{status} {}", String::from_utf8_lossy(&body[..body.len().min(200)])),
        errors: Vec::new(),
        confirm: None,
    })
}

/// Text as part of a query (RFC 3986 §2.1).
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

/// A path with those parts of a query that are there.
pub(crate) fn path(what: &str, query: &[(&str, Option<&str>)]) -> String {
    let mut path = what.to_owned();
    for (key, value) in query.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
        let joint = if path.contains('?') { '&' } else { '?' };
        path.push_str(&format!("{joint}{key}={}", quoted(value)));
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_url() {
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        assert_eq!("http://127.0.0.1:1/".parse(), Ok(Address::Http("127.0.0.1:1".into())));
        for bad in ["", "unix:", "unix:x", "http://", "https://a", "/run/x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_set_survives_a_query() {
        assert_eq!(quoted("ml[001-130],!@a"), "ml%5B001-130%5D%2C%21%40a");
        let query = [("nodes", Some("n1&n2")), ("since", None), ("until", Some("2h"))];
        assert_eq!(path("/v1/events", &query), "/v1/events?nodes=n1%26n2&until=2h");
    }
}
