//! Every policy against brute force: all states are listed, and costs relaxed until they settle.
//! Written from the declarations alone, without any of the packing.

#![allow(clippy::unwrap_used)]

use kraken_model::{Document, Field, Kind, Path, Registry, Schema, Side};
use kraken_plan::{Context, Costs, Guard, ModuleSet, Mutation, Policy, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const VARS: usize = 4;
const VALUES: usize = 3;
const NAMES: [&str; VARS] = ["a", "b", "c", "d"];
const WORDS: [&str; VALUES] = ["U", "X", "Y"];
const FACTS: [&str; 2] = ["f", "g"];

type World = [usize; VARS];

#[derive(Clone, Debug)]
struct Toy {
    effects: Vec<(usize, usize, usize)>,
    requires: Vec<(usize, usize)>,
    excludes: Vec<(usize, usize)>,
    fact: Option<(usize, bool)>,
    cost: u64,
}

fn toy() -> impl Strategy<Value = Toy> {
    let guard = || proptest::collection::vec((0..VARS, 0..VALUES), 0..2);
    let effect = (0..VARS, 0..VALUES, 1..VALUES);
    let fact = proptest::option::weighted(0.2, (0..FACTS.len(), any::<bool>()));
    (proptest::collection::vec(effect, 1..3), guard(), guard(), fact, 1..9_u64).prop_map(
        |(effects, requires, excludes, fact, cost)| {
            let mut seen = Vec::new();
            let effects = effects
                .into_iter()
                .map(|(var, from, step)| (var, from, (from + step) % VALUES))
                .filter(|(var, _, _)| {
                    let new = !seen.contains(var);
                    seen.push(*var);
                    new
                })
                .collect();
            Toy { effects, requires, excludes, fact, cost }
        },
    )
}

fn declare(toys: &[Toy]) -> Arc<ModuleSet> {
    let mut fields: Vec<Field> =
        NAMES.iter().map(|name| Field::variable(name, &WORDS, "").unwrap()).collect();
    for fact in FACTS {
        fields.push(Field::new(fact, Kind::Bool, &[Side::Cfg], "").unwrap());
    }
    let registry = Registry::new(vec![Schema { name: "toy".into(), fields }]).unwrap();
    let mutations = toys.iter().enumerate().map(|(index, toy)| {
        let cost = Duration::from_secs(toy.cost);
        let mut mutation = Mutation::new("toy", &format!("m{index}"), Context::Child).cost(cost);
        for (var, from, to) in &toy.effects {
            mutation = mutation.moves(NAMES[*var], WORDS[*from], WORDS[*to]);
        }
        for (var, value) in &toy.requires {
            mutation = mutation.requires(Guard::is(NAMES[*var], WORDS[*value]));
        }
        for (var, value) in &toy.excludes {
            mutation = mutation.excludes(Guard::is(NAMES[*var], WORDS[*value]));
        }
        match toy.fact {
            Some((fact, true)) => mutation.requires(Guard::configured(FACTS[fact])),
            Some((fact, false)) => mutation.excludes(Guard::configured(FACTS[fact])),
            None => mutation,
        }
    });
    Arc::new(ModuleSet::new(&registry, mutations.collect()).unwrap())
}

fn guards_hold(toy: &Toy, world: &World, facts: &[bool; 2]) -> bool {
    toy.requires.iter().all(|(var, value)| world[*var] == *value)
        && !toy.excludes.iter().any(|(var, value)| world[*var] == *value)
        && toy.fact.is_none_or(|(fact, wanted)| facts[fact] == wanted)
}

/// To the fixed point, from the definition in the documentation.
fn forget(toys: &[Toy], mut world: World, facts: &[bool; 2]) -> World {
    loop {
        let before = world;
        for var in 0..VARS {
            let mut discovering = toys
                .iter()
                .filter(|toy| toy.effects.iter().any(|(v, from, _)| *v == var && *from == 0))
                .peekable();
            if discovering.peek().is_some() && !discovering.any(|t| guards_hold(t, &world, facts)) {
                world[var] = 0;
            }
        }
        if world == before {
            return world;
        }
    }
}

fn worlds() -> impl Iterator<Item = World> {
    (0..VALUES.pow(VARS as u32)).map(|mut number| {
        std::array::from_fn(|_| {
            let value = number % VALUES;
            number /= VALUES;
            value
        })
    })
}

fn after(toys: &[Toy], toy: &Toy, world: &World, facts: &[bool; 2]) -> Option<World> {
    let applies = toy.effects.iter().all(|(var, from, _)| world[*var] == *from);
    (applies && guards_hold(toy, world, facts)).then(|| {
        let mut next = *world;
        for (var, _, to) in &toy.effects {
            next[*var] = *to;
        }
        forget(toys, next, facts)
    })
}

/// The cost to go from every world, by relaxing until nothing changes.
fn costs(toys: &[Toy], goal: &[Option<usize>; VARS], facts: &[bool; 2]) -> BTreeMap<World, u64> {
    let reached = |world: &World| (0..VARS).all(|v| goal[v].is_none_or(|value| world[v] == value));
    let mut costs: BTreeMap<World, u64> =
        worlds().filter(|world| reached(world)).map(|world| (world, 0)).collect();
    loop {
        let mut changed = false;
        for world in worlds().filter(|world| !reached(world)) {
            for toy in toys {
                let Some(next) = after(toys, toy, &world, facts) else { continue };
                let Some(rest) = costs.get(&next).copied() else { continue };
                if costs.get(&world).is_none_or(|known| rest + toy.cost < *known) {
                    costs.insert(world, rest + toy.cost);
                    changed = true;
                }
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

fn cfg(goal: &[Option<usize>; VARS], facts: &[bool; 2]) -> Document {
    let mut cfg = Document::new();
    for (var, value) in goal.iter().enumerate() {
        if let Some(value) = value {
            cfg.set(Path::known(NAMES[var]), WORDS[*value]);
        }
    }
    for (fact, holds) in facts.iter().enumerate() {
        if *holds {
            cfg.set(Path::known(FACTS[fact]), true);
        }
    }
    cfg
}

/// What a world looks like to groups that are planned apart: a policy adds up the ways of its
/// groups, so the sum is what brute force must find.
fn check(toys: &[Toy], goal: &[Option<usize>; VARS], facts: &[bool; 2]) {
    let set = declare(toys);
    let cfg = cfg(goal, facts);
    let bits = set.facts(&cfg, &Document::new());
    let mut policy = Policy::new(&set, set.goal(&cfg), bits, &Costs::declared());
    let wanted = costs(toys, goal, facts);
    for world in worlds() {
        let state = set.state(&document(&world));
        assert_eq!(set.forget(state, bits), set.state(&document(&forget(toys, world, facts))));
        // A policy is asked about what can be known; the engine forgets the rest first.
        if forget(toys, world, facts) != world {
            continue;
        }
        match (policy.next(state), wanted.get(&world)) {
            (Step::Done, Some(0)) | (Step::NoWay, None) => {}
            (Step::Take { mutation, cost_to_go, after: expected }, Some(cost)) => {
                assert_eq!(cost_to_go, Duration::from_secs(*cost), "{world:?}");
                let toy = &toys[usize::from(mutation.0)];
                let next = after(toys, toy, &world, facts).expect("a mutation that applies");
                assert_eq!(expected, set.state(&document(&next)));
                // Every step of the way is as good as the way promised.
                assert_eq!(wanted[&next] + toy.cost, *cost, "{world:?}");
            }
            // One group has a way and another has none: it goes as far as it can.
            (Step::Take { mutation, .. }, None) => {
                assert!(after(toys, &toys[usize::from(mutation.0)], &world, facts).is_some());
            }
            (step, cost) => panic!("{world:?}: {step:?} where brute force says {cost:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_policy_is_as_good_as_brute_force(
        toys in proptest::collection::vec(toy(), 1..10),
        goal in proptest::array::uniform4(proptest::option::of(1..VALUES)),
        facts in proptest::array::uniform2(any::<bool>()),
    ) {
        check(&toys, &goal, &facts);
    }
}
