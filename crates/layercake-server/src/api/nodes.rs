//! What nodes are, and what is done about them.

use super::{Problem, select};
use crate::server::App;
use axum::Json;
use axum::extract::{Query, State};
use kraken::{Explanation, Mark, Marks, View};
use kraken_model::{NodeId, Path, Registry};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A node: what it should be, and what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeId,
    /// Whether every variable that is configured has been discovered to be so.
    pub converged: bool,
    /// Whether an operator holds or freezes it, or has frozen everything.
    pub held: bool,
    /// What operators say of it, with who, why and until when; a freeze of everything too, unless
    /// it is frozen itself.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What it should be, nested.
    pub cfg: serde_json::Value,
    /// What was discovered, nested.
    pub dsc: serde_json::Value,
}

/// What is done about a node, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub name: NodeId,
    /// For a person.
    pub text: String,
    /// For a program.
    pub explanation: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Which nodes; all without.
    nodes: Option<String>,
}

/// Whether every variable that cfg speaks of is as it says.
pub(crate) fn converged(registry: &Registry, view: &View) -> bool {
    let variables = view.cfg.iter().filter(|(path, _)| registry.variable(path.as_str()).is_some());
    variables.into_iter().all(|(path, value)| view.dsc.get(path.as_str()) == Some(value))
}

fn asked(app: &App, asked: &Asked) -> Result<Vec<(NodeId, View)>, Problem> {
    let all = app.kraken()?.views().all();
    let Some(set) = &asked.nodes else { return Ok(all.into_iter().collect()) };
    let set = select::nodes(app, set)?;
    Ok(set.iter().filter_map(|node| Some((node.clone(), all.get(node)?.clone()))).collect())
}

/// Everything that operators say that concerns a node.
fn marks(view: &View, freeze: Option<&Mark>) -> Marks {
    let mut marks = view.marks.as_deref().cloned().unwrap_or_default();
    marks.freeze = marks.freeze.or_else(|| freeze.cloned());
    marks
}

fn is_reason(path: &Path) -> bool {
    matches!(path.as_str(), "image_reason" | "power.reason" | "layer0.last_panic")
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<Asked>,
) -> Result<Json<Vec<NodeView>>, Problem> {
    let registry = app.kraken()?.registry();
    let freeze = app.kraken()?.views().freeze();
    let nodes = asked(&app, &query)?.into_iter().map(|(name, view)| NodeView {
        name,
        converged: converged(registry, &view),
        held: view.held,
        marks: marks(&view, freeze.as_ref()),
        cfg: view.cfg.to_json(),
        dsc: view.dsc.to_json(),
    });
    Ok(Json(nodes.collect()))
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    Query(query): Query<Asked>,
) -> Result<Json<Vec<Explained>>, Problem> {
    let mut explained = Vec::new();
    for (name, view) in asked(&app, &query)? {
        let explanation: Explanation = app.kraken()?.explain(&name).await?;
        let mut text = explanation.to_string();
        // What those who tried say of it, in their own words.
        for (path, reason) in view.dsc.iter().filter(|(path, _)| is_reason(path)) {
            text.push_str(&format!("\n  {path}: {reason}"));
        }
        let explanation = serde_json::to_value(&explanation)
            .map_err(|error| Problem::internal("cannot be written as JSON", &error))?;
        explained.push(Explained { name, text, explanation });
    }
    Ok(Json(explained))
}
