//! Plans: what a cluster file would lead to, looked at before it is applied.

use super::Problem;
use super::changes::{Applied, ChangedNode};
use super::who::Who;
use crate::server::{App, Kept};
use axum::Json;
use axum::extract::{Query, State};
use kraken::Plan;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What applying a cluster file would lead to, with all that is needed to apply exactly that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What the cluster file is called.
    pub name: String,
    /// The cluster file.
    pub text: String,
    /// The revision of cfg for which it was planned.
    pub revision: u64,
    /// What would change of cfg.
    pub changes: Vec<ChangedNode>,
    /// What would be done about it.
    pub plan: Plan,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// What the file is called, for its errors.
    name: Option<String>,
}

pub(super) async fn plan(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
    text: String,
) -> Result<Json<Planned>, Problem> {
    let name = asked.name.unwrap_or_else(|| "cluster.yaml".to_owned());
    app.plan(Kept { name, text }).await.map(Json)
}

pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Who(by): Who,
    Json(planned): Json<Planned>,
) -> Result<Json<Applied>, Problem> {
    app.apply_planned(planned, &by).await.map(Json)
}
