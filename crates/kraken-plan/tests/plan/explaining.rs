//! Why a node moves, or does not.

use crate::words::*;
use kraken_plan::{Explanation, Guard, Mutation};

const VARIABLES: &[(&str, &[&str])] =
    &[("a", &["U", "X", "Y"]), ("b", &["U", "X", "Y"]), ("busy", &["U", "FREE", "BUSY"])];

fn case(mutations: Vec<Mutation>) -> Case {
    Case::new(VARIABLES, mutations, &[("a", "Y")])
}

/// The mutations and guards that stand in the way.
fn obstacles(explanation: &Explanation) -> Vec<String> {
    match explanation {
        Explanation::NoWay { blocked_by, .. } => blocked_by.iter().map(|o| o.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_way_ahead_is_told_with_its_times() {
    let case = case(vec![
        moving("ask", "a", "U", "X").cost(seconds(2)),
        moving("go", "a", "X", "Y").cost(seconds(7)),
    ]);
    let way = case.explain(&[]);
    assert_eq!(way.to_string(), "m.ask (2 s), then m.go (7 s)");
    let Explanation::Way { steps } = way else { panic!("there is a way") };
    assert_eq!(kraken_plan::expected(&steps), seconds(9));
    assert_eq!(case.explain(&[("a", "Y")]), Explanation::Done);
}

#[test]
fn the_guard_that_stands_in_the_way_is_named() {
    let case = case(vec![
        moving("ask", "a", "U", "X"),
        moving("go", "a", "X", "Y").excludes(Guard::is("busy", "BUSY")),
        moving("b", "b", "U", "X").requires(Guard::is("f", true)),
    ]);
    let text = case.explain(&[("busy", "BUSY")]).to_string();
    assert_eq!(text, "there is no way to a: U -> Y: m.go is not possible while busy = BUSY");
}

#[test]
fn of_several_ways_the_one_with_the_fewest_closed_doors_is_named() {
    let (f, busy) = (Guard::is("f", true), Guard::is("busy", "FREE"));
    let case = case(vec![
        moving("ask", "a", "U", "X"),
        moving("two", "a", "X", "Y").requires(f).requires(busy.clone()),
        moving("one", "a", "X", "Y").requires(busy).cost(seconds(60)),
    ]);
    assert_eq!(obstacles(&case.explain(&[])), ["m.one needs busy = FREE"]);
}

#[test]
fn all_that_must_change_together_is_named() {
    let case = case(vec![
        moving("ask", "a", "U", "X").requires(Guard::is("f", true)),
        moving("go", "a", "X", "Y").requires(Guard::is("busy", "FREE")),
    ]);
    let expected = ["m.ask needs f = true", "m.go needs busy = FREE"];
    assert_eq!(obstacles(&case.explain(&[])), expected);
}

#[test]
fn what_was_given_up_is_named_rather_than_guards() {
    let mut case = case(vec![moving("ask", "a", "U", "X"), moving("go", "a", "X", "Y")]);
    case.block("go");
    assert_eq!(obstacles(&case.explain(&[])), ["m.go was given up"]);
}

#[test]
fn that_no_mutation_leads_there_is_said() {
    let case = case(vec![moving("ask", "a", "U", "X")]);
    assert_eq!(case.explain(&[]).to_string(), "no mutation leads from here to a: U -> Y");
}

#[test]
fn what_mutations_change_by_themselves_is_no_obstacle_while_anything_else_is() {
    let case = case(vec![
        moving("b", "b", "U", "X").requires(Guard::is("f", true)),
        moving("ask", "a", "U", "X").requires(Guard::is("b", "X")),
        moving("go", "a", "X", "Y").requires(Guard::is("b", "X")),
    ]);
    assert_eq!(obstacles(&case.explain(&[])), ["m.b needs f = true"]);
}
