#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn names(text: &str) -> Vec<String> {
    set(text).iter().map(ToString::to_string).collect()
}

fn groups(name: &str) -> Option<NodeSet> {
    match name {
        "*" => "n[1-9]".parse().ok(),
        "rack1" => "n[1-4]".parse().ok(),
        "run_state=ERROR" => "n3".parse().ok(),
        _ => None,
    }
}

fn set(text: &str) -> NodeSet {
    NodeSet::parse(text, &groups).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn ranges_keep_their_zeros_and_steps_are_taken() {
    assert_eq!(names("ml[001-003]"), ["ml001", "ml002", "ml003"]);
    assert_eq!(names("a[1-3,5]"), ["a1", "a2", "a3", "a5"]);
    assert_eq!(names("n[0-10/5]"), ["n0", "n5", "n10"]);
    assert_eq!(names("n[08-11]"), ["n08", "n09", "n10", "n11"]);
    assert_eq!(names("r[1-2]n[01-02]-x"), ["r1n01-x", "r1n02-x", "r2n01-x", "r2n02-x"]);
}

#[test]
fn operators_are_applied_from_left_to_right() {
    assert_eq!(set("@rack1,n7!n[2-3]").fold(), "n[1,4,7]");
    assert_eq!(set("!n5").fold(), "n[1-4,6-9]");
    assert_eq!(set("*!@rack1").fold(), "n[5-9]");
    assert_eq!(set("@*&n[8-20]").fold(), "n[8-9]");
    assert_eq!(set("@rack1&run_state=ERROR").fold(), "n3");
    assert_eq!(set("n[1-3]^n[3-4]").fold(), "n[1-2,4]");
    assert_eq!(set(" n1  n2 , n3 ").fold(), "n[1-3]");
    assert!(set("").is_empty());
}

#[test]
fn folding_finds_ranges_in_every_dimension() {
    assert_eq!(set("r1n01,r1n02,r2n01,r2n02").fold(), "r[1-2]n[01-02]");
    assert_eq!(set("n9,n10,n09,login").fold(), "login,n[9,09-10]");
    assert_eq!(set("n[098-101]").fold(), "n[098-101]");
    assert_eq!(set("n5").fold(), "n5");
}

#[test]
fn nodes_come_in_the_order_in_which_people_count() {
    assert_eq!(names("n10,n9,a20b1,a3b10,a3b9"), ["a3b9", "a3b10", "a20b1", "n9", "n10"]);
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let at = |text: &str| {
        let error = NodeSet::parse(text, &groups).unwrap_err();
        (error.position, error.reason)
    };
    for (text, position, reason) in [
        ("n[1-3", 2, "never closed"),
        ("n[]", 3, "number"),
        ("n[3-1]", 3, "backwards"),
        ("n[1-3/0]", 7, "nowhere"),
        ("n[01-003]", 3, "padded"),
        ("n1,,n2", 4, "name of a node"),
        ("n1,", 4, "name of a node"),
        ("n1;n2", 3, "';'"),
        ("é", 1, "'é'"),
        ("n1,@none", 4, "no group \"none\""),
        ("n1,x=y", 4, "x=y"),
        ("@", 2, "name of a group"),
        ("ab,N1", 4, "node name"),
        ("a,n[0-249999]", 3, "250000"),
        ("a[0-999999]b[0-999999]c[0-999999]d[0-999999]", 1, "250000"),
        ("n[1-9999999999999999]", 5, "digits"),
    ] {
        let (found, why) = at(text);
        assert!(found == position && why.contains(reason), "{text}: {found}: {why}");
    }
    assert!(NodeSet::parse(&"a".repeat(MAX_TEXT_BYTES + 1), &groups).is_err());
    assert!("!n1".parse::<NodeSet>().is_err(), "without a resolver nothing is known of all nodes");
}

#[test]
fn a_list_of_names_keeps_its_order_and_its_doubles() {
    let names: Vec<String> =
        NodeSet::expand("b[2-3],a,b2").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["b2", "b3", "a", "b2"]);
    assert!(NodeSet::expand("a!b").is_err());
    assert!(NodeSet::expand("@a").is_err());
    assert!(NodeSet::expand("").is_err());
}

#[test]
fn a_set_is_text_in_json() {
    let json = serde_json::to_string(&set("n1,n2")).unwrap();
    assert_eq!(json, "\"n[1-2]\"");
    assert_eq!(serde_json::from_str::<NodeSet>(&json).unwrap(), set("n[1-2]"));
}

fn some() -> impl Strategy<Value = NodeSet> {
    let name = "[ab]{1,2}[0-9]{1,3}(-?[ab][01]{1,2})?";
    proptest::collection::vec(name, 0..30)
        .prop_map(|names| names.iter().map(|n| NodeId::new(n).unwrap()).collect())
}

/// Names as the `nodeset` crate takes them: it pads all numbers of a set alike, so sets in which
/// the same place is padded differently are none for it.
fn alike() -> impl Strategy<Value = NodeSet> {
    let name = (0..2_u8, 10..40_u8, 10..14_u8);
    proptest::collection::vec(name, 1..30).prop_map(|names| {
        let spell = |(a, b, c)| NodeId::new(&format!("{}{b}n{c}", ['r', 's'][usize::from(a)]));
        names.into_iter().map(|n| spell(n).unwrap()).collect()
    })
}

proptest! {
    #[test]
    fn what_was_folded_is_expanded_to_the_same(set in some()) {
        let folded = set.fold();
        prop_assert_eq!(folded.parse::<NodeSet>().unwrap(), set.clone(), "{}", folded);
        prop_assert_eq!(NodeSet::expand(&folded).map_or(0, |n| n.len()), set.len(), "each once");
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in some(), b in some()) {
        use std::collections::BTreeSet;
        let of = |s: &NodeSet| s.iter().cloned().collect::<BTreeSet<_>>();
        let (x, y) = (of(&a), of(&b));
        prop_assert_eq!(of(&a.union(&b)), &x | &y);
        prop_assert_eq!(of(&a.difference(&b)), &x - &y);
        prop_assert_eq!(of(&a.intersection(&b)), &x & &y);
        prop_assert_eq!(of(&a.symmetric_difference(&b)), &x ^ &y);
        prop_assert!(x.iter().all(|n| a.contains(n)));
    }

    #[test]
    fn another_implementation_reads_and_writes_the_same(a in alike(), b in alike()) {
        let theirs = |text: &str| text.parse::<nodeset::NodeSet>().unwrap();
        let text = theirs(&a.fold()).to_string();
        prop_assert_eq!(text.parse::<NodeSet>().unwrap(), a.clone(), "{}", text);
        let union = theirs(&a.fold()).union(&theirs(&b.fold())).to_string();
        prop_assert_eq!(union.parse::<NodeSet>().unwrap(), a.union(&b), "{}", union);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[an01\\[\\],!&^@*=/ é-]{0,20}") {
        let _ = NodeSet::parse(&text, &groups);
        let _ = NodeSet::expand(&text);
    }
}
