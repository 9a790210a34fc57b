//! `layercake serve`.

use super::Failure;
use crate::args::Serve;
use layercake_server::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};

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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config).await?;
    tracing::info!("the API is at unix:{} and http://{}", api_socket.display(), server.address());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; machines and nodes go on as they are");
    server.shutdown().await;
    Ok(())
}
