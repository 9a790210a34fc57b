//! Declarations that cannot be used, all told at once.

use crate::words::*;
use kraken_plan::{Guard, ModuleSet, Mutation, Test};

fn problems(mutations: Vec<Mutation>) -> Vec<String> {
    let registry = registry(&[("a", &["U", "X", "Y"])]);
    let problems = ModuleSet::new(&registry, mutations).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_flaw_of_a_declaration_is_told_with_its_place() {
    let told = problems(vec![
        moving("same", "a", "U", "X"),
        moving("same", "a", "X", "Y"),
        step("empty"),
        moving("still", "a", "X", "X"),
        moving("nowhere", "c", "U", "X"),
        moving("odd", "a", "U", "Q"),
        moving("asks", "a", "U", "X").requires(Guard::is("a", "Q")),
        moving("falls", "a", "U", "X").on_timeout("a", "Q"),
        moving("again", "a", "U", "X").or_finds("X"),
        moving("counts", "a", "U", "X").requires(Guard::found("a", Test::AtLeast(1))),
        moving("one", "a", "U", "X")
            .requires(Guard::found("a", Test::OneOf(vec!["X".into(), "Q".into()]))),
    ]);
    assert_eq!(
        told,
        [
            "two mutations are called m.same: give one of them another name",
            "m.empty moves no variable: give it an effect, or leave it out",
            "m.still moves a twice, or to the value it has already",
            "m.nowhere moves c, which no schema declares as a variable",
            "m.odd names a = Q, which is none of its values",
            "m.asks names a = Q, which is none of its values",
            "m.falls names a = Q, which is none of its values",
            "m.again moves a twice, or to the value it has already",
            "m.counts compares a with a number, but it is a variable: name its values",
            "m.one names a = Q, which is none of its values",
        ]
    );
}

#[test]
fn more_facts_than_there_are_bits_for_are_refused() {
    let asking = |n: i64| moving(&format!("s{n}"), "a", "U", "X").requires(Guard::is("f", n));
    let told = problems((0..65).map(asking).collect());
    assert_eq!(told, ["the guards ask 65 different things of facts, and 64 are possible"]);
}

#[test]
fn more_bits_than_a_state_has_are_refused() {
    let names: Vec<String> = (0..65).map(|n| format!("v{n:02}")).collect();
    let variables: Vec<(&str, &[&str])> =
        names.iter().map(|n| (n.as_str(), &["U", "X", "Y"][..])).collect();
    let told = ModuleSet::new(&registry(&variables), Vec::new()).unwrap_err();
    let told = told[0].to_string();
    assert_eq!(
        told,
        "the variables need 130 bits, and a state has 128: use fewer variables or values"
    );
}

#[test]
fn more_outcomes_than_are_looked_at_are_refused() {
    let names: Vec<String> = (0..7).map(|n| format!("v{n}")).collect();
    let variables: Vec<(&str, &[&str])> =
        names.iter().map(|n| (n.as_str(), &["U", "X", "Y"][..])).collect();
    let many = |some: usize| {
        let moves = |m: Mutation, name: &String| m.moves(name, "U", "X").or_finds("Y");
        let many = names[..some].iter().fold(step("many"), moves);
        ModuleSet::new(&crate::words::registry(&variables), vec![many])
    };
    assert!(many(6).is_ok());
    let told = many(7).unwrap_err()[0].to_string();
    assert_eq!(told, "m.many has more than 64 outcomes: make several mutations of it");
}
