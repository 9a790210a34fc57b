//! Runs the processes that a JSON object declares, until Ctrl-C or SIGTERM:
//!
//! ```text
//! procs state.redb '{"web": ["sleep", "1000"], "db": ["sleep", "2000"]}'
//! ```

use kraken::{Keeper, Kraken, Options, Settings};
use kraken_model::NodeId;
use kraken_store::Embedded;
use procs::{Procs, ProcsModule, declared, running};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let (Some(state), Some(wanted)) = (arguments.next(), arguments.next()) else {
        return Err("usage: procs STATE-FILE '{\"name\": [\"program\", \"argument\"]}'".into());
    };
    // Taken before anything is started: whatever ends this program ends its processes too.
    let mut terminate = signal(SignalKind::terminate())?;
    let wanted: BTreeMap<String, Vec<String>> = serde_json::from_str(&wanted)?;
    let (registry, modules) = declared()?;
    let (kraken, tasks) = Kraken::start(Options {
        registry,
        modules,
        hosted: vec![Arc::new(ProcsModule(Arc::new(Procs::default())))],
        keeper: Keeper::new(Box::new(Embedded::open(Path::new(&state))?)),
        settings: Settings::default(),
    })
    .await?;

    let mut writes: BTreeMap<NodeId, _> = BTreeMap::new();
    for known in kraken.views().all().into_keys() {
        writes.insert(known, None);
    }
    for (name, command) in &wanted {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        writes.insert(NodeId::new(name)?, Some(running(&command)));
    }
    kraken.configure(writes.into_iter().collect(), "command line").await?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    kraken.stop();
    drop(kraken);
    tasks.ended().await;
    Ok(())
}
