//! Nodes that go and come: what they need to come back is kept with the change that takes them away.

use super::{Engineer, Reconfigured};
use crate::departed::{self, Departed};
use kraken_engine::{Command, Input};
use kraken_model::{Millis, NodeId};
use kraken_store::{StoreError, ValueWrite};
use std::sync::Arc;

/// What operators had said of nodes that come back, each with who said it.
pub(super) type SaidBefore = Vec<(Command, Arc<str>)>;

impl Engineer {
    /// Takes up who went before the start.
    pub(crate) async fn remember(&mut self) -> Result<(), StoreError> {
        let gone = self.keeper.with(departed::kept).await?;
        let gone = gone.into_iter().filter(|(node, _)| self.engine.node(node).is_none());
        self.departed = Departed::new(self.keeper.remembrance(), gone.collect());
        self.context.views.set_departed(self.departed.names());
        Ok(())
    }

    /// What has to be written together with a change, for those who go or come with it; and what is to be said again
    /// of those who come.
    pub(super) fn departing(
        &mut self,
        changed: &[Reconfigured],
        now: Millis,
    ) -> (Vec<ValueWrite>, SaidBefore) {
        let Self { engine, departed, marks, .. } = self;
        let of = |node: &NodeId| engine.node(node).map(|v| v.marks.clone()).unwrap_or_default();
        let mut writes = departed.writes(changed, now, of);
        let come = changed.iter().filter(|change| change.before.is_none());
        let said: SaidBefore = come.flat_map(|change| departed.said(&change.node, now)).collect();
        for (command, by) in &said {
            writes.extend(marks.writes(std::slice::from_ref(command), by, now));
        }
        (writes, said)
    }

    /// One who goes is remembered, before anybody is told that it went; one who comes is not any more.
    pub(super) fn departs(&mut self, changed: &Reconfigured, now: Millis) {
        let node = &changed.node;
        if changed.after.is_none() {
            let marks = self.engine.node(node).map(|view| view.marks.clone());
            self.departed.leave(node, now, marks.unwrap_or_default());
            self.context.views.depart(node);
        } else if changed.before.is_none() {
            self.departed.come(node);
        }
    }

    /// What operators had said of nodes that come back counts again.
    pub(super) async fn say_again(&mut self, said: SaidBefore) {
        for (command, by) in said {
            self.step(Input::Command { command, by }).await;
        }
    }

    /// Forgets those who went too long ago, or are too many. Until it is written they are forgotten at every start.
    pub(super) async fn forget_departed(&mut self) {
        let over = self.departed.forget(self.clock.now());
        if over.is_empty() {
            return;
        }
        let writes = departed::forgotten(&over);
        if let Err(error) = self.keeper.with(move |store| store.put_all(&writes)).await {
            tracing::error!(%error, "cannot remove nodes that went long ago from what is kept");
        }
        over.iter().for_each(|node| self.context.views.return_or_forget(node));
    }
}
