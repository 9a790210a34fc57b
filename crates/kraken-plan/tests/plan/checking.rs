//! What the author of a module set is told about it.

use crate::words::*;
use kraken_plan::{Finding, Guard, MAX_CHECKED, Mutation, Retry, Test};

const A: (&str, &[&str]) = ("a", &["U", "X", "Y"]);
const B: (&str, &[&str]) = ("b", &["U", "X", "Y"]);

fn words(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_set_without_flaws_passes() {
    let steps = vec![
        moving("ask", "a", "U", "X"),
        moving("go", "a", "X", "Y"),
        moving("back", "a", "Y", "X"),
        moving("b", "b", "U", "X").requires(Guard::is("a", "Y")),
        moving("c", "b", "X", "Y").requires(Guard::is("a", "Y")),
        moving("d", "b", "Y", "X").requires(Guard::is("a", "Y")),
    ];
    assert_eq!(findings(&[A, B], steps), []);
}

#[test]
fn values_that_are_never_reached_or_never_left_are_found() {
    let found = findings(
        &[A, B],
        vec![
            moving("ask", "a", "U", "X"),
            moving("b", "b", "U", "X").requires(Guard::is("a", "X")).requires(Guard::is("a", "U")),
            moving("back", "b", "X", "Y"),
        ],
    );
    let text = words(&found).join("\n");
    assert!(text.contains("once a is X it stays so"), "{text}");
    assert!(
        text.contains("b can never become Y") || text.contains("b can never become X"),
        "{text}"
    );
    assert!(text.contains("m.b can never be taken"), "{text}");
}

#[test]
fn guards_on_facts_that_no_value_fulfils_are_found_with_what_becomes_of_it() {
    let never = |ask: &dyn Fn(Mutation) -> Mutation| {
        let go = ask(moving("go", "a", "X", "Y"));
        let back = moving("back", "a", "Y", "X");
        words(&findings(&[A], vec![moving("ask", "a", "U", "X"), go, back]))
    };
    let at_least = |n| Guard::found("age", Test::AtLeast(n));
    let at_most = |n| Guard::found("age", Test::AtMost(n));
    let said = never(&|go| go.requires(Guard::is("rack", "r1")).requires(Guard::is("rack", "r2")));
    let text = said.join("\n");
    assert!(
        text.contains("m.go can never be taken: no value is both rack = r1 and rack = r2"),
        "{text}"
    );
    assert!(text.contains("a can never become Y"), "{text}");
    for (said, why) in [
        (never(&|go| go.requires(at_least(5)).requires(at_most(4))), "age >= 5 and age <= 4"),
        (
            never(&|go| go.requires(at_least(5)).excludes(at_least(3))),
            "age >= 5 and not (age >= 3)",
        ),
        (
            never(&|go| go.requires(Guard::configured("x")).excludes(Guard::configured("x"))),
            "not (cfg x is set)",
        ),
        (
            never(&|go| {
                go.requires(Guard::is("rack", "r1")).excludes(Guard::found("rack", Test::Present))
            }),
            "rack = r1 and not (rack is set)",
        ),
    ] {
        let text = said.join("\n");
        assert!(text.contains("m.go can never be taken") && text.contains(why), "{text}");
    }
    // What one value fulfils is none.
    let among = Test::OneOf(vec!["r1".into(), "r2".into()]);
    for said in [
        never(&|go| go.requires(at_least(5)).requires(at_most(5))),
        never(&|go| go.requires(at_least(5)).excludes(at_least(7)).excludes(Guard::is("age", 5))),
        never(&|go| {
            go.requires(Guard::found("rack", among.clone())).excludes(Guard::is("rack", "r1"))
        }),
        never(&|go| go.requires(Guard::is("rack", "r1")).requires(Guard::wanted("rack", "r2"))),
        never(&|go| go.excludes(Guard::is("rack", "r1")).excludes(Guard::is("rack", "r2"))),
    ] {
        assert_eq!(said, Vec::<String>::new());
    }
}

#[test]
fn a_variable_that_nobody_discovers_is_found() {
    let steps = vec![moving("go", "a", "X", "Y"), moving("back", "a", "Y", "X")];
    let found = findings(&[A], steps);
    assert_eq!(words(&found), ["nobody discovers a: mutations move it, but none from U"]);
}

#[test]
fn a_step_that_undoes_itself_is_found() {
    let found = findings(
        &[A, B],
        vec![
            moving("ask", "a", "U", "X"),
            moving("go", "a", "X", "Y"),
            moving("back", "a", "Y", "X"),
            moving("b", "b", "U", "X").requires(Guard::is("a", "X")),
            // b can be known only while a is X.
            moving("both", "b", "X", "Y").moves("a", "X", "Y"),
            moving("down", "b", "Y", "X"),
        ],
    );
    let is =
        |f: &Finding| matches!(f, Finding::Undone { mutation } if mutation.as_ref() == "m.both");
    assert!(found.iter().any(is), "{found:?}");
}

#[test]
fn a_step_that_could_be_tried_for_ever_is_found() {
    let hopeless = Retry { limit: None, ..Retry::DEFAULT };
    let steps = |retry| {
        vec![
            moving("ask", "a", "U", "X"),
            moving("go", "a", "X", "Y").on_timeout("a", "U").retry(retry),
            moving("back", "a", "Y", "X"),
        ]
    };
    assert_eq!(findings(&[A], steps(Retry::DEFAULT)), []);
    let found = findings(&[A], steps(hopeless));
    assert!(matches!(&found[..], [Finding::Endless { .. }]), "{found:?}");
}

#[test]
fn a_disruptive_step_that_asks_nothing_is_found() {
    let steps = |guarded| {
        let off = moving("off", "a", "Y", "X").disruptive();
        let off = if guarded { off.excludes(Guard::is("b", "X")) } else { off };
        vec![moving("ask", "a", "U", "X"), moving("on", "a", "X", "Y"), off]
    };
    assert_eq!(findings(&[A, B], steps(true)), []);
    let found = words(&findings(&[A, B], steps(false)));
    assert!(found[0].starts_with("m.off is disruptive and asks nothing"), "{found:?}");
}

#[test]
fn what_is_too_large_to_check_is_said() {
    let names: Vec<String> = (0..14).map(|n| format!("v{n:02}")).collect();
    let variables: Vec<(&str, &[&str])> = names.iter().map(|n| (n.as_str(), A.1)).collect();
    let tied = |name: &String| {
        let guard = Guard::is(&names[0], "X");
        vec![
            moving(&format!("{name}1"), name, "U", "X").requires(guard.clone()),
            moving(&format!("{name}2"), name, "X", "Y").requires(guard),
        ]
    };
    let mut steps: Vec<_> = names[1..].iter().flat_map(tied).collect();
    steps.push(moving("hub", &names[0], "U", "X"));
    let found = findings(&variables, steps);
    assert!(3_usize.pow(13) > MAX_CHECKED);
    assert!(found.iter().any(|f| matches!(f, Finding::NotChecked { .. })), "{found:?}");
}
