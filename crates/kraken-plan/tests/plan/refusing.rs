//! Declarations that cannot be used, all told at once.

use crate::words::*;
use kraken_plan::{Guard, ModuleSet, Mutation};

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
