//! Plans: what a cluster file would lead to, looked at before it is applied.

use super::Problem;
use super::changes::{Applied, ChangedLimits, ChangedNode};
use super::who::Who;
use crate::consent::Consent;
use crate::server::{App, Kept};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use kraken::Plan;
use layercake_image::Digest;
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
    /// What would change of the limits.
    #[serde(default)]
    pub limits: ChangedLimits,
    /// What would be done about it.
    pub plan: Plan,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// The SHA-256 of all that stands above, by which a plan that was edited is known. Whoever looked
    /// at a plan looked at what follows from its file; another file would lead to something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl Planned {
    /// The same with its checksum.
    fn sealed(mut self) -> Result<Self, Problem> {
        self.checksum = None;
        self.checksum = Some(self.sum()?);
        Ok(self)
    }

    /// The same, if it is as it was made.
    fn checked(mut self) -> Result<Self, Problem> {
        let refused = |why: &str| {
            let detail = format!(
                "{why}, and what it leads to was not looked at; nothing was changed: plan anew \
                 (`layercake plan -f … --save …`)"
            );
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the plan was refused", detail)
        };
        match self.checksum.take() {
            None => Err(refused("it has no checksum: it was edited, or made by an older server")),
            Some(said) if said == self.sum()? => Ok(self),
            Some(_) => Err(refused("its checksum is that of another plan: it was edited")),
        }
    }

    /// The checksum of what stands beside it; none stands there yet.
    fn sum(&self) -> Result<String, Problem> {
        let sum = || Ok(Digest::of_reader(&serde_json::to_vec(self)?[..])?.0.to_string());
        sum().map_err(|error: std::io::Error| Problem::internal("the plan has no checksum", &error))
    }
}

/// With very many nodes a checksum takes a while, which the API does not wait for.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Problem::internal("the plan has no checksum", &error)))
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
    let planned = app.plan(Kept { name, text }).await?;
    aside(|| planned.sealed()).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agreed {
    /// Whether it may be the file of a cluster with another name.
    #[serde(default)]
    rename: bool,
    /// Whether more than half of the nodes may be removed: `true`, or the digest of those that may.
    remove: Option<String>,
}

pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Who(by): Who,
    Query(agreed): Query<Agreed>,
    Json(planned): Json<Planned>,
) -> Result<Json<Applied>, Problem> {
    let planned = aside(|| planned.checked()).await?;
    let consent = Consent::asked(agreed.rename, agreed.remove);
    app.apply_planned(planned, &consent, &by).await.map(Json)
}
