//! Failure domains: which nodes share a rack, a switch, a power unit, and what was lost in each.

use crate::storm::{Losses, Rule, Turn};
use crate::{Domain, Storm};
use kraken_model::{Document, Millis, Path, Value};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The number of the domain of all nodes.
pub(crate) const ALL: u32 = 0;

/// The domains that a node is in: the number of one combination of them, as many as there are racks and switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DomainSet(u32);

/// A storm that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raging {
    /// `None`: among all nodes.
    pub(crate) domain: Option<Domain>,
    pub(crate) lost: usize,
    pub(crate) nodes: usize,
    pub(crate) since: Millis,
}

/// One domain.
#[derive(Debug, Default)]
struct Known {
    /// `None`: all nodes.
    domain: Option<Domain>,
    /// How many nodes of it are wanted to have what is watched.
    nodes: usize,
    losses: Losses,
    /// Something has changed since it was judged.
    is_unjudged: bool,
}

/// All domains, and all losses.
#[derive(Debug)]
pub(crate) struct Domains {
    known: Vec<Known>,
    by_value: FxHashMap<Path, FxHashMap<Arc<str>, u32>>,
    sets: Vec<Box<[u32]>>,
    by_set: FxHashMap<Box<[u32]>, u32>,
    unjudged: Vec<u32>,
    /// How many storms last.
    storms: usize,
}

impl Default for Domains {
    fn default() -> Self {
        let only_all: Box<[u32]> = Box::new([ALL]);
        Self {
            known: vec![Known::default()],
            by_value: FxHashMap::default(),
            sets: vec![only_all.clone()],
            by_set: FxHashMap::from_iter([(only_all, 0)]),
            unjudged: Vec::new(),
            storms: 0,
        }
    }
}

impl Domains {
    /// The domains of a node with this cfg. Those in which a storm lasts it does not leave because they are
    /// no longer judged.
    pub(crate) fn of(&mut self, cfg: &Document, per: &[Path], before: DomainSet) -> DomainSet {
        let mut set = Vec::with_capacity(per.len() + 1);
        set.push(ALL);
        for path in per {
            let Some(value) = cfg.get(path.as_str()) else { continue };
            set.push(self.number(path, value));
        }
        if self.storms > 0 {
            let is_kept = |number: &&u32| {
                let known = &self.known[**number as usize];
                let is_dropped = known.domain.as_ref().is_some_and(|d| !per.contains(&d.per));
                is_dropped && known.losses.is_active()
            };
            set.extend(self.sets[before.0 as usize].iter().filter(is_kept));
        }
        if let Some(number) = self.by_set.get(&set[..]) {
            return DomainSet(*number);
        }
        let (set, number) = (set.into_boxed_slice(), u32::try_from(self.sets.len()));
        let number = number.unwrap_or(u32::MAX);
        self.sets.push(set.clone());
        self.by_set.insert(set, number);
        DomainSet(number)
    }

    fn number(&mut self, path: &Path, value: &Value) -> u32 {
        let named;
        let name = match value.as_text() {
            Some(text) => text,
            None => {
                named = value.to_string();
                &named
            }
        };
        if let Some(number) = self.by_value.get(path).and_then(|values| values.get(name)) {
            return *number;
        }
        let (value, number) = (Arc::<str>::from(name), u32::try_from(self.known.len()));
        let number = number.unwrap_or(u32::MAX);
        let domain = Some(Domain { per: path.clone(), value: Arc::clone(&value) });
        self.known.push(Known { domain, ..Known::default() });
        self.by_value.entry(path.clone()).or_default().insert(value, number);
        number
    }

    fn each(&mut self, set: DomainSet, mut change: impl FnMut(&mut Known) -> bool) {
        for number in &self.sets[set.0 as usize] {
            let known = &mut self.known[*number as usize];
            if change(known) && !known.is_unjudged {
                known.is_unjudged = true;
                self.unjudged.push(*number);
            }
        }
    }

    /// A node counts in its domains from now on.
    pub(crate) fn join(&mut self, set: DomainSet) {
        self.each(set, |known| {
            known.nodes += 1;
            known.losses.is_active()
        });
    }

    /// A node counts there no longer.
    pub(crate) fn leave(&mut self, set: DomainSet) {
        self.each(set, |known| {
            known.nodes -= 1;
            true
        });
    }

    pub(crate) fn lose(&mut self, set: DomainSet, at: Millis, node: u32) {
        self.each(set, |known| {
            known.losses.lose(at, node);
            true
        });
    }

    pub(crate) fn regain(&mut self, set: DomainSet, lost_at: Millis, node: u32) {
        self.each(set, |known| {
            known.losses.regain(lost_at, node);
            known.losses.is_active()
        });
    }

    pub(crate) fn excuse(&mut self, set: DomainSet, lost_at: Millis, node: u32) {
        self.each(set, |known| {
            known.losses.excuse(lost_at, node);
            known.losses.is_active()
        });
    }

    /// A node has what it lost, if it did.
    pub(crate) fn back(&mut self, set: DomainSet, node: u32) {
        if self.storms > 0 {
            self.each(set, |known| known.losses.back(node));
        }
    }

    /// Moves a lost node from the domains that it was in to those that it is in.
    pub(crate) fn move_lost(
        &mut self,
        (from, to): (DomainSet, DomainSet),
        lost_at: Millis,
        node: u32,
    ) {
        let (from, to) = (self.sets[from.0 as usize].clone(), self.sets[to.0 as usize].clone());
        for number in from.iter().filter(|number| !to.contains(number)) {
            self.known[*number as usize].losses.excuse(lost_at, node);
            self.unjudge(*number);
        }
        for number in to.iter().filter(|number| !from.contains(number)) {
            self.known[*number as usize].losses.lose(lost_at, node);
            self.unjudge(*number);
        }
    }

    fn unjudge(&mut self, number: u32) {
        let known = &mut self.known[number as usize];
        if !std::mem::replace(&mut known.is_unjudged, true) {
            self.unjudged.push(number);
        }
    }

    /// Judges every domain in which something has changed.
    pub(crate) fn judge(&mut self, now: Millis, storm: &Storm) -> Vec<(Turn, u32)> {
        let mut turns = Vec::new();
        while let Some(number) = self.unjudged.pop() {
            let known = &mut self.known[number as usize];
            known.is_unjudged = false;
            let rule = match &known.domain {
                None => Some(Rule::for_all(storm)),
                Some(domain) => storm.per.contains(&domain.per).then(|| Rule::for_domain(storm)),
            };
            let turn = known.losses.judge(now, known.nodes, rule);
            match turn {
                Some(Turn::Began) => self.storms += 1,
                Some(Turn::Ended) => self.storms -= 1,
                None => {}
            }
            turns.extend(turn.map(|turn| (turn, number)));
        }
        turns
    }

    /// An operator knows better, everywhere. The storms that this ends.
    pub(crate) fn forgive(&mut self) -> Vec<Raging> {
        let ended = self.raging().collect();
        self.known.iter_mut().for_each(|known| known.losses.forgive());
        self.storms = 0;
        ended
    }

    pub(crate) fn is_storm(&self) -> bool {
        self.storms > 0
    }

    /// Every storm that lasts.
    pub(crate) fn raging(&self) -> impl Iterator<Item = Raging> {
        let known = self.known.iter().filter(|_| self.storms > 0);
        known.filter_map(Known::raging)
    }

    /// The storm that holds nodes with these domains: the smallest one, which says most.
    pub(crate) fn storm_in(&self, set: DomainSet) -> Option<u32> {
        if self.storms == 0 {
            return None;
        }
        let set = self.sets[set.0 as usize].iter().copied();
        let active = set.filter(|number| self.known[*number as usize].losses.is_active());
        active.min_by_key(|number| self.known[*number as usize].nodes)
    }

    /// A domain with its losses as they are, whether they make a storm or not.
    pub(crate) fn told(&self, number: u32, now: Millis) -> Raging {
        let known = &self.known[number as usize];
        let since = known.losses.since().unwrap_or(now);
        let (domain, lost) = (known.domain.clone(), known.losses.count());
        Raging { domain, lost, nodes: known.nodes, since }
    }

    pub(crate) fn is_in(&self, set: DomainSet, number: u32) -> bool {
        self.sets[set.0 as usize].contains(&number)
    }

    /// How many nodes count as lost now, each once.
    pub(crate) fn lost(&self, now: Millis, storm: &Storm) -> usize {
        let is_counted = |(number, known): &(usize, &Known)| {
            *number == ALL as usize || (self.storms > 0 && known.losses.is_active())
        };
        let known = self.known.iter().enumerate().filter(is_counted);
        let lost = known.flat_map(|(_, known)| known.losses.lost(now, storm.window));
        lost.collect::<BTreeSet<u32>>().len()
    }

    /// Whether what a node lost could be a part of something greater, for which one has to wait a moment.
    pub(crate) fn may_be_one_of_many(&self, set: DomainSet, storm: &Storm) -> bool {
        self.sets[set.0 as usize].iter().any(|number| {
            let nodes = self.known[*number as usize].nodes;
            if *number == ALL { nodes >= storm.min } else { nodes > 1 }
        })
    }

    /// The domain of a lost node in which most others were lost about when it was, and how many.
    pub(crate) fn lost_with(
        &self,
        set: DomainSet,
        lost_at: Millis,
        storm: &Storm,
    ) -> Option<(Domain, usize)> {
        let since = before(lost_at, storm.patience);
        let own = self.sets[set.0 as usize].iter().map(|number| &self.known[*number as usize]);
        let others = own.filter_map(|known| {
            Some((known.domain.clone()?, known.losses.others_lost_since(since)))
        });
        others.filter(|(_, others)| *others > 0).max_by_key(|(_, others)| *others)
    }

    /// Whether others of its domains were lost about when a node was.
    pub(crate) fn is_lost_with_others(
        &self,
        set: DomainSet,
        lost_at: Millis,
        storm: &Storm,
    ) -> bool {
        let since = before(lost_at, storm.patience);
        let own = self.sets[set.0 as usize].iter().filter(|number| **number != ALL);
        own.map(|number| &self.known[*number as usize])
            .any(|known| known.losses.is_another_lost_since(since))
    }

    /// Until when a node gets time to come back after the storms in which it was lost.
    pub(crate) fn returns_until(
        &self,
        set: DomainSet,
        lost_at: Millis,
        storm: &Storm,
    ) -> Option<Millis> {
        let own = self.sets[set.0 as usize].iter().map(|number| &self.known[*number as usize]);
        own.filter_map(|known| known.losses.returns_until(lost_at, storm.window)).max()
    }
}

impl Known {
    fn raging(&self) -> Option<Raging> {
        let since = self.losses.since()?;
        let (domain, lost) = (self.domain.clone(), self.losses.count());
        Some(Raging { domain, lost, nodes: self.nodes, since })
    }
}

fn before(moment: Millis, time: Duration) -> Millis {
    Millis(moment.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}
