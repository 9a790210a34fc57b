//! The checker bites: every known bug that is planted is found, by the invariant that it breaks.
#![allow(clippy::unwrap_used)]

use kraken_model::Millis;
use kraken_sim::{Blow, Bug, Happening, Invariant, What, Wish, Word, run, shrink};
use layercake_sim::{Size, plan};
use std::time::Duration;

/// How many days a bug may hide.
const DAYS: u64 = 400;

/// The invariant that finds a bug, and after how many days.
fn found(bug: Bug) -> Option<(u64, Invariant)> {
    (0..DAYS).find_map(|seed| {
        let (app, mut plan) = plan(seed, size(bug));
        plan.bug = Some(bug);
        match bug {
            Bug::StaleEpochAccepted => plan.happenings.extend(late_answers()),
            Bug::PermissionOutlives => plan.happenings.extend(broken_swaps()),
            Bug::DomainsIgnored => plan.happenings.push(cut(10, 10)),
            // One that is recovered when it falls silent, and two that are not.
            Bug::RecoveriesUncounted => plan.happenings.push(cut(3, 1)),
            Bug::PolicyIgnored => plan.happenings.extend([cut(5, 1), cut(9, 1)]),
            _ => {}
        }
        plan.happenings.sort_by_key(|happening| happening.at);
        run(app, plan).violation.map(|violation| (seed, violation.invariant))
    })
}

/// Nodes are cut off for long, when all of them have run for a while.
fn cut(first: usize, count: usize) -> Happening {
    let lasts = Duration::from_secs(600);
    Happening { at: Millis(330_000), what: What::Cut { first, count, lasts } }
}

/// A rack has to be a small part of the cluster for a fault of it to be no storm of the whole.
fn size(bug: Bug) -> Size {
    Size(if bug == Bug::DomainsIgnored { 60 } else { 20 })
}

/// Answers that come to the next run of the parent, while it has given other orders: on a day as it
/// is drawn they are rare.
fn late_answers() -> [Happening; 2] {
    let lasts = Duration::from_secs(60);
    let hang = What::Blow { blow: Blow::ControllerHangs, first: 0, count: 20, lasts };
    let crash = What::ParentCrash { down: Duration::from_secs(1) };
    [Happening { at: Millis(1_500), what: hang }, Happening { at: Millis(10_000), what: crash }]
}

/// Swaps of images that take long and break off when their nodes have lost their parent: nobody has taken back the
/// permission to begin again.
fn broken_swaps() -> Vec<Happening> {
    let (first, count) = (0, 20);
    let blow = |blow, lasts| What::Blow { blow, first, count, lasts };
    let wish = |node| (300, What::Operator(Word::Want(node, Wish::Runs(1))));
    let others = [
        (290, blow(Blow::Slow, Duration::from_secs(280))),
        (310, What::Cut { first, count, lasts: Duration::from_secs(200) }),
        (380, blow(Blow::Service, Duration::from_secs(1))),
    ];
    let all = others.into_iter().chain((first..count).map(wish));
    all.map(|(at, what)| Happening { at: Millis(at * 1_000), what }).collect()
}

/// Which it breaks: one of two, where it depends on what is sent again.
fn broken_by(bug: Bug) -> Vec<Invariant> {
    let broken = match bug {
        Bug::AdoptionGuardOff | Bug::FreshnessOff => Invariant::Fresh,
        Bug::LimitOffByOne | Bug::SpacingIgnored | Bug::ShareIgnored => Invariant::Limits,
        Bug::HoldIgnored | Bug::HoldForgotten | Bug::HoldEndsEarly => Invariant::Held,
        Bug::FreezeIgnored => Invariant::Frozen,
        Bug::BusyIgnored => Invariant::Busy,
        Bug::StormGuardOff => Invariant::Storm,
        Bug::DomainsIgnored => Invariant::Domain,
        Bug::RecoveriesUncounted | Bug::PolicyIgnored => Invariant::Recovered,
        Bug::StaleEpochAccepted => Invariant::Epochs,
        Bug::DeltaTwice => Invariant::InOrder,
        Bug::ReplayTaken => return vec![Invariant::Replay, Invariant::InOrder],
        Bug::AcknowledgedTooEarly => Invariant::CfgKept,
        Bug::JournalGap => Invariant::Journal,
        Bug::InterruptIgnored => Invariant::Interrupted,
        Bug::NodeSpeaksForOthers => Invariant::OneWriter,
        Bug::OrderedTwice => Invariant::OneStep,
        Bug::SilenceUnheard | Bug::EndForgotten => Invariant::Converges,
        Bug::PermissionAssumed | Bug::PermissionOutlives => Invariant::Permitted,
    };
    vec![broken]
}

#[test]
fn every_planted_bug_is_found_by_the_invariant_that_it_breaks() {
    let mut wrong = Vec::new();
    for bug in Bug::ALL {
        let found = found(bug);
        if !found.is_some_and(|(_, invariant)| broken_by(bug).contains(&invariant)) {
            wrong.push(format!("{bug:?}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_failing_day_is_shortened_to_what_is_needed_for_the_failure() {
    let (seed, _) = found(Bug::HoldForgotten).unwrap();
    let (app, mut day) = plan(seed, Size(20));
    day.bug = Some(Bug::HoldForgotten);
    let shortest = shrink(&day, || app.clone());
    assert!(shortest.happenings.len() <= 4, "{:?}", shortest.happenings);
    assert!(shortest.happenings.len() < day.happenings.len());
    let violation = run(app, shortest).violation.unwrap();
    assert_eq!(violation.invariant, Invariant::Held);
}
