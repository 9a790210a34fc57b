//! What nodes are, and what is done about them.

use super::reasons::reasons;
use super::{Problem, select, silence, times};
use crate::server::App;
use axum::Json;
use axum::extract::{Query, State};
use kraken::{Explanation, Mark, Marks, View};
use kraken_model::{Document, Millis, NodeId, NodeSet, Registry};
use layercake_schema::{claim, known_and_last_known, phys_state};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A node: what it should be, and what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeId,
    /// Whether every variable that is configured has been discovered to be so.
    pub converged: bool,
    /// Whether an operator holds it: no step is taken.
    pub held: bool,
    /// What operators say of it, with who, why and until when; a freeze of everything too, unless
    /// it is frozen itself.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What it should be, nested.
    pub cfg: serde_json::Value,
    /// What was discovered, nested.
    pub dsc: serde_json::Value,
    /// What it said of itself when it was last heard, nested. It may be otherwise now.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub last_known: serde_json::Value,
    /// Since when it is not heard; not for many nodes at once, nor for longer than the journal tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Millis>,
}

impl NodeView {
    fn new(
        registry: &Registry,
        name: NodeId,
        marks: Marks,
        (cfg, dsc): (&Document, &Document),
    ) -> Self {
        let (known, last) = known_and_last_known(dsc);
        Self {
            name,
            converged: converged(registry, cfg, dsc),
            held: marks.hold.is_some(),
            marks,
            cfg: cfg.to_json(),
            dsc: known.to_json(),
            last_known: if last.is_empty() { serde_json::Value::Null } else { last.to_json() },
            silent_since: None,
        }
    }
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
    /// What they were at this time.
    at: Option<String>,
}

/// Whether every variable that cfg speaks of is as it says.
pub(crate) fn converged(registry: &Registry, cfg: &Document, dsc: &Document) -> bool {
    let variables = cfg.iter().filter(|(path, _)| registry.variable(path.as_str()).is_some());
    variables.into_iter().all(|(path, value)| dsc.get(path.as_str()) == Some(value))
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

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<Asked>,
) -> Result<Json<Vec<NodeView>>, Problem> {
    if let Some(at) = &query.at {
        return past(&app, query.nodes.as_deref(), at).await.map(Json);
    }
    let registry = app.kraken()?.registry();
    let freeze = app.kraken()?.views().freeze();
    let nodes = asked(&app, &query)?.into_iter().map(|(name, view)| {
        let marks = marks(&view, freeze.as_ref());
        NodeView::new(&registry, name, marks, (&view.cfg, &view.dsc))
    });
    let mut nodes: Vec<NodeView> = nodes.collect();
    silence::tell(app.kraken()?, &mut nodes).await?;
    Ok(Json(nodes))
}

/// What a person can do about a machine that was found running and that nobody has said anything of.
fn found_running(node: &NodeId, dsc: &Document) -> Option<String> {
    let is_found = dsc.text(phys_state::PATH) == Some(phys_state::PHYS_FOUND);
    let is_granted = dsc.text(claim::PATH) == Some(claim::GRANTED);
    (is_found && !is_granted).then(|| {
        format!(
            "\n  look what runs there, on its console or its controller; then\
             \n  to cut its power and boot it: layercake take-over {node}\
             \n  to leave it as it is, without being asked: found_running: leave in the cluster file"
        )
    })
}

/// What nodes were. A set is one of nodes that there were then.
async fn past(app: &App, nodes: Option<&str>, at: &str) -> Result<Vec<NodeView>, Problem> {
    let kraken = app.kraken()?;
    let at = times::passed(at, kraken.clock().now())?;
    // Names alone are looked up alone; for a group, a value or everything all have to be known.
    let named = nodes.and_then(NodeSet::named).filter(|named| !named.is_empty());
    let named = named.map(|set| set.iter().cloned().collect());
    let mut then = kraken.past(at, named.clone()).await?;
    let mut set = nodes.map(|text| select::among(app, text, &then)).transpose();
    if set.is_err() && named.is_some() {
        // The nodes that were meant are among those that were not looked up.
        then = kraken.past(at, None).await?;
        set = nodes.map(|text| select::among(app, text, &then)).transpose();
    }
    let set = set?;
    let registry = kraken.registry();
    let wanted = then.nodes.iter().filter(|(n, _)| set.as_ref().is_none_or(|s| s.contains(n)));
    let views = wanted.map(|(name, past)| {
        let mut marks = past.marks.clone();
        marks.freeze = marks.freeze.or_else(|| then.freeze.clone());
        NodeView::new(&registry, name.clone(), marks, (&past.cfg, &past.dsc))
    });
    Ok(views.collect())
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    Query(query): Query<Asked>,
) -> Result<Json<Vec<Explained>>, Problem> {
    if query.at.is_some() {
        let detail = "explain tells of now: leave `at` out, and see what was done with history";
        return Err(Problem::bad_request("no time belongs here", detail));
    }
    let now = app.kraken()?.clock().now();
    let mut explained = Vec::new();
    for (name, view) in asked(&app, &query)? {
        let explanation: Explanation = app.kraken()?.explain(&name).await?;
        let mut text = explanation.to_string();
        for reason in reasons(&view.dsc, now) {
            text.push_str(&format!("\n  {reason}"));
        }
        if let Some(way_out) = found_running(&name, &view.dsc) {
            text.push_str(&way_out);
        }
        let explanation = serde_json::to_value(&explanation)
            .map_err(|error| Problem::internal("cannot be written as JSON", &error))?;
        explained.push(Explained { name, text, explanation });
    }
    Ok(Json(explained))
}
