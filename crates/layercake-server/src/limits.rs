//! What the cluster file says of limits and storms, as the engine takes it.

use crate::world::Pace;
use kraken::{Group, Limit, Scope, Share, Silence, Storm};
use kraken_model::{NodeSet, Path};
use layercake_config::{Cluster, Portion, Steps, Where};
use layercake_schema::{LIKELY_UNSEEN, MOST_RECOVERIES, RECOVERIES, SILENCE, Timing};
use layercake_schema::{phys_state, run_state};
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

/// The storm guard of a cluster.
pub(crate) fn storm(cluster: &Cluster, pace: Pace) -> Storm {
    guard(&cluster.settings.storm, &cluster.settings.timing, pace)
}

fn guard(said: &layercake_config::Storm, timing: &Timing, pace: Pace) -> Storm {
    let usual = Storm::default();
    Storm {
        share_percent: said.share,
        min: said.at_least as usize,
        window: pace.patient(said.window),
        patience: pace.patient(said.patience),
        // Nodes that are lost together are found silent one by one, as their hellos would have come.
        settle: pace.patient(usual.settle.max(timing.hello * 3)),
        per: said.per.clone(),
        powered: Some((Path::known(phys_state::PATH), phys_state::POWER_ON.into())),
        ..usual
    }
}

/// What is done about nodes that fall silent.
pub(crate) fn silence() -> Silence {
    Silence {
        variable: Path::known(run_state::PATH),
        lost: run_state::ERROR.into(),
        seen: [run_state::INIT, run_state::SYNC].map(Into::into).into(),
        stuck: (Path::known(phys_state::PATH), phys_state::PHYS_HANG.into()),
        policy: Path::known(SILENCE),
        tried: Path::known(RECOVERIES),
        recoveries: MOST_RECOVERIES,
        likely: LIKELY_UNSEEN.into(),
    }
}

/// The storm guard that a cluster file asks for, in words.
pub(crate) fn storm_words(said: &layercake_config::Storm) -> String {
    format!("storm guard: {}", guard(said, &Timing::default(), Pace::REAL))
}

/// What of the storm guard guards nobody, for a person.
pub(crate) fn unused_domains(cluster: &Cluster) -> Option<String> {
    let unused = cluster.settings.storm.unused(&cluster.nodes);
    let names: Vec<String> = unused.iter().map(ToString::to_string).collect();
    let names = names.join(" and ");
    (!names.is_empty())
        .then(|| format!("storm.per: no node has {names}, so no failure domain comes of it"))
}

fn about(limit: Limit, nodes: &Where, groups: &BTreeMap<String, NodeSet>) -> Limit {
    let group = nodes.group.as_ref().and_then(|name| {
        let nodes = groups.get(name)?.clone();
        Some(Arc::new(Group { name: name.as_str().into(), nodes }))
    });
    Limit { nodes: group, per: nodes.per.clone(), ..limit }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_may_be_said_of_silent_nodes_is_what_the_engine_knows() {
        assert_eq!(kraken::SilencePolicy::WORDS, layercake_schema::SILENCE_WORDS);
        for word in layercake_schema::SILENCE_WORDS {
            assert!(kraken::SilencePolicy::of(word).is_some(), "{word}");
        }
    }
}
