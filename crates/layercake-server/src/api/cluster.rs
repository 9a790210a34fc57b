//! The cluster file: applied as a whole, or refused as a whole.

use super::Problem;
use super::changes::Applied;
use super::who::Who;
use crate::consent::Consent;
use crate::server::{App, Kept};
use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Whether to say only what would change.
    #[serde(default)]
    dry_run: bool,
    /// What the file is called, for its errors.
    name: Option<String>,
    /// Whether it may be the file of a cluster with another name.
    #[serde(default)]
    rename: bool,
    /// Whether more than half of the nodes may be removed: `true`, or the digest of those that may.
    remove: Option<String>,
}

/// The cluster file that counts.
#[derive(Debug, Serialize)]
pub(super) struct Current {
    name: String,
    text: String,
}

pub(super) async fn get(State(app): State<Arc<App>>) -> Result<Json<Current>, Problem> {
    match app.kept_cluster().await {
        Ok(Some(Kept { name, text })) => Ok(Json(Current { name, text })),
        Ok(None) => Err(Problem::not_found("no cluster file", "none was applied so far")),
        Err(error) => Err(Problem::internal("the cluster file cannot be read", &error)),
    }
}

pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Who(by): Who,
    Query(asked): Query<Asked>,
    text: String,
) -> Result<Json<Applied>, Problem> {
    let name = asked.name.unwrap_or_else(|| "cluster.yaml".to_owned());
    let consent = Consent::asked(asked.rename, asked.remove);
    let kept = Kept { name, text };
    if asked.dry_run { app.diff(kept).await } else { app.apply(kept, &consent, &by).await }
        .map(Json)
}
