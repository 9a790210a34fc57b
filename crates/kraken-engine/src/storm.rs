//! Many nodes that lose what they had at once: one fault must not reboot a cluster, nor a rack.

use crate::Storm;
use kraken_model::Millis;
use std::collections::BTreeSet;
use std::time::Duration;

/// The fewest nodes of a failure domain that make a storm, when the domain is too small for the usual
/// number.
const FEWEST: usize = 3;

/// How many lost nodes, how close together, make a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    window: Duration,
    share_percent: u32,
    min: usize,
    is_for_domain: bool,
}

impl Rule {
    /// The rule for all nodes together.
    pub(crate) fn for_all(storm: &Storm) -> Self {
        let Storm { window, share_percent, min, .. } = *storm;
        Self { window, share_percent, min, is_for_domain: false }
    }

    /// The rule for one failure domain.
    pub(crate) fn for_domain(storm: &Storm) -> Self {
        Self { is_for_domain: true, ..Self::for_all(storm) }
    }

    /// The smallest number of lost nodes that is a storm among so many.
    pub(crate) fn least(self, nodes: usize) -> usize {
        let min = match self.is_for_domain {
            true => self.min.min(FEWEST.max(nodes / 2 + 1)),
            false => self.min,
        };
        min.max(nodes * self.share_percent as usize / 100 + 1)
    }
}

/// The nodes of one domain, or of all, that lost what they had lately, and whether that is a storm.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Those that count for a storm: lost within the window, or during a storm.
    lost: BTreeSet<(Millis, u32)>,
    /// All that do not have it back.
    away: BTreeSet<(Millis, u32)>,
    /// Nodes of the storm that are not back and no longer count as lost, because of what an operator
    /// said of them: that is no sign that the others come back.
    excused: BTreeSet<u32>,
    /// The storm that lasts.
    begun: Option<Begun>,
    /// When the last storm was over by itself.
    over_at: Option<Millis>,
}

/// A storm that lasts, by the rule that counted when it began: another one must not end it unawares.
#[derive(Clone, Copy, Debug)]
struct Begun {
    since: Millis,
    rule: Rule,
}

/// The change that a judgement found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Began,
    Ended,
}

impl Losses {
    pub(crate) fn is_active(&self) -> bool {
        self.begun.is_some()
    }

    /// When the storm that lasts began: with the first loss that it is made of.
    pub(crate) fn since(&self) -> Option<Millis> {
        self.begun.map(|begun| begun.since)
    }

    /// The nodes that count for a storm now.
    pub(crate) fn lost(&self, now: Millis, window: Duration) -> impl Iterator<Item = u32> {
        let is_active = self.is_active();
        let counts = move |at: Millis| is_active || now.since(at) <= window;
        self.lost.iter().filter(move |(at, _)| counts(*at)).map(|(_, node)| *node)
    }

    pub(crate) fn count(&self) -> usize {
        self.lost.len()
    }

    pub(crate) fn lose(&mut self, at: Millis, node: u32) {
        self.excused.remove(&node);
        self.lost.insert((at, node));
        self.away.insert((at, node));
    }

    pub(crate) fn regain(&mut self, lost_at: Millis, node: u32) {
        self.lost.remove(&(lost_at, node));
        self.away.remove(&(lost_at, node));
    }

    /// A node is no longer lost, and not back either: nobody wants it back, or an operator let it
    /// pass.
    pub(crate) fn excuse(&mut self, lost_at: Millis, node: u32) {
        self.away.remove(&(lost_at, node));
        if self.lost.remove(&(lost_at, node)) && self.is_active() {
            self.excused.insert(node);
        }
    }

    /// A node has what it lost, if it did. Whether an operator had said something of it.
    pub(crate) fn back(&mut self, node: u32) -> bool {
        self.excused.remove(&node)
    }

    /// How many other nodes were lost since a while before this one, and are not back.
    pub(crate) fn others_lost_since(&self, since: Millis) -> usize {
        self.away.range((since, 0)..).count().saturating_sub(1)
    }

    /// Whether another node was.
    pub(crate) fn is_another_lost_since(&self, since: Millis) -> bool {
        self.away.range((since, 0)..).nth(1).is_some()
    }

    /// Until when a node gets time to come back after the storm in which it was lost, if it was in one: those who come
    /// back come one after the other, and the last of them are no other case than the first.
    pub(crate) fn returns_until(&self, lost_at: Millis, window: Duration) -> Option<Millis> {
        self.over_at.filter(|over_at| lost_at <= *over_at).map(|at| at.plus(window))
    }

    /// An operator knows better.
    pub(crate) fn forgive(&mut self) {
        self.lost.clear();
        self.away.clear();
        self.excused.clear();
        self.begun = None;
    }

    /// Whether it is a storm now. Losses from before the window no longer count for a new one, but
    /// one that has begun lasts until the nodes are back: a switch that stays broken for longer
    /// than the window is no reason to reboot the cluster either. `None` in place of a rule: none begins any more.
    pub(crate) fn judge(&mut self, now: Millis, nodes: usize, rule: Option<Rule>) -> Option<Turn> {
        let rule = self.begun.map(|begun| begun.rule).or(rule)?;
        if !self.is_active() {
            while let Some(first) = self.lost.first().copied() {
                if now.since(first.0) <= rule.window {
                    break;
                }
                self.lost.remove(&first);
            }
        }
        let away = self.lost.len() + self.excused.len();
        let is_storm = !self.lost.is_empty() && away >= rule.least(nodes);
        if is_storm == self.is_active() {
            return None;
        }
        self.excused.clear();
        self.over_at = (!is_storm).then_some(now);
        let since = self.lost.first().map_or(now, |(at, _)| *at);
        self.begun = is_storm.then_some(Begun { since, rule });
        Some(if is_storm { Turn::Began } else { Turn::Ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm() -> Storm {
        Storm { window: Duration::from_millis(100), min: 2, ..Storm::default() }
    }

    fn judge(losses: &mut Losses, now: Millis) -> Option<Turn> {
        losses.judge(now, 5, Some(Rule::for_all(&storm())))
    }

    #[test]
    fn losses_far_apart_are_no_storm() {
        let mut losses = Losses::default();
        for node in 0..10 {
            let now = Millis(u64::from(node) * 101);
            losses.lose(now, node);
            assert_eq!(judge(&mut losses, now), None);
        }
    }

    #[test]
    fn a_storm_lasts_beyond_its_window_until_the_nodes_are_back() {
        let mut losses = Losses::default();
        losses.lose(Millis(0), 0);
        assert_eq!(judge(&mut losses, Millis(0)), None);
        losses.lose(Millis(50), 1);
        assert_eq!(judge(&mut losses, Millis(50)), Some(Turn::Began));
        assert_eq!(judge(&mut losses, Millis(10_000)), None);
        losses.regain(Millis(0), 0);
        assert_eq!(judge(&mut losses, Millis(10_001)), Some(Turn::Ended));
        let window = storm().window;
        assert_eq!(losses.returns_until(Millis(50), window), Some(Millis(10_101)));
        assert_eq!(losses.returns_until(Millis(10_002), window), None, "lost since");
    }

    #[test]
    fn who_is_excused_is_not_back_and_a_storm_without_anybody_lost_is_over() {
        let begun = || {
            let mut losses = Losses::default();
            (0..2).for_each(|node| losses.lose(Millis(0), node));
            assert_eq!(judge(&mut losses, Millis(0)), Some(Turn::Began));
            losses.excuse(Millis(0), 0);
            assert_eq!(judge(&mut losses, Millis(1)), None);
            losses
        };
        let mut losses = begun();
        losses.back(0);
        assert_eq!(judge(&mut losses, Millis(2)), Some(Turn::Ended));
        let mut losses = begun();
        losses.excuse(Millis(0), 1);
        assert_eq!(judge(&mut losses, Millis(2)), Some(Turn::Ended));
        losses.lose(Millis(3), 1);
        assert_eq!(judge(&mut losses, Millis(3)), None, "that was another storm");
    }

    #[test]
    fn a_small_domain_has_a_storm_when_more_than_half_of_it_and_three_at_least_are_lost() {
        let (all, rack) = (Rule::for_all(&Storm::default()), Rule::for_domain(&Storm::default()));
        let least = |nodes| (all.least(nodes), rack.least(nodes));
        assert_eq!([2, 3, 4, 5, 6, 8].map(rack_least), [3, 3, 3, 3, 4, 5]);
        assert_eq!(least(20), (5, 5));
        assert_eq!(least(40), (9, 9), "more than a fifth");
        assert_eq!(least(4), (5, 3));
        fn rack_least(nodes: usize) -> usize {
            Rule::for_domain(&Storm::default()).least(nodes)
        }
    }

    #[test]
    fn a_storm_ends_by_the_rule_that_counted_when_it_began() {
        let mut losses = Losses::default();
        (0..2).for_each(|node| losses.lose(Millis(0), node));
        assert_eq!(judge(&mut losses, Millis(0)), Some(Turn::Began));
        let lenient = Rule::for_all(&Storm { min: 5, ..storm() });
        assert_eq!(losses.judge(Millis(1), 5, Some(lenient)), None);
        assert_eq!(losses.judge(Millis(1), 5, None), None);
        losses.regain(Millis(0), 0);
        assert_eq!(losses.judge(Millis(2), 5, Some(lenient)), Some(Turn::Ended));
        losses.lose(Millis(3), 0);
        assert_eq!(
            losses.judge(Millis(3), 5, Some(lenient)),
            None,
            "for the next one, the new rule"
        );
    }
}
