//! Many nodes that lose what they had at once: one fault must not reboot a cluster.

use crate::Storm;
use kraken_model::Millis;
use std::collections::BTreeSet;

/// Who lost what lately, and whether that is a storm.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    lost: BTreeSet<(Millis, u32)>,
    /// Nodes of the storm that are not back and no longer count as lost, because of what an operator
    /// said of them: that is no sign that the others come back.
    excused: BTreeSet<u32>,
    active: bool,
    /// When the last storm was over by itself.
    over_at: Option<Millis>,
}

/// What a storm did when it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Began,
    Ended,
}

impl Losses {
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    pub(crate) fn count(&self) -> usize {
        self.lost.len()
    }

    pub(crate) fn lose(&mut self, at: Millis, node: u32) {
        self.excused.remove(&node);
        self.lost.insert((at, node));
    }

    pub(crate) fn regain(&mut self, lost_at: Millis, node: u32) {
        self.lost.remove(&(lost_at, node));
    }

    /// A node is no longer lost, and not back either: nobody wants it back, or an operator let it
    /// pass.
    pub(crate) fn excuse(&mut self, lost_at: Millis, node: u32) {
        if self.lost.remove(&(lost_at, node)) && self.active {
            self.excused.insert(node);
        }
    }

    /// A node has what it lost, if it did.
    pub(crate) fn back(&mut self, node: u32) {
        self.excused.remove(&node);
    }

    /// Until when a node gets time to come back after the storm in which it was lost, if it was in one: those who come
    /// back come one after the other, and the last of them are no other case than the first.
    pub(crate) fn returns_until(&self, lost_at: Millis, settings: &Storm) -> Option<Millis> {
        self.over_at.filter(|over_at| lost_at <= *over_at).map(|at| at.plus(settings.window))
    }

    /// An operator knows better.
    pub(crate) fn forgive(&mut self) {
        self.lost.clear();
        self.excused.clear();
        self.active = false;
    }

    /// Whether it is a storm now. Losses from before the window no longer count for a new one, but
    /// one that has begun lasts until the nodes are back: a switch that stays broken for longer
    /// than the window is no reason to reboot the cluster either.
    pub(crate) fn judge(&mut self, now: Millis, nodes: usize, settings: &Storm) -> Option<Turn> {
        if !self.active {
            while let Some(first) = self.lost.first().copied() {
                if now.since(first.0) <= settings.window {
                    break;
                }
                self.lost.remove(&first);
            }
        }
        let away = self.lost.len() + self.excused.len();
        let many = !self.lost.is_empty()
            && away >= settings.min
            && away * 100 > nodes * settings.share_percent as usize;
        if many == self.active {
            return None;
        }
        self.active = many;
        self.excused.clear();
        self.over_at = (!many).then_some(now);
        Some(if many { Turn::Began } else { Turn::Ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings() -> Storm {
        Storm { window: Duration::from_millis(100), min: 2, ..Storm::default() }
    }

    #[test]
    fn losses_far_apart_are_no_storm() {
        let mut losses = Losses::default();
        for node in 0..10 {
            let now = Millis(u64::from(node) * 101);
            losses.lose(now, node);
            assert_eq!(losses.judge(now, 5, &settings()), None);
        }
    }

    #[test]
    fn a_storm_lasts_beyond_its_window_until_the_nodes_are_back() {
        let mut losses = Losses::default();
        losses.lose(Millis(0), 0);
        assert_eq!(losses.judge(Millis(0), 5, &settings()), None);
        losses.lose(Millis(50), 1);
        assert_eq!(losses.judge(Millis(50), 5, &settings()), Some(Turn::Began));
        assert_eq!(losses.judge(Millis(10_000), 5, &settings()), None);
        losses.regain(Millis(0), 0);
        assert_eq!(losses.judge(Millis(10_001), 5, &settings()), Some(Turn::Ended));
        assert_eq!(losses.returns_until(Millis(50), &settings()), Some(Millis(10_101)));
        assert_eq!(losses.returns_until(Millis(10_002), &settings()), None, "lost since");
    }

    #[test]
    fn who_is_excused_is_not_back_and_a_storm_without_anybody_lost_is_over() {
        let storm = || {
            let mut losses = Losses::default();
            (0..2).for_each(|node| losses.lose(Millis(0), node));
            assert_eq!(losses.judge(Millis(0), 5, &settings()), Some(Turn::Began));
            losses.excuse(Millis(0), 0);
            assert_eq!(losses.judge(Millis(1), 5, &settings()), None);
            losses
        };
        let mut losses = storm();
        losses.back(0);
        assert_eq!(losses.judge(Millis(2), 5, &settings()), Some(Turn::Ended));
        let mut losses = storm();
        losses.excuse(Millis(0), 1);
        assert_eq!(losses.judge(Millis(2), 5, &settings()), Some(Turn::Ended));
        losses.lose(Millis(3), 1);
        assert_eq!(losses.judge(Millis(3), 5, &settings()), None, "that was another storm");
    }
}
