//! What a restart of a node is, as an application declares it.

use kraken_model::{Document, Path, Value};
use std::sync::Arc;

/// What is wanted of a node while it is restarted, instead of what its cfg says.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The variable that has to be passed through, and the value of it at which the restart is half done.
    pub off: (Path, Arc<str>),
    /// What cannot be wanted of a node that is off.
    pub drops: Vec<Path>,
    /// What cfg says besides when nothing is stopped first: guards look at it.
    pub hard: (Path, Value),
}

impl Restart {
    /// What is wanted until the node is off.
    #[must_use]
    pub fn passing(&self, cfg: &Document, is_hard: bool) -> Document {
        let mut cfg = cfg.clone();
        self.drops.iter().for_each(|path| drop(cfg.remove(path.as_str())));
        cfg.set(self.off.0.clone(), &*self.off.1);
        if is_hard {
            cfg.set(self.hard.0.clone(), self.hard.1.clone());
        }
        cfg
    }
}
