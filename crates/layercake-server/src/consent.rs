//! Changes that need a person's word before a cluster file is applied: the file of another cluster, and
//! the removal of many nodes.

use crate::api::{Confirmation, Problem, Removed, Renamed};
use crate::server::{App, Kept};
use axum::http::StatusCode;
use kraken_model::{NodeId, NodeSet};
use kraken_store::StoreError;
use layercake_config::{Cluster, cluster_name};
use layercake_image::Digest;
use std::collections::BTreeSet;

/// The permissions that came with an apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consent {
    /// The file may be that of a cluster with another name.
    pub(crate) rename: bool,
    /// Nodes may be removed, however many.
    pub(crate) remove: Removal,
}

/// Permission to remove nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Only a few.
    #[default]
    Few,
    /// Just the nodes with this digest ([`Removed::digest`]).
    These(String),
    /// Any number.
    Any,
}

impl Consent {
    /// The permissions of a query: `rename=true`, and `remove=true` or `remove=DIGEST`.
    pub(crate) fn asked(rename: bool, remove: Option<String>) -> Self {
        let remove = match remove.as_deref() {
            None | Some("" | "false") => Removal::Few,
            Some("true") => Removal::Any,
            Some(digest) => Removal::These(digest.to_owned()),
        };
        Self { rename, remove }
    }

    /// The part of a confirmation that is still missing.
    fn missing(&self, needed: Confirmation) -> Confirmation {
        let is_agreed = |removed: &Removed| match &self.remove {
            Removal::Few => false,
            Removal::These(digest) => *digest == removed.digest,
            Removal::Any => true,
        };
        Confirmation {
            renamed: needed.renamed.filter(|_| !self.rename),
            removed: needed.removed.filter(|removed| !is_agreed(removed)),
        }
    }
}

/// A refusal at the start, where nobody can be asked, with the way out.
pub(crate) fn at_start(mut problem: Problem) -> Problem {
    if problem.confirm.is_some() {
        problem.detail =
            "start without --cluster, then look at it with `layercake diff`".to_owned();
    }
    problem
}

/// The nodes that would be removed, when they are more than half of all.
fn removed(now: &BTreeSet<NodeId>, cluster: &Cluster) -> Option<Removed> {
    let gone = now.iter().filter(|node| !cluster.nodes.contains_key(*node));
    let nodes: NodeSet = gone.cloned().collect();
    if nodes.len() * 2 <= now.len() {
        return None;
    }
    // Reading from memory cannot fail; without a digest only `remove=true` is good enough.
    let digest = Digest::of_reader(nodes.to_string().as_bytes());
    let digest = digest.map(|(digest, _)| digest.to_string()).unwrap_or_default();
    Some(Removed { nodes, of: now.len(), digest })
}

impl App {
    /// What applying a cluster would need a person's word for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn confirmation(&self, cluster: &Cluster) -> Result<Confirmation, Problem> {
        let not_read = |error: StoreError| Problem::internal("cannot read what is kept", &error);
        let kept = self.kept_cluster().await.map_err(not_read)?;
        let name = kept.and_then(|Kept { text, .. }| cluster_name(&text));
        let renamed = name.filter(|name| *name != cluster.name);
        let renamed = renamed.map(|from| Renamed { from, to: cluster.name.clone() });
        let removed = removed(&self.node_names().await.map_err(not_read)?, cluster);
        Ok(Confirmation { renamed, removed })
    }

    /// What a person should know before a cluster file is applied.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn notes(&self, cluster: &Cluster) -> Result<Vec<String>, Problem> {
        let needed = self.confirmation(cluster).await?;
        let running = self.running().map(|parent| parent.notes(cluster)).unwrap_or_default();
        let unused = crate::limits::unused_domains(cluster);
        Ok(needed.lines().chain(running).chain(unused).collect())
    }

    /// Refuses what needs a person's word and does not have it. Whoever asks holds the lock under which
    /// the file is then applied.
    ///
    /// # Errors
    /// With the names of cluster and nodes, and the flags that permit it.
    pub(crate) async fn agreed(&self, cluster: &Cluster, consent: &Consent) -> Result<(), Problem> {
        let missing = consent.missing(self.confirmation(cluster).await?);
        if missing.is_empty() {
            return Ok(());
        }
        let errors = missing.lines().collect();
        let detail = "nothing was changed: look at it, and apply it again with what permits it";
        let title = "the cluster file needs a confirmation";
        let problem = Problem::new(StatusCode::CONFLICT, title, detail).with_errors(errors);
        Err(Problem { confirm: Some(Box::new(missing)), ..problem })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cluster(nodes: &str) -> Cluster {
        let text = format!(
            "cluster: c\nnetwork: {{boot: {{subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1}}}}\n\
             nodes: {{{nodes}}}\n"
        );
        struct NoImages;
        impl layercake_config::ImageLookup for NoImages {
            fn find(&self, _: &str) -> Result<layercake_config::ImageFacts, String> {
                Err("there are no images".to_owned())
            }
        }
        let registry = kraken_model::Registry::new(layercake_schema::schemas()).unwrap();
        let context =
            layercake_config::Context { registry: &registry, images: &NoImages, steps: &[] };
        layercake_config::parse("c.yaml", &text, &context).unwrap()
    }

    fn gone(now: &str, file: &str) -> Option<String> {
        let now: NodeSet = now.parse().unwrap();
        let now = now.iter().cloned().collect();
        removed(&now, &cluster(file)).map(|removed| removed.nodes.to_string())
    }

    #[test]
    fn more_than_half_of_the_nodes_and_all_of_them_are_many() {
        assert_eq!(gone("n[1-4]", "'n[1-2]': {}"), None, "just half");
        assert_eq!(gone("n[1-4]", "n1: {}, 'm[1-9]': {}").as_deref(), Some("n[2-4]"));
        assert_eq!(gone("n[1-5]", "'n[1-2]': {}").as_deref(), Some("n[3-5]"));
        assert_eq!(gone("n1", "").as_deref(), Some("n1"), "the only one");
        assert_eq!(gone("n[1-2]", "'m[1-200]': {}").as_deref(), Some("n[1-2]"), "all that were");
        assert_eq!(gone("", "n1: {}"), None, "the first file removes nothing");
    }

    #[test]
    fn a_word_given_for_some_nodes_is_none_for_others() {
        let needed = |now: &str| {
            let now: NodeSet = now.parse().unwrap();
            let removed = removed(&now.iter().cloned().collect(), &cluster("m1: {}"));
            Confirmation { renamed: None, removed }
        };
        let digest = needed("n[1-3]").removed.unwrap().digest;
        let these = Consent::asked(false, Some(digest));
        assert!(these.missing(needed("n[1-3]")).is_empty());
        assert!(!these.missing(needed("n[1-4]")).is_empty());
        assert!(Consent::asked(false, Some("true".into())).missing(needed("n[1-4]")).is_empty());
        assert!(!Consent::default().missing(needed("n1")).is_empty());
    }

    #[test]
    fn another_clusters_file_and_removed_nodes_are_permitted_one_by_one() {
        let needed = || Confirmation {
            renamed: Some(Renamed { from: "simulated".into(), to: "lab".into() }),
            removed: removed(
                &"n1".parse::<NodeSet>().unwrap().iter().cloned().collect(),
                &cluster("m1: {}"),
            ),
        };
        let lines = |consent: Consent| consent.missing(needed()).lines().collect::<Vec<_>>();
        let both = lines(Consent::default());
        assert_eq!(both.len(), 2);
        assert!(both[0].contains("\"lab\"") && both[0].contains("--rename"), "{both:?}");
        assert!(both[1].contains("n1") && both[1].contains("--yes"), "{both:?}");
        assert_eq!(lines(Consent::asked(true, None)), both[1..]);
        assert_eq!(lines(Consent::asked(false, Some("true".into()))), both[..1]);
    }
}
