//! Who judges: from what went into the engine and sync and came out of them, and from what is
//! really so. It shares no thought with them: none of their state is asked.

use crate::cuts::Cuts;
use crate::fleet::number;
use crate::happening::Word;
use crate::period::Period;
use crate::quota::{Member, Quotas, is_available};
use crate::recoveries::Recoveries;
use crate::strikes::Health;
use crate::{Invariant, Violation};
use kraken_engine::{DispatchId, Domain, Entry, Order, Output, Settings, What, permitted};
use kraken_model::{Change, Document, Millis, NodeId, Path, Side};
use kraken_plan::{Context, ModuleSet, MutationId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Who may write a value.
pub(crate) type Writers = fn(&Path) -> &'static [&'static str];

/// The name under which the engine draws conclusions from silence, which every mutation with an
/// `on_timeout` allows it to.
const TIMEOUT: &str = "timeout";

/// How long nodes may take to come back after a start of the parent.
const ADOPTION: Duration = Duration::from_secs(240);

pub(crate) struct Checker {
    set: Arc<ModuleSet>,
    settings: Settings,
    writers: Writers,
    permitted_under: Path,
    nodes: Vec<Known>,
    epoch: u64,
    started_at: Millis,
    /// The parent reads what was kept: that is not journalled.
    is_loading: bool,
    frozen: Option<Period>,
    quotas: Quotas,
    /// Nodes that were well when they were cut off, by the cut.
    cuts: Cuts,
    /// What becomes of nodes that are cut off.
    recoveries: Recoveries,
    /// When the engine was heard last.
    alive_at: Millis,
    /// The storms that last.
    storms: BTreeSet<Option<Domain>>,
    violation: Option<Violation>,
}

/// What is known of a node from outside.
struct Known {
    id: NodeId,
    cfg: Document,
    dsc: Document,
    /// What dsc is according to the journal.
    kept: Document,
    acknowledged: Document,
    acknowledged_at: Millis,
    /// What was made durable since, and may be there or not.
    written: Vec<Document>,
    /// Which of the values that must be fresh were seen since the start of the parent.
    observed: u32,
    open: Option<Open>,
    /// The step that the journal says begins, and its attempt.
    announced: Option<(Arc<str>, u32)>,
    interrupted: BTreeSet<u32>,
    held: Option<Period>,
    frozen: Option<Period>,
    busy: Option<Period>,
    is_adopted: bool,
    /// Whether it counts as available where limits ask for that.
    is_available: bool,
    from_node: Stream,
    to_node: Stream,
    /// Its restart was asked for, and is not half done; whether it is hard.
    restarting: Option<bool>,
}

impl Known {
    fn member(&self) -> Member<'_> {
        let counted = self.open.as_ref().map_or(&[][..], |open| &open.counted);
        let Self { id, cfg, is_available, .. } = self;
        Member { id, cfg, is_available: *is_available, counted }
    }
}

struct Open {
    id: DispatchId,
    counted: Vec<crate::quota::Count>,
}

/// A document that one end has in many versions, and the other must get in their order.
#[derive(Default)]
struct Stream {
    versions: Vec<Document>,
    got: Document,
}

impl Stream {
    fn is(&mut self, document: &Document) {
        if self.versions.last() != Some(document) {
            self.versions.push(document.clone());
        }
    }

    /// Whether the other end got a version that is not older than the last one it got.
    fn gets(&mut self) -> bool {
        let Some(at) = self.versions.iter().position(|version| *version == self.got) else {
            return false;
        };
        self.versions.drain(..at);
        true
    }
}

impl Checker {
    pub(crate) fn new(
        set: Arc<ModuleSet>,
        settings: Settings,
        writers: Writers,
        permitted_under: Path,
        ids: Vec<NodeId>,
    ) -> Self {
        let known = |id| Known {
            id,
            cfg: Document::new(),
            dsc: Document::new(),
            kept: Document::new(),
            acknowledged: Document::new(),
            acknowledged_at: Millis(0),
            written: Vec::new(),
            observed: 0,
            open: None,
            announced: None,
            interrupted: BTreeSet::new(),
            held: None,
            frozen: None,
            busy: None,
            is_adopted: false,
            is_available: true,
            from_node: Stream::default(),
            to_node: Stream::default(),
            restarting: None,
        };
        Self {
            quotas: Quotas::new(settings.limits.clone()),
            set,
            settings,
            writers,
            permitted_under,
            nodes: ids.into_iter().map(known).collect(),
            epoch: 0,
            started_at: Millis(0),
            is_loading: false,
            frozen: None,
            cuts: Cuts::default(),
            recoveries: Recoveries::default(),
            alive_at: Millis(0),
            storms: BTreeSet::new(),
            violation: None,
        }
    }

    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// The first violation is the one that counts: the others may follow from it.
    fn blame(&mut self, invariant: Invariant, at: Millis, n: usize, what: String) {
        let node = Some(self.nodes[n].id.clone());
        self.violation.get_or_insert(Violation { invariant, at, node, what });
    }

    /// A new run of the parent begins; these nodes were well, and had been left alone.
    pub(crate) fn parent_starts(&mut self, now: Millis, epoch: u64, adopted: &[usize]) {
        (self.epoch, self.started_at) = (epoch, now);
        self.is_loading = true;
        self.storms.clear();
        self.cuts.parent_starts();
        self.recoveries.crash(self.alive_at);
        self.quotas = Quotas::new(self.settings.limits.clone());
        for known in &mut self.nodes {
            (known.cfg, known.dsc, known.kept) = Default::default();
            (known.observed, known.open, known.announced) = (0, None, None);
            known.interrupted.clear();
            (known.is_adopted, known.is_available) = (false, true);
        }
        for n in adopted {
            let known = &mut self.nodes[*n];
            known.is_adopted = known.restarting.is_none();
        }
    }

    /// What was kept has been read.
    pub(crate) fn loaded(&mut self, now: Millis) {
        self.is_loading = false;
        for n in 0..self.nodes.len() {
            let known = &mut self.nodes[n];
            known.kept = known.dsc.clone();
            let is_there = known.cfg == known.acknowledged || known.written.contains(&known.cfg);
            if !is_there {
                let what = "has lost a cfg that was acknowledged".to_owned();
                self.blame(Invariant::CfgKept, now, n, what);
            }
        }
    }

    /// A write is durable, and not acknowledged yet.
    pub(crate) fn written(&mut self, n: usize, cfg: &Document) {
        self.nodes[n].written.push(cfg.clone());
        self.told(n, cfg);
    }

    /// A node may be told to be this; in the middle of a restart, what that makes of it.
    fn told(&mut self, n: usize, cfg: &Document) {
        let known = &mut self.nodes[n];
        known.to_node.is(cfg);
        if let Some((is_hard, restart)) = known.restarting.zip(self.settings.restart.as_ref()) {
            known.to_node.is(&restart.passing(cfg, is_hard));
        }
    }

    /// A restart begins or ends.
    fn restarts(&mut self, entry: &Entry) {
        let Some(n) = entry.node.as_ref().map(number) else { return };
        self.nodes[n].restarting = match &entry.what {
            What::RestartAsked { terms } => Some(terms.hard),
            What::Restarted | What::RestartWithdrawn => None,
            _ => return,
        };
        // That it runs as its cfg wants is no reason to leave it alone: a person wants it restarted.
        self.nodes[n].is_adopted = false;
        self.cuts.forgive(Some(n));
        let cfg = self.nodes[n].acknowledged.clone();
        self.told(n, &cfg);
    }

    pub(crate) fn acknowledged(&mut self, now: Millis, n: usize, cfg: &Document) {
        let known = &mut self.nodes[n];
        if let Some(at) = known.written.iter().position(|written| written == cfg) {
            known.written.drain(..=at);
        }
        known.acknowledged = cfg.clone();
        known.acknowledged_at = now;
        self.told(n, cfg);
    }

    /// An operator was told that it is so.
    pub(crate) fn operator(&mut self, now: Millis, word: Word) {
        let said = |place: &mut Option<Period>, lasts| *place = Some(Period::said(now, lasts));
        match word {
            Word::Hold(n, lasts) => said(&mut self.nodes[n].held, lasts),
            Word::Release(n) => {
                self.nodes[n].held = None;
                self.cuts.forgive(Some(n));
            }
            Word::Freeze(None, lasts) => said(&mut self.frozen, lasts),
            Word::Freeze(Some(n), lasts) => said(&mut self.nodes[n].frozen, lasts),
            Word::Thaw(None) => {
                self.frozen = None;
                self.cuts.forgive(None);
            }
            Word::Thaw(Some(n)) => {
                self.nodes[n].frozen = None;
                self.cuts.forgive(Some(n));
            }
            Word::Busy(n, lasts) => said(&mut self.nodes[n].busy, lasts),
            Word::Free(n) => self.nodes[n].busy = None,
            Word::Retry(n) => self.recoveries.grant(n),
            Word::Want(n, _) | Word::Restart(n, ..) => self.recoveries.end(n),
            Word::WithdrawRestart(_) => {}
        }
    }

    /// Something happened to a node.
    pub(crate) fn touched(&mut self, n: usize) {
        self.nodes[n].is_adopted = false;
    }

    /// Nodes are cut off that were well until then.
    pub(crate) fn cut_off(&mut self, now: Millis, cut: usize, well: Vec<usize>) {
        // Before all have come back after a start, nobody can tell who is lost.
        if now.since(self.started_at) < ADOPTION {
            return;
        }
        let storm = &self.settings.storm;
        let variable = storm.variable.as_str();
        let is_known_well = |n: &usize| {
            let known = &self.nodes[*n];
            known.cfg.text(variable).is_some()
                && known.cfg.text(variable) == known.dsc.text(variable)
        };
        let well: Vec<usize> = well.into_iter().filter(is_known_well).collect();
        well.iter().for_each(|n| self.recoveries.begin(*n));
        let all = self.nodes.iter().map(|known| &known.cfg);
        self.cuts.begin(cut, &well, all, storm);
    }

    /// A node can be reached again, or something else has happened to it than that it cannot.
    pub(crate) fn not_only_cut_off(&mut self, n: usize) {
        self.recoveries.end(n);
    }

    /// Nodes that were cut off can be reached again.
    pub(crate) fn rejoined(&mut self, now: Millis, cut: usize) {
        self.cuts.end(cut, now, !self.storms.is_empty());
    }

    /// Somebody looked, and says what was seen.
    pub(crate) fn observed(&mut self, n: usize, changes: &[Change]) {
        for change in changes {
            let bit = self.settings.fresh.iter().position(|path| *path == change.path);
            self.nodes[n].observed |= bit.map_or(0, |bit| 1 << bit);
        }
    }

    /// What the engine said to one input; to an answer with that number, if it was one.
    pub(crate) fn outputs(
        &mut self,
        now: Millis,
        answered: Option<&DispatchId>,
        outputs: &[Output],
    ) {
        let late = answered.filter(|id| id.epoch != self.epoch);
        self.alive_at = now;
        let mut concerned = BTreeSet::new();
        for output in outputs {
            match output {
                Output::Dispatch(order) => self.ordered(now, order),
                Output::Interrupt { id, .. } => {
                    self.nodes[number(&id.node)].interrupted.insert(id.attempt);
                }
                Output::Journal(entry) => {
                    match &entry.what {
                        What::StormHold { domain, .. } => {
                            self.storms.insert(domain.clone());
                        }
                        What::StormOver { domain, .. } => drop(self.storms.remove(domain)),
                        _ => self.restarts(entry),
                    }
                    let n = entry.node.as_ref().map(number);
                    if let Some(n) = n {
                        concerned.insert(n);
                        self.journalled(now, n, entry);
                    }
                    let is_failure = matches!(entry.what, What::Failed { .. });
                    if let (Some(late), true) = (late, is_failure)
                        && entry.node.as_ref() == Some(&late.node)
                    {
                        let what = format!("failed for the answer {late} of an earlier run");
                        self.blame(Invariant::Epochs, now, number(&late.node), what);
                    }
                }
                Output::Changed { node, side, changes } => {
                    let n = number(node);
                    concerned.insert(n);
                    let known = &mut self.nodes[n];
                    match side {
                        Side::Cfg => known.cfg.apply(changes),
                        Side::Dsc => known.dsc.apply(changes),
                    };
                    let availability = &self.settings.availability;
                    known.is_available = is_available(availability, &known.cfg, &known.dsc);
                }
                Output::Permitted { node } => self.permitted(now, number(node)),
                Output::Refused { .. } => {}
            }
        }
        for n in concerned {
            if !self.is_loading && self.nodes[n].kept != self.nodes[n].dsc {
                let what = "is not what its journal says".to_owned();
                self.blame(Invariant::Journal, now, n, what);
            }
        }
    }

    fn journalled(&mut self, now: Millis, n: usize, entry: &Entry) {
        if let What::Done { mutation, .. } = &entry.what
            && let Some(mutation) = self.set.mutation_named(mutation)
            && self.ends_what_runs(mutation)
        {
            self.recoveries.done(n, now);
        }
        let known = &mut self.nodes[n];
        let ended = match &entry.what {
            What::Discovered { changes } => {
                known.kept.apply(changes);
                self.written_by(now, n, changes, &entry.by);
                return;
            }
            What::Forgotten { variables } => {
                for path in variables {
                    known.kept.remove(path.as_str());
                }
                return;
            }
            What::Dispatched { mutation, attempt, .. } => {
                known.announced = Some((Arc::clone(mutation), *attempt));
                return;
            }
            What::Done { attempt, .. }
            | What::Failed { attempt, .. }
            | What::TimedOut { attempt, .. }
            | What::Interrupted { attempt, .. } => *attempt,
            _ => return,
        };
        match known.open.take() {
            Some(open) if open.id.attempt == ended => self.quotas.leave(&open.counted),
            _ => {
                let what = format!("ended attempt {ended}, which was not under way");
                self.blame(Invariant::OneStep, now, n, what);
            }
        }
    }

    /// Whether a step is one of the parent's that ends what runs on a node.
    fn ends_what_runs(&self, mutation: MutationId) -> bool {
        let mutation = self.set.mutation(mutation);
        mutation.disruptive && mutation.context != Context::Node
    }

    fn written_by(&mut self, now: Millis, n: usize, changes: &[Change], by: &str) {
        for change in changes {
            let may = (self.writers)(&change.path);
            if by != TIMEOUT && !may.contains(&by) {
                let what =
                    format!("has {} written by {by}, not by {}", change.path, may.join(", "));
                self.blame(Invariant::OneWriter, now, n, what);
            }
        }
    }

    /// A step is ordered.
    fn ordered(&mut self, now: Millis, order: &Order) {
        self.begins(now, number(&order.node), order.mutation, order.id.clone());
    }

    /// What a node may do by itself has changed: after the journal has said that a step begins, this is
    /// the word for it; otherwise the word ends.
    fn permitted(&mut self, now: Millis, n: usize) {
        let known = &self.nodes[n];
        let Some((name, attempt)) = &known.announced else { return };
        let id = DispatchId { epoch: self.epoch, node: known.id.clone(), attempt: *attempt };
        let Some(mutation) = self.set.mutation_named(name) else { return };
        self.begins(now, n, mutation, id);
    }

    fn begins(&mut self, now: Millis, n: usize, mutation: MutationId, id: DispatchId) {
        let mutation = Arc::clone(self.set.mutation(mutation));
        let name = &mutation.name;
        let all = self.nodes.iter().map(Known::member);
        let counted = self.quotas.enter(now, &mutation, self.nodes[n].member(), all);
        let known = &mut self.nodes[n];
        let is_announced = known.announced.take() == Some((Arc::clone(name), id.attempt));
        let is_held = known.held.is_some_and(|held| held.counts(now));
        let counts = counted.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        let before = known.open.replace(Open { id, counted: counts });
        if let Some(before) = before {
            let what = format!("is ordered {name} while {} is under way", before.id);
            self.blame(Invariant::OneStep, now, n, what);
        }
        if let Err(limit) = counted {
            self.blame(Invariant::Limits, now, n, format!("is ordered {name}: {limit}"));
        }
        if !is_announced {
            let what = format!("is ordered {name}, and the journal does not say so");
            self.blame(Invariant::Journal, now, n, what);
        }
        if is_held {
            self.blame(Invariant::Held, now, n, format!("is held, and is ordered {name}"));
        }
    }

    /// The step that was just ordered is disruptive; the node really is like that.
    pub(crate) fn disrupts(&mut self, now: Millis, n: usize, mutation: MutationId, health: Health) {
        let name = Arc::clone(&self.set.mutation(mutation).name);
        let known = &self.nodes[n];
        let mut fresh = self.settings.fresh.iter().enumerate();
        let stale = fresh.find(|(bit, path)| {
            known.dsc.get(path.as_str()).is_some() && known.observed & 1 << bit == 0
        });
        let cut_off = self.cuts.protects(n, now).filter(|_| health.is_as_wanted);
        let counts = |said: Option<Period>| said.is_some_and(|said| said.counts(now));
        let wrong = if let Some((_, path)) = stale {
            let what = format!("and {path} was not seen since the parent started");
            Some((Invariant::Fresh, what))
        } else if counts(known.busy) {
            Some((Invariant::Busy, "and it is in use".to_owned()))
        } else if counts(self.frozen) {
            Some((Invariant::Frozen, "and everything is frozen".to_owned()))
        } else if counts(known.frozen) {
            Some((Invariant::Frozen, "and it is frozen".to_owned()))
        } else if known.is_adopted && health.is_as_wanted {
            let what = "and it runs as it should, since before the parent started".to_owned();
            Some((Invariant::Adopted, what))
        } else if let Some(invariant) = cut_off {
            Some((invariant, "and it only was cut off, with many others".to_owned()))
        } else {
            let silence = self.settings.silence.as_ref();
            let silence = silence.filter(|_| self.ends_what_runs(mutation));
            let forbidden = silence.and_then(|s| self.recoveries.forbid(n, &known.cfg, s));
            forbidden.map(|what| (Invariant::Recovered, what))
        };
        if let Some((invariant, what)) = wrong {
            self.blame(invariant, now, n, format!("is ordered {name}, {what}"));
        }
    }

    /// A module does a part of a step.
    pub(crate) fn works(&mut self, now: Millis, id: &DispatchId) {
        let n = number(&id.node);
        if id.epoch == self.epoch && self.nodes[n].interrupted.contains(&id.attempt) {
            let what = format!("has {id} going on, which was interrupted");
            self.blame(Invariant::Interrupted, now, n, what);
        }
    }

    /// A node takes a step of its own. That it may, its parent said, which is judged when it does.
    pub(crate) fn node_steps(&mut self, now: Millis, n: usize, order: &Order, is_in_touch: bool) {
        let mutation = self.set.mutation(order.mutation);
        let word = permitted(&self.permitted_under, &mutation.name);
        let wrong = if !is_in_touch {
            "out of touch with its parent"
        } else if order.cfg.get(word.as_str()) != Some(&true.into()) {
            "without a word of its parent"
        } else {
            return;
        };
        if mutation.disruptive {
            let what = format!("takes {}, {wrong}", mutation.name);
            self.blame(Invariant::Permitted, now, n, what);
        }
    }

    /// What a node says of itself from now on.
    pub(crate) fn node_is(&mut self, n: usize, document: &Document) {
        self.nodes[n].from_node.is(document);
    }

    /// What the parent takes a node to have said.
    pub(crate) fn node_said(&mut self, now: Millis, n: usize, changes: &[Change], whole: bool) {
        let stream = &mut self.nodes[n].from_node;
        if whole {
            stream.got = Document::new();
        }
        stream.got.apply(changes);
        if !stream.gets() {
            let what = "is taken to have said what it never was, or was before".to_owned();
            self.blame(Invariant::InOrder, now, n, what);
        }
    }

    /// What a node takes its parent to want.
    pub(crate) fn node_takes(&mut self, now: Millis, n: usize, cfg: &Document) {
        let cfg = self.wanted(cfg);
        let stream = &mut self.nodes[n].to_node;
        stream.got = cfg;
        if !stream.gets() {
            let what = "takes a cfg that nobody wanted, or that was replaced before".to_owned();
            self.blame(Invariant::InOrder, now, n, what);
        }
    }

    /// What people want of a node: its cfg without the word of its parent.
    fn wanted(&self, cfg: &Document) -> Document {
        let mut wanted = cfg.clone();
        for (path, _) in cfg.under(self.permitted_under.as_str()) {
            wanted.remove(path.as_str());
        }
        wanted
    }

    /// A datagram that was taken before changed something.
    pub(crate) fn replayed(&mut self, now: Millis, n: usize) {
        let what = "has a datagram taken a second time".to_owned();
        self.blame(Invariant::Replay, now, n, what);
    }
}
