//! A module that says too often that something has changed, and what is taken of it then.
//!
//! Every change is an entry in the journal, and the journal is bounded: whoever floods it pushes out
//! what the others did. While a module floods, a value of a node that changes again and again is held
//! back, and only the latest is taken at the end of each interval; so what is known stays right. Every
//! other value goes on as ever, of the same module too.
//!
//! Pure: what time it is comes in as an argument.

use kraken_model::{Change, NodeId, Path, Value};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many changes a module may tell of in one go: so many, and so many more for every node. A whole
/// fleet that starts at once is no flood.
const BURST: (f64, f64) = (1000.0, 20.0);

/// How many a second, when that is used up: so many, and so many more for every node.
const RATE: (f64, f64) = (20.0, 0.5);

/// How often one value of one node may change within an interval of a flood before it is held back.
const FREELY: u8 = 5;

/// How long a value is held back at first, and at most: the interval doubles while the flood goes on.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How much one module has said of late.
#[derive(Debug)]
pub(crate) struct Flood {
    /// How many changes it may tell of now.
    left: f64,
    at: Option<Instant>,
    wave: Option<Wave>,
}

/// One flood, from its beginning to its end.
#[derive(Debug)]
struct Wave {
    began: Instant,
    interval: Duration,
    /// When what is held back is taken.
    due: Instant,
    /// How often values have changed within this interval.
    passed: FxHashMap<(NodeId, Path), u8>,
    /// The latest of what is held back.
    held: BTreeMap<NodeId, BTreeMap<Path, Option<Value>>>,
    /// How many values were replaced by later ones before they were taken.
    replaced: u64,
}

/// What a module says of a node.
pub(crate) struct Told<'a> {
    pub(crate) node: &'a NodeId,
    /// What is not to be taken now is taken out.
    pub(crate) changes: &'a mut Vec<Change>,
    /// Whether a change says something else than is known.
    pub(crate) is_new: &'a dyn Fn(&Change) -> bool,
}

/// What became of something that was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// With this a flood begins: one of the values that change too often.
    pub(crate) begins: Option<Path>,
    /// How many values were replaced by these.
    pub(crate) replaced: u64,
}

/// What is taken at the end of an interval.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) said: Vec<(NodeId, Vec<Change>)>,
    /// How long the flood was and how many values were replaced, when it is over.
    pub(crate) over: Option<(Duration, u64)>,
}

impl Default for Flood {
    fn default() -> Self {
        Self { left: BURST.0, at: None, wave: None }
    }
}

impl Flood {
    /// Judges what is said of a node, of so many.
    pub(crate) fn judge(&mut self, now: Instant, nodes: usize, told: Told<'_>) -> Judged {
        let Told { node, changes, is_new } = told;
        let mut judged = Judged::default();
        let first = changes.iter().find(|change| is_new(change));
        if let Some(first) = first {
            self.fill(now, nodes);
            self.left -= 1.0;
            if self.left < 0.0 {
                self.left = 0.0;
                if self.wave.is_none() {
                    self.wave = Some(Wave::new(now));
                    judged.begins = Some(first.path.clone());
                }
            }
        }
        if let Some(wave) = &mut self.wave {
            let before = wave.replaced;
            changes.retain(|change| wave.passes(node, change, is_new));
            judged.replaced = wave.replaced - before;
        }
        judged
    }

    /// When something that is held back is to be taken; nothing while there is no flood.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.wave.as_ref().map(|wave| wave.due)
    }

    /// Ends an interval. The flood is over when nothing had to be held back and less was said for a
    /// while, or when its module ends.
    pub(crate) fn release(&mut self, now: Instant, nodes: usize, is_last: bool) -> Released {
        let is_calm = self.fill(now, nodes) >= burst(nodes) / 2.0;
        let Some(wave) = &mut self.wave else { return Released::default() };
        wave.passed.clear();
        let said: Vec<(NodeId, Vec<Change>)> = std::mem::take(&mut wave.held)
            .into_iter()
            .map(|(node, values)| {
                let change = |(path, value)| Change { path, value };
                (node, values.into_iter().map(change).collect())
            })
            .collect();
        wave.interval = if is_calm { INTERVALS.0 } else { (wave.interval * 2).min(INTERVALS.1) };
        wave.due = now + wave.interval;
        // What is taken now has changed once in the interval that begins.
        for (node, changes) in &said {
            let keys = changes.iter().map(|change| (node.clone(), change.path.clone()));
            wave.passed.extend(keys.map(|key| (key, 1)));
        }
        let is_over = is_last || (is_calm && said.is_empty());
        let over = is_over.then(|| (now - wave.began, wave.replaced));
        if is_over {
            self.wave = None;
        }
        Released { said, over }
    }

    /// How much may be said now.
    fn fill(&mut self, now: Instant, nodes: usize) -> f64 {
        let burst = burst(nodes);
        let Some(at) = self.at.replace(now) else {
            self.left = burst;
            return burst;
        };
        let rate = nodes as f64 * RATE.1 + RATE.0;
        let passed = now.saturating_duration_since(at).as_secs_f64();
        self.left = (self.left + passed * rate).min(burst);
        self.left
    }
}

fn burst(nodes: usize) -> f64 {
    nodes as f64 * BURST.1 + BURST.0
}

impl Wave {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            interval: INTERVALS.0,
            due: now + INTERVALS.0,
            passed: FxHashMap::default(),
            held: BTreeMap::new(),
            replaced: 0,
        }
    }

    /// Whether a value is taken at once; otherwise it is kept for later. One of which an earlier value
    /// waits must wait too, whatever is known now.
    fn passes(&mut self, node: &NodeId, change: &Change, is_new: &dyn Fn(&Change) -> bool) -> bool {
        let waits = self.held.get_mut(node).and_then(|values| values.get_mut(&change.path));
        if let Some(waits) = waits {
            waits.clone_from(&change.value);
            self.replaced += 1;
            return false;
        }
        if !is_new(change) {
            return true;
        }
        let passed = self.passed.entry((node.clone(), change.path.clone())).or_default();
        if *passed < FREELY {
            *passed += 1;
            return true;
        }
        let values = self.held.entry(node.clone()).or_default();
        values.insert(change.path.clone(), change.value.clone());
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Document;

    /// Says what the values of node `a` are now, and gives what of it is taken.
    fn say(
        flood: &mut Flood,
        now: Instant,
        known: &mut Document,
        values: &[(&str, i64)],
    ) -> Judged {
        let set = |(path, value): &(&str, i64)| Change::set(Path::known(path), *value);
        let mut changes: Vec<Change> = values.iter().map(set).collect();
        let before = known.clone();
        let is_new = |change: &Change| before.get(change.path.as_str()) != change.value.as_ref();
        let told = Told { node: &node(), changes: &mut changes, is_new: &is_new };
        let judged = flood.judge(now, 1, told);
        known.apply(&changes);
        judged
    }

    fn node() -> NodeId {
        NodeId::new("a").unwrap()
    }

    fn number(known: &Document, path: &str) -> i64 {
        known.get(path).unwrap().as_int().unwrap()
    }

    #[test]
    fn a_fleet_that_starts_is_no_flood_and_neither_is_what_changes_nothing() {
        let (start, mut flood, mut known) = (Instant::now(), Flood::default(), Document::new());
        for n in 0..1020 {
            assert_eq!(say(&mut flood, start, &mut known, &[("x", n)]), Judged::default());
        }
        for _ in 0..100_000 {
            assert_eq!(say(&mut flood, start, &mut known, &[("x", 1019)]), Judged::default());
        }
        assert_eq!(number(&known, "x"), 1019);
        assert_eq!(flood.due(), None);
    }

    #[test]
    fn of_a_flood_the_latest_is_taken_ever_more_seldom_and_all_else_at_once() {
        let (start, mut flood, mut known) = (Instant::now(), Flood::default(), Document::new());
        let (mut now, mut taken, mut begins) = (start, 0, Vec::new());
        // Two thousand a second, for ten minutes.
        for n in 0..1_200_000 {
            now += Duration::from_micros(500);
            let before = known.get("x").cloned();
            begins.extend(say(&mut flood, now, &mut known, &[("x", n)]).begins);
            taken += u32::from(before.as_ref() != known.get("x"));
            if flood.due().is_some_and(|due| now >= due) {
                let released = flood.release(now, 1, false);
                assert!(released.over.is_none() && released.said.len() == 1);
                known.apply(&released.said[0].1);
                assert_eq!(number(&known, "x"), n);
                taken += 1;
            }
            if n % 100_000 == 0 {
                say(&mut flood, now, &mut known, &[("y", n)]);
                assert_eq!(number(&known, "y"), n, "it does not flood");
            }
        }
        assert_eq!(begins, [Path::known("x")]);
        assert!((1020..1150).contains(&taken), "{taken}");
        // It falls silent: nothing is lost, and after a while that is the end.
        let over = loop {
            now = flood.due().unwrap();
            let released = flood.release(now, 1, false);
            for (_, changes) in &released.said {
                known.apply(changes);
            }
            if let Some(over) = released.over {
                break over;
            }
        };
        assert_eq!(number(&known, "x"), 1_199_999);
        assert!(over.0 > Duration::from_secs(600) && over.1 > 1_190_000, "{over:?}");
        assert_eq!(flood.due(), None);
        assert_eq!(say(&mut flood, now, &mut known, &[("x", 7)]), Judged::default());
    }

    #[test]
    fn what_is_held_back_when_its_module_ends_is_taken_then() {
        let (start, mut flood, mut known) = (Instant::now(), Flood::default(), Document::new());
        for n in 0..2000 {
            say(&mut flood, start, &mut known, &[("x", n)]);
        }
        assert_ne!(number(&known, "x"), 1999);
        let released = flood.release(start, 1, true);
        known.apply(&released.said[0].1);
        assert_eq!(number(&known, "x"), 1999);
        assert!(released.over.is_some());
    }
}
