//! What cargo knows of the workspace and its dependencies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::Error;
use crate::run::{cargo, check, host_triple};

/// `cargo metadata`, the part that is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    /// `dev`, `build`, or nothing for what is linked.
    kind: Option<String>,
}

/// One crate.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for a crate of the workspace.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a crate asks for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Set when it is asked for as a directory.
    pub(crate) path: Option<PathBuf>,
}

impl Metadata {
    /// Everything that is built for this machine.
    pub(crate) fn load() -> Result<Self, Error> {
        let mut command = cargo();
        command.args(["metadata", "--format-version=1", "--filter-platform", &host_triple()]);
        let json = check(&mut command)?;
        serde_json::from_str(&json)
            .map_err(|error| Error::Refused(format!("cannot read cargo metadata: {error}")))
    }

    /// The crates of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Everything that is built into what is shipped, or builds it: all but what only tests use.
    pub(crate) fn shipped(&self) -> Vec<&Package> {
        let mut seen: BTreeSet<&str> = self.workspace_members.iter().map(String::as_str).collect();
        let mut waiting: Vec<&str> = seen.iter().copied().collect();
        while let Some(id) = waiting.pop() {
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            for edge in node.into_iter().flat_map(|node| &node.deps) {
                let only_tests =
                    edge.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev"));
                if !only_tests && seen.insert(&edge.pkg) {
                    waiting.push(&edge.pkg);
                }
            }
        }
        self.packages.iter().filter(|package| seen.contains(package.id.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_only_tests_use_is_not_shipped_but_what_builds_is() {
        let package = |id: &str| serde_json::json!({ "id": id, "name": id, "version": "1.0.0", "dependencies": [] });
        let packages = ["own", "linked", "builds", "tests", "deep", "both"].map(package);
        let edge = |pkg: &str, kinds: &[Option<&str>]| {
            let kinds: Vec<_> =
                kinds.iter().map(|kind| serde_json::json!({ "kind": kind })).collect();
            serde_json::json!({ "pkg": pkg, "dep_kinds": kinds })
        };
        let metadata: Metadata = serde_json::from_value(serde_json::json!({
            "packages": packages,
            "workspace_members": ["own"],
            "resolve": { "nodes": [
                { "id": "own", "deps": [
                    edge("linked", &[None]),
                    edge("builds", &[Some("build")]),
                    edge("tests", &[Some("dev")]),
                    edge("both", &[Some("dev"), None]),
                ]},
                { "id": "tests", "deps": [edge("deep", &[None])] },
            ]},
        }))
        .unwrap();
        let names: Vec<_> = metadata.shipped().iter().map(|p| p.name.clone()).collect();
        assert_eq!(names, ["own", "linked", "builds", "both"]);
        assert_eq!(metadata.members().count(), 1);
    }
}
