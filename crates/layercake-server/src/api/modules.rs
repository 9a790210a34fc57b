//! The modules that take steps for nodes, and how each one is.

use super::Problem;
use crate::server::App;
use axum::Json;
use axum::extract::State;
use kraken::ModuleStatus;
use std::sync::Arc;

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<ModuleStatus>>, Problem> {
    Ok(Json(app.kraken()?.hosted()))
}
