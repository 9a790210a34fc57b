//! The mutations that there are, as a graph, and what a check of them finds.

use super::{Problem, select};
use crate::server::App;
use axum::Json;
use axum::extract::{Query, State};
use kraken_plan::{Finding, Graph, ModuleSet, check};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something about the mutations that their author should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// For a person.
    pub text: String,
    /// For a program.
    pub finding: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The node that it is drawn for; none without.
    node: Option<String>,
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Graph>, Problem> {
    let Some(name) = asked.node else {
        return app.with_modules(|set| Ok(Json(Graph::new(set))));
    };
    let node = select::node(&app, &name)?;
    let kraken = app.kraken()?;
    let explanation = kraken.explain(&node).await?;
    let view = kraken.views().get(&node).unwrap_or_default();
    let set = kraken.modules();
    let (goal, facts) = (set.goal(&view.cfg), set.facts(&view.cfg, &view.dsc));
    let mut graph = Graph::at(&set, node.as_str(), goal, facts, set.state(&view.dsc));
    for failure in explanation.failures.iter().filter(|failure| failure.retry_at.is_none()) {
        graph.close(&failure.mutation, format!("was given up: {}", failure.reason));
    }
    Ok(Json(graph.with_way(explanation.next.iter().map(|step| step.mutation.as_ref()))))
}

pub(super) async fn findings(State(app): State<Arc<App>>) -> Result<Json<Vec<Found>>, Problem> {
    app.with_modules(|set: &ModuleSet| found(check(set))).map(Json)
}

/// What a check found, in words and as data.
pub(super) fn found(findings: Vec<Finding>) -> Result<Vec<Found>, Problem> {
    let found = |finding: Finding| {
        let text = finding.to_string();
        let finding = serde_json::to_value(&finding)
            .map_err(|error| Problem::internal("cannot be written as JSON", &error))?;
        Ok(Found { text, finding })
    };
    findings.into_iter().map(found).collect()
}
