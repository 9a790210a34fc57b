//! Many nodes that lose what they had at once: one fault must not reboot a cluster.

use crate::Storm;
use kraken_model::Millis;
use std::collections::BTreeSet;

/// Who lost what lately, and whether that is a storm.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    lost: BTreeSet<(Millis, u32)>,
    active: bool,
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
        self.lost.insert((at, node));
    }

    pub(crate) fn regain(&mut self, lost_at: Millis, node: u32) {
        self.lost.remove(&(lost_at, node));
    }

    /// An operator knows better.
    pub(crate) fn forgive(&mut self) {
        self.lost.clear();
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
        let many = self.lost.len() >= settings.min
            && self.lost.len() * 100 > nodes * settings.share_percent as usize;
        if many == self.active {
            return None;
        }
        self.active = many;
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
    }
}
