//! `/v1/sim`: how the simulation is, and the faults of it.

use crate::driver::{RACK, Shared};
use crate::fault::{Kind, Target, UnknownKind};
use crate::ledger::{Fault, Full};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use kraken::Clock;
use kraken_model::{NodeSet, parse_duration};
use layercake_server::Pace;
use layercake_server::api::{Problem, Selection, Who};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The longest time that a fault can be given: a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the paths answer from.
pub(crate) struct Desk {
    pub(crate) nodes: Selection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) seed: u64,
    pub(crate) pace: Pace,
    pub(crate) chaos_per_hour: f64,
}

/// How a simulation is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimStatus {
    /// How many nodes it has.
    pub nodes: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// How many times as fast as elsewhere time passes for the machines.
    pub speed: f64,
    /// How many faults come by themselves in an hour of the machines.
    pub chaos_per_hour: f64,
    /// How far the machines are behind, in milliseconds of their time. When it grows, this computer
    /// is too slow for so many machines at this speed.
    pub behind_ms: u64,
    /// How many faults there are.
    pub faults: usize,
}

/// A fault that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRequest {
    /// The name of its kind.
    pub kind: String,
    /// The nodes, for those about nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// The rack, for those about a rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// How long, in the time of the machines; until it is cleared without.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The fault, if it is one that lasts.
    pub fault: Option<Fault>,
    /// What happens now, for a person.
    pub text: String,
}

pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/sim", get(status))
        .route("/v1/sim/faults", get(list).post(add).delete(clear_all))
        .route("/v1/sim/faults/{id}", delete(clear))
        .with_state(Arc::new(desk))
}

async fn status(State(desk): State<Arc<Desk>>) -> Result<Json<SimStatus>, Problem> {
    let behind = desk.shared.behind();
    Ok(Json(SimStatus {
        nodes: desk.nodes.nodes("*")?.len(),
        seed: desk.seed,
        speed: desk.pace.speed(),
        chaos_per_hour: desk.chaos_per_hour,
        behind_ms: u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
        faults: desk.shared.ledger().all().count(),
    }))
}

async fn list(State(desk): State<Arc<Desk>>) -> Json<Vec<Fault>> {
    Json(desk.shared.ledger().all().cloned().collect())
}

async fn add(
    State(desk): State<Arc<Desk>>,
    Who(by): Who,
    Json(asked): Json<FaultRequest>,
) -> Result<Json<Added>, Problem> {
    let kind: Kind = asked
        .kind
        .parse()
        .map_err(|error: UnknownKind| Problem::bad_request("no such fault", error.to_string()))?;
    let (rack, nodes) = target(&desk.nodes, kind, &asked)?;
    let since = Clock::start().now();
    let until = asked.lasts.as_deref().map(|text| lasts(kind, text)).transpose()?;
    let until = until.map(|lasts| since.plus(desk.pace.here(lasts)));
    let fault = Fault { id: 0, kind, rack, nodes, since, until, by };
    let fault = desk.shared.change(|ledger| ledger.add(fault)).map_err(|Full| {
        let detail = "clear some first: `layercake sim fault clear --all`";
        Problem::new(StatusCode::CONFLICT, "too many faults", detail)
    })?;
    let text = begun(&fault);
    Ok(Json(Added { fault: kind.lasts().then_some(fault), text }))
}

/// The nodes that a fault is about, and their rack if it is about one.
fn target(
    all: &Selection,
    kind: Kind,
    asked: &FaultRequest,
) -> Result<(Option<String>, NodeSet), Problem> {
    let wrong = |detail: &str| {
        let title = format!("{kind} is not about that");
        Err(Problem::bad_request(&title, detail))
    };
    match (kind.target(), &asked.nodes, &asked.rack) {
        (Target::Nodes, Some(nodes), None) => Ok((None, all.some(nodes)?)),
        (Target::Nodes, ..) => wrong("say which nodes, such as n[1-3], and nothing else"),
        (Target::Rack, None, Some(rack)) => {
            let nodes = all.configured(RACK, rack)?;
            Ok((Some(rack.clone()), nodes))
        }
        (Target::Rack, ..) => wrong("say which rack, such as r3, and nothing else"),
        (Target::All, None, None) => {
            // Before there is a cluster there is nothing to break.
            all.nodes("*")?;
            Ok((None, NodeSet::new()))
        }
        (Target::All, ..) => wrong("it is about the whole network: leave nodes and rack out"),
    }
}

/// How long a fault lasts, in the time of the machines.
fn lasts(kind: Kind, text: &str) -> Result<Duration, Problem> {
    let wrong = |detail: String| Problem::bad_request("not a time for a fault", detail);
    if !kind.lasts() {
        return Err(wrong(format!("{kind} happens once: leave the time out")));
    }
    let lasts = parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    if lasts.is_zero() || lasts > LONGEST {
        return Err(wrong(format!(
            "{text} is not above 0 and up to 168h: say how long, such as 10m"
        )));
    }
    Ok(lasts)
}

fn begun(fault: &Fault) -> String {
    let Fault { id, kind, rack, nodes, until, .. } = fault;
    let about = match rack {
        Some(rack) => format!("{rack} ({nodes}): "),
        None if nodes.is_empty() => String::new(),
        None => format!("{nodes}: "),
    };
    let ends = match until {
        Some(until) => format!(", until {}", until.rfc3339()),
        None if kind.lasts() => format!(", until `layercake sim fault clear {id}`"),
        None => String::new(),
    };
    format!("{about}{}{ends}", kind.about())
}

async fn clear(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Fault>>, Problem> {
    let none = || {
        let detail = format!("there is no fault {id}; `layercake sim fault list` shows all");
        Problem::not_found("no such fault", detail)
    };
    let number = id.parse().map_err(|_| none())?;
    let cleared = desk.shared.change(|ledger| ledger.clear(number)).ok_or_else(none)?;
    Ok(Json(vec![cleared]))
}

async fn clear_all(State(desk): State<Arc<Desk>>) -> Json<Vec<Fault>> {
    Json(desk.shared.change(crate::ledger::Ledger::clear_all))
}
