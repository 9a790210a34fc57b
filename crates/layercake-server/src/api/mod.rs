//! The HTTP API: everything that people and programs can see and do, under `/v1`.
//!
//! It answers on a unix socket and on loopback only, until there is sign-in; see [`local`].

mod blocked;
mod changes;
mod cluster;
mod commands;
mod console;
mod events;
mod graph;
mod history;
mod images;
mod local;
mod modules;
mod nodes;
mod plan;
mod problem;
mod reasons;
mod select;
mod silence;
mod status;
mod times;
mod who;

use crate::server::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use std::sync::Arc;

pub use changes::{Applied, ChangedLimits, ChangedNode, ChangedValue};
pub use changes::{Confirmation, Removed, Renamed};
pub(crate) use changes::{between, made};
pub use commands::Commanded;
pub use graph::Found;
pub use history::{Outcome, Passage, Step};
pub use kraken::chain;
pub use kraken::{
    Cause, Entry, Event, Mark, MarkKind, Marks, ModuleState, ModuleStatus, Terms, What,
};
pub use kraken::{Domain, NodePlan, Plan, PlanSummary, StormView};
pub use kraken_model::Change;
pub use kraken_plan::Graph;
pub use layercake_image::ImageInfo;
pub use modules::Reloaded;
pub use nodes::{Explained, NodeView};
pub use plan::Planned;
pub use problem::Problem;
pub use select::Selection;
pub(crate) use who::Caller;
pub use who::Who;

/// The largest request, in bytes, apart from images.
const MAX_REQUEST: usize = 16 << 20;

/// The largest plan, in bytes: some hundred a node.
const MAX_PLAN: usize = 256 << 20;

/// All routes, with those of a world.
pub(crate) fn router(app: Arc<App>, more: Router) -> Router {
    Router::new()
        .route("/v1/status", get(status::get))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/explain", get(nodes::explain))
        .route("/v1/nodes/{node}/console", get(console::read).post(console::write))
        .route("/v1/nodes/{node}/logs", get(console::logs))
        .route("/v1/nodes/{node}/history", get(history::get))
        .route("/v1/cluster", get(cluster::get).post(cluster::apply))
        .route("/v1/plan", post(plan::plan))
        .route("/v1/plan/apply", post(plan::apply).layer(DefaultBodyLimit::max(MAX_PLAN)))
        .route("/v1/graph", get(graph::get))
        .route("/v1/graph/check", get(graph::findings))
        .route("/v1/power", post(commands::power))
        .route("/v1/command", post(commands::command))
        .route("/v1/modules", get(modules::list))
        .route("/v1/modules/reload", post(modules::reload))
        .route("/v1/events", get(events::list))
        .route("/v1/images/{image}", get(images::inspect).delete(images::remove))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .route(
            "/v1/images",
            get(images::list).post(images::import).layer(DefaultBodyLimit::disable()),
        )
        .fallback(|| async {
            Problem::not_found("nothing here", "the API is described in docs/api.md")
        })
        .with_state(app)
        .merge(more.layer(DefaultBodyLimit::max(MAX_REQUEST)))
        .layer(axum::middleware::from_fn(local::only))
        .layer(axum::middleware::map_response(problem::always))
}
