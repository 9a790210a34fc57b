//! Which nodes are meant.

use super::Problem;
use crate::server::App;
use kraken_model::{NodeId, NodeSet};

/// The nodes of a set, such as `ml[001-130]!@rack3` or `run_state=ERROR`.
///
/// # Errors
/// When the text is no node set, or names nodes or groups that are not there.
pub(super) fn nodes(app: &App, text: &str) -> Result<NodeSet, Problem> {
    let refuse =
        |detail: String| Problem::bad_request("not a set of nodes of this cluster", detail);
    let set = NodeSet::parse(text, &|name: &str| resolve(app, name))
        .map_err(|error| refuse(error.to_string()))?;
    let views = app.kraken()?.views();
    let missing: NodeSet = set.iter().filter(|n| views.get(n).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Err(Problem::not_found("no such node", format!("there is no {missing}")));
    }
    Ok(set)
}

/// What a name stands for that is no node: a group, `*`, or all nodes of which an address of the
/// discovered document holds a value (`run_state=ERROR`).
fn resolve(app: &App, name: &str) -> Option<NodeSet> {
    let all = app.kraken().ok()?.views().all();
    if name == "*" {
        return Some(all.into_keys().collect());
    }
    let Some((path, value)) = name.split_once('=') else { return app.group(name) };
    let holds = |view: &kraken::View| view.dsc.get(path).is_some_and(|v| v.to_string() == value);
    Some(all.into_iter().filter(|(_, view)| holds(view)).map(|(node, _)| node).collect())
}

/// One node by its name.
///
/// # Errors
/// When there is none of that name.
pub(super) fn node(app: &App, name: &str) -> Result<NodeId, Problem> {
    let missing = || Problem::not_found("no such node", format!("there is no node {name}"));
    let node = NodeId::new(name).map_err(|_| missing())?;
    app.kraken()?.views().get(&node).map(|_| node).ok_or_else(missing)
}
