//! Where the API listens: a unix socket of root's, and loopback.

use crate::api::Caller;
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The API cannot be listened for.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not this machine's alone.
    #[error(
        "the API cannot listen on {0}: without sign-in it answers on loopback only, such as 127.0.0.1:8470"
    )]
    NotLoopback(SocketAddr),
    /// The port cannot be had.
    #[error("cannot listen on {address} for the API; is another server running?")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {} for the API", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another server is there.
    #[error("another server is listening on {}; end it first", .0.display())]
    Taken(PathBuf),
}

/// The sockets of the API, open.
pub(crate) struct Listeners {
    unix: UnixListener,
    tcp: TcpListener,
    path: PathBuf,
}

impl Listeners {
    /// Opens both; the unix socket is for root alone.
    pub(crate) async fn open(path: &Path, address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Tcp { address, source })?;
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::Taken(path.to_owned()));
        }
        let at = |source| ListenError::Unix { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            // What a server that was killed left behind.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(error)),
        }
        let unix = UnixListener::bind(path).map_err(at)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at)?;
        Ok(Self { unix, tcp, path: path.to_owned() })
    }

    /// The address on loopback, with the port that was had.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop`; answers that are under way then are finished.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let ended = || stop.clone().cancelled_owned();
        let service = || router.clone().into_make_service_with_connect_info::<Caller>();
        let unix = axum::serve(self.unix, service()).with_graceful_shutdown(ended());
        let tcp = axum::serve(self.tcp, service()).with_graceful_shutdown(ended());
        let (unix, tcp) = tokio::join!(unix, tcp);
        for error in [unix.err(), tcp.err()].into_iter().flatten() {
            tracing::error!(%error, "the API broke off");
        }
        // The next server would remove it too.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_socket_is_roots_alone_and_never_taken_from_another_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let any = "127.0.0.1:0".parse().unwrap();
        let first = Listeners::open(&path, any).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.address().unwrap().ip().is_loopback());
        let second = Listeners::open(&path, any).await;
        assert!(matches!(second, Err(ListenError::Taken(_))));
        drop(first);
        // A socket that nobody listens on is what a killed server leaves.
        Listeners::open(&path, any).await.unwrap();
    }

    #[tokio::test]
    async fn the_machines_network_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let everywhere = "0.0.0.0:0".parse().unwrap();
        let refused = Listeners::open(&dir.path().join("s"), everywhere).await;
        assert!(matches!(refused, Err(ListenError::NotLoopback(_))));
    }
}
