//! Whatever happens: the invariants of `World::check` hold, and when faults stop, all is well.

use crate::words::*;
use crate::world::{Fate, World};
use kraken_engine::{Command, Terms};
use kraken_model::Millis;
use proptest::prelude::*;

const NODES: usize = 5;

#[derive(Clone, Debug)]
enum Act {
    Crash(usize),
    Cut(usize, bool),
    Fate(usize, Fate),
    Busy(usize, bool),
    Hold(usize),
    HoldFor(usize, u64),
    Release(usize),
    Retry(usize),
    Freeze,
    Thaw,
    Down(usize),
    Up(usize),
    Restart,
    Drains(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let n = 0..NODES;
    let fate =
        prop_oneof![Just(Fate::Works), Just(Fate::Fails), Just(Fate::Lies), Just(Fate::Hangs)];
    prop_oneof![
        n.clone().prop_map(Act::Crash),
        (n.clone(), any::<bool>()).prop_map(|(n, on)| Act::Cut(n, on)),
        (n.clone(), fate).prop_map(|(n, fate)| Act::Fate(n, fate)),
        (n.clone(), any::<bool>()).prop_map(|(n, on)| Act::Busy(n, on)),
        n.clone().prop_map(Act::Hold),
        (n.clone(), 1_u64..200_000).prop_map(|(n, millis)| Act::HoldFor(n, millis)),
        n.clone().prop_map(Act::Release),
        n.clone().prop_map(Act::Retry),
        Just(Act::Freeze),
        Just(Act::Thaw),
        n.clone().prop_map(Act::Down),
        n.prop_map(Act::Up),
        Just(Act::Restart),
        any::<bool>().prop_map(Act::Drains),
    ]
}

fn take(world: &mut World, act: Act) {
    match act {
        Act::Crash(n) => world.crash(n),
        Act::Cut(n, is_cut) => world.cut(n, is_cut),
        Act::Fate(n, fate) => world.fates[n] = fate,
        Act::Busy(n, is_busy) => world.set_busy(n, is_busy),
        Act::Hold(n) => {
            world.command(Command::Hold { node: world.name(n), terms: Terms::default() });
        }
        Act::HoldFor(n, millis) => {
            let until = Some(Millis(world.now.0 + millis));
            world.command(Command::Hold {
                node: world.name(n),
                terms: Terms { until, ..Terms::default() },
            });
        }
        Act::Release(n) => world.command(Command::Release { node: world.name(n) }),
        Act::Retry(n) => world.command(Command::Retry { node: world.name(n) }),
        Act::Freeze => world.command(Command::Freeze { node: None, terms: Terms::default() }),
        Act::Thaw => world.command(Command::Thaw { node: None }),
        Act::Down(n) => world.want(n, doc(&[("phys_state", "OFF")])),
        Act::Up(n) => world.want(n, running_flashed()),
        Act::Restart => world.restart(),
        Act::Drains(is_there) => world.drains(is_there),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]
    #[test]
    fn whatever_happens_all_is_well_once_faults_stop(
        acts in proptest::collection::vec((0_u64..90_000, act()), 0..40)
    ) {
        let mut world = World::new(NODES);
        for (millis, act) in acts {
            take(&mut world, act);
            world.pass(millis);
        }
        for n in 0..NODES {
            for act in [Act::Fate(n, Fate::Works), Act::Cut(n, false), Act::Busy(n, false),
                        Act::Release(n), Act::Retry(n)] {
                take(&mut world, act);
            }
        }
        take(&mut world, Act::Thaw);
        world.pass(3_600_000);
        prop_assert_eq!(world.stragglers(), Vec::<String>::new());
        prop_assert_eq!(world.engine.summary().in_flight, 0, "every attempt has ended");
        world.replay();
    }
}

#[test]
fn a_cluster_comes_up_from_nothing() {
    let mut world = World::new(NODES);
    world.pass(60_000);
    assert_eq!(world.stragglers(), Vec::<String>::new());
}
