//! How the server is: counts, counters, and what was refused.

use super::Problem;
use crate::server::App;
use axum::Json;
use axum::extract::State;
use kraken_model::{Document, Registry};
use layercake_schema::{boot_state, image_state, phys_state, run_state};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn get(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let version = env!("CARGO_PKG_VERSION");
    let Ok(parent) = app.running() else {
        return Ok(Json(json!({"version": version, "cluster": Value::Null})));
    };
    let counters = parent.machines.counters();
    let all = parent.kraken.views().all();
    let summary = parent.kraken.summary().await?;
    let registry = parent.kraken.registry();
    let states = states(&registry, all.values().map(|view| &view.dsc));
    let converged =
        all.values().filter(|v| super::nodes::converged(&registry, &v.cfg, &v.dsc)).count();
    Ok(Json(json!({
        "version": version,
        "cluster": parent.cluster,
        "nodes": all.len(),
        "converged": converged,
        "states": states,
        "standing": summary.by_status,
        "lost": summary.lost,
        "storm_hold": summary.storm,
        "storms": summary.storms,
        "freeze": parent.kraken.views().freeze(),
        "boot": counters.boot,
        "images": counters.images,
        "sync": counters.sync,
        "news": counters.news,
    })))
}

/// How many nodes have which value, of every variable that is known of any; `-`: of which it is not.
fn states<'a>(
    registry: &'a Registry,
    nodes: impl Iterator<Item = &'a Document>,
) -> BTreeMap<&'a str, BTreeMap<&'a str, usize>> {
    let always = [phys_state::PATH, boot_state::PATH, run_state::PATH, image_state::PATH];
    let mut states: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for dsc in nodes {
        for (path, _) in registry.variables() {
            let state = dsc.text(path).unwrap_or("-");
            *states.entry(path).or_default().entry(state).or_default() += 1;
        }
    }
    states.retain(|path, counts| always.contains(path) || counts.keys().any(|state| *state != "-"));
    states
}
