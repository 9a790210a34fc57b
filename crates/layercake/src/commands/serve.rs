//! `layercake serve`.

use super::Failure;
use crate::args::Serve;
use layercake_server::{Config, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) async fn run(options: Serve) -> Result<(), Failure> {
    let api_socket = options.api_socket.unwrap_or_else(|| options.run.join("api.sock"));
    let config = Config {
        cluster: options.cluster,
        state: options.state,
        run: options.run,
        minos: options.minos,
        modules: options.modules,
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
