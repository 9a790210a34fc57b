//! What happens to a fleet besides time: faults, and people. A list of it is drawn from the seed
//! before a run, so that a run that fails can be tried again with less.

use crate::{Blow, Random, Wish};
use kraken_model::Millis;
use std::fmt;
use std::time::Duration;

/// How many nodes share a rack: its power, and its switch.
pub const NODES_PER_RACK: usize = 10;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Millis,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The parent is killed, and started again after a while.
    ParentCrash {
        /// How long it is down.
        down: Duration,
    },
    /// A module of the parent ends, and with it whatever it was doing; started again after a while.
    ModuleCrash {
        /// Which: its index among the names of modules.
        module: usize,
        /// How long it is down.
        down: Duration,
    },
    /// The agent of a node is killed; its init starts it again.
    AgentCrash {
        /// The node.
        node: usize,
    },
    /// Something breaks on machines.
    Blow {
        /// What.
        blow: Blow,
        /// The first machine.
        first: usize,
        /// How many.
        count: usize,
        /// For how long.
        lasts: Duration,
    },
    /// Nodes cannot be reached: a switch, a cable.
    Cut {
        /// The first node.
        first: usize,
        /// How many.
        count: usize,
        /// For how long.
        lasts: Duration,
    },
    /// The network is bad everywhere.
    Noise {
        /// How bad.
        noise: Noise,
        /// For how long.
        lasts: Duration,
    },
    /// An operator wants something.
    Operator(Word),
}

/// What a network does to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// How many of a hundred are lost.
    pub loss: u64,
    /// How many of a hundred come twice.
    pub twice: u64,
    /// How many times in a hundred something recorded is sent again.
    pub replay: u64,
    /// The longest delay, in milliseconds. What is sent later may arrive earlier.
    pub delay_ms: u64,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// That nothing is done to a node: for so long, or until somebody releases it.
    Hold(usize, Option<Duration>),
    /// That its hold ends.
    Release(usize),
    /// That nothing disruptive is done to a node (`None`: anywhere): for so long, or until somebody thaws it.
    Freeze(Option<usize>, Option<Duration>),
    /// That a freeze of a node (`None`: of everything) ends.
    Thaw(Option<usize>),
    /// That a node counts as in use: for so long, or until somebody frees it.
    Busy(usize, Option<Duration>),
    /// That it no longer does.
    Free(usize),
    /// That failures of a node are forgotten.
    Retry(usize),
    /// That a node is off once, at once if need be; in so long, or it is withdrawn.
    Restart(usize, bool, Option<Duration>),
    /// That a restart is withdrawn.
    WithdrawRestart(usize),
    /// That a node is something else.
    Want(usize, Wish),
}

/// How long a day of a fleet is, and how much goes wrong on it.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// How many nodes there are.
    pub nodes: usize,
    /// When faults stop.
    pub faults_end: Millis,
    /// The most things that happen.
    pub most: usize,
    /// How many modules the parent has.
    pub modules: usize,
}

/// What happens on the day that a seed says, in the order of time. Some days are quiet, some have
/// one kind of trouble again and again, some have everything.
#[must_use]
pub fn draw(seed: u64, day: &Day) -> Vec<Happening> {
    let mut random = Random::apart(seed, 1);
    let count = random.within(1, day.most as u64);
    // Three of the kinds come more often than the others, so that days differ in character.
    let favourites = [random.below(KINDS), random.below(KINDS), random.below(KINDS)];
    let end = day.faults_end.0;
    let mut all: Vec<Happening> = (0..count)
        .map(|_| {
            let favourite = favourites[random.below(3) as usize];
            let kind = if random.chance(60) { favourite } else { random.below(KINDS) };
            let at = Millis(random.within(1_000, end - 1_000));
            Happening { at, what: one(kind, &mut random, day, end - at.0) }
        })
        .collect();
    all.sort_by_key(|happening| happening.at);
    all
}

const KINDS: u64 = 21;

/// One thing of a kind, over at the latest when `left` milliseconds have passed.
fn one(kind: u64, random: &mut Random, day: &Day, left: u64) -> What {
    let node = random.below(day.nodes as u64) as usize;
    let some = random.within(1, (day.nodes as u64 / 4).clamp(1, 25)) as usize;
    let short = Duration::from_millis(random.within(200, 30_000).min(left));
    let long = Duration::from_millis(random.within(10_000, 400_000).min(left));
    let rack = node / NODES_PER_RACK * NODES_PER_RACK;
    let blow = |blow, first, count, lasts| What::Blow { blow, first, count, lasts };
    match kind {
        0 | 1 => What::ParentCrash { down: if random.chance(70) { short } else { long } },
        2 => What::ModuleCrash {
            module: random.below(day.modules as u64) as usize,
            down: if random.chance(50) { short } else { long },
        },
        3 => What::AgentCrash { node },
        4 => blow(Blow::Reset, node, some.min(3), short),
        5 => blow(Blow::Wedge, node, 1, short),
        6 => blow(Blow::ControllerHangs, node, some, long),
        7 => blow(Blow::ControllerErrs, node, some, long),
        8 => blow(Blow::ControllerLies, node, some.min(4), long),
        9 => blow(Blow::Slow, node, some, long),
        10 => blow(Blow::Work, node, 1, short),
        11 => blow(Blow::Power, rack, NODES_PER_RACK, long),
        12 => What::Cut { first: rack, count: NODES_PER_RACK, lasts: long },
        13 => What::Cut {
            first: node,
            count: some,
            lasts: if random.chance(50) { short } else { long },
        },
        14 => {
            let noise = Noise {
                loss: random.below(40),
                twice: random.below(30),
                replay: random.below(20),
                delay_ms: random.within(1, 2_000),
            };
            What::Noise { noise, lasts: long }
        }
        15 => blow(Blow::Service, node, some.min(3), short),
        _ => What::Operator(word(random, node, left)),
    }
}

/// Half of what operators say ends by itself, when `left` milliseconds have passed at the latest:
/// then nobody has to take it back for everything to become as it should be.
fn word(random: &mut Random, node: usize, left: u64) -> Word {
    let lasts = Duration::from_millis(random.within(10_000, 600_000).min(left));
    let lasts = random.chance(50).then_some(lasts);
    match random.below(22) {
        0 | 1 => Word::Hold(node, lasts),
        2 => Word::Release(node),
        3 => Word::Freeze(None, lasts),
        4 => Word::Thaw(None),
        16 | 17 => Word::Freeze(Some(node), lasts),
        18 => Word::Thaw(Some(node)),
        5 | 6 => Word::Busy(node, lasts),
        7 => Word::Free(node),
        8 => Word::Retry(node),
        9 | 10 => Word::Want(node, Wish::Off),
        11 => Word::Want(node, Wish::Unattended),
        19 | 20 => Word::Restart(node, random.chance(30), lasts),
        21 => Word::WithdrawRestart(node),
        _ => Word::Want(node, Wish::Runs(random.below(3) as u8)),
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  {}", self.at.0 as f64 / 1000.0, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParentCrash { down } => {
                write!(f, "the parent crashes, and is back after {down:?}")
            }
            Self::ModuleCrash { module, down } => {
                write!(f, "module {module} crashes, and is back after {down:?}")
            }
            Self::AgentCrash { node } => write!(f, "the agent of node {node} crashes"),
            Self::Blow { blow, first, count, lasts } => {
                write!(f, "{blow:?} on {count} nodes from {first} on, for {lasts:?}")
            }
            Self::Cut { first, count, lasts } => {
                write!(f, "{count} nodes from {first} on are cut off for {lasts:?}")
            }
            Self::Noise { noise, lasts } => write!(f, "{noise:?} for {lasts:?}"),
            Self::Operator(word) => write!(f, "an operator says {word:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_drawn_from_its_seed_alone_and_every_fault_is_over_in_time() {
        let day = Day { nodes: 20, faults_end: Millis(600_000), most: 40, modules: 4 };
        for seed in 0..200 {
            let all = draw(seed, &day);
            assert_eq!(all, draw(seed, &day));
            assert!(all.is_sorted_by_key(|happening| happening.at));
            for Happening { at, what } in &all {
                let lasts = match what {
                    What::ParentCrash { down } | What::ModuleCrash { down, .. } => *down,
                    What::Blow { lasts, .. } | What::Cut { lasts, .. } => *lasts,
                    What::Noise { lasts, .. } => *lasts,
                    What::Operator(
                        Word::Hold(_, lasts) | Word::Freeze(_, lasts) | Word::Busy(_, lasts),
                    ) => lasts.unwrap_or_default(),
                    What::AgentCrash { .. } | What::Operator(_) => Duration::ZERO,
                };
                assert!(at.plus(lasts) <= day.faults_end, "seed {seed}: {what:?} lasts too long");
            }
        }
    }
}
