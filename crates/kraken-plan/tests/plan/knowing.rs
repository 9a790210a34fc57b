//! What can be known, and what is forgotten.

use crate::words::*;
use kraken_plan::{Guard, Mutation};

const VARIABLES: &[(&str, &[&str])] = &[
    ("image", &["U", "IDLE", "ACTIVE"]),
    ("phys", &["U", "OFF", "ON"]),
    ("run", &["U", "INIT", "SYNC"]),
];

fn machine() -> Vec<Mutation> {
    let (on, sync) = (Guard::is("phys", "ON"), Guard::is("run", "SYNC"));
    vec![
        moving("look", "phys", "U", "OFF"),
        moving("on", "phys", "OFF", "ON"),
        moving("off", "phys", "ON", "OFF"),
        moving("boot", "run", "U", "INIT").requires(on.clone()),
        moving("join", "run", "INIT", "SYNC").requires(on),
        moving("ask", "image", "U", "IDLE").requires(sync.clone()),
        moving("start", "image", "IDLE", "ACTIVE").requires(sync),
    ]
}

#[test]
fn what_can_no_longer_be_known_is_forgotten_and_what_hangs_on_it_too() {
    let case = Case::new(VARIABLES, machine(), &[("phys", "OFF")]);
    let all = case.state(&[("phys", "ON"), ("run", "SYNC"), ("image", "ACTIVE")]);
    assert_eq!(case.set.forget(all, case.facts), all, "all of it can be known");
    let off = case.state(&[("phys", "OFF"), ("run", "SYNC"), ("image", "ACTIVE")]);
    assert_eq!(case.set.forget(off, case.facts), case.state(&[("phys", "OFF")]));
    // In planning just as at run time.
    let step = case.set.mutation_named("m.off").unwrap();
    assert_eq!(case.set.after(step, all, case.facts), case.state(&[("phys", "OFF")]));
}

#[test]
fn a_goal_that_could_not_be_known_has_no_way() {
    let goal = &[("phys", "OFF"), ("run", "SYNC")];
    let case = Case::new(VARIABLES, machine(), goal);
    assert_eq!(case.next(&[("phys", "OFF")]), kraken_plan::Step::NoWay);
}

#[test]
fn a_variable_that_nobody_discovers_is_told_from_outside_and_kept() {
    let mut variables = VARIABLES.to_vec();
    variables.push(("busy", &["U", "FREE", "BUSY"]));
    let case = Case::new(&variables, machine(), &[]);
    let state = case.state(&[("phys", "OFF"), ("busy", "BUSY")]);
    assert_eq!(case.set.forget(state, case.facts), state);
}

#[test]
fn one_of_several_discoverers_is_enough() {
    let other = moving("peek", "run", "U", "INIT").requires(Guard::is("phys", "OFF"));
    let mutations = machine().into_iter().chain([other]).collect();
    let case = Case::new(VARIABLES, mutations, &[]);
    let state = case.state(&[("phys", "OFF"), ("run", "INIT")]);
    assert_eq!(case.set.forget(state, case.facts), state);
    let state = case.state(&[("run", "INIT")]);
    assert_eq!(case.set.forget(state, case.facts), case.state(&[]));
}
