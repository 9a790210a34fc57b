//! Days of Layercake clusters: how long they are for how many nodes.

use crate::Layercake;
use kraken_model::Millis;
use kraken_sim::{Application, Day, Outcome, Plan, Random, draw, run, shrink};
use std::time::Duration;

/// How many nodes a run has, which decides how long its day is.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub usize);

/// How many happenings there are at the most on a day of a small fleet.
const MOST: usize = 30;

/// From how many nodes on a day is short: as much happens to more nodes at a time.
const LARGE: usize = 1_000;

impl Size {
    fn is_large(self) -> bool {
        self.0 >= LARGE
    }
}

/// The cluster of a seed, and what happens to it.
#[must_use]
pub fn plan(seed: u64, size: Size) -> (Layercake, Plan) {
    let mut random = Random::apart(seed, 3);
    let hello = if size.is_large() { 10 } else { [2, 5, 10][random.below(3) as usize] };
    let app = Layercake::new(Duration::from_secs(hello));
    let minutes = if size.is_large() { 8 } else { random.within(10, 30) };
    let faults_end = Millis(minutes * 60_000);
    let modules = 4;
    let most = if size.is_large() { MOST * 2 } else { MOST };
    let day = Day { nodes: size.0, faults_end, most, modules };
    let plan = Plan {
        seed,
        nodes: size.0,
        happenings: draw(seed, &day),
        faults_end,
        converged_by: Millis(faults_end.0 + bound(&app)),
        is_checked: true,
        bug: None,
        trace: 0,
    };
    (app, plan)
}

/// How many of the last events are told of a day that failed.
const TRACE: usize = 60;

/// Runs the day of a seed and tells of it, line by line: everything, when that is wanted, and in any
/// case what was violated, the fewest happenings that still violate it, and how it came to that.
pub fn told_day(
    seed: u64,
    size: Size,
    is_told_in_full: bool,
    tell: &mut dyn FnMut(&str),
) -> Outcome {
    let (app, mut plan) = plan(seed, size);
    if is_told_in_full {
        plan.trace = usize::MAX;
        plan.happenings.iter().for_each(|happening| tell(&happening.to_string()));
    }
    let outcome = run(app.clone(), plan.clone());
    outcome.trace.iter().for_each(|line| tell(line));
    if let Some(violation) = &outcome.violation {
        tell(&format!("seed {seed}: {violation}"));
        tell_shortest(&plan, &app, tell);
        let again = format!("cargo xtask sim --from {seed} --seeds 1 --nodes {}", size.0);
        tell(&format!("to see it again: {again}"));
    }
    outcome
}

/// What is needed for the failure, and how it came to it.
fn tell_shortest(plan: &Plan, app: &Layercake, tell: &mut dyn FnMut(&str)) {
    let mut shortest = shrink(plan, || app.clone());
    tell(&format!("of {} happenings these are enough:", plan.happenings.len()));
    shortest.happenings.iter().for_each(|happening| tell(&format!("  {happening}")));
    shortest.trace = TRACE;
    let outcome = run(app.clone(), shortest);
    tell("the last of what happened then:");
    outcome.trace.iter().for_each(|line| tell(&format!("  {line}")));
    if let Some(violation) = outcome.violation {
        tell(&format!("  {violation}"));
    }
}

/// How long it may take, in milliseconds, until everything that can be as it should be is, once
/// nothing goes wrong any more. The longest way is that of a node that was given up while its
/// image was being fetched: the longest pause, the longest step, and everything from the start.
fn bound(app: &Layercake) -> u64 {
    let slowest = app.modules().mutations().map(|(_, mutation)| mutation.timeout).max();
    let slowest = slowest.unwrap_or_default().as_millis();
    let pause = app.modules().mutations().map(|(_, mutation)| mutation.retry.cap).max();
    let pause = pause.unwrap_or_default().as_millis();
    u64::try_from(4 * (slowest + pause)).unwrap_or(u64::MAX)
}
