//! What steps take in truth, by kind of hardware.
//!
//! Declared costs are a guess. What was measured takes their place: how long a step takes until its
//! effects are discovered, how far that scatters, and how often it fails. Old runs count ever less. What
//! the planner is told moves in steps of a fifth, and only when what was measured is off by more than
//! that, so that policies are not made anew with every run.

use kraken_model::{Document, Path};
use kraken_plan::{Costs, ModuleSet, MutationId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many runs count: a run's weight is halved with every 22 that follow.
const MEMORY: u32 = 32;

/// How many runs there must be before they are believed.
const MIN_RUNS: u32 = 4;

/// How many kinds are told apart; beyond, all others are one.
const MAX_KINDS: usize = 1024;

/// The planner's costs are powers of this: two to the quarter.
const STEP: f64 = 1.189_207_115_002_721;

/// No step is taken to fail more often than this: every way has an end.
const MAX_FAILED: f64 = 0.9;

/// What is known of one step on one kind of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Experience {
    /// How often it was taken, well or not.
    pub runs: u32,
    /// How long it takes when it does not fail, in milliseconds; the mean.
    pub mean_ms: u64,
    /// How far that scatters, in milliseconds; the standard deviation.
    pub spread_ms: u64,
    /// How often it fails, in percent.
    pub failed_percent: u32,
}

impl fmt::Display for Experience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, mean_ms, spread_ms, failed_percent } = self;
        let seconds = |ms: &u64| *ms as f64 / 1000.0;
        let (mean, spread) = (seconds(mean_ms), seconds(spread_ms));
        write!(f, "took {mean:.1} s, give or take {spread:.1} s, in {runs} runs")?;
        match failed_percent {
            0 => Ok(()),
            _ => write!(f, ", of which {failed_percent} % fail"),
        }
    }
}

/// What was measured of one step on one kind of hardware, to be kept over a restart and given back with
/// [`Input::Recall`](crate::Input::Recall).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// The facts by which the kind is told apart, and what they are. Empty: a kind of which nothing is
    /// said.
    kind: BTreeMap<Path, Arc<str>>,
    /// The step.
    mutation: Arc<str>,
    record: Record,
}

/// Which kind of hardware a node is. Zero: one of which nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KindId(u16);

/// What was learned so far.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    /// The facts by which kinds are told apart.
    told_by: Vec<Path>,
    ids: BTreeMap<Vec<Option<Arc<str>>>, KindId>,
    kinds: Vec<Kind>,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    /// In the order of the mutations.
    records: Vec<(MutationId, Record)>,
    costs: Costs,
    /// How often these costs changed.
    version: u32,
}

/// Means and variances that forget (West, "Updating mean and variance estimates", 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    done: u32,
    failed: u32,
    mean_ms: f64,
    variance: f64,
    /// How long a failure takes.
    lost_ms: f64,
    /// The share that fails.
    failing: f64,
    /// What the planner goes by; found anew after a restart.
    #[serde(skip)]
    told_ms: Option<f64>,
}

/// The weight of the n-th value.
fn weight(n: u32) -> f64 {
    1.0 / f64::from(n.clamp(1, MEMORY))
}

impl Learned {
    pub(crate) fn new(told_by: Vec<Path>) -> Self {
        Self { told_by, ids: BTreeMap::new(), kinds: vec![Kind::default()] }
    }

    /// Whether a fact at this address tells kinds apart.
    pub(crate) fn is_told_by(&self, path: &str) -> bool {
        self.told_by.iter().any(|fact| fact.as_str() == path)
    }

    /// The kind of a node: by what was discovered of it, or else configured.
    pub(crate) fn kind(&mut self, cfg: &Document, dsc: &Document) -> KindId {
        let said = |path: &Path| {
            let path = path.as_str();
            dsc.text(path).or_else(|| cfg.text(path)).map(Arc::from)
        };
        let key = self.told_by.iter().map(said).collect();
        self.kind_of(key)
    }

    fn kind_of(&mut self, key: Vec<Option<Arc<str>>>) -> KindId {
        if key.iter().all(Option::is_none) {
            return KindId::default();
        }
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let Some(id) =
            u16::try_from(self.kinds.len()).ok().filter(|_| self.kinds.len() < MAX_KINDS)
        else {
            return KindId::default();
        };
        self.kinds.push(Kind::default());
        self.ids.insert(key, KindId(id));
        KindId(id)
    }

    /// What steps cost on a kind.
    pub(crate) fn costs(&self, kind: KindId) -> &Costs {
        &self.kinds[usize::from(kind.0)].costs
    }

    /// A number that is another one after every change of what steps cost on a kind.
    pub(crate) fn version(&self, kind: KindId) -> u32 {
        self.kinds[usize::from(kind.0)].version
    }

    /// What is known of a step on a kind; nothing as long as it is too little.
    pub(crate) fn of(&self, kind: KindId, mutation: MutationId) -> Option<Experience> {
        let records = &self.kinds[usize::from(kind.0)].records;
        let at = records.binary_search_by_key(&mutation, |(mutation, _)| *mutation).ok()?;
        let record = &records[at].1;
        let runs = record.done + record.failed;
        (runs >= MIN_RUNS).then(|| Experience {
            runs,
            mean_ms: record.mean_ms.round() as u64,
            spread_ms: record.variance.sqrt().round() as u64,
            failed_percent: (record.failing * 100.0).round() as u32,
        })
    }

    /// A step was done.
    pub(crate) fn done(
        &mut self,
        kind: KindId,
        mutation: MutationId,
        took: Duration,
        declared: Duration,
    ) {
        let record = self.record(kind, mutation);
        record.done = record.done.saturating_add(1);
        let (weight, took) = (weight(record.done), took.as_secs_f64() * 1000.0);
        let off = took - record.mean_ms;
        record.mean_ms += weight * off;
        record.variance = (1.0 - weight) * (record.variance + weight * off * off);
        record.count(0.0);
        self.tell(kind, mutation, declared);
    }

    /// A step failed, after some time.
    pub(crate) fn failed(
        &mut self,
        kind: KindId,
        mutation: MutationId,
        took: Duration,
        declared: Duration,
    ) {
        let record = self.record(kind, mutation);
        record.failed = record.failed.saturating_add(1);
        let took = took.as_secs_f64() * 1000.0;
        record.lost_ms += weight(record.failed) * (took - record.lost_ms);
        record.count(1.0);
        self.tell(kind, mutation, declared);
    }

    /// Goes over to other numbers of mutations. What was measured of those that there are no longer is
    /// forgotten.
    pub(crate) fn renumber(
        &mut self,
        set: &ModuleSet,
        number: impl Fn(MutationId) -> Option<MutationId>,
    ) {
        for kind in (0..self.kinds.len() as u16).map(KindId) {
            let this = &mut self.kinds[usize::from(kind.0)];
            this.costs = Costs::declared();
            this.version = this.version.wrapping_add(1);
            for (id, mut record) in std::mem::take(&mut this.records) {
                if let Some(id) = number(id) {
                    record.told_ms = None;
                    *self.record(kind, id) = record;
                    self.tell(kind, id, set.mutation(id).cost);
                }
            }
        }
    }

    /// Everything that was measured.
    pub(crate) fn lessons(&self, set: &ModuleSet) -> Vec<Lesson> {
        let nothing = Vec::new();
        let keys: BTreeMap<KindId, &Vec<Option<Arc<str>>>> =
            self.ids.iter().map(|(key, id)| (*id, key)).collect();
        let mut lessons = Vec::new();
        for (id, kind) in (0..).map(KindId).zip(&self.kinds) {
            let key = keys.get(&id).copied().unwrap_or(&nothing);
            let said = self.told_by.iter().zip(key);
            let said = said.filter_map(|(path, value)| Some((path.clone(), value.clone()?)));
            let said: BTreeMap<Path, Arc<str>> = said.collect();
            lessons.extend(kind.records.iter().map(|(mutation, record)| Lesson {
                kind: said.clone(),
                mutation: Arc::clone(&set.mutation(*mutation).name),
                record: Record { told_ms: None, ..*record },
            }));
        }
        lessons
    }

    /// Takes up what was measured before a restart. What speaks of steps that there are no longer, or of
    /// kinds that are told apart by other facts now, is of no use; neither is what is no number.
    pub(crate) fn recall(&mut self, lesson: Lesson, set: &ModuleSet) {
        let Lesson { mut kind, mutation, record } = lesson;
        let key: Vec<_> = self.told_by.iter().map(|path| kind.remove(path)).collect();
        let Some(id) = set.mutation_named(&mutation).filter(|_| kind.is_empty()) else { return };
        if !record.is_sound() {
            return;
        }
        let kind = self.kind_of(key);
        *self.record(kind, id) = record;
        self.tell(kind, id, set.mutation(id).cost);
    }

    fn record(&mut self, kind: KindId, mutation: MutationId) -> &mut Record {
        let records = &mut self.kinds[usize::from(kind.0)].records;
        let at = records.binary_search_by_key(&mutation, |(mutation, _)| *mutation);
        let at = at.unwrap_or_else(|at| {
            records.insert(at, (mutation, Record::default()));
            at
        });
        &mut records[at].1
    }

    /// Tells the planner, when it is off by too much.
    fn tell(&mut self, kind: KindId, mutation: MutationId, declared: Duration) {
        let record = self.record(kind, mutation);
        let declared = declared.as_secs_f64() * 1000.0;
        let Some(expected) = record.expected_ms(declared) else { return };
        let told = record.told_ms.unwrap_or(declared).max(1.0);
        if expected < told * STEP && expected * STEP > told {
            return;
        }
        let rounded = STEP.powf(expected.log(STEP).round());
        record.told_ms = Some(rounded);
        let told = Duration::from_millis(rounded.round() as u64);
        let kind = &mut self.kinds[usize::from(kind.0)];
        kind.costs.expect(mutation, told);
        kind.version = kind.version.wrapping_add(1);
    }
}

impl Record {
    /// Whether it can have been measured.
    fn is_sound(&self) -> bool {
        let times = [self.mean_ms, self.variance, self.lost_ms];
        times.iter().all(|time| time.is_finite() && *time >= 0.0)
            && (0.0..=1.0).contains(&self.failing)
    }

    fn count(&mut self, failed: f64) {
        self.failing += weight(self.done.saturating_add(self.failed)) * (failed - self.failing);
    }

    /// How long it takes with the failures before: what is lost with each, times how many there are until
    /// one does not fail (a geometric series). A millisecond at least.
    fn expected_ms(&self, declared: f64) -> Option<f64> {
        if self.done + self.failed < MIN_RUNS {
            return None;
        }
        let failing = self.failing.min(MAX_FAILED);
        let well = if self.done == 0 { declared } else { self.mean_ms };
        Some((well + failing / (1.0 - failing) * self.lost_ms).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MutationId = MutationId(3);
    const KIND: KindId = KindId(0);

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    /// A step is done; whether that changed what it costs.
    fn done(learned: &mut Learned, took: f64) -> bool {
        let before = learned.version(KIND);
        learned.done(KIND, ID, seconds(took), seconds(10.0));
        learned.version(KIND) != before
    }

    fn told(learned: &Learned) -> f64 {
        learned.costs(KIND).cost(ID, seconds(10.0)).map_or(0.0, |cost| cost.as_secs_f64())
    }

    #[test]
    fn a_few_runs_are_not_believed_and_more_are() {
        let mut learned = Learned::new(Vec::new());
        let changed: Vec<bool> = [30.0; 6].map(|took| done(&mut learned, took)).into();
        assert_eq!(changed, [false, false, false, true, false, false]);
        assert!((told(&learned) / 30.0).log(STEP).abs() <= 0.5, "{}", told(&learned));
        let known = learned.of(KIND, ID);
        let expected = Experience { runs: 6, mean_ms: 30_000, spread_ms: 0, failed_percent: 0 };
        assert_eq!(known, Some(expected));
    }

    #[test]
    fn what_scatters_a_little_does_not_move_the_planner() {
        let mut learned = Learned::new(Vec::new());
        let mut changes = 0;
        for n in 0..1000 {
            let took = if n % 2 == 0 { 9.5 } else { 10.5 };
            changes += u32::from(done(&mut learned, took));
        }
        assert_eq!(changes, 0);
        let spread = learned.of(KIND, ID).map(|known| known.spread_ms);
        assert!(spread.is_some_and(|spread| (450..550).contains(&spread)), "{spread:?}");
    }

    #[test]
    fn failures_make_a_step_dearer_and_are_forgotten_in_time() {
        let mut learned = Learned::new(Vec::new());
        for _ in 0..10 {
            learned.done(KIND, ID, seconds(10.0), seconds(10.0));
            learned.failed(KIND, ID, seconds(60.0), seconds(10.0));
        }
        // Every second attempt costs a minute before the ten seconds that it takes.
        assert!((told(&learned) / 70.0).log(STEP).abs() <= 1.5, "{}", told(&learned));
        for _ in 0..200 {
            learned.done(KIND, ID, seconds(10.0), seconds(10.0));
        }
        assert!((told(&learned) / 10.0).log(STEP).abs() <= 1.5, "{}", told(&learned));
    }

    #[test]
    fn a_step_that_only_fails_is_dear_but_not_beyond_all_bounds() {
        let mut learned = Learned::new(Vec::new());
        for _ in 0..100 {
            learned.failed(KIND, ID, seconds(60.0), seconds(10.0));
        }
        assert!((300.0..700.0).contains(&told(&learned)), "{}", told(&learned));
    }

    #[test]
    fn kinds_are_told_apart_and_there_is_an_end_to_them() {
        let mut learned = Learned::new(vec![Path::known("platform")]);
        let mut of = |platform: &str| {
            let mut cfg = Document::new();
            cfg.set(Path::known("platform"), platform);
            learned.kind(&cfg, &Document::new())
        };
        assert_eq!(of("r640"), of("r640"));
        assert_ne!(of("r640"), of("x10"));
        let last = (0..2 * MAX_KINDS).map(|n| of(&n.to_string())).last();
        assert_eq!(last, Some(KindId::default()));
    }
}
