//! The next step, and what it takes to find it.

use crate::words::*;
use kraken_model::{Document, Path, Value};
use kraken_plan::{Costs, Goal, Guard, Mutation, PolicyCache, Step, Test};

const UXY: &[&str] = &["U", "X", "Y"];

#[test]
fn the_cheapest_way_is_taken_and_of_equal_ones_the_first_declared() {
    let case = Case::new(
        &[("a", &["U", "X", "Y", "Z"])],
        vec![
            moving("direct", "a", "X", "Z").cost(seconds(9)),
            moving("there", "a", "X", "Y").cost(seconds(4)),
            moving("dear", "a", "Y", "Z").cost(seconds(5)),
            moving("on", "a", "Y", "Z").cost(seconds(4)),
            moving("same", "a", "Y", "Z").cost(seconds(4)),
        ],
        &[("a", "Z")],
    );
    assert_eq!(case.way(&[("a", "X")]), ("there on".to_owned(), 8));
    assert_eq!(case.next(&[("a", "Z")]), Step::Done);
    assert_eq!(case.next(&[]), Step::NoWay, "nothing leads out of being unknown");
}

#[test]
fn configured_to_be_unknown_means_that_it_does_not_matter() {
    let case = Case::new(&[("a", UXY)], vec![moving("x", "a", "U", "X")], &[("a", "U")]);
    assert_eq!(case.next(&[]), Step::Done);
    assert_eq!(case.next(&[("a", "X")]), Step::Done);
}

#[test]
fn a_step_that_failed_is_dear_and_one_that_was_given_up_is_closed() {
    let mutations =
        || vec![moving("short", "a", "U", "X"), moving("long", "a", "U", "X").cost(seconds(3))];
    let mut case = Case::new(&[("a", UXY)], mutations(), &[("a", "X")]);
    let short = case.set.mutation_named("m.short").unwrap();
    case.costs.penalise(short, seconds(5));
    assert_eq!(case.way(&[]), ("long".to_owned(), 3));
    case.block("long");
    assert_eq!(case.way(&[]), ("short".to_owned(), 6));
    case.block("short");
    assert_eq!(case.next(&[]), Step::NoWay);
    case.costs.clear(short);
    assert_eq!(case.way(&[]), ("short".to_owned(), 1));
}

#[test]
fn a_part_without_a_way_does_not_keep_the_others_from_theirs() {
    let case = Case::new(
        &[("a", UXY), ("b", UXY)],
        vec![moving("a", "a", "U", "X"), moving("b", "b", "U", "X")],
        &[("a", "Y"), ("b", "X")],
    );
    assert_eq!(case.way(&[]), ("b".to_owned(), 1));
    assert_eq!(case.next(&[("b", "X")]), Step::NoWay);
}

/// Every value of a variable can be left for the next; `guard` is asked by all.
fn steps(name: &str, guard: Option<&Guard>) -> Vec<Mutation> {
    let step = |label: String, from, to| {
        let step = moving(&label, name, from, to);
        guard.map_or(step.clone(), |guard| step.requires(guard.clone()))
    };
    vec![step(format!("{name}1"), "U", "X"), step(format!("{name}2"), "X", "Y")]
}

#[test]
fn what_nothing_ties_together_is_planned_apart() {
    let names = ["a", "b", "c", "d", "e", "g", "h", "i"];
    let variables: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, UXY)).collect();
    let goal: Vec<(&str, &str)> = names.iter().map(|name| (*name, "Y")).collect();
    let mutations = names.iter().flat_map(|name| steps(name, None)).collect();
    let case = Case::new(&variables, mutations, &goal);
    let mut policy = case.policy();
    assert_eq!(policy.path(case.state(&[])).len(), 16);
    assert!(policy.visited() <= 3 * names.len(), "{} of 6,561 states", policy.visited());
}

#[test]
fn a_variable_that_nothing_moves_ties_nothing_together() {
    let names = ["a", "b", "c", "d", "e", "g", "h", "i"];
    let mut variables: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, UXY)).collect();
    variables.push(("busy", &["UNKNOWN", "FREE", "BUSY"]));
    let goal: Vec<(&str, &str)> = names.iter().map(|name| (*name, "Y")).collect();
    let spared = |mutation: Mutation| mutation.excludes(Guard::is("busy", "BUSY"));
    let mutations = names.iter().flat_map(|name| steps(name, None)).map(spared).collect();
    let case = Case::new(&variables, mutations, &goal);
    let mut policy = case.policy();
    assert_eq!(policy.path(case.state(&[("busy", "FREE")])).len(), 16);
    assert!(policy.visited() <= 3 * names.len(), "{} states", policy.visited());
    assert_eq!(policy.next(case.state(&[("busy", "BUSY")])), Step::NoWay);
}

#[test]
fn services_that_hang_on_one_switch_are_not_multiplied() {
    let names: Vec<String> = (0..12).map(|n| format!("s{n:02}")).collect();
    let mut variables: Vec<(&str, &[&str])> = vec![("power", &["U", "OFF", "ON"])];
    variables.extend(names.iter().map(|name| (name.as_str(), UXY)));
    let mut goal = vec![("power", "ON")];
    goal.extend(names.iter().map(|name| (name.as_str(), "Y")));
    let power = Guard::is("power", "ON");
    let mut mutations =
        vec![moving("look", "power", "U", "OFF"), moving("on", "power", "OFF", "ON")];
    mutations.extend(names.iter().flat_map(|name| steps(name, Some(&power))));
    let case = Case::new(&variables, mutations, &goal);
    let mut policy = case.policy();
    assert_eq!(policy.path(case.state(&[])).len(), 2 + 2 * names.len());
    assert!(policy.visited() < 2000, "{} of 1,594,323 states", policy.visited());
}

#[test]
fn a_chain_of_guards_is_found_link_by_link() {
    let names: Vec<String> = (0..12).map(|n| format!("c{n:02}")).collect();
    let variables: Vec<(&str, &[&str])> = names.iter().map(|n| (n.as_str(), UXY)).collect();
    let mut mutations = steps(&names[0], None);
    for pair in names.windows(2) {
        mutations.extend(steps(&pair[1], Some(&Guard::is(&pair[0], "Y"))));
    }
    let case = Case::new(&variables, mutations, &[(names[11].as_str(), "Y")]);
    let mut policy = case.policy();
    assert_eq!(policy.path(case.state(&[])).len(), 24);
    assert!(policy.visited() < 2000, "{} states", policy.visited());
}

#[test]
fn what_is_out_of_reach_is_said_without_a_search() {
    let names: Vec<String> = (0..20).map(|n| format!("v{n:02}")).collect();
    let mut variables: Vec<(&str, &[&str])> = names.iter().map(|n| (n.as_str(), UXY)).collect();
    variables.push(("z", UXY));
    // All twenty are tied together, and nothing ever makes z Y.
    let hub = Guard::is("z", "X");
    let mut mutations: Vec<_> = names.iter().flat_map(|n| steps(n, Some(&hub))).collect();
    mutations.push(moving("z", "z", "U", "X"));
    let mut goal: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "Y")).collect();
    goal.push(("z", "Y"));
    let case = Case::new(&variables, mutations, &goal);
    let mut policy = case.policy();
    assert_eq!(policy.next(case.state(&[])), Step::NoWay);
    assert_eq!(policy.visited(), 0);
}

#[test]
fn nodes_that_look_alike_share_one_policy() {
    let mutations = vec![moving("x", "a", "U", "X"), moving("y", "a", "U", "Y")];
    let case = Case::new(&[("a", UXY)], mutations, &[("a", "X")]);
    let mut cache = PolicyCache::default();
    let goals = ["X", "Y"].map(|value| case.set.goal(&doc(&[("a", value)])));
    for goal in goals.into_iter().cycle().take(100) {
        let policy = cache.find(&case.set, goal, case.facts, &Costs::declared());
        let step = cache.next(policy, case.state(&[]));
        assert!(matches!(step, Some(Step::Take { .. })), "{step:?}");
    }
    assert_eq!(cache.len(), 2);
}

#[test]
fn there_is_an_end_to_how_many_policies_are_kept() {
    let case = Case::new(&[("a", UXY)], vec![moving("x", "a", "U", "X")], &[]);
    let goal: Goal = case.set.goal(&doc(&[("a", "X")]));
    let mut cache = PolicyCache::default();
    let x = case.set.mutation_named("m.x").unwrap();
    let first = cache.find(&case.set, goal, case.facts, &Costs::declared());
    for penalty in 1..5000 {
        let mut costs = Costs::declared();
        costs.penalise(x, seconds(penalty));
        let policy = cache.find(&case.set, goal, case.facts, &costs);
        let Some(Step::Take { cost_to_go, .. }) = cache.next(policy, case.state(&[])) else {
            panic!("a policy that was just found is there");
        };
        assert_eq!(cost_to_go, seconds(penalty + 1), "never another policy in its place");
        assert!(cache.len() <= 1024);
    }
    assert_eq!(cache.next(first, case.state(&[])), None, "what is gone is noticed");
    // And it is simply worked out again.
    let again = cache.find(&case.set, goal, case.facts, &Costs::declared());
    assert!(matches!(cache.next(again, case.state(&[])), Some(Step::Take { .. })));
}

#[test]
fn what_changes_costs_a_new_search_only_where_it_matters() {
    let asking = |step: Mutation| step.requires(Guard::wanted("f", true));
    let mut mutations = steps("a", None);
    mutations.extend(steps("b", None).into_iter().map(asking));
    let case = Case::new(&[("a", UXY), ("b", UXY)], mutations, &[]);
    let goal = case.set.goal(&doc(&[("a", "Y"), ("b", "Y")]));
    let only_a = case.set.goal(&doc(&[("a", "Y")]));
    let mut yes = Document::new();
    yes.set(Path::known("f"), true);
    let [no, yes] = [Document::new(), yes].map(|cfg| case.set.facts(&cfg, &Document::new()));
    let mut cache = PolicyCache::default();
    let mut ask = |goal, facts, costs: &Costs| {
        let before = cache.visited();
        let policy = cache.find(&case.set, goal, facts, costs);
        let path = cache.path(policy, case.state(&[]));
        (path.len(), cache.visited() - before)
    };
    let mut costs = Costs::declared();
    assert_eq!(ask(goal, yes, &costs), (4, 6), "both groups are searched");
    let (steps, searched) = ask(goal, no, &costs);
    assert_eq!((steps, searched), (2, 0), "b is out of reach without a search, and a is known");
    assert_eq!(ask(only_a, yes, &costs), (2, 0));
    costs.penalise(case.set.mutation_named("m.b1").unwrap(), seconds(9));
    assert_eq!(ask(goal, yes, &costs), (4, 3), "only b got dearer");
}

#[test]
fn other_modules_cost_a_new_search_only_where_they_matter() {
    let old = steps("a", None).into_iter().chain(steps("c", None)).collect();
    let old = Case::new(&[("a", UXY), ("c", UXY)], old, &[]);
    // The new variable lies between the old ones, and c can only be moved once it is so far.
    let ready = Guard::is("b", "Y");
    let new = steps("a", None).into_iter().chain(steps("c", Some(&ready)));
    let new = new.chain(steps("b", None)).collect();
    let new = Case::new(&[("a", UXY), ("b", UXY), ("c", UXY)], new, &[]);
    let mut cache = PolicyCache::default();
    let ask = |case: &Case, cache: &mut PolicyCache| {
        let before = cache.visited();
        let goal = case.set.goal(&doc(&[("a", "Y"), ("c", "Y")]));
        let policy = cache.find(&case.set, goal, case.facts, &case.costs);
        let path = cache.path(policy, case.state(&[]));
        (path.len(), cache.visited() - before)
    };
    assert_eq!(ask(&old, &mut cache), (4, 6));
    cache.go_over(&old.set, &new.set);
    assert_eq!(cache.visited(), 3, "what is known of a was carried over");
    let (steps, visited) = ask(&new, &mut cache);
    let alone = ask(&new, &mut PolicyCache::default());
    assert_eq!((steps, visited + 3), alone, "only c is searched, with what it hangs on now");
    assert_eq!(steps, 6);
}

#[test]
fn facts_of_either_document_open_and_close_ways() {
    let mutations = vec![
        moving("asked", "a", "U", "X").requires(Guard::wanted("f", true)),
        moving("found", "a", "U", "X").cost(seconds(2)).excludes(Guard::is("f", true)),
    ];
    let mut case = Case::new(&[("a", UXY)], mutations, &[("a", "X")]);
    let mut yes = Document::new();
    yes.set(Path::known("f"), true);
    let no = Document::new();
    for (cfg, dsc, way) in
        [(&yes, &no, "asked"), (&no, &no, "found"), (&yes, &yes, "asked"), (&no, &yes, "")]
    {
        case.facts = case.set.facts(cfg, dsc);
        assert_eq!(case.way(&[]).0, way);
    }
}

#[test]
fn what_may_be_found_instead_is_counted_on_only_where_nothing_else_leads_there() {
    let found = |goal| {
        let ask = moving("ask", "power", "U", "OFF").or_finds("ON");
        let on = moving("on", "power", "OFF", "ON");
        let mutations = if goal == "either" { vec![ask, on] } else { vec![ask] };
        Case::new(&[("power", &["U", "OFF", "ON"])], mutations, &[("power", "ON")])
    };
    assert_eq!(found("either").way(&[]), ("ask on".to_owned(), 2));
    let only = found("asking");
    assert_eq!(only.way(&[]).0, "ask", "it may be on already");
    let Step::Take { mutation, after, .. } = only.next(&[]) else { panic!("asking may help") };
    assert_eq!(after, only.state(&[("power", "ON")]));
    assert!(only.set.done(mutation, only.state(&[("power", "OFF")])), "any outcome ends it");
    assert_eq!(only.next(&[("power", "OFF")]), Step::NoWay);
}

#[test]
fn numbers_are_compared_and_what_is_no_number_fits_no_comparison() {
    let large = Guard::found("f", Test::AtLeast(64));
    let small = Guard::found("f", Test::AtMost(63));
    let mutations = vec![
        moving("large", "a", "U", "X").requires(large),
        moving("small", "a", "U", "X").requires(small),
    ];
    let mut case = Case::new(&[("a", UXY)], mutations, &[("a", "X")]);
    let with = |value: Value| {
        let mut dsc = Document::new();
        dsc.set(Path::known("f"), value);
        dsc
    };
    for (value, way) in
        [(Value::from(64), "large"), (Value::from(63), "small"), (Value::from("64"), "")]
    {
        case.facts = case.set.facts(&Document::new(), &with(value));
        assert_eq!(case.way(&[]).0, way);
    }
    case.facts = case.set.facts(&Document::new(), &Document::new());
    assert_eq!(case.next(&[]), Step::NoWay);
}

#[test]
fn sets_and_inequality_hold_for_variables_as_for_facts() {
    let mutations = vec![
        moving("some", "a", "U", "X")
            .requires(Guard::found("b", Test::OneOf(vec!["X".into(), "Y".into()]))),
        moving("other", "a", "X", "Y").requires(Guard::found("b", Test::IsNot("X".into()))),
    ];
    let case = Case::new(&[("a", UXY), ("b", UXY)], mutations, &[("a", "Y")]);
    assert_eq!(case.next(&[]), Step::NoWay);
    assert_eq!(case.way(&[("b", "X")]).0, "", "it could be moved no further");
    assert_eq!(case.way(&[("b", "Y")]).0, "some other");
}
