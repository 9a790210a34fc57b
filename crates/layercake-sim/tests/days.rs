//! Days of small fleets: nothing is violated, and the same seed gives the same day.
#![allow(clippy::unwrap_used)]

use kraken_sim::{Plan, run};
use layercake_sim::{Layercake, Size, plan};
use std::time::Duration;

/// A few here; `cargo xtask sim` runs many.
const DAYS: u64 = 12;

#[test]
fn on_no_day_is_an_invariant_violated() {
    for seed in 0..DAYS {
        let (app, plan) = plan(seed, Size(20));
        let violation = run(app, plan).violation;
        assert_eq!(violation, None, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_day_and_another_seed_another() {
    let day = |seed| {
        let (app, mut plan) = plan(seed, Size(20));
        plan.trace = usize::MAX;
        let outcome = run(app, plan);
        (outcome.at, outcome.events, outcome.fingerprint, outcome.trace)
    };
    assert!(day(5) == day(5), "the same to the last word");
    assert!(day(5) != day(6));
}

#[test]
fn whether_it_is_checked_makes_no_difference_to_a_day() {
    let day = |is_checked| {
        let (app, plan) = plan(7, Size(20));
        let outcome = run(app, Plan { is_checked, ..plan });
        (outcome.at, outcome.events, outcome.fingerprint)
    };
    assert_eq!(day(true), day(false));
}

#[test]
fn a_fleet_to_which_nothing_happens_runs_within_minutes() {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(20));
    let faults_end = kraken_model::Millis(2_000);
    let outcome = run(app, Plan { happenings: Vec::new(), faults_end, ..plan });
    assert_eq!(outcome.violation, None);
    assert!(outcome.at.0 < 180_000, "{}", outcome.at.0);
}
