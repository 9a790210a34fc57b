//! Layercake's command line, used as a person would use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::run::{check, line};

/// No answer takes this long; a server that hangs must not hang the demo.
const ANSWER_SECONDS: &str = "60";
/// More events than a demo has.
const ALL_EVENTS: &str = "10000";

/// A node, as `layercake get nodes` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) converged: bool,
    dsc: Value,
}

/// The four variables that a boot moves, in the order in which it does.
pub(super) const STATES: [&str; 4] = ["phys_state", "boot_state", "run_state", "image_state"];

impl Node {
    /// A discovered value, by its address.
    fn found(&self, address: &str) -> Option<&Value> {
        address.split('.').try_fold(&self.dsc, |value, key| value.get(key))
    }

    /// A discovered text; `-` where nothing was discovered.
    pub(super) fn text(&self, address: &str) -> &str {
        self.found(address).and_then(Value::as_str).unwrap_or("-")
    }

    /// A discovered number.
    pub(super) fn number(&self, address: &str) -> Option<u64> {
        self.found(address).and_then(Value::as_u64)
    }

    /// Names this boot of the node.
    pub(super) fn boot_id(&self) -> &str {
        self.text("layer0.boot_id")
    }

    /// Whether it is where every node of the demo should be.
    pub(super) fn is_active(&self) -> bool {
        self.converged
            && self.text("phys_state") == "POWER_ON"
            && self.text("run_state") == "SYNC"
            && self.text("image_state") == "ACTIVE"
    }
}

/// What happened, as `layercake events` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Event {
    pub(super) seq: u64,
    /// When, in milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) node: Option<String>,
    what: String,
    mutation: Option<String>,
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Deserialize)]
struct Change {
    path: String,
    #[serde(default)]
    value: Value,
}

impl Event {
    /// Whether it is of this kind, such as `adopted`.
    pub(super) fn is(&self, what: &str) -> bool {
        self.what == what
    }

    /// Whether a mutation of this module was handed out: one that acts, not one that only asks.
    pub(super) fn orders(&self, module: &str) -> bool {
        let acts = |mutation: &str| {
            let step = mutation.strip_prefix(module).and_then(|rest| rest.strip_prefix('.'));
            step.is_some_and(|step| !matches!(step, "discover" | "recheck" | "settle"))
        };
        self.is("dispatched") && self.mutation.as_deref().is_some_and(acts)
    }

    /// Whether this value was discovered.
    pub(super) fn found(&self, address: &str, value: &str) -> bool {
        self.is("discovered")
            && self.changes.iter().any(|c| c.path == address && c.value.as_str() == Some(value))
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let node = self.node.as_deref().unwrap_or("-");
        format!("{} {node} {} {}", self.seq, self.what, self.mutation.as_deref().unwrap_or(""))
    }
}

#[derive(Deserialize)]
struct Explained {
    name: String,
    text: String,
}

/// The command line, and the server it talks to.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) program: PathBuf,
    /// As `--server` takes it.
    pub(super) server: String,
}

impl Client {
    /// A command with these arguments.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        // Its own process group, as `timeout` makes one, also keeps a Ctrl-C away from it.
        let mut command = Command::new("timeout");
        command.arg(ANSWER_SECONDS).arg(&self.program).args(["--server", &self.server]).args(args);
        command
    }

    /// Runs it, for what it does.
    pub(super) fn run(&self, args: &[&str]) -> Result<String, Error> {
        check(&mut self.command(args))
    }

    /// Runs it, for what it answers.
    fn ask<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T, Error> {
        let args = [&["--output", "json"], args].concat();
        let mut command = self.command(&args);
        serde_json::from_str(&check(&mut command)?).map_err(|error| {
            Error::Refused(format!("`{}` answers what is not expected: {error}", line(&command)))
        })
    }

    /// Every node, in the order of their names.
    pub(super) fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.ask(&["get", "nodes"])
    }

    /// What is done about every node, or stands in its way.
    pub(super) fn explain(&self, nodes: &[Node]) -> Result<BTreeMap<String, String>, Error> {
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        let explained: Vec<Explained> = self.ask(&["explain", &names.join(",")])?;
        Ok(explained.into_iter().map(|node| (node.name, node.text)).collect())
    }

    /// Every event with a number above this one.
    pub(super) fn events_after(&self, seq: u64) -> Result<Vec<Event>, Error> {
        self.ask(&["events", "--limit", ALL_EVENTS, "--from", &(seq + 1).to_string()])
    }

    /// The number of the latest event.
    pub(super) fn latest_event(&self) -> Result<u64, Error> {
        let latest: Vec<Event> = self.ask(&["events", "--limit", "1"])?;
        Ok(latest.last().map_or(0, |event| event.seq))
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A node with the four states, for tests.
    pub(in super::super) fn node(name: &str, states: [&str; 4]) -> Node {
        let dsc = STATES.into_iter().zip(states).map(|(key, value)| (key.to_owned(), value.into()));
        let dsc = Value::Object(dsc.collect());
        let converged = states == ["POWER_ON", "INIT", "SYNC", "ACTIVE"];
        Node { name: name.to_owned(), converged, dsc }
    }

    /// A step that was handed out, for tests.
    pub(in super::super) fn dispatched(node: &str, mutation: &str) -> Event {
        let json = serde_json::json!({"seq": 1, "at": 2, "node": node, "what": "dispatched",
            "mutation": mutation, "attempt": 1, "deadline": 3, "by": "engine"});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn values_are_found_by_their_address() {
        let json = r#"{"name": "n1", "converged": true, "cfg": {}, "dsc": {
            "phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
            "layer0": {"boot_id": "b", "started": 7}, "images": {"web": {"state": "running"}}}}"#;
        let node: Node = serde_json::from_str(json).unwrap();
        assert_eq!((node.boot_id(), node.number("layer0.started")), ("b", Some(7)));
        assert_eq!((node.text("images.web.state"), node.text("images.x.state")), ("running", "-"));
        assert!(node.is_active());
    }

    #[test]
    fn orders_are_told_from_questions() {
        let event = |mutation: &str| dispatched("n1", mutation);
        assert!(event("power.on").orders("power") && event("power.recover").orders("power"));
        assert!(!event("power.discover").orders("power"), "asking disturbs nobody");
        assert!(!event("image.start").orders("power") && !event("powerful.on").orders("power"));
        let json = r#"{"seq": 2, "at": 1, "node": "n1", "what": "discovered", "by": "sync",
            "changes": [{"path": "image_state", "value": "ERROR"}, {"path": "x", "value": null}]}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        assert!(event.found("image_state", "ERROR") && !event.found("image_state", "ACTIVE"));
        assert!(!event.orders("power"));
    }
}
