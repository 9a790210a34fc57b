//! The modules that take steps for nodes, and how each one is.

use super::who::Who;
use super::{Problem, graph};
use crate::server::App;
use axum::Json;
use axum::extract::State;
use kraken::ModuleStatus;
use kraken_plan::{ModuleSet, check};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the files of modules were read as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The modules that run now; none before the first cluster file.
    pub modules: Vec<ModuleStatus>,
    /// What their authors should look at.
    pub findings: Vec<graph::Found>,
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<ModuleStatus>>, Problem> {
    Ok(Json(app.kraken()?.hosted()))
}

pub(super) async fn reload(
    State(app): State<Arc<App>>,
    Who(by): Who,
) -> Result<Json<Reloaded>, Problem> {
    // Done to its end, whoever hangs up meanwhile.
    let reload = tokio::spawn(async move {
        app.read_modules(&by).await?;
        let modules = app.kraken().map(kraken::Kraken::hosted).unwrap_or_default();
        let findings = app.with_modules(|set: &ModuleSet| graph::found(check(set)))?;
        Ok(Json(Reloaded { modules, findings }))
    });
    let failed = |error| Problem::internal("the modules were not read to the end", &error);
    reload.await.map_err(failed)?
}
