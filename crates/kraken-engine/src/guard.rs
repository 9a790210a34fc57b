//! The storm guard: notices what nodes lose, and holds what is disruptive where too much is lost at once.

use crate::domains::Raging;
use crate::node::Node;
use crate::storm::Turn;
use crate::{Engine, Output, Storm, What};
use kraken_model::{Millis, Path, format_duration};
use kraken_plan::State;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A failure domain: the nodes with one value of a fact of cfg, such as those of a rack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// The address of the fact.
    pub per: Path,
    /// The value that its nodes have in common.
    pub value: Arc<str>,
}

/// A storm that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormView {
    /// Where; `None`: among all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// How many nodes were lost and are not back.
    pub lost: usize,
    /// Of how many that should run there.
    pub nodes: usize,
    /// When the first of them was lost.
    pub lost_since: Millis,
}

/// Nodes of a domain that were lost about when a node was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostWith {
    /// The domain that they have in common.
    pub domain: Domain,
    /// How many there are besides.
    pub others: usize,
}

impl Engine {
    /// Another storm guard counts from now on. Storms that last go on.
    pub(crate) fn guard_against(&mut self, storm: Storm) {
        if storm == self.settings.storm {
            return;
        }
        Arc::make_mut(&mut self.settings).storm = storm;
        for at in self.nodes.places() {
            self.find_domains(at);
        }
        self.is_sweep_due = true;
    }

    /// Finds out in which failure domains a node is, and whether it counts there, after its cfg or the guard has
    /// changed.
    pub(crate) fn find_domains(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        let Storm { variable, per, .. } = &self.settings.storm;
        let unknown = self.set.variable(variable.as_str()).map(|variable| &variable.values[0]);
        let wanted = node.configured().text(variable.as_str());
        let is_watched = wanted.is_some() && wanted != unknown.map(AsRef::as_ref);
        let before = node.domains;
        let after = self.domains.of(node.configured(), per, before);
        if (before, node.is_watched) == (after, is_watched) {
            return;
        }
        if node.is_watched {
            self.domains.leave(before);
        }
        if is_watched {
            self.domains.join(after);
        }
        (node.domains, node.is_watched) = (after, is_watched);
        if let Some(lost_at) = node.lost_at.filter(|_| before != after) {
            self.domains.move_lost((before, after), lost_at, at);
        }
    }

    /// A node is taken away: that it is not back is no sign for others.
    pub(crate) fn leave_domains(&mut self, at: u32, node: &Node) {
        if let Some(lost_at) = node.lost_at {
            self.domains.excuse(node.domains, lost_at, at);
        }
        if node.is_watched {
            self.domains.leave(node.domains);
        }
    }

    /// Notices when a node has lost, or has again, what the storm guard watches.
    pub(crate) fn watch_loss(&mut self, at: u32, before: State) {
        let path = &self.settings.storm.variable;
        let (Some(node), Some(variable)) =
            (self.nodes.get_mut(at), self.set.variable(path.as_str()))
        else {
            return;
        };
        let wanted = node.cfg.text(path.as_str()).filter(|wanted| **wanted != *variable.values[0]);
        let is_wanted = |state| wanted == Some(variable.value(state).as_ref());
        if is_wanted(node.state) {
            self.domains.back(node.domains, at);
        }
        if let Some(lost_at) = node.lost_at {
            if is_wanted(node.state) {
                node.lost_at = None;
                self.domains.regain(node.domains, lost_at, at);
            } else if wanted.is_none() {
                node.lost_at = None;
                self.domains.excuse(node.domains, lost_at, at);
            }
            return;
        }
        if !is_wanted(before) || is_wanted(node.state) {
            return;
        }
        // What a step was to bring about is no loss.
        let expected = node.standing.taken().map(|id| self.set.after(id, before, node.facts));
        if expected.is_some_and(|e| variable.value(e) == variable.value(node.state)) {
            return;
        }
        node.lost_at = Some(self.now);
        self.domains.lose(node.domains, self.now, at);
    }

    /// A node was lost before a restart, and is lost still: with the others that are it may be one
    /// of too many, just as if all of them were lost now.
    pub(crate) fn found_lost(&mut self, at: u32) {
        let path = &self.settings.storm.variable;
        let (Some(node), Some(variable)) =
            (self.nodes.get_mut(at), self.set.variable(path.as_str()))
        else {
            return;
        };
        let is = variable.value(node.state);
        let wanted = node.cfg.text(path.as_str()).filter(|wanted| *wanted != is.as_ref());
        if wanted.is_some() && *is != variable.values[0] && node.lost_at.is_none() {
            node.lost_at = Some(self.now);
            self.domains.lose(node.domains, self.now, at);
        }
    }

    /// An operator lets a lost node pass what holds it because of others. Whether it was lost.
    pub(crate) fn let_pass(&mut self, at: u32) -> bool {
        let Some(node) = self.nodes.get_mut(at) else { return false };
        let Some(lost_at) = node.lost_at.take() else { return false };
        node.passes_storm = true;
        self.domains.excuse(node.domains, lost_at, at);
        true
    }

    /// An operator ends all storms.
    pub(crate) fn forgive_storms(&mut self, by: &Arc<str>, out: &mut Vec<Output>) {
        for node in self.nodes.iter_mut() {
            node.lost_at = None;
        }
        for Raging { domain, lost, nodes, .. } in self.domains.forgive() {
            let what = What::StormOver { lost, nodes, domain };
            self.note_by(None, what, Arc::clone(by), None, out);
        }
    }

    pub(crate) fn judge_storm(&mut self, out: &mut Vec<Output>) {
        let turns = self.domains.judge(self.now, &self.settings.storm);
        for (turn, number) in turns {
            let Raging { domain, lost, nodes, .. } = self.domains.told(number, self.now);
            let what = match turn {
                Turn::Began => What::StormHold { lost, nodes, domain },
                Turn::Ended => What::StormOver { lost, nodes, domain },
            };
            if turn == Turn::Ended {
                for node in self.nodes.iter_mut().filter(|node| node.passes_storm) {
                    node.passes_storm = self.domains.storm_in(node.domains).is_some();
                }
            }
            self.note(None, what, None, out);
            self.storms_turned.push(number);
        }
    }

    /// Looks at all nodes whose storm has begun or ended.
    pub(crate) fn look_at_storms(&mut self, out: &mut Vec<Output>) {
        let turned = std::mem::take(&mut self.storms_turned);
        if turned.is_empty() {
            return;
        }
        for at in self.nodes.places() {
            let Some(node) = self.nodes.get(at) else { continue };
            if turned.iter().any(|number| self.domains.is_in(node.domains, *number)) {
                // It may have been there only for as long as the storm lasted.
                self.find_domains(at);
                self.reconsider(at, out);
            }
        }
    }

    /// The storm that holds a node, if one does.
    pub(crate) fn storm_on(&self, node: &Node) -> Option<u32> {
        self.domains.storm_in(node.domains).filter(|_| !node.passes_storm)
    }

    /// The same, for a person.
    pub(crate) fn storm_view(&self, node: &Node) -> Option<StormView> {
        self.storm_on(node).map(|number| self.domains.told(number, self.now).into())
    }

    /// Every storm that lasts.
    pub(crate) fn storms(&self) -> Vec<StormView> {
        self.domains.raging().map(Into::into).collect()
    }

    /// Until when a node that was lost is left alone, unless that is over.
    pub(crate) fn settles_until(&self, node: &Node) -> Option<Millis> {
        let lost_at = node.lost_at?;
        let storm = &self.settings.storm;
        if !self.domains.may_be_one_of_many(node.domains, storm) {
            return None;
        }
        let returns = self.domains.returns_until(node.domains, lost_at, storm);
        let mut until = returns.unwrap_or_default().max(lost_at.plus(storm.settle));
        if self.is_patient_with(node, lost_at) {
            until = until.max(lost_at.plus(storm.patience));
        }
        (until > self.now).then_some(until)
    }

    /// Whether a lost node gets more time, because it has power and others near it were lost as well.
    fn is_patient_with(&self, node: &Node, lost_at: Millis) -> bool {
        let storm = &self.settings.storm;
        let has_power = storm.powered.as_ref().is_none_or(|(path, value)| {
            let variable = self.set.variable(path.as_str());
            variable.is_some_and(|variable| variable.value(node.state) == value)
        });
        has_power && self.domains.is_lost_with_others(node.domains, lost_at, storm)
    }

    /// Because of whom a lost node gets more time.
    pub(crate) fn lost_with(&self, node: &Node) -> Option<LostWith> {
        let lost_at = node.lost_at.filter(|lost_at| self.is_patient_with(node, *lost_at))?;
        let storm = &self.settings.storm;
        let (domain, others) = self.domains.lost_with(node.domains, lost_at, storm)?;
        Some(LostWith { domain, others })
    }
}

impl From<Raging> for StormView {
    fn from(raging: Raging) -> Self {
        let Raging { domain, lost, nodes, since } = raging;
        Self { domain, lost, nodes, lost_since: since }
    }
}

/// As people call it: `rack r2`.
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.per.segments().last().unwrap_or_default();
        write!(f, "{kind} {}", self.value)
    }
}

/// `rack r2: 20 of 20 nodes silent since 2026-11-25T14:05:00Z`.
impl fmt::Display for StormView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "{domain}: ")?;
        }
        let Self { lost, nodes, lost_since, .. } = self;
        write!(f, "{lost} of {nodes} nodes silent since {}", lost_since.rfc3339())
    }
}

impl fmt::Display for LostWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = if self.others == 1 { "node" } else { "nodes" };
        write!(f, "{} other {nodes} of {}", self.others, self.domain)
    }
}

/// The rule, in words.
impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share_percent, min, window, patience, per, .. } = self;
        let (window, patience) = (format_duration(*window), format_duration(*patience));
        write!(f, "more than {share_percent} % and at least {min} nodes lost within {window}")?;
        for (place, path) in per.iter().enumerate() {
            write!(f, "{}{path}", if place == 0 { "; apart for each " } else { ", " })?;
        }
        write!(f, "; {patience} of patience")
    }
}
