//! What a plan says is what happens when it is applied and nothing fails: the same steps, the same disruption,
//! the same end.
#![allow(clippy::unwrap_used)]

use kraken_model::Millis;
use kraken_sim::{Change, Difference, Happening, Plan, Random, What, Wish, Word, compare};
use layercake_sim::{Layercake, Size, plan};
use std::time::Duration;

const NODES: usize = 20;

/// When a fleet that starts at zero has long been running.
const SETTLED: u64 = 300_000;

fn wish(random: &mut Random) -> Wish {
    match random.below(8) {
        0 => Wish::Off,
        1 => Wish::Unattended,
        _ => Wish::Runs(random.below(3) as u8),
    }
}

/// What operators say before the change: changes that may be half-way done by then, freezes.
/// (What a node that is held or in use may not do by itself it is told by a server, and there is none here.)
fn words(random: &mut Random, at: u64) -> Vec<Happening> {
    let count = random.below(40);
    let mut all: Vec<Happening> = (0..count)
        .map(|_| {
            let node = random.below(NODES as u64) as usize;
            let word = match random.below(12) {
                0..=2 => Word::Freeze(Some(node), None),
                3 if random.chance(30) => Word::Freeze(None, None),
                _ => Word::Want(node, wish(random)),
            };
            let at = at - random.below(40_000).max(1);
            Happening { at: Millis(at), what: What::Operator(word) }
        })
        .collect();
    all.sort_by_key(|happening| happening.at);
    all
}

/// A change at any time: while a fleet boots, when it is at rest, in the middle of another change.
fn differences(seed: u64) -> Vec<Difference> {
    let mut random = Random::apart(seed, 7);
    let at = if random.chance(20) { 45_000 + random.below(60_000) } else { SETTLED };
    let happenings = words(&mut random, at);
    let mut wishes = Vec::new();
    for node in 0..NODES {
        if random.chance(60) {
            wishes.push((node, wish(&mut random)));
        }
    }
    let change = Change { at: Millis(at), wishes, wait_ms: 3_600_000 };
    let (_, day) = plan(seed, Size(NODES));
    let day = Plan { happenings, bug: None, trace: 0, ..day };
    compare(Layercake::new(Duration::from_secs(2)), day, &change)
}

/// Whether a step finds out what nobody can know before: a plan counts on the best of it.
fn finds_out(step: &str) -> bool {
    step == "sync.join" || step.contains("discover") || step.starts_with("service.start")
}

/// Whether what happened is something else than what was planned, as far as that could be known.
fn is_wrong(difference: &Difference) -> bool {
    let Difference { planned, happened, known, .. } = difference;
    // A node that has left and may not be switched off comes back, and leaves again: for that no plan has words.
    if happened.0.iter().filter(|step| step.as_ref() == "sync.leave").count() > 1 {
        return false;
    }
    // Where the node takes the new cfg before it begins, one step less is enough.
    if known.goes_on {
        return happened.0.len() > planned.0.len();
    }
    match planned.0.iter().position(|step| finds_out(step)) {
        Some(at) => !happened.0.starts_with(&planned.0[..at]),
        None => true,
    }
}

#[test]
fn what_is_planned_is_what_happens_when_nothing_fails() {
    for seed in 0..seeds() {
        let differences = differences(seed);
        let Some(wrong) = differences.iter().find(|difference| is_wrong(difference)) else {
            continue;
        };
        let Difference { node, planned, happened, known } = wrong;
        let [before, after, dsc] =
            known.documents.each_ref().map(|document| format!("{document:?}"));
        let was = format!("before {before}\nafter {after}\ndsc {dsc}");
        panic!("seed {seed}, {node}: planned {planned:?}, happened {happened:?}\n{was}");
    }
}

/// A few here; more when somebody wants more.
fn seeds() -> u64 {
    std::env::var("PLAN_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40)
}
