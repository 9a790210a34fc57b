//! A module for benches.

use async_trait::async_trait;
use kraken::{Context, Failure, Module, Order};
use kraken_model::Change;
use kraken_plan::ModuleSet;
use std::sync::Arc;

/// Does at once what it is asked for.
pub(crate) struct Obedient(pub(crate) &'static str, pub(crate) Arc<ModuleSet>);

#[async_trait]
impl Module for Obedient {
    fn name(&self) -> &str {
        self.0
    }

    async fn take(&self, order: &Order, context: &Context) -> Result<(), Failure> {
        let id = self.1.mutation_named(&order.mutation).unwrap();
        let effects = &self.1.mutation(id).effects;
        let found = effects.iter().map(|e| Change::set(e.variable.clone(), Arc::clone(&e.to)));
        context.discover(&order.node, found.collect()).await;
        Ok(())
    }
}
