//! Join messages on a TLS stream.

use crate::tls::EXPORTER_LABEL;
#[cfg(feature = "parent")]
use kraken_sync::JoinRequest;
use kraken_sync::{JoinError, JoinReply, message_len};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A join did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("the join message is not good")]
    Message(#[from] JoinError),
    #[error("the session has no secret to export")]
    Secret(#[source] rustls::Error),
}

async fn body(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, StreamError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; message_len(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

#[cfg(feature = "parent")]
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<JoinRequest, StreamError> {
    Ok(JoinRequest::decode(&body(stream).await?)?)
}

pub(crate) async fn read_reply(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<JoinReply, StreamError> {
    Ok(JoinReply::decode(&body(stream).await?)?)
}

/// Sends what was encoded, to the last byte.
pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    encoded: Result<Vec<u8>, JoinError>,
) -> Result<(), StreamError> {
    stream.write_all(&encoded?).await?;
    Ok(stream.flush().await?)
}

/// The secret that both ends of a TLS session know and nobody else: the keys of the datagrams are
/// derived from it.
pub(crate) fn secret<Data>(
    connection: &rustls::ConnectionCommon<Data>,
) -> Result<[u8; 32], StreamError> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(StreamError::Secret)
}
