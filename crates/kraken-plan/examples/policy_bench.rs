//! Measures how long a policy takes that nobody has asked for before, beside the plainest search there is;
//! prints one JSON object a line: name, value, unit. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use kraken_model::{Document, Field, Path, Registry, Schema};
use kraken_plan::{Context, Costs, Facts, Guard, ModuleSet, Mutation, Policy, State};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

const VALUES: &[&str] = &["UNKNOWN", "OFF", "ON"];

/// How often each is taken; the median is printed.
const ROUNDS: usize = 21;

fn say(name: &str, millis: f64) {
    println!("{{\"name\":\"policy.{name}\",\"value\":{millis:.6},\"unit\":\"ms\"}}");
}

fn median(mut take: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| take()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// Variables of three values, each found out and then switched; if chained, only while the one before is on.
fn set(variables: usize, chained: bool) -> (Arc<ModuleSet>, Document) {
    let names: Vec<String> = (0..variables).map(|n| format!("v{n:02}")).collect();
    let fields = names.iter().map(|n| Field::variable(n, VALUES, "").unwrap()).collect();
    let registry = Registry::new(vec![Schema { name: "bench".into(), fields }]).unwrap();
    let mutations = names.iter().enumerate().flat_map(|(n, name)| {
        let step = |what: &str, from: usize, to: usize| {
            let step = Mutation::new("m", &format!("{name}_{what}"), Context::Child);
            let step = step.moves(name, VALUES[from], VALUES[to]);
            match n.checked_sub(1).filter(|_| chained) {
                Some(before) => step.requires(Guard::is(&names[before], "ON")),
                None => step,
            }
        };
        [step("find", 0, 1), step("on", 1, 2), step("off", 2, 1)]
    });
    let set = ModuleSet::new(&registry, mutations.collect()).unwrap();
    let mut goal = Document::new();
    for name in &names {
        goal.set(Path::known(name), "ON");
    }
    (Arc::new(set), goal)
}

/// From a set to the first step of a node of which nothing is known, with nothing kept from before.
fn cold((set, goal): &(Arc<ModuleSet>, Document), steps: usize) -> f64 {
    median(|| {
        let began = Instant::now();
        let goal = set.goal(goal);
        let mut policy = Policy::new(set, goal, Facts::default(), &Costs::declared());
        let path = policy.path(State::default());
        let took = millis(began);
        assert_eq!(path.len(), steps);
        took
    })
}

/// Breadth first over the product of all variables, as anybody would write it.
fn plain(variables: usize, chained: bool, steps: usize) -> f64 {
    median(|| {
        let began = Instant::now();
        let mut seen = HashMap::from([(vec![0_u8; variables], 0)]);
        let mut open = VecDeque::from([vec![0_u8; variables]]);
        let mut found = 0;
        while let Some(state) = open.pop_front() {
            let depth = seen[&state];
            if state.iter().all(|value| *value == 2) {
                found = depth;
                break;
            }
            for n in 0..variables {
                if chained && n > 0 && state[n - 1] != 2 {
                    continue;
                }
                let mut next = state.clone();
                next[n] = [1, 2, 1][usize::from(state[n])];
                if chained && next[n] != 2 {
                    next[n + 1..].fill(0);
                }
                seen.entry(next.clone()).or_insert_with(|| {
                    open.push_back(next);
                    depth + 1
                });
            }
        }
        let took = millis(began);
        assert_eq!(found, steps);
        took
    })
}

fn main() {
    say("independent_8", cold(&set(8, false), 16));
    say("independent_8_plain", plain(8, false, 16));
    say("chain_12", cold(&set(12, true), 24));
    say("chain_12_plain", plain(12, true, 24));
}
