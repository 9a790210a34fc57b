//! Parent and node in touch: the drivers around `kraken-sync`.

mod agent;
#[cfg(feature = "parent")]
mod datagrams;
mod link;
#[cfg(feature = "parent")]
mod listener;
#[cfg(feature = "parent")]
mod parent;
mod stream;

pub use agent::{Agent, AgentError, AgentOptions, LogLine};
#[cfg(feature = "parent")]
pub use parent::{OnLog, SyncError, SyncOptions, SyncParent, ToldCfg};

/// The module that mutations of joining and leaving belong to.
pub(crate) const MODULE: &str = "sync";

/// Randomness for secrets.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use ring::rand::SecureRandom;
    let mut bytes = [0; N];
    // Linux blocks until there is randomness, and then never fails.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::error!("the system gives no randomness");
        std::process::abort();
    }
    bytes
}
