//! `layercake serve`.

use super::Failure;
use crate::args::Serve;
use layercake_server::{Config, Server};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) async fn run(options: Serve) -> Result<(), Failure> {
    let run = from_here(&options.run)?;
    let api_socket = match options.api_socket {
        Some(path) => from_here(&path)?,
        None => run.join("api.sock"),
    };
    let config = Config {
        cluster: options.cluster.as_deref().map(from_here).transpose()?,
        state: from_here(&options.state)?,
        run,
        minos: from_here(&options.minos)?,
        boot_programs: from_here(&options.boot_programs)?,
        modules: from_here(&options.modules)?,
        api_socket: api_socket.clone(),
        api_listen: options.api_listen,
    };
    // Taken before anything starts, so that no signal ends it half-way.
    let mut signals = Signals::take()?;
    let server = Server::start(config).await?;
    tracing::info!("the API is at unix:{} and http://{}", api_socket.display(), server.address());
    signals.end().await;
    tracing::info!("ending; machines and nodes go on as they are");
    server.shutdown().await;
    Ok(())
}

/// A path as it is meant: modules and machines run in directories of their own, from where a relative
/// one would mean something else.
fn from_here(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path);
    absolute.map_err(|error| format!("cannot use the path {}: {error}", path.display()).into())
}

/// The signals that end a server.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them: from here on they end nothing by themselves.
    pub(crate) fn take() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
