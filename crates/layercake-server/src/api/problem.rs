//! How the API refuses: problem details (RFC 9457), with what, where and what to do.

use super::Confirmation;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kraken::{KrakenError, PastError, chain};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// A refusal. `title` says what could not be done, `detail` why, `errors` where, one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status code.
    pub status: u16,
    /// What could not be done.
    pub title: String,
    /// Why, and what to do about it.
    pub detail: String,
    /// Every single thing that is wrong, ready to be shown to a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What a person's word is missing for, when it would be done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Box<Confirmation>>,
}

impl Problem {
    /// A refusal with one reason.
    pub fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            confirm: None,
        }
    }

    /// What was asked for makes no sense.
    pub fn bad_request(title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, detail)
    }

    /// What was asked about does not exist.
    pub fn not_found(title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, title, detail)
    }

    /// The server could not do it, for a reason that is not the caller's.
    pub fn internal(title: &str, error: &dyn Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, chain(error))
    }

    /// The same with a list of everything that is wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }
}

/// How much of an explanation is taken over, in bytes.
const MAX_DETAIL: usize = 4096;

/// Makes a problem of every refusal that is none yet: what is no JSON, or not that of the request, a query
/// with a word that is not known, a method that does not belong there, a body that is too large.
pub(super) async fn always(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = axum::body::to_bytes(body, MAX_DETAIL).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let detail = match (status, said.is_empty()) {
        (_, false) => said,
        (StatusCode::METHOD_NOT_ALLOWED, true) => {
            "docs/api.md says which methods belong here".into()
        }
        (_, true) => status.canonical_reason().unwrap_or("no reason was given").to_lowercase(),
    };
    let mut problem = Problem::new(status, "not understood", detail).into_response();
    // Such as which methods do belong there.
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem.map(Body::new)
}

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)?;
        self.errors.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl From<KrakenError> for Problem {
    fn from(error: KrakenError) -> Self {
        match &error {
            KrakenError::NoNode(_) => Self::not_found("no such node", error.to_string()),
            KrakenError::Invalid(invalid) => {
                let errors = invalid.iter().map(|(node, i)| format!("{node}: {i}")).collect();
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "nothing was changed")
                    .with_errors(errors)
            }
            KrakenError::Moved { .. } => {
                Self::new(StatusCode::CONFLICT, "the plan no longer holds", error.to_string())
            }
            KrakenError::Past(PastError::NotKept { .. }) => {
                Self::new(StatusCode::GONE, "not kept", error.to_string())
            }
            KrakenError::Past(PastError::NotWritten { .. }) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not known", error.to_string())
            }
            KrakenError::Ended => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is ending",
                "try again when it has started",
            ),
            // Mostly a full or broken disk: the reason is what the administrator needs.
            _ => Self::new(StatusCode::INSUFFICIENT_STORAGE, "not done", chain(&error)),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM);
        response
    }
}
