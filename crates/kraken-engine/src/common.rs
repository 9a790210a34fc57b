//! What engines that live side by side may hold in common.

use crate::interner::Interner;
use kraken_model::Registry;
use kraken_plan::{ModuleSet, PolicyCache};
use std::sync::{Arc, Mutex, PoisonError};

/// One copy, for many engines with the same modules in one process, of what each would find out again: the
/// policies, and what all of their nodes say alike. What an engine says is the same with it or
/// without; only memory and time are less.
#[derive(Clone, Debug)]
pub struct Common {
    pub(crate) set: Arc<ModuleSet>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) policies: Arc<Mutex<PolicyCache>>,
    pub(crate) interner: Arc<Mutex<Interner>>,
}

impl Common {
    /// Nothing yet, for engines with these modules and schemas.
    #[must_use]
    pub fn new(set: Arc<ModuleSet>, registry: Arc<Registry>) -> Self {
        Self { set, registry, policies: Arc::default(), interner: Arc::default() }
    }
}

/// Something of one engine, or of many.
#[derive(Debug)]
pub(crate) enum Sharing<T> {
    Own(Box<T>),
    Common(Arc<Mutex<T>>),
}

impl<T: Default> Default for Sharing<T> {
    fn default() -> Self {
        Self::Own(Box::default())
    }
}

impl<T> Sharing<T> {
    #[inline]
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> R {
        match self {
            Self::Own(held) => work(held),
            Self::Common(held) => work(&mut held.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
