//! Images beside what nodes have told of their processors.
//!
//! What a cluster file itself says of a node's architecture is checked with the rest of the file. Where it says nothing,
//! or something else than the node does, what the node's own kernel told counts.

use crate::api::Problem;
use crate::server::App;
use axum::http::StatusCode;
use kraken_model::{Document, NodeId, NodeSet};
use layercake_config::Cluster;
use std::collections::BTreeMap;

/// How many of such mistakes are told at once.
const MAX_TOLD: usize = 50;

impl App {
    /// Refuses a cluster in which a node is to run an image that its processors cannot run.
    ///
    /// # Errors
    /// With the nodes, the images, and what each is built for.
    pub(crate) fn fits(&self, cluster: &Cluster) -> Result<(), Problem> {
        let Ok(kraken) = self.kraken() else { return Ok(()) };
        let views = kraken.views();
        let mut misfits =
            misfits(&cluster.nodes, |node| Some(views.get(node)?.dsc.text("arch")?.to_owned()));
        if misfits.is_empty() {
            return Ok(());
        }
        let more = misfits.len().saturating_sub(MAX_TOLD);
        misfits.truncate(MAX_TOLD);
        if more > 0 {
            misfits.push(format!("and {more} more"));
        }
        let detail = "images and processors do not fit, nothing was changed: give these nodes other images, or \
                      import the images for them";
        let title = "cluster file rejected";
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail).with_errors(misfits))
    }
}

/// Says which nodes cannot run which images, a line for each image and architecture.
fn misfits(
    nodes: &BTreeMap<NodeId, Document>,
    told: impl Fn(&NodeId) -> Option<String>,
) -> Vec<String> {
    let mut found: BTreeMap<(String, String, String), Vec<NodeId>> = BTreeMap::new();
    for (node, cfg) in nodes {
        let Some(machine) = told(node) else { continue };
        for foreign in layercake_types::foreign_images(cfg, &machine) {
            let image = (foreign.reference.to_owned(), foreign.built_for.to_owned());
            found.entry((image.0, image.1, machine.clone())).or_default().push(node.clone());
        }
    }
    let line = |((image, built_for, machine), nodes): (_, Vec<NodeId>)| {
        let (nodes, verb): (NodeSet, _) = match nodes.len() {
            1 => (nodes.into_iter().collect(), "is"),
            _ => (nodes.into_iter().collect(), "are"),
        };
        format!("{nodes} {verb} {machine}, as found, and image {image} is built for {built_for}")
    };
    found.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nodes_that_cannot_run_an_image_are_told_together() {
        let cfg = serde_json::json!({"images": {"web": {"arch": "x86_64", "reference": "web:1"}}});
        let cfg = Document::from_json(&cfg).unwrap();
        let names = ["n1", "n2", "n3", "n4"].map(|name| NodeId::new(name).unwrap());
        let nodes = names.into_iter().map(|name| (name, cfg.clone())).collect();
        let told = |node: &NodeId| match node.as_str() {
            "n1" | "n2" => Some("aarch64".to_owned()),
            "n3" => Some("x86_64".to_owned()),
            _ => None,
        };
        let lines = misfits(&nodes, told);
        assert_eq!(lines, ["n[1-2] are aarch64, as found, and image web:1 is built for x86_64"]);
        assert_eq!(misfits(&nodes, |_| Some("amd64".to_owned())), [""; 0]);
    }
}
