//! Nodes that fall silent: whether they are recovered, which ends whatever runs on them, how often, and when a
//! person has to say so.

use crate::absorb::Said;
use crate::node::Node;
use crate::{Engine, Output};
use kraken_model::{Change, Document, Millis, Path, Value};
use kraken_plan::{Context, ModuleSet, MutationId, State};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many recoveries of a node are remembered with their times.
const REMEMBERED: usize = 8;

/// What is done about nodes that fall silent.
///
/// A **recovery** is a disruptive step that a parent takes on a node that should be heard and is not, or that
/// should come and does not. It is counted when it is done, and the count begins anew when the node is seen.
/// After so many recoveries in vain a person has to say that there may be another one: whatever keeps the node
/// from being seen, more of the same does not mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The variable that says whether a node is heard. Only nodes that are wanted to have a value of it matter.
    pub variable: Path,
    /// Its value for a node that was heard and is silent.
    pub lost: Arc<str>,
    /// Its values for a node that is seen.
    pub seen: Vec<Arc<str>>,
    /// The value of another variable for a node that did not come when it should.
    pub stuck: (Path, Arc<str>),
    /// The fact of cfg that says what is done about a node that is lost: a word of [`SilencePolicy`].
    pub policy: Path,
    /// The fact of dsc that keeps how many times a node was recovered since it was last seen.
    pub tried: Path,
    /// How many recoveries there may be before a person is asked.
    pub recoveries: u32,
    /// What most likely is wrong with a node that recoveries did not bring back, for a person.
    pub likely: Arc<str>,
}

/// What is done about a node that falls silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilencePolicy {
    /// It is recovered.
    #[default]
    Recover,
    /// It is left alone until it is heard.
    Wait,
    /// It is left alone until it is heard, or a person says that it may be recovered.
    Ask,
}

/// Why a node is not recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unrecovered {
    /// Its policy is to wait.
    Wait,
    /// Its policy is to ask.
    Ask,
    /// It was recovered, in vain.
    Tried,
}

/// A node that is not heard and is not recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnheardView {
    /// Why not.
    pub why: Unrecovered,
    /// When it was lost, as far as that is known.
    pub lost_at: Option<Millis>,
    /// How many times it was recovered since it was last seen.
    pub tried: u32,
    /// The last time, as far as that is known.
    pub last: Option<Millis>,
    /// Its power, as a variable and its value.
    pub power: (Path, Arc<str>),
    /// What most likely is wrong.
    pub likely: Arc<str>,
}

/// The recoveries of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recoveries {
    pub(crate) count: Tried,
    /// When the last ones were done, whether or not the node was seen since.
    pub(crate) done_at: Vec<Millis>,
}

/// How often a node was recovered since it was last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    times: u32,
    /// A person said that it may be recovered once more.
    is_granted: bool,
}

impl SilencePolicy {
    /// The words for it.
    pub const WORDS: &[&str] = &["recover", "wait", "ask"];

    /// The policy of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Recover, Self::Wait, Self::Ask];
        Self::WORDS.iter().zip(all).find(|(known, _)| **known == word).map(|(_, policy)| policy)
    }
}

impl Silence {
    fn is(set: &ModuleSet, state: State, path: &Path, value: &str) -> bool {
        set.variable(path.as_str()).is_some_and(|variable| **variable.value(state) == *value)
    }

    fn is_lost(&self, set: &ModuleSet, state: State) -> bool {
        Self::is(set, state, &self.variable, &self.lost)
    }

    /// Whether a step of a node in a state would be a recovery.
    pub(crate) fn is_recovery(
        &self,
        set: &ModuleSet,
        cfg: &Document,
        state: State,
        id: MutationId,
    ) -> bool {
        let mutation = set.mutation(id);
        mutation.disruptive
            && mutation.context != Context::Node
            && cfg.get(self.variable.as_str()).is_some()
            && (self.is_lost(set, state) || Self::is(set, state, &self.stuck.0, &self.stuck.1))
    }

    /// Why a step is a recovery that is not to be, if so.
    pub(crate) fn stops(
        &self,
        set: &ModuleSet,
        (cfg, state, tried): (&Document, State, Tried),
        id: MutationId,
    ) -> Option<Unrecovered> {
        let is_recovery = self.is_recovery(set, cfg, state, id);
        is_recovery.then(|| self.forbids(set, cfg, state, tried)).flatten()
    }

    /// Why a recovery is not to be, if so.
    fn forbids(
        &self,
        set: &ModuleSet,
        cfg: &Document,
        state: State,
        tried: Tried,
    ) -> Option<Unrecovered> {
        if tried.is_granted {
            return None;
        }
        if tried.times >= self.recoveries {
            return Some(Unrecovered::Tried);
        }
        // What did not come was seen without power before, and nothing can run on it.
        let policy = cfg.text(self.policy.as_str()).filter(|_| self.is_lost(set, state));
        match policy.and_then(SilencePolicy::of).unwrap_or_default() {
            SilencePolicy::Recover => None,
            SilencePolicy::Wait => Some(Unrecovered::Wait),
            SilencePolicy::Ask => Some(Unrecovered::Ask),
        }
    }
}

impl Node {
    pub(crate) fn tried(&self) -> Tried {
        self.recoveries.as_ref().map(|recoveries| recoveries.count).unwrap_or_default()
    }
}

impl Engine {
    pub(crate) fn is_recovery(&self, node: &Node, id: MutationId) -> bool {
        let silence = self.settings.silence.as_ref();
        silence.is_some_and(|silence| silence.is_recovery(&self.set, &node.cfg, node.state, id))
    }

    /// Why a step of a node is a recovery that is not to be, if so.
    pub(crate) fn unrecovered(&self, node: &Node, id: MutationId) -> Option<Unrecovered> {
        let silence = self.settings.silence.as_ref()?;
        silence.stops(&self.set, (&node.cfg, node.state, node.tried()), id)
    }

    /// A recovery is done.
    pub(crate) fn recovered(&mut self, at: u32, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let recoveries = node.recoveries.get_or_insert_default();
        recoveries.count = Tried { times: recoveries.count.times + 1, is_granted: false };
        if recoveries.done_at.len() == REMEMBERED {
            recoveries.done_at.remove(0);
        }
        recoveries.done_at.push(now);
        self.keep_tried(at, out);
    }

    /// What was found out of a node may mean that it is seen: then its recoveries are counted anew.
    pub(crate) fn judge_seen(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(silence) = &self.settings.silence else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        let state = node.state;
        let Some(recoveries) = &mut node.recoveries else { return };
        let is_seen = |value: &Arc<str>| Silence::is(&self.set, state, &silence.variable, value);
        if recoveries.count != Tried::default() && silence.seen.iter().any(is_seen) {
            recoveries.count = Tried::default();
            self.keep_tried(at, out);
        }
    }

    /// A person says that a node may be recovered once more. Whether it waited for that.
    pub(crate) fn grant_recovery(&mut self, at: u32, out: &mut Vec<Output>) -> bool {
        let Some(node) = self.nodes.get_mut(at) else { return false };
        if !matches!(node.standing, crate::node::Standing::Unheard(_)) {
            return false;
        }
        node.recoveries.get_or_insert_default().count = Tried { times: 0, is_granted: true };
        self.keep_tried(at, out);
        true
    }

    /// Keeps how often a node was recovered where it outlasts this run.
    fn keep_tried(&mut self, at: u32, out: &mut Vec<Output>) {
        let Some(silence) = &self.settings.silence else { return };
        let times = self.nodes.get(at).map_or(0, |node| node.tried().times);
        let value = (times > 0).then(|| Value::from(i64::from(times)));
        let mut changes = vec![Change { path: silence.tried.clone(), value }];
        let sifted = self.sift(at, &mut changes, false);
        if !changes.is_empty() {
            self.absorb(at, changes, Said::of(&sifted, Arc::clone(&self.me)), out);
        }
    }

    /// Takes up how often a node was recovered in an earlier run.
    pub(crate) fn recall_tried(&mut self, at: u32) {
        let Some(silence) = &self.settings.silence else { return };
        let Some(node) = self.nodes.get_mut(at) else { return };
        let times = node.dsc.get(silence.tried.as_str()).and_then(Value::as_int);
        if let Some(times) = times.and_then(|times| u32::try_from(times).ok()) {
            node.recoveries.get_or_insert_default().count.times = times;
        }
    }

    /// A node that is not recovered, for a person.
    pub(crate) fn unheard(&self, node: &Node, id: MutationId) -> Option<UnheardView> {
        let silence = self.settings.silence.as_ref()?;
        let power = &silence.stuck.0;
        let recoveries = node.recoveries.as_ref();
        Some(UnheardView {
            why: self.unrecovered(node, id)?,
            lost_at: node.lost_at,
            tried: node.tried().times,
            last: recoveries.and_then(|recoveries| recoveries.done_at.last().copied()),
            power: (
                power.clone(),
                Arc::clone(self.set.variable(power.as_str())?.value(node.state)),
            ),
            likely: Arc::clone(&silence.likely),
        })
    }

    /// The same in words.
    pub(crate) fn reason_unheard(&self, node: &Node, id: MutationId) -> String {
        let mutation = &self.set.mutation(id).name;
        let view = self.unheard(node, id);
        let words = view.map(|view| Unheard { view: &view, mutation, now: self.now }.to_string());
        words.unwrap_or_default()
    }

    /// How often a node was recovered within a time, and when the last time, if that was more than once.
    pub(crate) fn repeated_recoveries(
        &self,
        node: &Node,
        within: Duration,
    ) -> Option<(usize, Millis)> {
        let recoveries = node.recoveries.as_ref()?;
        let since = recoveries.done_at.iter().filter(|at| self.now.since(**at) <= within).count();
        recoveries.done_at.last().filter(|_| since > 1).map(|last| (since, *last))
    }
}

impl fmt::Display for Unrecovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "its policy is to wait until it is heard",
            Self::Ask => "its policy is to ask",
            Self::Tried => "it was recovered already, in vain",
        })
    }
}

/// A node that is not recovered, as a sentence about a step.
pub(crate) struct Unheard<'a> {
    pub(crate) view: &'a UnheardView,
    pub(crate) mutation: &'a str,
    pub(crate) now: Millis,
}

impl fmt::Display for Unheard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnheardView { why, lost_at, tried, last, power: (path, power), likely } = self.view;
        f.write_str("is not heard")?;
        if let Some(lost_at) = lost_at {
            write!(f, " since {}", lost_at.rfc3339())?;
        }
        write!(f, ", {path} is {power}")?;
        let mutation = self.mutation;
        match why {
            Unrecovered::Wait => write!(
                f,
                "; {mutation} would end what runs there, and its policy is to wait until it is heard: \
                 retry to have it recovered once all the same"
            ),
            Unrecovered::Ask => write!(
                f,
                "; {mutation} would end what runs there, and its policy is to ask: \
                 retry to have it recovered once, or mend what keeps it from being heard"
            ),
            Unrecovered::Tried => {
                let times = match tried {
                    1 => "once".to_owned(),
                    times => format!("{times} times"),
                };
                write!(f, "; it was recovered {times}")?;
                if let Some(last) = last {
                    write!(f, ", {} ago,", crate::status::For { since: *last, now: self.now })?;
                }
                write!(
                    f,
                    " and was not seen since: most likely {likely}; {mutation} waits for a person: \
                     look there, and retry to have it recovered once more"
                )
            }
        }
    }
}
