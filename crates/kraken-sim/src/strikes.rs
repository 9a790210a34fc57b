//! What happens: faults strike and end, operators speak.

use crate::application::{Application, Blow};
use crate::fleet::{Event, Fleet};
use crate::happening::{Noise, What, Word};
use crate::marks::terms;
use kraken_engine::{Command, Terms};
use std::time::Duration;

/// For how long nothing may have happened to a node for it to count as untouched: longer than any
/// end of a fault takes to be noticed.
const UNTOUCHED: Duration = Duration::from_secs(300);

/// How a node really is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    /// It is as its cfg wants it.
    pub(crate) is_as_wanted: bool,
    /// And nothing happened to it for long.
    pub(crate) is_untouched: bool,
}

impl<A: Application> Fleet<A> {
    pub(crate) fn health(&self, n: usize) -> Health {
        let seat = &self.nodes[n];
        let is_as = |cfg| self.app.is_as(&seat.machine, cfg);
        Health {
            is_as_wanted: self.disk.cfg.get(n).is_some_and(is_as),
            is_untouched: seat.faults == 0
                && seat.cuts == 0
                && self.now.since(seat.touched) >= UNTOUCHED,
        }
    }

    /// Nodes that are as they should be while the parent is away: what is to be adopted.
    pub(crate) fn adopted(&self) -> Vec<usize> {
        let is_well = |n: &usize| {
            let health = self.health(*n);
            health.is_as_wanted && health.is_untouched
        };
        (0..self.nodes.len()).filter(is_well).collect()
    }

    pub(crate) fn happens(&mut self, index: usize, begins: bool) {
        let happening = self.plan.happenings[index].clone();
        self.tell(
            |_| {
                if begins { format!("*** {}", happening.what) } else { "*** over".to_owned() }
            },
        );
        let lasts = match happening.what {
            What::ParentCrash { down } => {
                if self.process.is_some() {
                    self.crash_parent();
                    self.queue.push(self.now.plus(down), Event::ParentStart);
                }
                return;
            }
            What::ModuleCrash { module, down } => return self.crash_module(module, down),
            What::AgentCrash { node } => {
                self.touch(node, 0);
                return self.crash_agent(node);
            }
            What::Operator(word) => return self.operator(word),
            What::Blow { blow, first, count, lasts } => {
                for n in first..(first + count).min(self.nodes.len()) {
                    self.strikes(n, blow, begins);
                }
                lasts
            }
            What::Cut { first, count, lasts } => {
                let cut = first..(first + count).min(self.nodes.len());
                self.judge_cut(cut.clone(), index, begins);
                cut.for_each(|n| self.cuts(n, begins));
                lasts
            }
            What::Noise { noise, lasts } => {
                self.set_noise(if begins { noise } else { Noise::default() });
                self.noisy_until = if begins { self.now.plus(lasts) } else { self.now };
                lasts
            }
        };
        if begins {
            self.queue.push(self.now.plus(lasts), Event::Happens { index, begins: false });
        }
    }

    pub(crate) fn strikes(&mut self, n: usize, blow: Blow, begins: bool) {
        self.touch(n, if begins { 1 } else { -1 });
        self.is_not_only_cut_off(n);
        self.ask(n, None, |app, machine, deeds| app.strike(machine, blow, begins, deeds));
    }

    pub(crate) fn cuts(&mut self, n: usize, begins: bool) {
        self.touch(n, 0);
        let cuts = &mut self.nodes[n].cuts;
        *cuts = if begins { *cuts + 1 } else { cuts.saturating_sub(1) };
        if *cuts == 0 {
            self.is_not_only_cut_off(n);
        }
    }

    pub(crate) fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
        if noise == Noise::default() {
            self.recorded.clear();
        }
    }

    fn is_not_only_cut_off(&mut self, n: usize) {
        if let Some(checker) = &mut self.checker {
            checker.not_only_cut_off(n);
        }
    }

    fn touch(&mut self, n: usize, faults: i32) {
        let seat = &mut self.nodes[n];
        seat.touched = self.now;
        seat.faults = seat.faults.saturating_add_signed(faults);
        if let Some(checker) = &mut self.checker {
            checker.touched(n);
        }
    }

    /// Many nodes that are well and are cut off at once must not be rebooted for that.
    ///
    /// How close together their silence is found depends on what their paths lost before: only
    /// where they lost nothing for long it can be promised.
    fn judge_cut(&mut self, cut: std::ops::Range<usize>, index: usize, begins: bool) {
        if begins && self.now.since(self.noisy_until) < UNTOUCHED {
            return;
        }
        let well: Vec<usize> = cut
            .filter(|n| {
                let health = self.health(*n);
                health.is_as_wanted && health.is_untouched
            })
            .collect();
        if let Some(checker) = &mut self.checker {
            if begins {
                checker.cut_off(self.now, index, well);
            } else {
                checker.rejoined(self.now, index);
            }
        }
    }

    /// An operator says something, and is told that it is so; or nobody is there.
    pub(crate) fn operator(&mut self, word: Word) {
        if self.process.is_none() {
            return;
        }
        let now = self.now;
        if let Some(checker) = &mut self.checker {
            checker.operator(now, word);
        }
        let id = |n: usize| self.nodes[n].id.clone();
        let command = match word {
            Word::Hold(n, lasts) => Command::Hold { node: id(n), terms: terms(now, lasts) },
            Word::Release(n) => Command::Release { node: id(n) },
            Word::Freeze(n, lasts) => Command::Freeze { node: n.map(id), terms: terms(now, lasts) },
            Word::Thaw(n) => Command::Thaw { node: n.map(id) },
            Word::Retry(n) => Command::Retry { node: id(n) },
            Word::Restart(n, hard, lasts) => {
                Command::Restart { node: id(n), terms: Terms { hard, ..terms(now, lasts) } }
            }
            Word::WithdrawRestart(n) => Command::WithdrawRestart { node: id(n) },
            Word::Busy(n, lasts) => Command::Busy { node: id(n), terms: terms(now, lasts) },
            Word::Free(n) => Command::Free { node: id(n) },
            Word::Want(n, wish) => {
                let cfg = self.app.cfg(n, wish);
                if let Some(checker) = &mut self.checker {
                    checker.touched(n);
                }
                self.nodes[n].touched = now;
                return self.write(n, cfg);
            }
        };
        self.command(command);
    }

    /// Faults have stopped: what operators held back they let go again, but for what ends by itself.
    pub(crate) fn quiet(&mut self) {
        if self.process.is_none() {
            // It is on its way.
            self.queue.push(self.now.plus(Duration::from_secs(1)), Event::Quiet);
            return;
        }
        self.noise = Noise::default();
        for word in self.disk.marks.taken_back() {
            self.operator(word);
        }
    }
}
