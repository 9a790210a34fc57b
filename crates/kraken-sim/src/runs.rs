//! Runs, and how the shortest one is found that still fails.

use crate::application::Application;
use crate::fleet::{Fleet, Outcome, Plan};

/// How many runs shrinking may take.
const MAX_RUNS: usize = 400;

/// Runs a plan.
#[must_use]
pub fn run<A: Application>(app: A, plan: Plan) -> Outcome {
    run_then(app, plan, |outcome| outcome)
}

/// Runs a plan, and says how it ended while the fleet still is in memory: what it took does not have to be
/// counted with what it takes to give all of that back.
pub fn run_then<A: Application, R>(app: A, plan: Plan, then: impl FnOnce(Outcome) -> R) -> R {
    let mut fleet = Fleet::new(app, plan);
    then(fleet.run())
}

/// Leaves out of a plan that violates an invariant whatever is not needed for that: the plan that
/// is left violates the same one. First halves, then ever smaller parts.
#[must_use]
pub fn shrink<A: Application>(plan: &Plan, app: impl Fn() -> A) -> Plan {
    let fails = |plan: &Plan| run(app(), plan.clone()).violation.map(|v| v.invariant);
    let Some(invariant) = fails(plan) else { return plan.clone() };
    let mut best = plan.clone();
    let mut runs = 0;
    let mut part = best.happenings.len().div_ceil(2);
    while part > 0 && runs < MAX_RUNS {
        let mut from = 0;
        while from < best.happenings.len() && runs < MAX_RUNS {
            let mut less = best.clone();
            let to = (from + part).min(less.happenings.len());
            less.happenings.drain(from..to);
            runs += 1;
            if fails(&less) == Some(invariant) {
                best = less;
            } else {
                from = to;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    best
}
