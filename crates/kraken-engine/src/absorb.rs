//! Taking in what should be and what was found out.

use crate::node::Outdated;
use crate::{Cause, Engine, Output, What};
use kraken_model::{Change, Document, Invalid, NodeId, Path, Side, diff};
use kraken_plan::{PolicyId, State, Watched};
use std::sync::Arc;

/// How many values are kept of one node on each side. A real node has some dozens.
pub(crate) const MAX_VALUES_PER_NODE: usize = 4096;

/// What goes with changes that were said.
pub(crate) struct Said {
    /// The state that they speak of, when they speak of something that guards or goals look at.
    state: Option<State>,
    /// Whether facts that guards look at have changed.
    are_facts_new: bool,
    by: Arc<str>,
    cause: Option<Cause>,
}

impl Said {
    /// What goes with changes of which this is left.
    pub(crate) fn of(sifted: &Sifted, by: Arc<str>) -> Self {
        let Sifted { state, are_facts_new, .. } = *sifted;
        Self { state, are_facts_new, by, cause: None }
    }
}

/// What was left of a discovery when everything that changes nothing was taken out.
#[derive(Default)]
pub(crate) struct Sifted {
    refused: Vec<Invalid>,
    /// What the variables are now, when something that guards or goals look at has changed.
    state: Option<State>,
    /// Facts that guards look at have changed.
    are_facts_new: bool,
    /// A node that may have been made unavailable was looked at.
    is_steadied: bool,
    /// Something was looked at that was stale or in doubt, or is moved for a cfg that counts no more.
    is_confirmed: bool,
    /// Something from before a restart was.
    is_adopted: bool,
    /// What the storm guard watches was among that.
    is_watched_confirmed: bool,
}

impl Engine {
    pub(crate) fn configure(
        &mut self,
        id: NodeId,
        cfg: Document,
        by: Arc<str>,
        out: &mut Vec<Output>,
    ) {
        let known = self.nodes.find(&id);
        let is_new = known.is_none();
        let at = known.unwrap_or_else(|| {
            self.by_standing[0] += 1;
            self.nodes.add(id.clone(), self.now)
        });
        let Some(node) = self.nodes.get_mut(at) else { return };
        let changes = diff(node.configured(), &cfg);
        if changes.is_empty() && !is_new {
            return;
        }
        let before = node.state;
        if let Some(running) = &mut node.running {
            running.outdated = Outdated::Unseen;
        }
        let cfg = self.interner.with(|interner| interner.document(cfg));
        let passing = self.wanted_now(at, &cfg);
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.base = passing.is_some().then(|| Box::new(cfg.clone()));
        node.cfg = passing.unwrap_or(cfg);
        node.goal = self.set.goal(&node.cfg);
        node.kind = self.learned.kind(&node.cfg, &node.dsc);
        // Whatever failed may have failed because of what was just changed.
        node.troubles = None;
        node.last = None;
        node.policy = PolicyId::NONE;
        let forgotten = self.refresh(at, before, true);
        self.enrol(at);
        out.push(Output::Changed { node: id.clone(), side: Side::Cfg, changes: changes.clone() });
        if self.is_started {
            self.note_by(Some(&id), What::Configured { changes }, by, None, out);
        }
        self.say_forgotten(&id, &forgotten, out);
        self.find_domains(at);
        self.watch_loss(at, before);
        self.reconsider(at, out);
    }

    pub(crate) fn remove(&mut self, id: &NodeId, by: Arc<str>, out: &mut Vec<Output>) {
        let Some(at) = self.nodes.find(id) else { return };
        self.interrupt(at, "the node was taken away", out);
        if let Some(place) = self.nodes.get_mut(at).and_then(|node| node.place.take()) {
            self.gates.withdraw(place);
        }
        self.strike(at);
        let Some(node) = self.nodes.remove(at) else { return };
        self.by_standing[node.standing.kind()] -= 1;
        self.leave_domains(at, &node);
        let removals = |document: &Document| diff(document, &Document::new());
        let changes = removals(node.configured());
        out.push(Output::Changed { node: id.clone(), side: Side::Cfg, changes });
        let changes = removals(&node.dsc);
        if !changes.is_empty() {
            out.push(Output::Changed { node: id.clone(), side: Side::Dsc, changes });
        }
        self.note_by(Some(id), What::Removed, by, None, out);
    }

    pub(crate) fn restore(&mut self, id: &NodeId, dsc: &Document, out: &mut Vec<Output>) {
        let Some(at) = self.nodes.find(id) else {
            self.counters.unknown_nodes += 1;
            return;
        };
        let Some(node) = self.nodes.get_mut(at) else { return };
        let mut changes = Vec::new();
        for (path, value) in dsc.iter() {
            // What was found out since the start is newer, and what schemas no longer know is not
            // carried along.
            if node.dsc.get(path.as_str()).is_some()
                || self.registry.check(Side::Dsc, path, value).is_err()
                || node.dsc.len() >= MAX_VALUES_PER_NODE
            {
                continue;
            }
            let (path, value) = self.interner.with(|interner| interner.share(path, value));
            node.stale |= bit_of(&self.settings.fresh, path.as_str());
            node.dsc.set(path.clone(), value.clone());
            changes.push(Change { path, value: Some(value) });
        }
        if changes.is_empty() {
            return;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            self.interner.with(|interner| interner.share_shape(&mut node.dsc));
            node.kind = self.learned.kind(&node.cfg, &node.dsc);
            node.policy = PolicyId::NONE;
        }
        let said = self.nodes.get(at).map(|node| self.set.state(&node.dsc)).unwrap_or_default();
        let forgotten = self.refresh(at, said, true);
        changes.retain(|change| !forgotten.contains(&change.path));
        if !changes.is_empty() {
            out.push(Output::Changed { node: id.clone(), side: Side::Dsc, changes });
        }
        // What was under way at the end may have had its effects since.
        if let Some(node) = self.nodes.get_mut(at) {
            node.doubt = self.set.ever_doubted() & self.set.known(node.state);
        }
        let stale = self.stale_paths(at);
        if !stale.is_empty() {
            self.note(Some(id), What::Restored { stale }, None, out);
        }
        self.await_node(at);
        self.recall_tried(at);
        self.reconsider(at, out);
    }

    pub(crate) fn discover(
        &mut self,
        at: u32,
        mut changes: Vec<Change>,
        by: Arc<str>,
        out: &mut Vec<Output>,
    ) {
        let was_found = self.was_found_running(at);
        self.judge_power(at, &mut changes, &by);
        let sifted = self.sift(at, &mut changes, true);
        if changes.is_empty() && sifted.refused.is_empty() && !sifted.is_confirmed {
            return;
        }
        let Some(node) = self.nodes.get(at) else { return };
        let (id, before) = (node.id.clone(), node.state);
        let (state, said) = (sifted.state, Said::of(&sifted, Arc::clone(&by)));
        if !sifted.refused.is_empty() {
            self.counters.refused += sifted.refused.len() as u64;
            let (node, by, reasons) = (id.clone(), Arc::clone(&by), sifted.refused);
            out.push(Output::Refused { node, by, reasons });
        }
        let is_found_lost = sifted.is_watched_confirmed && state.is_none();
        self.absorb(at, changes, said, out);
        self.judge_claim(at, was_found, out);
        self.judge_use(at, &by, out);
        if sifted.is_steadied {
            self.recount(at);
        }
        if is_found_lost {
            self.found_lost(at);
        }
        if state.is_some() || is_found_lost {
            self.watch_loss(at, before);
            // Before the node is looked at: it may be the one that makes it a storm.
            self.judge_storm(out);
        }
        if state.is_some() {
            self.judge_seen(at, out);
        }
        if sifted.is_adopted && self.nodes.get(at).is_some_and(|node| node.stale == 0) {
            self.note(Some(&id), What::Adopted, None, out);
        }
        if state.is_some() || sifted.is_confirmed {
            self.reconsider(at, out);
        }
    }

    /// The engine's own conclusion, from a deadline that has passed. It does not confirm what is
    /// stale: only the world can.
    pub(crate) fn conclude(
        &mut self,
        at: u32,
        change: Change,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        let mut changes = vec![change];
        let Some(before) = self.nodes.get(at).map(|node| node.state) else { return };
        let Sifted { state, are_facts_new, .. } = self.sift(at, &mut changes, false);
        let by = Arc::clone(&self.timeout);
        let said = Said { state, are_facts_new, by, cause: Some(cause) };
        self.absorb(at, changes, said, out);
        self.watch_loss(at, before);
    }

    /// Applies changes to the discovered document, and keeps of them only what changed something.
    pub(crate) fn sift(
        &mut self,
        at: u32,
        changes: &mut Vec<Change>,
        is_from_outside: bool,
    ) -> Sifted {
        let mut sifted = Sifted::default();
        let Some(node) = self.nodes.get_mut(at) else { return sifted };
        let Self { registry, set, interner, settings, learned, .. } = self;
        let mut is_other_kind = false;
        let values = node.dsc.len();
        changes.retain_mut(|change| {
            let path = change.path.as_str();
            if is_from_outside && node.stale != 0 {
                let bit = bit_of(&settings.fresh, path);
                let is_confirmed = node.stale & bit != 0;
                sifted.is_confirmed |= is_confirmed;
                sifted.is_adopted |= is_confirmed;
                sifted.is_watched_confirmed |=
                    is_confirmed && settings.storm.variable == change.path;
                node.stale &= !bit;
            }
            if is_from_outside && node.doubt != 0 {
                let mask = set.variable(path).map_or(0, kraken_plan::Variable::mask);
                sifted.is_confirmed |= node.doubt & mask != 0;
                sifted.is_steadied |= node.shaken & mask != 0;
                node.doubt &= !mask;
                node.shaken &= !mask;
            }
            if let Some(running) = &mut node.running
                && is_from_outside
                && running.outdated == Outdated::Unseen
                && set.mutation(running.mutation).does_move(&change.path)
            {
                running.outdated = Outdated::Seen;
                sifted.is_confirmed = true;
            }
            if node.dsc.get(path) == change.value.as_ref() {
                return false;
            }
            let is_new = node.dsc.get(path).is_none();
            let watched = set.watched(path);
            let variable = match watched {
                Some(Watched::Variable(id)) => Some(id),
                _ => None,
            };
            if let Some(value) = &change.value {
                if let Err(invalid) = registry.check(Side::Dsc, &change.path, value) {
                    sifted.refused.push(invalid);
                    return false;
                }
                if is_new && node.dsc.len() >= MAX_VALUES_PER_NODE {
                    let reason = format!("more than {MAX_VALUES_PER_NODE} values of one node");
                    sifted.refused.push(Invalid { path: change.path.clone(), reason });
                    return false;
                }
                // Unknown is written as absence, so that it is the same however it came about.
                let unknown = variable.map(|id| &set.variable_at(id).values[0]);
                if unknown.map(AsRef::as_ref) == value.as_text() && unknown.is_some() {
                    if is_new {
                        return false;
                    }
                    change.value = None;
                }
            }
            if watched.is_some() {
                let value = change.value.as_ref().and_then(|value| value.as_text());
                let state = sifted.state.unwrap_or(node.state);
                sifted.state = Some(variable.map_or(state, |id| set.with(state, id, value)));
                sifted.are_facts_new |= variable.is_none();
            }
            is_other_kind |= learned.is_told_by(path);
            match &change.value {
                Some(value) => {
                    let (path, value) =
                        interner.with(|interner| interner.share(&change.path, value));
                    node.dsc.set(path, value);
                }
                None => {
                    node.dsc.remove(path);
                }
            }
            true
        });
        if node.dsc.len() != values {
            interner.with(|interner| interner.share_shape(&mut node.dsc));
        }
        if is_other_kind {
            node.kind = learned.kind(&node.cfg, &node.dsc);
            node.policy = PolicyId::NONE;
        }
        sifted
    }

    /// Says what has changed, and what is forgotten because of it.
    pub(crate) fn absorb(
        &mut self,
        at: u32,
        mut changes: Vec<Change>,
        said: Said,
        out: &mut Vec<Output>,
    ) {
        let Some(node) = self.nodes.get(at) else { return };
        let (id, before) = (node.id.clone(), node.state);
        let mut forgotten = Vec::new();
        if let Some(state) = said.state {
            forgotten = self.refresh(at, state, said.are_facts_new);
        }
        if !forgotten.is_empty() {
            // What was unknown and cannot be known has not changed at all.
            let was_known = |path: &Path| {
                let variable = self.set.variable(path.as_str());
                variable.is_some_and(|v| *v.value(before) != v.values[0])
            };
            let all = changes.len();
            changes.retain(|change| !forgotten.contains(&change.path));
            self.counters.not_knowable += (all - changes.len()) as u64;
            forgotten.retain(was_known);
        }
        let Said { by, cause, .. } = said;
        let id = &id;
        if !changes.is_empty() {
            let cause = cause.or_else(|| self.effect_of(at, &changes));
            let (node, side) = (id.clone(), Side::Dsc);
            out.push(Output::Changed { node, side, changes: changes.clone() });
            self.note_by(Some(id), What::Discovered { changes }, by, cause, out);
        }
        self.say_forgotten(id, &forgotten, out);
    }

    pub(crate) fn say_forgotten(&mut self, id: &NodeId, forgotten: &[Path], out: &mut Vec<Output>) {
        if forgotten.is_empty() {
            return;
        }
        let changes = forgotten.iter().cloned().map(Change::remove).collect();
        out.push(Output::Changed { node: id.clone(), side: Side::Dsc, changes });
        let variables = forgotten.to_vec();
        self.note(Some(id), What::Forgotten { variables }, None, out);
    }

    /// Goes over to the state that the discovered document says, with new facts if need be, and forgets
    /// what can no longer be known.
    pub(crate) fn refresh(&mut self, at: u32, said: State, are_facts_new: bool) -> Vec<Path> {
        let Some(node) = self.nodes.get_mut(at) else { return Vec::new() };
        debug_assert_eq!(said, self.set.state(&node.dsc));
        if are_facts_new {
            let facts = self.set.facts(&node.cfg, &node.dsc);
            if std::mem::replace(&mut node.facts, facts) != facts {
                node.policy = PolicyId::NONE;
            }
        }
        debug_assert_eq!(node.facts, self.set.facts(&node.cfg, &node.dsc));
        node.state = self.set.forget(said, node.facts);
        if node.doubt != 0 {
            // What is unknown is in no doubt.
            node.doubt &= self.set.known(node.state);
            node.shaken &= node.doubt;
        }
        self.recount(at);
        let Some(node) = self.nodes.get_mut(at) else { return Vec::new() };
        if node.state == said {
            return Vec::new();
        }
        let lost = |v: &&kraken_plan::Variable| v.value(said) != v.value(node.state);
        let forgotten: Vec<Path> =
            self.set.variables().iter().filter(lost).map(|v| v.path.clone()).collect();
        for path in &forgotten {
            node.dsc.remove(path.as_str());
            // What is unknown needs no confirmation.
            node.stale &= !bit_of(&self.settings.fresh, path.as_str());
        }
        self.interner.with(|interner| interner.share_shape(&mut node.dsc));
        forgotten
    }

    /// The attempt that these changes are effects of, when there is one.
    fn effect_of(&self, at: u32, changes: &[Change]) -> Option<Cause> {
        let running = self.nodes.get(at)?.running.as_ref()?;
        let mutation = self.set.mutation(running.mutation);
        let is_effect = changes.iter().any(|c| {
            mutation.effects.iter().any(|effect| {
                let said = c.value.as_ref().and_then(|value| value.as_text());
                let mut ends = std::iter::once(&effect.to).chain(&effect.or);
                effect.variable == c.path && ends.any(|end| said == Some(end.as_ref()))
            })
        });
        let name = || Arc::clone(&mutation.name);
        is_effect.then(|| Cause::Attempt { mutation: name(), attempt: running.attempt })
    }

    pub(crate) fn stale_paths(&self, at: u32) -> Vec<Path> {
        let stale = self.nodes.get(at).map_or(0, |node| node.stale);
        let fresh = self.settings.fresh.iter();
        fresh.filter(|p| bit_of(&self.settings.fresh, p.as_str()) & stale != 0).cloned().collect()
    }

    /// What an attempt may have moved unseen, and a step relies on.
    pub(crate) fn doubtful_paths(&self, at: u32, id: kraken_plan::MutationId) -> Vec<Path> {
        let doubt = self.nodes.get(at).map_or(0, |node| node.doubt) & self.set.relied_on(id);
        let doubtful = self.set.variables().iter().filter(|v| v.mask() & doubt != 0);
        doubtful.map(|variable| variable.path.clone()).collect()
    }
}

/// The bit that a path has among those that must be fresh: the first 32 of them.
fn bit_of(fresh: &[Path], path: &str) -> u32 {
    let index = fresh.iter().take(32).position(|known| known.as_str() == path);
    index.map_or(0, |index| 1 << index)
}
