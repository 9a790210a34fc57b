//! Days of small fleets: nothing is violated, and the same seed gives the same day.
#![allow(clippy::unwrap_used)]

use kraken_model::Millis;
use kraken_sim::{Blow, Bug, Happening, Invariant, Plan, What, Wish, Word, run};
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
fn services_are_started_and_restarted_by_plan_stopped_by_cfg_and_disturb_no_image() {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(5));
    let broken = What::Blow { blow: Blow::Service, first: 0, count: 2, lasts: Duration::ZERO };
    let unattended = What::Operator(Word::Want(4, Wish::Unattended));
    let killed = What::AgentCrash { node: 3 };
    let happenings = [(120_000, broken), (125_000, killed), (130_000, unattended)]
        .map(|(at, what)| Happening { at: Millis(at), what })
        .into();
    let plan = Plan { happenings, faults_end: Millis(140_000), trace: usize::MAX, ..plan };
    let outcome = run(app, plan);
    assert_eq!(outcome.violation, None);
    let done = |node: usize, step: &str| {
        let begin = format!("on {node}: Done {{ mutation: \"service.{step}-image\"");
        outcome.trace.iter().filter(|line| line.contains(&begin)).count()
    };
    let steps =
        [0, 1, 2, 3, 4].map(|node| ["start", "restart", "stop"].map(|step| done(node, step)));
    // Of a new agent, nothing is assumed.
    assert_eq!(steps, [[1, 1, 0], [1, 1, 0], [1, 0, 0], [2, 0, 0], [1, 0, 1]]);
    // What ran goes on: no image was started anew.
    let started = |line: &&String| line.contains("Done { mutation: \"image.start\"");
    assert_eq!(outcome.trace.iter().filter(started).count(), 5);
}

#[test]
fn swaps_that_end_while_the_parent_is_away_are_not_permitted_again() {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(20));
    let changed = |node| What::Operator(Word::Want(node, Wish::Runs(1)));
    // Three in each rack are let in at once.
    let changed = [0, 1, 2, 10, 11, 12].map(|node| (200_000, changed(node)));
    let away = What::ParentCrash { down: Duration::from_secs(400) };
    let happenings = changed.into_iter().chain([(202_500, away)]);
    let happenings = happenings.map(|(at, what)| Happening { at: Millis(at), what }).collect();
    let plan = Plan { happenings, faults_end: Millis(700_000), trace: usize::MAX, ..plan };
    let outcome = run(app, plan);
    assert_eq!(outcome.violation, None);
    let permitted = |line: &&String| line.contains(": Dispatched { mutation: \"image.swap\"");
    let permitted = outcome.trace.iter().filter(permitted);
    assert_eq!(permitted.filter(|line| line.contains(" s  n")).count(), 6);
}

/// When the images of the first two nodes are changed, of which one is held and one in use for a
/// hundred seconds from 200 s on.
fn changed_at(away: Option<(u64, Duration)>) -> [u64; 2] {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(20));
    let lasts = Some(Duration::from_secs(100));
    let words = [Word::Hold(0, lasts), Word::Busy(1, lasts)];
    let words = words.map(|word| (200_000, What::Operator(word)));
    let wanted = [0, 1].map(|n| (210_000, What::Operator(Word::Want(n, Wish::Runs(1)))));
    let away = away.map(|(at, down)| (at, What::ParentCrash { down }));
    let happenings = words.into_iter().chain(wanted).chain(away);
    let happenings = happenings.map(|(at, what)| Happening { at: Millis(at), what }).collect();
    let plan = Plan { happenings, faults_end: Millis(700_000), trace: usize::MAX, ..plan };
    let outcome = run(app, plan);
    assert_eq!(outcome.violation, None);
    [0, 1].map(|n| swapped_at(n, &outcome.trace))
}

/// When a node was first permitted to change its image, in seconds.
fn swapped_at(node: usize, trace: &[String]) -> u64 {
    let begin = format!(" n{node}: Dispatched {{ mutation: \"image.swap\"");
    let line = trace.iter().find(|line| line.contains(&begin)).unwrap();
    line.trim_start().split('.').next().unwrap().parse().unwrap()
}

#[test]
fn a_hold_and_a_use_end_in_time_with_nobody_to_end_them_also_after_a_restart() {
    assert_eq!(changed_at(None), [300, 300]);
    let restarted = changed_at(Some((250_000, Duration::from_secs(10))));
    assert_eq!(restarted, [300, 300], "their end is kept with them");
    let late = changed_at(Some((250_000, Duration::from_secs(200))));
    assert!(late.iter().all(|at| (450..480).contains(at)), "their end came meanwhile: {late:?}");
}

#[test]
fn a_use_that_ends_in_the_last_moment_before_a_crash_has_ended_after_it() {
    let crash = Some((300_100, Duration::from_secs(10)));
    let changed = changed_at(crash);
    assert!(changed.iter().all(|at| (300..320).contains(at)), "{changed:?}");
}

#[test]
fn while_too_many_nodes_are_broken_no_other_is_disrupted_and_then_it_is() {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(20));
    // Four at a time are no storm, and eight of twenty are more than may be unavailable.
    let lasts = Duration::from_secs(400);
    let dark = |first| What::Blow { blow: Blow::Power, first, count: 4, lasts };
    let wanted = What::Operator(Word::Want(15, Wish::Runs(1)));
    let happenings = [(100_000, dark(0)), (200_000, dark(4)), (300_000, wanted)]
        .map(|(at, what)| Happening { at: Millis(at), what })
        .into();
    let plan = Plan { happenings, faults_end: Millis(700_000), trace: usize::MAX, ..plan };
    let outcome = run(app.clone(), plan.clone());
    assert_eq!(outcome.violation, None);
    let at = swapped_at(15, &outcome.trace);
    assert!(at >= 500, "no sooner have the first four power: {at}");
    let unlimited = run(app, Plan { bug: Some(Bug::ShareIgnored), ..plan });
    assert_eq!(unlimited.violation.unwrap().invariant, Invariant::Limits);
    assert_eq!(swapped_at(15, &unlimited.trace), 300);
}

#[test]
fn a_fleet_to_which_nothing_happens_runs_within_minutes() {
    let app = Layercake::new(Duration::from_secs(2));
    let (_, plan) = plan(1, Size(20));
    let faults_end = Millis(2_000);
    let outcome = run(app, Plan { happenings: Vec::new(), faults_end, ..plan });
    assert_eq!(outcome.violation, None);
    assert!(outcome.at.0 < 180_000, "{}", outcome.at.0);
}
