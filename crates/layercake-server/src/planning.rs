//! What applying a cluster file would lead to, and applying exactly that.

use crate::api::{Applied, ChangedNode, Planned, Problem, between};
use crate::consent::Consent;
use crate::server::{App, Kept};
use axum::http::StatusCode;
use kraken::{Outlook, Settings};
use kraken_model::NodeId;
use kraken_plan::ModuleSet;
use layercake_config::Cluster;
use layercake_schema::Timing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many reasons are given why a plan no longer holds.
const MAX_REASONS: usize = 20;

impl App {
    /// What applying a cluster file would lead to. Nothing is changed.
    pub(crate) async fn plan(&self, kept: Kept) -> Result<Planned, Problem> {
        let cluster = self.checked(&kept)?;
        let Kept { name, text } = kept;
        let parent = self.running().ok();
        let notes = self.notes(&cluster).await?;
        // Before the first cluster file nothing runs, and nothing is known of any node.
        let (mut outlook, revision) = match parent {
            Some(parent) => parent.kraken.outlook().await?,
            None => (self.outlook_on_nothing(&cluster)?, 0),
        };
        let before = parent.map(|parent| parent.kraken.views().all()).unwrap_or_default();
        let changes = between(&before, &cluster.nodes);
        let limits = self.changed_limits(&cluster);
        // With very many nodes this takes a while, which the API does not wait for.
        let pace = self.pace();
        let planning = move || {
            outlook.foresee(&cluster.nodes, layercake_schema::foreseen);
            outlook.plan(&cluster.nodes, &crate::limits::limits(&cluster, pace))
        };
        let plan = tokio::task::spawn_blocking(planning)
            .await
            .map_err(|error| Problem::internal("cannot plan", &error))?;
        Ok(Planned { name, text, revision, changes, limits, plan, notes, checksum: None })
    }

    fn outlook_on_nothing(&self, cluster: &Cluster) -> Result<Outlook, Problem> {
        let set = self.modules(&cluster.settings.timing)?;
        Ok(Outlook::empty(Arc::new(set), &Settings::default()))
    }

    fn modules(&self, timing: &Timing) -> Result<ModuleSet, Problem> {
        ModuleSet::new(&self.registry(), self.mutations(timing)).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let title = "the mutations cannot be used";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, title, problems.join("; "))
        })
    }

    /// Looks at the mutations: those that run, or before the first cluster file those that will.
    pub(crate) fn with_modules<T>(
        &self,
        look: impl FnOnce(&ModuleSet) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        match self.kraken() {
            Ok(kraken) => look(&kraken.modules()),
            Err(_) => look(&self.modules(&Timing::default())?),
        }
    }

    /// Applies what was planned, unless something has moved on since.
    pub(crate) async fn apply_planned(
        &self,
        then: Planned,
        consent: &Consent,
        by: &str,
    ) -> Result<Applied, Problem> {
        let _turn = self.applying().await;
        let kept = Kept { name: then.name.clone(), text: then.text.clone() };
        let now = self.plan(kept.clone()).await?;
        let mut reasons = Vec::new();
        if then.revision != now.revision {
            let (then, now) = (then.revision, now.revision);
            reasons.push(format!("cfg: it was planned at revision {then}, now it is {now}"));
        }
        if then.limits != now.limits {
            reasons.push("limits: others would come and go than was planned".to_owned());
        }
        reasons.extend(moved_on(&then, &now).map(|(node, why)| format!("{node}: {why}")));
        if !reasons.is_empty() {
            let count = reasons.len();
            if count > MAX_REASONS {
                reasons.truncate(MAX_REASONS);
                reasons.push(format!("and {} more", count - MAX_REASONS));
            }
            let detail = "the state moved on, so nothing was changed: plan again and look at it";
            return Err(Problem::new(StatusCode::CONFLICT, "the plan no longer holds", detail)
                .with_errors(reasons));
        }
        let cluster = self.checked(&kept)?;
        let revision = self.running().is_ok().then_some(now.revision);
        self.agreed(&cluster, consent).await?;
        self.commit(kept, cluster, revision, by).await
    }
}

/// The nodes for which a plan no longer holds, with the reason. That a node's cfg would be changed in
/// another way comes first: a file may name an image that has become another one.
fn moved_on<'a>(
    then: &'a Planned,
    now: &'a Planned,
) -> impl Iterator<Item = (NodeId, String)> + use<'a> {
    let other = changed_otherwise(&then.changes, &now.changes);
    let mut outdated = then.plan.outdated(&now.plan);
    outdated.retain(|(node, _)| !other.contains_key(node));
    let other = other.into_iter().map(|(node, why)| (node, why.to_owned()));
    other.chain(outdated)
}

/// The nodes that would not be changed just as was planned.
fn changed_otherwise(then: &[ChangedNode], now: &[ChangedNode]) -> BTreeMap<NodeId, &'static str> {
    let (before, after) = (by_name(then), by_name(now));
    let names: BTreeSet<&NodeId> = before.keys().chain(after.keys()).copied().collect();
    let why = |name: &NodeId| match (before.get(name), after.get(name)) {
        (then, now) if then == now => None,
        (None, _) => Some("its cfg would be changed, which was not planned"),
        _ => Some("its cfg would be changed in another way than was planned"),
    };
    names.into_iter().filter_map(|name| Some((name.clone(), why(name)?))).collect()
}

fn by_name(changes: &[ChangedNode]) -> BTreeMap<&NodeId, &ChangedNode> {
    changes.iter().map(|node| (&node.name, node)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn changes(values: &[(&str, &str)]) -> Vec<ChangedNode> {
        let change = |(name, after): &(&str, &str)| {
            json!({"name": name, "added": false, "removed": false,
                   "changes": [{"path": "phys_state", "before": null, "after": after}]})
        };
        serde_json::from_value(values.iter().map(change).collect()).unwrap()
    }

    #[test]
    fn what_would_be_changed_has_to_be_just_what_was_planned() {
        let on = changes(&[("n1", "POWER_ON"), ("n2", "POWER_ON")]);
        assert_eq!(changed_otherwise(&on, &on), BTreeMap::new());
        let other = changes(&[("n2", "POWER_OFF"), ("n3", "POWER_ON")]);
        let found = changed_otherwise(&on, &other);
        let found: Vec<_> = found.iter().map(|(node, why)| (node.as_str(), *why)).collect();
        let differs = "its cfg would be changed in another way than was planned";
        let new = "its cfg would be changed, which was not planned";
        assert_eq!(found, [("n1", differs), ("n2", differs), ("n3", new)]);
    }
}
