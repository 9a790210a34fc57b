//! Nodes that ran as they should when they were cut off: recovered once at the most, and only if their policy says so.

use kraken_engine::Silence;
use kraken_model::{Document, Millis};
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of what was discovered a crash of the parent may cost.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// The words of cfg that say that a silent node is not recovered.
const LEFT_ALONE: [&str; 2] = ["wait", "ask"];

/// Every node that is cut off, by its number.
#[derive(Debug, Default)]
pub(crate) struct Recoveries(BTreeMap<usize, Lonely>);

/// A node that is cut off, and ran as it should until then.
#[derive(Debug, Default)]
struct Lonely {
    /// When a step was done that ends what runs on it.
    recovered: Option<Millis>,
    /// A person said that it may be recovered once more.
    is_granted: bool,
}

impl Recoveries {
    /// A node that runs as it should is cut off.
    pub(crate) fn begin(&mut self, n: usize) {
        self.0.entry(n).or_default();
    }

    /// It can be reached again, or something else has happened to it.
    pub(crate) fn end(&mut self, n: usize) {
        self.0.remove(&n);
    }

    /// A step that ends what runs on a node is done.
    pub(crate) fn done(&mut self, n: usize, now: Millis) {
        if let Some(lonely) = self.0.get_mut(&n) {
            *lonely = Lonely { recovered: Some(now), is_granted: false };
        }
    }

    /// A person says that there may be another one.
    pub(crate) fn grant(&mut self, n: usize) {
        if let Some(lonely) = self.0.get_mut(&n) {
            *lonely = Lonely { recovered: None, is_granted: true };
        }
    }

    /// The parent has crashed, and was last alive then.
    pub(crate) fn crash(&mut self, last: Millis) {
        for lonely in self.0.values_mut() {
            lonely.recovered.take_if(|at| last.since(*at) <= FORGOTTEN);
        }
    }

    /// Why a node must not be recovered, if so.
    pub(crate) fn forbid(&self, n: usize, cfg: &Document, silence: &Silence) -> Option<String> {
        let lonely = self.0.get(&n).filter(|lonely| !lonely.is_granted)?;
        // What a person wants of a machine is no recovery.
        cfg.get(silence.variable.as_str())?;
        let policy = cfg.text(silence.policy.as_str());
        if lonely.recovered.is_some() {
            return Some("and was recovered once already, and is cut off".to_owned());
        }
        let policy = policy.filter(|policy| LEFT_ALONE.contains(policy))?;
        Some(format!("and is cut off, and its policy is to {policy}"))
    }
}
