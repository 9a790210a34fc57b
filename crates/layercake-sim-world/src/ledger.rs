//! Which faults there are, and what follows from their beginnings and ends.

use crate::fault::{Effect, Kind, LOSSY};
use kraken_model::{Millis, NodeId, NodeSet};
use kraken_sim::{Blow, Noise};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many faults there may be at a time.
const MOST: usize = 1000;

/// A fault that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number, under which it is cleared.
    pub id: u64,
    /// Its kind.
    pub kind: Kind,
    /// The rack, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The nodes; none when it is about everything.
    #[serde(default, skip_serializing_if = "NodeSet::is_empty")]
    pub nodes: NodeSet,
    /// Since when.
    pub since: Millis,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Who switched it on.
    pub by: Arc<str>,
}

/// What is to be done to machines and network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    Blow(NodeId, Blow, bool),
    Cut(NodeId, bool),
    Crash(NodeId),
    Noise(Noise),
}

/// There are too many faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The faults that there are, and the strikes that nobody has carried out yet.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last: u64,
    faults: BTreeMap<u64, Fault>,
    strikes: Vec<Strike>,
}

impl Ledger {
    /// A fault begins; its number is given to it here. Whether it lasts, its kind says.
    pub(crate) fn add(&mut self, mut fault: Fault) -> Result<Fault, Full> {
        if self.faults.len() >= MOST {
            return Err(Full);
        }
        self.begin(&fault);
        if fault.kind.lasts() {
            self.last += 1;
            fault.id = self.last;
            self.faults.insert(fault.id, fault.clone());
        }
        Ok(fault)
    }

    /// A fault ends, if there is one of that number.
    pub(crate) fn clear(&mut self, id: u64) -> Option<Fault> {
        let fault = self.faults.remove(&id)?;
        self.end(&fault);
        Some(fault)
    }

    /// All faults end.
    pub(crate) fn clear_all(&mut self) -> Vec<Fault> {
        let ids: Vec<u64> = self.faults.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.clear(id)).collect()
    }

    /// Those end whose time is over.
    pub(crate) fn expire(&mut self, now: Millis) {
        let is_over = |fault: &&Fault| fault.until.is_some_and(|until| until <= now);
        let over: Vec<u64> = self.faults.values().filter(is_over).map(|fault| fault.id).collect();
        for id in over {
            self.clear(id);
        }
    }

    /// When the next one ends by itself.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.faults.values().filter_map(|fault| fault.until).min()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Fault> {
        self.faults.values()
    }

    /// What is to be done, in order; it counts as done.
    pub(crate) fn take(&mut self) -> Vec<Strike> {
        std::mem::take(&mut self.strikes)
    }

    fn begin(&mut self, fault: &Fault) {
        let nodes = fault.nodes.iter().cloned();
        match fault.kind.effect() {
            Effect::Blow(blow) => {
                self.strikes.extend(nodes.map(|node| Strike::Blow(node, blow, true)));
            }
            Effect::Cut => self.strikes.extend(nodes.map(|node| Strike::Cut(node, true))),
            Effect::Crash => self.strikes.extend(nodes.map(Strike::Crash)),
            Effect::Noise => self.strikes.push(Strike::Noise(LOSSY)),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault.kind.effect() {
            Effect::Blow(blow) => {
                for node in fault.nodes.iter() {
                    self.strikes.push(Strike::Blow(node.clone(), blow, false));
                    // What another fault has broken stays broken.
                    let other = self.faults.values().filter(|other| other.nodes.contains(node));
                    let mut other = other.map(|other| other.kind);
                    let other = other.rfind(|kind| kind.breaks_the_same_as(fault.kind));
                    if let Some(Effect::Blow(blow)) = other.map(Kind::effect) {
                        self.strikes.push(Strike::Blow(node.clone(), blow, true));
                    }
                }
            }
            // Cuts are counted where they are made.
            Effect::Cut => {
                let mended = fault.nodes.iter().map(|node| Strike::Cut(node.clone(), false));
                self.strikes.extend(mended);
            }
            Effect::Noise => {
                if self.faults.values().all(|other| other.kind.effect() != Effect::Noise) {
                    self.strikes.push(Strike::Noise(Noise::default()));
                }
            }
            Effect::Crash => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fault(kind: Kind, nodes: &[&str]) -> Fault {
        let nodes = nodes.iter().map(|node| NodeId::new(node).unwrap()).collect();
        Fault { id: 0, kind, rack: None, nodes, since: Millis(0), until: None, by: "test".into() }
    }

    fn blow(node: &str, blow: Blow, begins: bool) -> Strike {
        Strike::Blow(NodeId::new(node).unwrap(), blow, begins)
    }

    #[test]
    fn a_fault_lasts_until_it_is_cleared_or_its_time_is_over() {
        let mut ledger = Ledger::default();
        let timed = Fault { until: Some(Millis(9)), ..fault(Kind::Slow, &["n1"]) };
        let (timed, other) =
            (ledger.add(timed).unwrap(), ledger.add(fault(Kind::CutOff, &["n2"])).unwrap());
        assert_eq!((timed.id, other.id), (1, 2));
        assert_eq!(ledger.take().len(), 2);
        assert_eq!(ledger.next(), Some(Millis(9)));
        ledger.expire(Millis(8));
        assert_eq!(ledger.all().count(), 2);
        ledger.expire(Millis(9));
        assert_eq!(ledger.take(), [blow("n1", Blow::Slow, false)]);
        assert_eq!(ledger.clear(2).unwrap().kind, Kind::CutOff);
        assert_eq!(ledger.take(), [Strike::Cut(NodeId::new("n2").unwrap(), false)]);
        assert_eq!(ledger.clear(2), None);
        assert_eq!((ledger.all().count(), ledger.next()), (0, None));
    }

    #[test]
    fn what_two_faults_broke_is_whole_when_both_are_over() {
        let mut ledger = Ledger::default();
        ledger.add(fault(Kind::RackPower, &["n1", "n2"])).unwrap();
        ledger.add(fault(Kind::Power, &["n2"])).unwrap();
        ledger.add(fault(Kind::BmcErrs, &["n2"])).unwrap();
        ledger.add(fault(Kind::BmcLies, &["n2"])).unwrap();
        ledger.take();
        ledger.clear(1);
        let still = blow("n2", Blow::Power, true);
        let off = |node| blow(node, Blow::Power, false);
        assert_eq!(ledger.take(), [off("n1"), off("n2"), still]);
        ledger.clear(4);
        let (whole, broken) =
            (blow("n2", Blow::ControllerLies, false), blow("n2", Blow::ControllerErrs, true));
        assert_eq!(ledger.take(), [whole, broken]);
        ledger.clear_all();
        assert_eq!(ledger.take(), [off("n2"), blow("n2", Blow::ControllerErrs, false)]);
    }

    #[test]
    fn a_bad_network_is_good_again_when_nothing_makes_it_bad() {
        let mut ledger = Ledger::default();
        ledger.add(fault(Kind::Lossy, &[])).unwrap();
        ledger.add(fault(Kind::Lossy, &[])).unwrap();
        assert_eq!(ledger.take(), [Strike::Noise(LOSSY), Strike::Noise(LOSSY)]);
        ledger.clear(1);
        assert_eq!(ledger.take(), []);
        ledger.clear(2);
        assert_eq!(ledger.take(), [Strike::Noise(Noise::default())]);
    }

    #[test]
    fn what_happens_once_is_not_kept_and_there_is_an_end_to_what_lasts() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.add(fault(Kind::Reset, &["n1"])).unwrap().id, 0);
        assert_eq!(ledger.take(), [blow("n1", Blow::Reset, true)]);
        for _ in 0..MOST {
            ledger.add(fault(Kind::Slow, &[])).unwrap();
        }
        assert_eq!(ledger.add(fault(Kind::Slow, &[])), Err(Full));
        assert_eq!(ledger.clear_all().len(), MOST);
    }
}
