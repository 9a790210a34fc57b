//! Parent and children over a network that loses, repeats, reorders, damages, records and forges,
//! while both ends restart; in virtual time, from one seed.
#![allow(clippy::unwrap_used)]

mod world;

use kraken_sync::MAX_DATAGRAM_BYTES;
use proptest::prelude::*;
use world::{Network, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn documents_and_logs_converge_once_the_network_delivers_again(seed in any::<u64>()) {
        let mut world = World::new(seed, 3, Network::hostile());
        for _ in 0..60 {
            world.disturb();
            world.run(500);
        }
        world.network = Network::poor();
        world.settle(120_000);
        prop_assert!(world.largest <= MAX_DATAGRAM_BYTES);
    }
}

#[test]
fn replaying_everything_ever_sent_changes_nothing() {
    let mut world = World::new(7, 2, Network::good());
    for _ in 0..20 {
        world.change_documents();
        world.run(300);
    }
    world.settle(20_000);
    let before = world.parent.counters();
    let known = world.known.clone();
    let recorded = world.recorded.clone();
    for datagram in &recorded {
        world.deliver_quietly(datagram);
    }
    let after = world.parent.counters();
    assert_eq!(world.known, known);
    assert_eq!((after.changes, after.log_lines), (before.changes, before.log_lines));
    let refused = |c: kraken_sync::ParentCounters| c.replayed + c.bad_seal + c.unknown_session;
    assert!(refused(after) > refused(before));
}

#[test]
fn one_changed_value_of_a_large_document_is_one_small_datagram() {
    let mut world = World::new(3, 1, Network::good());
    world.grow_documents(400);
    world.settle(30_000);
    world.run(3_000);
    world.sizes.clear();
    world.change_one_value();
    world.settle(5_000);
    let largest = world.sizes.iter().max().unwrap();
    assert!(*largest < 150, "{largest}");
}

#[test]
fn a_child_that_goes_silent_is_reported_once_and_heard_again() {
    let mut world = World::new(5, 1, Network::good());
    world.run(10_000);
    world.network = Network::cut();
    world.run(60_000);
    assert_eq!(world.silences, 1);
    world.network = Network::good();
    world.settle(60_000);
    assert!(world.heard >= 2);
}

#[test]
fn a_clean_leave_is_known_at_both_ends_despite_losses() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1, Network::poor());
        world.settle(60_000);
        world.leave(0);
        world.run(10_000);
        assert_eq!(world.silences, 0, "seed {seed}");
        assert_eq!((world.left_parent, world.left_child), (1, 1), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(11, 2, Network::hostile());
        for _ in 0..20 {
            world.disturb();
            world.run(500);
        }
        world.recorded
    };
    assert_eq!(run(), run());
}
