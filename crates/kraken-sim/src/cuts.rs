//! Nodes that were well when they were cut off together, and must not be disrupted for that.

use crate::Invariant;
use kraken_engine::Storm;
use kraken_model::{Document, Millis};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long nodes that can be reached again may take to come back: the longest pause between two joins, and a join.
const RETURN: Duration = Duration::from_secs(45);

/// The fewest nodes of a small failure domain that count as many.
const FEWEST: usize = 3;

/// All cuts that last, and those whose nodes are coming back.
#[derive(Debug, Default)]
pub(crate) struct Cuts(BTreeMap<usize, Cut>);

/// Nodes that were cut off together.
#[derive(Debug)]
struct Cut {
    /// The nodes, and why they are protected.
    nodes: BTreeMap<usize, Invariant>,
    /// When they could be reached again. They come back one after the other.
    ended: Option<Millis>,
}

impl Cuts {
    /// These nodes, which ran as they should, are cut off. Among all, by number, with their cfg.
    pub(crate) fn begin<'a>(
        &mut self,
        cut: usize,
        well: &[usize],
        all: impl Iterator<Item = &'a Document> + Clone,
        storm: &Storm,
    ) {
        let is_wanted = |cfg: &Document| cfg.text(storm.variable.as_str()).is_some();
        let many = |lost: usize, of: usize, min: usize| {
            lost >= min && lost * 100 > of * storm.share_percent as usize
        };
        let mut nodes = BTreeMap::new();
        for path in &storm.per {
            let mut domains: BTreeMap<&str, (usize, Vec<usize>)> = BTreeMap::new();
            for (n, cfg) in all.clone().enumerate().filter(|(_, cfg)| is_wanted(cfg)) {
                let Some(domain) = cfg.text(path.as_str()) else { continue };
                let (size, lost) = domains.entry(domain).or_default();
                *size += 1;
                lost.extend(well.contains(&n).then_some(n));
            }
            for (size, lost) in domains.into_values() {
                if many(lost.len(), size, storm.min.min(FEWEST.max(size / 2 + 1))) {
                    nodes.extend(lost.into_iter().map(|n| (n, Invariant::Domain)));
                }
            }
        }
        if many(well.len(), all.filter(|cfg| is_wanted(cfg)).count(), storm.min) {
            nodes.extend(well.iter().map(|n| (*n, Invariant::Storm)));
        }
        if !nodes.is_empty() {
            self.0.insert(cut, Cut { nodes, ended: None });
        }
    }

    /// The nodes of a cut can be reached again. While they are held for it, they get time to come back.
    pub(crate) fn end(&mut self, cut: usize, now: Millis, is_storm: bool) {
        match self.0.get_mut(&cut) {
            Some(cut) if is_storm => cut.ended = Some(now),
            _ => drop(self.0.remove(&cut)),
        }
    }

    /// Who comes back while nobody listens is not known to have been away.
    pub(crate) fn parent_starts(&mut self) {
        self.0.retain(|_, cut| cut.ended.is_none());
    }

    /// An operator says of one node, or of all, that they may be disrupted.
    pub(crate) fn forgive(&mut self, node: Option<usize>) {
        match node {
            None => self.0.clear(),
            Some(n) => {
                self.0
                    .values_mut()
                    .for_each(|cut| cut.nodes.retain(|protected, _| *protected != n));
            }
        }
    }

    /// Why a node must not be disrupted, if so.
    pub(crate) fn protects(&self, n: usize, now: Millis) -> Option<Invariant> {
        let lasts = |cut: &&Cut| cut.ended.is_none_or(|ended| now.since(ended) < RETURN);
        self.0.values().filter(lasts).find_map(|cut| cut.nodes.get(&n).copied())
    }
}
