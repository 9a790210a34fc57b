//! Which nodes are meant.

mod predicate;

use super::Problem;
use crate::server::App;
use kraken::{Then, Views};
use kraken_model::{
    Document, NodeId, NodeLookup, NodeSet, NodeSetError, NodeSetErrorKind, Registry, Side, nearest,
    suggest,
};
use predicate::Predicate;
use std::sync::Arc;

/// The nodes of a server, for those who add something to its API.
#[derive(Clone)]
pub struct Selection(pub(crate) Arc<App>);

impl Selection {
    /// The nodes of a set, as everywhere in the API.
    ///
    /// # Errors
    /// When the text is no node set, or names what does not exist.
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
    /// When no cluster file was applied yet, or no node has it; the reason ends with the nearest one.
    pub fn configured(&self, path: &str, value: &str) -> Result<NodeSet, Problem> {
        let cluster = Cluster::now(&self.0)?;
        let refused = |why| Problem::not_found("no such nodes", why);
        cluster.select(Some(Side::Cfg), path, value).map_err(refused)
    }
}

/// The nodes of a set, such as `ml[001-130]!@rack3` or `run_state=ERROR`; none for an empty text.
///
/// # Errors
/// When the text is no node set, or names a node, a group, an address or a value that does not exist.
pub(super) fn nodes(app: &App, text: &str) -> Result<NodeSet, Problem> {
    NodeSet::parse(text, &Cluster::now(app)?).map_err(refused)
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
    // An empty text is a variable of a shell that was empty.
    let why = match text.trim() {
        "" => "the node set is empty".to_owned(),
        text => format!("{text:?} is true of none"),
    };
    let hint = "name nodes, such as n1, n[1-3] or *; `layercake get nodes` lists them";
    Err(Problem::not_found("no node matches", format!("{why}, so nothing was done: {hint}")))
}

/// The same among nodes that there were; groups are those of now.
///
/// # Errors
/// As [`nodes`].
pub(super) fn among(app: &App, text: &str, then: &Then) -> Result<NodeSet, Problem> {
    let cluster = Cluster { app, registry: app.registry(), nodes: Nodes::Then(then) };
    NodeSet::parse(text, &cluster).map_err(refused)
}

fn refused(error: NodeSetError) -> Problem {
    match error.kind {
        NodeSetErrorKind::NoSuchNode => Problem::not_found("no such node", error.reason),
        _ => Problem::bad_request("invalid node set", error.to_string()),
    }
}

/// The nodes that a set is about: those of now, or those of a time that has passed.
enum Nodes<'a> {
    Now(&'a Views),
    Then(&'a Then),
}

/// What a node set may refer to.
struct Cluster<'a> {
    app: &'a App,
    registry: Arc<Registry>,
    nodes: Nodes<'a>,
}

/// A node with its cfg and its dsc.
type Member = (NodeId, Document, Document);

impl<'a> Cluster<'a> {
    fn now(app: &'a App) -> Result<Self, Problem> {
        let nodes = Nodes::Now(app.kraken()?.views());
        Ok(Self { app, registry: app.registry(), nodes })
    }

    fn members(&self) -> Vec<Member> {
        match &self.nodes {
            Nodes::Now(views) => {
                let all = views.all().into_iter();
                all.map(|(node, view)| (node, view.cfg, view.dsc)).collect()
            }
            Nodes::Then(then) => {
                let all = then.nodes.iter();
                all.map(|(node, past)| (node.clone(), past.cfg.clone(), past.dsc.clone())).collect()
            }
        }
    }
}

impl NodeLookup for Cluster<'_> {
    fn contains(&self, node: &NodeId) -> bool {
        match &self.nodes {
            Nodes::Now(views) => views.contains(node),
            Nodes::Then(then) => then.nodes.contains_key(node),
        }
    }

    fn all(&self) -> Option<NodeSet> {
        Some(self.members().into_iter().map(|(node, ..)| node).collect())
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        let Some(group) = self.app.group(name) else {
            let groups = self.app.group_names();
            let groups = groups.iter().map(String::as_str);
            return Err(match nearest(name, groups.clone()) {
                Some(near) => format!("no such group: @{name} (did you mean @{near}?)"),
                None => format!("no such group: @{name}; {}", suggest(name, groups)),
            });
        };
        Ok(match &self.nodes {
            Nodes::Now(_) => group,
            Nodes::Then(_) => group.into_iter().filter(|node| self.contains(node)).collect(),
        })
    }

    fn select(&self, side: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        let members = self.members();
        let digests = |reference: &str| {
            let facts = self.app.images.facts(reference).ok();
            facts.map(|facts| facts.digest.to_string())
        };
        let predicate = Predicate { registry: &self.registry, side, path, value };
        predicate.nodes(&members, &digests)
    }
}

/// One node by its name.
///
/// # Errors
/// When there is none of that name.
pub(super) fn node(app: &App, name: &str) -> Result<NodeId, Problem> {
    let cluster = Cluster::now(app)?;
    if let Ok(node) = NodeId::new(name) {
        if cluster.contains(&node) {
            return Ok(node);
        }
        let missing = std::iter::once(node).collect();
        let why = cluster.all().unwrap_or_default().correct(&missing);
        return Err(Problem::not_found("no such node", why));
    }
    Err(Problem::not_found("no such node", format!("{name:?} is not a node name")))
}
