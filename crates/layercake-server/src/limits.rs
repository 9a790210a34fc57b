//! What the cluster file says of limits, as the engine takes it.

use crate::world::Pace;
use kraken::{Group, Limit, Scope, Share};
use kraken_model::NodeSet;
use layercake_config::{Cluster, Portion, Steps, Where};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The limits of a cluster, in the order of its file.
pub(crate) fn limits(cluster: &Cluster, pace: Pace) -> Vec<Limit> {
    let limits = &cluster.settings.limits;
    let steps = limits.steps.iter().map(|limit| {
        let of = match &limit.of {
            Steps::All => Scope::All,
            Steps::Disruptive => Scope::Disruptive,
            Steps::Named(names) => match &names[..] {
                [name] => Scope::Mutation(name.as_str().into()),
                names => Scope::AnyOf(names.iter().map(|name| name.as_str().into()).collect()),
            },
        };
        let spacing = pace.here(limit.every.unwrap_or(Duration::ZERO));
        let every = Limit { in_flight: limit.at_once, ..Limit::spaced(spacing, of) };
        about(every, &limit.nodes, &cluster.groups)
    });
    let shares = limits.unavailable.iter().map(|limit| {
        let share = match limit.at_most {
            Portion::Count(count) => Share::Count(count),
            Portion::Percent(percent) => Share::Percent(percent),
        };
        let share = Limit::unavailable(share, Scope::Disruptive);
        about(share, &limit.nodes, &cluster.groups)
    });
    steps.chain(shares).collect()
}

fn about(limit: Limit, nodes: &Where, groups: &BTreeMap<String, NodeSet>) -> Limit {
    let group = nodes.group.as_ref().and_then(|name| {
        let nodes = groups.get(name)?.clone();
        Some(Arc::new(Group { name: name.as_str().into(), nodes }))
    });
    Limit { nodes: group, per: nodes.per.clone(), ..limit }
}
