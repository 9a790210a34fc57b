//! Every policy against brute force: all states are listed, and costs relaxed until they settle.
//! Written from the declarations alone, without any of the packing.

#![allow(clippy::unwrap_used)]

use kraken_model::{Document, Field, Kind, Path, Registry, Schema, Side};
use kraken_plan::{
    Context, Costs, Guard, ModuleSet, Mutation, MutationId, Policy, PolicyCache, State, Step, Test,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const VARS: usize = 6;
const VALUES: usize = 3;
const NAMES: [&str; VARS] = ["a", "b", "c", "d", "e", "h"];
const WORDS: [&str; VALUES] = ["U", "X", "Y"];
const FACTS: [&str; 2] = ["f", "g"];
/// What an outcome costs besides that is not expected, in seconds.
const UNEXPECTED: u64 = 3600;

/// The value of every variable, by its index.
type World = [usize; VARS];

#[derive(Clone, Debug)]
enum Ask {
    Is(usize),
    IsNot(usize),
    OneOf([bool; VALUES]),
    Known,
}

#[derive(Clone, Debug)]
struct Toy {
    /// Variable, from, to, and whether the third value may be found instead.
    effects: Vec<(usize, usize, usize, bool)>,
    requires: Vec<(usize, Ask)>,
    excludes: Vec<(usize, Ask)>,
    fact: Option<(usize, bool)>,
    cost: u64,
}

/// Some mutations over the first variables, a goal, and what holds.
#[derive(Clone, Debug)]
struct Case {
    toys: Vec<Toy>,
    goal: [Option<usize>; VARS],
    facts: [bool; 2],
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => (0..VALUES).prop_map(Ask::Is),
        1 => (0..VALUES).prop_map(Ask::IsNot),
        1 => proptest::array::uniform3(any::<bool>()).prop_map(Ask::OneOf),
        1 => Just(Ask::Known),
    ]
}

fn toy(vars: usize) -> impl Strategy<Value = Toy> {
    let guards = move || proptest::collection::vec((0..vars, ask()), 0..2);
    let effect = (0..vars, 0..VALUES, 1..VALUES, proptest::bool::weighted(0.2));
    let fact = proptest::option::weighted(0.2, (0..FACTS.len(), any::<bool>()));
    (proptest::collection::vec(effect, 1..3), guards(), guards(), fact, 1..9_u64).prop_map(
        |(effects, requires, excludes, fact, cost)| {
            let mut seen = Vec::new();
            let effects = effects
                .into_iter()
                .map(|(var, from, step, or)| (var, from, (from + step) % VALUES, or))
                .filter(|(var, ..)| {
                    let new = !seen.contains(var);
                    seen.push(*var);
                    new
                })
                .collect();
            Toy { effects, requires, excludes, fact, cost }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    (1..=VARS).prop_flat_map(|vars| {
        let toys = proptest::collection::vec(toy(vars), 1..3 + 2 * vars);
        let goal = proptest::array::uniform6(proptest::option::of(1..VALUES));
        (toys, goal, proptest::array::uniform2(any::<bool>())).prop_map(
            move |(toys, mut goal, facts)| {
                goal[vars..].fill(None);
                Case { toys, goal, facts }
            },
        )
    })
}

fn guard((var, ask): &(usize, Ask)) -> Guard {
    let test = match ask {
        Ask::Is(value) => Test::Is(WORDS[*value].into()),
        Ask::IsNot(value) => Test::IsNot(WORDS[*value].into()),
        Ask::OneOf(some) => {
            let some = WORDS.into_iter().zip(some).filter(|(_, chosen)| **chosen);
            Test::OneOf(some.map(|(word, _)| word.into()).collect())
        }
        Ask::Known => Test::Present,
    };
    Guard::found(NAMES[*var], test)
}

fn declare(toys: &[Toy]) -> Arc<ModuleSet> {
    declare_with(toys, &[])
}

/// The same, with more variables.
fn declare_with(toys: &[Toy], more: &[&str]) -> Arc<ModuleSet> {
    let names = NAMES.iter().chain(more);
    let mut fields: Vec<Field> =
        names.map(|name| Field::variable(name, &WORDS, "").unwrap()).collect();
    for fact in FACTS {
        fields.push(Field::new(fact, Kind::Bool, &[Side::Cfg], "").unwrap());
    }
    let registry = Registry::new(vec![Schema { name: "toy".into(), fields }]).unwrap();
    let mutations = toys.iter().enumerate().map(|(index, toy)| {
        let cost = Duration::from_secs(toy.cost);
        let mut mutation = Mutation::new("toy", &format!("m{index}"), Context::Child).cost(cost);
        for (var, from, to, or) in &toy.effects {
            mutation = mutation.moves(NAMES[*var], WORDS[*from], WORDS[*to]);
            if *or {
                mutation = mutation.or_finds(WORDS[third(*from, *to)]);
            }
        }
        mutation = toy.requires.iter().map(guard).fold(mutation, Mutation::requires);
        mutation = toy.excludes.iter().map(guard).fold(mutation, Mutation::excludes);
        match toy.fact {
            Some((fact, true)) => mutation.requires(Guard::configured(FACTS[fact])),
            Some((fact, false)) => mutation.excludes(Guard::configured(FACTS[fact])),
            None => mutation,
        }
    });
    Arc::new(ModuleSet::new(&registry, mutations.collect()).unwrap())
}

fn third(one: usize, other: usize) -> usize {
    VALUES - one - other
}

fn holds((var, ask): &(usize, Ask), world: &World) -> bool {
    let value = world[*var];
    match ask {
        Ask::Is(wanted) => value == *wanted,
        Ask::IsNot(unwanted) => value != *unwanted,
        Ask::OneOf(some) => some[value],
        Ask::Known => value != 0,
    }
}

fn guards_hold(toy: &Toy, world: &World, facts: &[bool; 2]) -> bool {
    toy.requires.iter().all(|asked| holds(asked, world))
        && !toy.excludes.iter().any(|asked| holds(asked, world))
        && toy.fact.is_none_or(|(fact, wanted)| facts[fact] == wanted)
}

/// To the fixed point, from the definition in the documentation.
fn forget(case: &Case, mut world: World) -> World {
    loop {
        let before = world;
        for var in 0..VARS {
            let discovers =
                |toy: &&Toy| toy.effects.iter().any(|(v, from, ..)| *v == var && *from == 0);
            let mut discovering = case.toys.iter().filter(discovers).peekable();
            if discovering.peek().is_some()
                && !discovering.any(|toy| guards_hold(toy, &world, &case.facts))
            {
                world[var] = 0;
            }
        }
        if world == before {
            return world;
        }
    }
}

fn world(mut number: usize) -> World {
    std::array::from_fn(|_| {
        let value = number % VALUES;
        number /= VALUES;
        value
    })
}

fn number(world: &World) -> usize {
    world.iter().rev().fold(0, |number, value| number * VALUES + value)
}

/// Where a mutation may lead from a world, and at what cost; what is expected first.
fn outcomes(case: &Case, toy: &Toy, world: &World) -> Vec<(World, u64)> {
    let applies = toy.effects.iter().all(|(var, from, ..)| world[*var] == *from);
    if !applies || !guards_hold(toy, world, &case.facts) {
        return Vec::new();
    }
    let mut ends = vec![(*world, toy.cost)];
    for (var, from, to, or) in &toy.effects {
        let mut more = Vec::new();
        for (end, _) in &mut ends {
            end[*var] = *to;
            if *or {
                let mut other = *end;
                other[*var] = third(*from, *to);
                more.push((other, toy.cost + UNEXPECTED));
            }
        }
        ends.extend(more);
    }
    ends.into_iter().map(|(end, cost)| (forget(case, end), cost)).collect()
}

/// The cost to go from every world, by relaxing until nothing changes.
fn costs(case: &Case) -> Vec<Option<u64>> {
    let worlds = VALUES.pow(VARS as u32);
    let reached =
        |world: &World| (0..VARS).all(|v| case.goal[v].is_none_or(|value| world[v] == value));
    let mut costs: Vec<Option<u64>> =
        (0..worlds).map(|n| reached(&world(n)).then_some(0)).collect();
    let mut edges = Vec::new();
    for from in (0..worlds).filter(|n| costs[*n].is_none()) {
        for toy in &case.toys {
            for (end, cost) in outcomes(case, toy, &world(from)) {
                edges.push((from, number(&end), cost));
            }
        }
    }
    loop {
        let mut changed = false;
        for (from, end, cost) in &edges {
            let Some(whole) = costs[*end].map(|rest| rest + cost) else { continue };
            if costs[*from].is_none_or(|known| whole < known) {
                costs[*from] = Some(whole);
                changed = true;
            }
        }
        if !changed {
            return costs;
        }
    }
}

fn document(world: &World) -> Document {
    let mut dsc = Document::new();
    for (var, value) in world.iter().enumerate() {
        dsc.set(Path::known(NAMES[var]), WORDS[*value]);
    }
    dsc
}

fn cfg(case: &Case) -> Document {
    let mut cfg = Document::new();
    for (var, value) in case.goal.iter().enumerate() {
        if let Some(value) = value {
            cfg.set(Path::known(NAMES[var]), WORDS[*value]);
        }
    }
    for (fact, holds) in case.facts.iter().enumerate() {
        if *holds {
            cfg.set(Path::known(FACTS[fact]), true);
        }
    }
    cfg
}

/// What a world looks like to groups that are planned apart: a policy adds up the ways of its
/// groups, so the sum is what brute force must find.
fn check(case: &Case) {
    let set = declare(&case.toys);
    let cfg = cfg(case);
    let bits = set.facts(&cfg, &Document::new());
    let mut policy = Policy::new(&set, set.goal(&cfg), bits, &Costs::declared());
    let wanted = costs(case);
    for world in (0..wanted.len()).map(world) {
        let state = set.state(&document(&world));
        assert_eq!(set.forget(state, bits), set.state(&document(&forget(case, world))));
        // A policy is asked about what can be known; the engine forgets the rest first.
        if forget(case, world) != world {
            continue;
        }
        match (policy.next(state), wanted[number(&world)]) {
            (Step::Done, Some(0)) | (Step::NoWay, None) => {}
            (Step::Take { mutation, cost_to_go, after: expected }, Some(cost)) => {
                assert_eq!(cost_to_go, Duration::from_secs(cost), "{world:?}");
                let ends = outcomes(case, &case.toys[usize::from(mutation.0)], &world);
                assert!(!ends.is_empty(), "{world:?}: a step whose guards do not hold");
                // Every step of the way is as good as the way promised.
                let as_promised = |(end, price): &(World, u64)| {
                    set.state(&document(end)) == expected
                        && wanted[number(end)].is_some_and(|rest| rest + price == cost)
                };
                assert!(ends.iter().any(as_promised), "{world:?}: {ends:?}");
            }
            // One group has a way and another has none: it goes as far as it can.
            (Step::Take { mutation, .. }, None) => {
                let toy = &case.toys[usize::from(mutation.0)];
                assert!(!outcomes(case, toy, &world).is_empty());
            }
            (step, cost) => panic!("{world:?}: {step:?} where brute force says {cost:?}"),
        }
    }
}

/// Goes from some of the mutations to all of them, and a variable in between: what a policy says then is as good
/// as what one says that never knew another set.
fn check_going_over(case: &Case, some: &[bool]) {
    let some = case.toys.iter().zip(some).filter(|(_, is)| **is).map(|(toy, _)| toy.clone());
    let (old, new) = (declare(&some.collect::<Vec<_>>()), declare_with(&case.toys, &["aa"]));
    let (cfg, costs) = (cfg(case), Costs::declared());
    let mut cache = PolicyCache::default();
    let find = |cache: &mut PolicyCache, set: &Arc<ModuleSet>| {
        cache.find(set, set.goal(&cfg), set.facts(&cfg, &Document::new()), &costs)
    };
    let worlds = VALUES.pow(VARS as u32);
    let policy = find(&mut cache, &old);
    for world in (0..worlds).map(world) {
        cache.next(policy, old.state(&document(&world))).unwrap();
    }
    cache.go_over(&old, &new);
    assert_eq!(cache.next(policy, State::default()), None, "a policy of the old set is noticed");
    let mut fresh = PolicyCache::default();
    let (policy, expected) = (find(&mut cache, &new), find(&mut fresh, &new));
    let facts = new.facts(&cfg, &Document::new());
    for state in (0..worlds).map(|n| new.state(&document(&world(n)))) {
        if new.forget(state, facts) != state {
            continue;
        }
        match (cache.next(policy, state).unwrap(), fresh.next(expected, state).unwrap()) {
            (Step::Take { mutation, cost_to_go, .. }, Step::Take { cost_to_go: cost, .. }) => {
                assert_eq!(cost_to_go, cost);
                assert!(new.applies(mutation, state, facts));
                let is_sure = |tie: &MutationId| {
                    new.mutation(*tie).effects.iter().all(|effect| effect.or.is_empty())
                };
                let ties = cache.as_good(policy, state, mutation);
                for tie in ties.into_iter().filter(is_sure) {
                    assert!(tie != mutation && new.applies(tie, state, facts));
                    let after = new.after(tie, state, facts);
                    let rest = match cache.next(policy, after).unwrap() {
                        Step::Take { cost_to_go, .. } => cost_to_go,
                        step => {
                            assert!(matches!(step, Step::Done | Step::NoWay), "{step:?}");
                            Duration::ZERO
                        }
                    };
                    assert_eq!(new.mutation(tie).cost + rest, cost, "{state:?}");
                }
            }
            (step, other) => assert_eq!(step, other),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_carried_over_to_other_modules_is_as_good_as_new(
        case in case(),
        some in proptest::collection::vec(proptest::bool::weighted(0.8), 3 + 2 * VARS),
    ) {
        check_going_over(&case, &some);
    }

    #[test]
    fn a_policy_is_as_good_as_brute_force(case in case()) {
        check(&case);
    }
}
