//! What the engine would do if cfg were another: planned with its own planner from what is known,
//! and nothing is changed.

use crate::experience::Learned;
use crate::forecast::{Forecast, Walker};
use crate::node::Standing;
use crate::recovery::Tried;
use crate::way::{Leg, PlanContext, Way};
use crate::{Availability, Engine, FoundRunning, Limit, Settings, Silence};
use kraken_model::{Change, Document, NodeId};
use kraken_plan::{Context, Costs, Foresight, ModuleSet, MutationId, Restart};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the engine knows of all nodes at one moment. Taking it costs little, since documents are
/// shared; planning with it keeps the engine from nothing.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub(crate) set: Arc<ModuleSet>,
    availability: Availability,
    pub(crate) found_running: Option<FoundRunning>,
    pub(crate) restart: Option<Restart>,
    pub(crate) silence: Option<Silence>,
    /// What steps take in truth, by kind of hardware.
    learned: Learned,
    pub(crate) is_frozen: bool,
    nodes: BTreeMap<NodeId, Present>,
}

/// One node at that moment.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    pub(crate) cfg: Document,
    pub(crate) dsc: Document,
    /// Corrected by what failed there, if anything did; a change of its cfg takes that back.
    pub(crate) costs: Option<Costs>,
    /// What is under way, and for how long already; of a step that the node takes without being asked, as far as
    /// that is known.
    pub(crate) running: Option<(MutationId, Duration)>,
    /// It was foreseen that what is under way comes to its end first, whatever cfg is then.
    pub(crate) goes_on: bool,
    pub(crate) is_held: bool,
    pub(crate) is_frozen: bool,
    /// The storm that holds it, in words.
    pub(crate) storm: Option<String>,
    /// A restart was asked for, and the node was not off yet; whether it is hard.
    pub(crate) passing: Option<bool>,
    /// How often it was recovered since it was last seen.
    pub(crate) tried: Tried,
}

/// What would be done about a cluster, and how long that is expected to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The nodes whose cfg would be another, in the order of their names.
    pub nodes: Vec<NodePlan>,
    /// The steps that stand in the ways of nodes, by name.
    pub steps: BTreeMap<Arc<str>, PlannedStep>,
    /// All of it in numbers.
    pub summary: PlanSummary,
}

/// What would be done about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node.
    pub node: NodeId,
    /// The steps, in order, if nothing unexpected happens.
    pub steps: Vec<Arc<str>>,
    /// How long they are expected to take one after the other, in milliseconds.
    pub takes_ms: u64,
    /// When the last is expected to be done, in milliseconds from now, if limits were all that it
    /// waits for. Nothing: it would wait for as long as things are as they are.
    pub done_ms: Option<u64>,
    /// Why it stops before it is where it should be, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<String>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The module that takes it.
    pub module: Arc<str>,
    /// Who takes it.
    pub by: Context,
    /// What it changes, for a person.
    pub effects: Vec<String>,
    /// Whether it may end what runs on the node.
    pub disruptive: bool,
    /// How long it is expected to take, in milliseconds, where nothing was measured yet. The times of
    /// nodes go by what was measured on hardware of their kind.
    pub expected_ms: u64,
}

/// A plan in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// How many nodes have another cfg.
    pub nodes: usize,
    /// How many of them have steps ahead.
    pub moving: usize,
    /// How many of them have a disruptive step ahead.
    pub disrupted: usize,
    /// How many of them stop before they are where they should be.
    pub stopping: usize,
    /// How many nodes whose cfg stays have steps ahead all the same.
    pub others: usize,
    /// The longest way by itself, in milliseconds, and whose it is.
    pub longest_ms: u64,
    /// The node with the longest way.
    pub longest: Option<NodeId>,
    /// When everything is expected to be done, limits considered, in milliseconds from now.
    pub done_ms: u64,
    /// Which limits steps would wait for.
    pub limits: Vec<LimitWait>,
}

/// How a limit delays a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitWait {
    /// What is limited.
    pub limit: String,
    /// How many steps wait for it.
    pub steps: usize,
    /// The longest that one of them waits, in milliseconds.
    pub longest_ms: u64,
}

impl Engine {
    /// What is known of all nodes now.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let present = |node: &crate::node::Node| Present {
            cfg: node.configured().clone(),
            passing: node.base.as_ref().and(node.marks().restart.as_ref()).map(|m| m.terms.hard),
            dsc: node.dsc.clone(),
            costs: node.troubles.is_some().then(|| self.costs(node).into_owned()),
            running: self.under_way_on(node),
            goes_on: false,
            is_held: node.marks().hold.is_some(),
            is_frozen: self.freeze.is_some() || node.marks().freeze.is_some(),
            storm: self.storm_view(node).map(|storm| storm.to_string()),
            tried: node.tried(),
        };
        Outlook {
            set: Arc::clone(&self.set),
            availability: self.settings.availability.clone(),
            found_running: self.settings.found_running.clone(),
            restart: self.settings.restart.clone(),
            silence: self.settings.silence.clone(),
            learned: self.learned.clone(),
            is_frozen: self.freeze.is_some(),
            nodes: self.nodes.iter().map(|node| (node.id.clone(), present(node))).collect(),
        }
    }
}

impl Engine {
    fn under_way_on(&self, node: &crate::node::Node) -> Option<(MutationId, Duration)> {
        let ours = node.running.as_ref().map(|r| (r.mutation, self.now.since(r.began)));
        let theirs = match node.standing {
            Standing::WaitsForNode(id) => Some((id, self.now.since(node.since))),
            _ => None,
        };
        ours.or(theirs)
    }
}

impl Outlook {
    /// An outlook on no node yet.
    #[must_use]
    pub fn empty(set: Arc<ModuleSet>, settings: &Settings) -> Self {
        let (availability, kinds) = (settings.availability.clone(), settings.kinds.clone());
        let learned = Learned::new(kinds);
        let (restart, found_running) = (settings.restart.clone(), settings.found_running.clone());
        let (is_frozen, silence) = (false, settings.silence.clone());
        let nodes = BTreeMap::new();
        Self { set, availability, found_running, restart, silence, learned, is_frozen, nodes }
    }

    /// Takes into account what will be found out about nodes once this is their cfg, and cannot be known
    /// before: that what runs is not what is wanted, for one. `finds` is asked about each node with its
    /// cfg as it is, as it would be, what is known of it, and the step of the node's own that is under way.
    pub fn foresee(
        &mut self,
        cfg: &BTreeMap<NodeId, Document>,
        finds: impl Fn(&Document, &Document, &Document, Option<&str>) -> Foresight,
    ) {
        for (id, present) in &mut self.nodes {
            let Some(after) = cfg.get(id) else { continue };
            let running = present.running.map(|(id, _)| self.set.mutation(id));
            let own = running.filter(|mutation| mutation.context == Context::Node);
            let own = own.map(|mutation| &*mutation.name);
            let foresight = finds(&present.cfg, after, &present.dsc, own);
            present.goes_on = foresight.goes_on && own.is_some();
            for Change { path, value } in foresight.changes {
                match value {
                    Some(value) => drop(present.dsc.set(path, value)),
                    None => drop(present.dsc.remove(path.as_str())),
                }
            }
        }
    }

    /// What would be done if nodes should be this, under these limits. Nodes that are not named
    /// would be taken away: nothing is done about them.
    #[must_use]
    pub fn plan(&self, cfg: &BTreeMap<NodeId, Document>, limits: &[Limit]) -> Plan {
        let (mut context, nothing) = (PlanContext::new(self.learned.clone()), Document::new());
        let ways: Vec<Way> = cfg
            .iter()
            .map(|(id, cfg)| {
                let present = self.nodes.get(id);
                let dsc = present.map_or(&nothing, |present| &present.dsc);
                self.way(&mut context, present, cfg, dsc)
            })
            .collect();
        let walkers = cfg.iter().zip(&ways).map(|((id, cfg), way)| {
            let running = self.nodes.get(id).and_then(|present| present.running);
            Walker {
                id,
                cfg,
                facts: way.facts,
                state: way.state,
                path: &way.path,
                running: running.filter(|(id, _)| way.path.first().is_some_and(|leg| leg.0 == *id)),
            }
        });
        let forecast = Forecast::new(&self.set, &self.availability, limits, walkers.collect());
        self.written(cfg, &ways, &forecast.run())
    }

    fn written(
        &self,
        cfg: &BTreeMap<NodeId, Document>,
        ways: &[Way],
        forecast: &crate::forecast::Foreseen,
    ) -> Plan {
        let mut plan =
            Plan { nodes: Vec::new(), steps: BTreeMap::new(), summary: PlanSummary::default() };
        let summary = &mut plan.summary;
        let gone = self.nodes.keys().filter(|id| !cfg.contains_key(*id));
        for ((id, cfg), (way, done)) in cfg.iter().zip(ways.iter().zip(&forecast.done)) {
            summary.done_ms = summary.done_ms.max(done.unwrap_or_default());
            if self.nodes.get(id).is_some_and(|present| present.cfg == *cfg) {
                summary.others += usize::from(!way.path.is_empty());
                continue;
            }
            let node = self.node_plan(id, way, *done, &mut plan.steps);
            summary.moving += usize::from(!node.steps.is_empty());
            summary.stopping += usize::from(node.stops.is_some());
            let is_disruptive = |leg: &Leg| self.set.mutation(leg.0).disruptive;
            summary.disrupted += usize::from(way.path.iter().any(is_disruptive));
            if node.takes_ms > summary.longest_ms {
                summary.longest_ms = node.takes_ms;
                summary.longest = Some(id.clone());
            }
            plan.nodes.push(node);
        }
        let unseen = |id: &NodeId| NodePlan {
            node: id.clone(),
            steps: Vec::new(),
            takes_ms: 0,
            done_ms: Some(0),
            stops: None,
        };
        plan.nodes.extend(gone.map(unseen));
        plan.nodes.sort_by(|a, b| a.node.cmp(&b.node));
        summary.nodes = plan.nodes.len();
        summary.limits = forecast.waits.clone();
        plan
    }

    fn node_plan(
        &self,
        id: &NodeId,
        way: &Way,
        done_ms: Option<u64>,
        steps: &mut BTreeMap<Arc<str>, PlannedStep>,
    ) -> NodePlan {
        let mut takes = Duration::ZERO;
        for (id, time) in &way.path {
            let mutation = self.set.mutation(*id);
            takes += *time;
            steps.entry(Arc::clone(&mutation.name)).or_insert_with(|| PlannedStep {
                module: Arc::clone(&mutation.module),
                by: mutation.context,
                effects: mutation.effects.iter().map(ToString::to_string).collect(),
                disruptive: mutation.disruptive,
                expected_ms: millis(mutation.cost),
            });
        }
        let name = |leg: &Leg| Arc::clone(&self.set.mutation(leg.0).name);
        NodePlan {
            node: id.clone(),
            steps: way.path.iter().map(name).collect(),
            takes_ms: millis(takes),
            done_ms,
            stops: way.stops.clone(),
        }
    }
}

impl Plan {
    /// The disruptive steps of a node.
    pub fn disruption(&self, node: &NodePlan) -> Vec<Arc<str>> {
        let is_disruptive =
            |name: &&Arc<str>| self.steps.get(*name).is_some_and(|step| step.disruptive);
        node.steps.iter().filter(is_disruptive).cloned().collect()
    }

    /// What of this plan no longer holds where another is what would be done now: each node whose
    /// next step, disruption or end is another, and why, for a person.
    #[must_use]
    pub fn outdated(&self, now: &Self) -> Vec<(NodeId, String)> {
        let differs = |then: &NodePlan| {
            let Ok(at) = now.nodes.binary_search_by(|other| other.node.cmp(&then.node)) else {
                return Some("nothing about it would change any more".to_owned());
            };
            self.differs(then, now, &now.nodes[at])
        };
        let differing =
            self.nodes.iter().filter_map(|then| Some((then.node.clone(), differs(then)?)));
        let is_new = |other: &&NodePlan| {
            self.nodes.binary_search_by(|then| then.node.cmp(&other.node)).is_err()
        };
        let new = now.nodes.iter().filter(is_new);
        let new = new.map(|other| (other.node.clone(), "it was not in the plan".to_owned()));
        differing.chain(new).collect()
    }

    fn differs(&self, then: &NodePlan, now: &Self, other: &NodePlan) -> Option<String> {
        if then.steps.first() != other.steps.first() {
            let (was, is) = (then.begins_with(), other.begins_with());
            return Some(format!("it was to begin with {was}, now {is}"));
        }
        let disruption = |plan: &Self, node: &NodePlan| match &plan.disruption(node)[..] {
            [] => "nothing".to_owned(),
            steps => steps.join(", "),
        };
        let (before, after) = (disruption(self, then), disruption(now, other));
        if before != after {
            return Some(format!("it was to be disrupted by {before}, now by {after}"));
        }
        other.stops.clone().filter(|_| then.stops.is_none())
    }
}

impl NodePlan {
    /// The first step, or why there is none.
    fn begins_with(&self) -> String {
        match (self.steps.first(), &self.stops) {
            (Some(step), _) => step.to_string(),
            (None, Some(stops)) => format!("nothing, since {stops}"),
            (None, None) => "nothing".to_owned(),
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
