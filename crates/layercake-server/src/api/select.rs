//! Which nodes are meant.

use super::Problem;
use crate::server::App;
use kraken::Then;
use kraken_model::{Document, Format, Kind, NodeId, NodeSet, NodeSetError, Path, Registry, Side};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The nodes of a server, for those who add something to its API.
#[derive(Clone)]
pub struct Selection(pub(crate) Arc<App>);

impl Selection {
    /// The nodes of a set, as everywhere in the API.
    ///
    /// # Errors
    /// When the text is empty or no node set, or names nodes or groups that are not there.
    pub fn nodes(&self, text: &str) -> Result<NodeSet, Problem> {
        nodes(&self.0, text)
    }

    /// The same for what is done to nodes: a set without any is a mistake.
    ///
    /// # Errors
    /// As [`Selection::nodes`], and when the set is empty.
    pub fn some(&self, text: &str) -> Result<NodeSet, Problem> {
        some(&self.0, text)
    }

    /// The nodes whose cfg has this value at an address.
    ///
    /// # Errors
    /// When no cluster file was applied yet.
    pub fn configured(&self, path: &str, value: &str) -> Result<NodeSet, Problem> {
        let all = self.0.kraken()?.views().all().into_iter();
        let says = |cfg: &Document| cfg.get(path).is_some_and(|held| held.to_string() == value);
        Ok(all.filter(|(_, view)| says(&view.cfg)).map(|(node, _)| node).collect())
    }
}

/// The nodes of a set, such as `ml[001-130]!@rack3` or `run_state=ERROR`.
///
/// # Errors
/// When the text is empty or no node set, names nodes or groups that are not there, or asks for an
/// address or a value that no schema knows.
pub(super) fn nodes(app: &App, text: &str) -> Result<NodeSet, Problem> {
    let views = app.kraken()?.views();
    let registry = app.registry();
    let set = parse(text, &|name: &str| {
        let all = || views.all().into_iter();
        match name.split_once('=') {
            _ if name == "*" => Ok(Some(all().map(|(node, _)| node).collect())),
            Some((path, value)) => {
                let asked = Predicate { registry: &registry, path, value };
                let holds = all().filter(|(_, view)| asked.holds(&view.cfg, &view.dsc));
                asked.possible(holds.map(|(node, _)| node).collect()).map(Some)
            }
            None => Ok(app.group(name)),
        }
    })?;
    there(&set, |node| views.get(node).is_some(), || views.all().into_keys().collect())?;
    Ok(set)
}

/// The same for what is done to nodes. Whoever types such a set means some: that nothing is done, and
/// said to be done, would be found out too late.
///
/// # Errors
/// As [`nodes`], and when the set is empty.
pub(super) fn some(app: &App, text: &str) -> Result<NodeSet, Problem> {
    let set = nodes(app, text)?;
    if !set.is_empty() {
        return Ok(set);
    }
    Err(no_node(&format!("{text:?} is true of none")))
}

fn no_node(why: &str) -> Problem {
    let hint = "name nodes, such as n1, n[1-3] or *; `layercake get nodes` lists them";
    Problem::not_found("no node matches", format!("{why}, so nothing was done: {hint}"))
}

/// The same among nodes that there were; groups are those of now.
///
/// # Errors
/// As [`nodes`].
pub(super) fn among(app: &App, text: &str, then: &Then) -> Result<NodeSet, Problem> {
    let registry = app.registry();
    let set = parse(text, &|name: &str| match name.split_once('=') {
        _ if name == "*" => Ok(Some(then.nodes.keys().cloned().collect())),
        Some((path, value)) => {
            let asked = Predicate { registry: &registry, path, value };
            let holds = then.nodes.iter().filter(|(_, past)| asked.holds(&past.cfg, &past.dsc));
            asked.possible(holds.map(|(node, _)| node.clone()).collect()).map(Some)
        }
        None => {
            let were = |node: &&NodeId| then.nodes.contains_key(*node);
            Ok(app.group(name).map(|group| group.iter().filter(were).cloned().collect()))
        }
    })?;
    there(&set, |node| then.nodes.contains_key(node), || then.nodes.keys().cloned().collect())?;
    Ok(set)
}

/// What is asked of a node: `run_state=ERROR`, `location.rack=r2`.
struct Predicate<'a> {
    registry: &'a Registry,
    path: &'a str,
    value: &'a str,
}

impl Predicate<'_> {
    /// Whether it is true of a node: what was discovered counts before what is configured. That a
    /// node should be in a state does not mean that it is, so cfg does not speak for a variable.
    fn holds(&self, cfg: &Document, dsc: &Document) -> bool {
        let is_discovered = self.registry.field(self.path).is_some_and(|field| {
            matches!(field.kind, Kind::Variable(_)) && field.sides.contains(&Side::Dsc)
        });
        let is_now = |path: &Path| !layercake_schema::is_last_known(dsc, path);
        let held = dsc.get(self.path).filter(|_| Path::new(self.path).is_ok_and(|p| is_now(&p)));
        let held = if is_discovered { held } else { held.or_else(|| cfg.get(self.path)) };
        held.is_some_and(|held| held.to_string() == self.value)
    }

    /// The nodes of which it is true, unless there can never be any. What some node has, or had in the
    /// past, can be.
    fn possible(&self, nodes: NodeSet) -> Result<NodeSet, String> {
        if !nodes.is_empty() {
            return Ok(nodes);
        }
        let Some(field) = self.registry.field(self.path) else {
            let variables: Vec<&str> = self.registry.variables().map(|(path, _)| path).collect();
            return Err(format!(
                "no schema knows the address {:?}; there are {} and the others that `layercake \
                 describe` shows",
                self.path,
                variables.join(", ")
            ));
        };
        if can_be(&field.kind, self.value) {
            return Ok(nodes);
        }
        Err(format!("{} is never {:?}: it is {}", self.path, self.value, field.kind))
    }
}

/// Whether a kind of value that has but few has this one.
fn can_be(kind: &Kind, value: &str) -> bool {
    match kind {
        Kind::Variable(values) => values.iter().any(|known| **known == *value),
        Kind::Text(Format::Choice(words)) => words.contains(&value),
        Kind::Bool => matches!(value, "true" | "false"),
        _ => true,
    }
}

/// `resolve` says what a name stands for, nothing if there is no such group, or why it can be none.
/// Nobody means no text at all: it is a variable of a shell that was empty.
fn parse(
    text: &str,
    resolve: &dyn Fn(&str) -> Result<Option<NodeSet>, String>,
) -> Result<NodeSet, Problem> {
    if text.trim().is_empty() {
        return Err(no_node("the node set is empty"));
    }
    let refused = RefCell::new(None);
    let resolve = |name: &str| match resolve(name) {
        Ok(set) => set,
        Err(why) => {
            refused.replace(Some(why));
            None
        }
    };
    NodeSet::parse(text, &resolve).map_err(|error| {
        let reason = refused.take().unwrap_or_else(|| error.reason.clone());
        let error = NodeSetError { reason, ..error };
        Problem::bad_request("not a set of nodes of this cluster", error.to_string())
    })
}

fn there(
    set: &NodeSet,
    is_there: impl Fn(&NodeId) -> bool,
    all: impl FnOnce() -> NodeSet,
) -> Result<(), Problem> {
    let missing: NodeSet = set.iter().filter(|node| !is_there(node)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let meant = alike(&missing, &all());
    let hint = if meant.is_empty() {
        String::new()
    } else {
        format!("; there is {meant}: leading zeros are part of a name")
    };
    Err(Problem::not_found("no such node", format!("there is no {missing}{hint}")))
}

/// The nodes that are called like some others but for leading zeros.
fn alike(missing: &NodeSet, all: &NodeSet) -> NodeSet {
    let missing: BTreeSet<String> = missing.iter().map(without_zeros).collect();
    all.iter().filter(|node| missing.contains(&without_zeros(node))).cloned().collect()
}

fn without_zeros(node: &NodeId) -> String {
    let mut name = String::new();
    let mut letters = node.as_str().chars().peekable();
    while let Some(letter) = letters.next() {
        let is_within = name.ends_with(|last: char| last.is_ascii_digit());
        let goes_on = letters.peek().is_some_and(char::is_ascii_digit);
        if letter != '0' || is_within || !goes_on {
            name.push(letter);
        }
    }
    name
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nodes_are_alike_but_for_leading_zeros() {
        let set = |text: &str| NodeSet::expand(text).unwrap().into_iter().collect::<NodeSet>();
        let alike = |missing, all| alike(&set(missing), &set(all)).to_string();
        assert_eq!(alike("n[1-3]", "n[001-130]"), "n[001-003]");
        assert_eq!(alike("n0100", "n[001-130]"), "n100");
        assert_eq!(alike("r1n0", "r01n00,r10n00"), "r01n00");
        assert_eq!(alike("n[1-3],m1", "n[4-9],n10"), "");
    }
}
