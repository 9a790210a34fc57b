//! Changes of what nodes should be: evaluated where all of them are ordered, and durable before anything
//! follows from them.

use super::Engineer;
use crate::runtime::KrakenError;
use kraken_engine::{Entry, Input, Limit, Storm, What};
use kraken_model::{Document, NodeId, Patch, diff};
use kraken_store::{CfgWrite, ValueWrite};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A change of what nodes should be, and of what belongs to it. All of it is done or, on an error, nothing.
#[derive(Clone, Debug, Default)]
pub struct CfgChange {
    /// How nodes change. Each patch is evaluated against what its node should be when its turn comes, which
    /// need not be what whoever made it has seen.
    pub nodes: Vec<(NodeId, Patch)>,
    /// Whether nodes that are not named are taken away.
    pub is_whole: bool,
    /// The revision at which it is right; at any other one it is refused. `None`: at any.
    pub at: Option<u64>,
    /// The limits that hold from then on; `None`: those that hold already.
    pub limits: Option<Vec<Limit>>,
    /// The storm guard that counts from then on; `None`: the one that counts already. Storms that last go on.
    pub storm: Option<Storm>,
    /// Values of the store that are written in the same transaction.
    pub values: Vec<ValueWrite>,
}

/// Result of a change of what nodes should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The revision that the nodes have now.
    pub revision: u64,
    /// The nodes that should be something else now, in the order of their names.
    pub nodes: Vec<Reconfigured>,
}

/// A node that should be something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfigured {
    /// The node.
    pub node: NodeId,
    /// What it should have been; `None`: there was no such node.
    pub before: Option<Document>,
    /// What it should be; `None`: the node was taken away.
    pub after: Option<Document>,
}

impl CfgChange {
    /// These patches, and nothing else.
    #[must_use]
    pub fn of(nodes: Vec<(NodeId, Patch)>) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// These documents and no other nodes.
    #[must_use]
    pub fn whole(nodes: &BTreeMap<NodeId, Document>) -> Self {
        let replaced = nodes.iter().map(|(node, cfg)| (node.clone(), Patch::Replace(cfg.clone())));
        Self { nodes: replaced.collect(), is_whole: true, ..Self::default() }
    }
}

impl Reconfigured {
    /// What the journal says of it.
    fn what(&self) -> What {
        let nothing = Document::new();
        match &self.after {
            Some(after) => {
                What::Configured { changes: diff(self.before.as_ref().unwrap_or(&nothing), after) }
            }
            None => What::Removed,
        }
    }
}

impl Engineer {
    /// Durable first, together with who wanted it, then acted upon: a crash in between repeats the acting, never
    /// forgets it.
    pub(super) async fn change(
        &mut self,
        change: CfgChange,
        by: Arc<str>,
    ) -> Result<Configured, KrakenError> {
        if let Some(planned) = change.at.filter(|at| *at != self.revision) {
            return Err(KrakenError::Moved { planned, now: self.revision });
        }
        let nodes = self.evaluate(&change);
        let limits = change.limits.filter(|limits| *limits != self.engine.limits());
        let storm = change.storm.filter(|storm| storm != self.engine.storm_guard());
        let has_rules = limits.is_some() || storm.is_some();
        if nodes.is_empty() && !has_rules && change.values.is_empty() {
            return Ok(Configured { revision: self.revision, nodes });
        }
        let at = self.clock.now();
        let (more, said) = self.departing(&nodes, at);
        let values = change.values.into_iter().chain(more).collect();
        let entry = |node, what| Entry { at, node, what, by: Arc::clone(&by), cause: None };
        let mut entries: Vec<Entry> =
            limits.iter().map(|limits| entry(None, super::told_limits(limits))).collect();
        let guard = storm.iter().map(|storm| storm.to_string().into());
        entries.extend(guard.map(|guard| entry(None, What::StormGuard { guard })));
        entries.extend(nodes.iter().map(|node| entry(Some(node.node.clone()), node.what())));
        let write = |n: &Reconfigured| CfgWrite { node: n.node.clone(), doc: n.after.clone() };
        let cfg = nodes.iter().map(write).collect();
        // What has happened so far comes first.
        self.hand_over().await;
        let written = self.journal.commit(cfg, values, entries).await;
        self.revision = written.ok_or(KrakenError::Ended)?.map_err(KrakenError::Keep)?;
        self.has_news = true;
        if let Some(limits) = limits {
            self.step(Input::Limits(limits)).await;
        }
        if let Some(storm) = storm {
            self.step(Input::Storm(storm)).await;
        }
        self.is_journalled = true;
        for changed in &nodes {
            self.departs(changed, at);
            let Reconfigured { node, after, .. } = changed;
            let (node, cfg, by) = (node.clone(), after.clone(), Arc::clone(&by));
            self.step(Input::Configure { node: node.clone(), cfg, by }).await;
            if after.is_some() && changed.before.is_none() {
                self.context.views.return_or_forget(&node);
            }
        }
        self.is_journalled = false;
        self.say_again(said).await;
        self.forget_departed().await;
        Ok(Configured { revision: self.revision, nodes })
    }

    /// What a change makes of what nodes should be now.
    fn evaluate(&self, change: &CfgChange) -> Vec<Reconfigured> {
        let is = |node: &NodeId| self.engine.node(node).map(|view| view.cfg.clone());
        let mut changed: BTreeMap<&NodeId, (Option<Document>, Option<Document>)> = BTreeMap::new();
        for (node, patch) in &change.nodes {
            let (_, after) = changed.entry(node).or_insert_with(|| {
                let before = is(node);
                (before.clone(), before)
            });
            *after = patch.apply(after.as_ref());
        }
        let named: BTreeSet<&NodeId> = changed.keys().copied().collect();
        let others = self.engine.nodes().filter(|view| change.is_whole && !named.contains(view.id));
        let gone = others.map(|view| (view.id, (Some(view.cfg.clone()), None)));
        changed.extend(gone);
        let differs = changed.into_iter().filter(|(_, (before, after))| before != after);
        let told = |(node, (before, after)): (&NodeId, _)| Reconfigured {
            node: node.clone(),
            before,
            after,
        };
        differs.map(told).collect()
    }
}
