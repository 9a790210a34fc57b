//! Which nodes are meant.

use super::Problem;
use crate::server::App;
use kraken::Then;
use kraken_model::{Document, NodeId, NodeSet, NodeSetError};
use std::sync::Arc;

/// The nodes of a server, for those who add something to its API.
#[derive(Clone)]
pub struct Selection(pub(crate) Arc<App>);

impl Selection {
    /// The nodes of a set, as everywhere in the API.
    ///
    /// # Errors
    /// When the text is no node set, or names nodes or groups that are not there.
    pub fn nodes(&self, text: &str) -> Result<NodeSet, Problem> {
        nodes(&self.0, text)
    }

    /// The nodes whose cfg has this value at an address.
    ///
    /// # Errors
    /// When no cluster file was applied yet.
    pub fn configured(&self, path: &str, value: &str) -> Result<NodeSet, Problem> {
        let all = self.0.kraken()?.views().all().into_iter();
        Ok(all.filter(|(_, view)| says(&view.cfg, path, value)).map(|(node, _)| node).collect())
    }
}

/// The nodes of a set, such as `ml[001-130]!@rack3` or `run_state=ERROR`.
///
/// # Errors
/// When the text is no node set, or names nodes or groups that are not there.
pub(super) fn nodes(app: &App, text: &str) -> Result<NodeSet, Problem> {
    let views = app.kraken()?.views();
    let set = parse(text, &|name: &str| {
        let all = || views.all().into_iter();
        match name.split_once('=') {
            _ if name == "*" => Some(all().map(|(node, _)| node).collect()),
            Some((path, value)) => {
                let holds = |view: &kraken::View| says(&view.dsc, path, value);
                Some(all().filter(|(_, view)| holds(view)).map(|(node, _)| node).collect())
            }
            None => app.group(name),
        }
    })?;
    there(&set, |node| views.get(node).is_some())?;
    Ok(set)
}

/// The same among nodes that there were; groups are those of now.
///
/// # Errors
/// As [`nodes`].
pub(super) fn among(app: &App, text: &str, then: &Then) -> Result<NodeSet, Problem> {
    let set = parse(text, &|name: &str| match name.split_once('=') {
        _ if name == "*" => Some(then.nodes.keys().cloned().collect()),
        Some((path, value)) => {
            let holds = then.nodes.iter().filter(|(_, past)| says(&past.dsc, path, value));
            Some(holds.map(|(node, _)| node.clone()).collect())
        }
        None => {
            let were = |node: &&NodeId| then.nodes.contains_key(*node);
            app.group(name).map(|group| group.iter().filter(were).cloned().collect())
        }
    })?;
    there(&set, |node| then.nodes.contains_key(node))?;
    Ok(set)
}

fn parse(text: &str, resolve: &dyn Fn(&str) -> Option<NodeSet>) -> Result<NodeSet, Problem> {
    let refuse = |error: NodeSetError| {
        Problem::bad_request("not a set of nodes of this cluster", error.to_string())
    };
    NodeSet::parse(text, &resolve).map_err(refuse)
}

fn there(set: &NodeSet, is_there: impl Fn(&NodeId) -> bool) -> Result<(), Problem> {
    let missing: NodeSet = set.iter().filter(|node| !is_there(node)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::not_found("no such node", format!("there is no {missing}")))
}

/// Whether an address of a document holds a value (`run_state=ERROR`).
fn says(document: &Document, path: &str, value: &str) -> bool {
    document.get(path).is_some_and(|held| held.to_string() == value)
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
