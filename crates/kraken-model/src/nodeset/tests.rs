#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn names(text: &str) -> Vec<String> {
    set(text).iter().map(ToString::to_string).collect()
}

/// A cluster of nine nodes, or one in which every name is a node.
struct Cluster {
    knows_nodes: bool,
}

const NINE: Cluster = Cluster { knows_nodes: true };
const ANY: Cluster = Cluster { knows_nodes: false };

impl NodeLookup for Cluster {
    fn contains(&self, node: &NodeId) -> bool {
        !self.knows_nodes || self.all().unwrap().contains(node)
    }

    fn all(&self) -> Option<NodeSet> {
        "n[1-9]".parse().ok()
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        match name {
            "rack1" => Ok("n[1-4]".parse().unwrap()),
            "even" => Ok("n[2,4,6,8]".parse().unwrap()),
            _ => Err(format!("no group {name:?}")),
        }
    }

    fn select(&self, side: Option<Side>, path: &str, value: &str) -> Result<NodeSet, String> {
        match (side, path, value) {
            (None, "run_state", "ERROR") => Ok("n3".parse().unwrap()),
            (Some(Side::Cfg), "run_state", "SYNC") => Ok("n[1-8]".parse().unwrap()),
            (None, "labels.kernel", "6.12.48+deb13-amd64") => Ok("n5".parse().unwrap()),
            (None, "run_state", "SYNC") => Ok(NodeSet::new()),
            _ => Err(format!("nothing has {path}={value}")),
        }
    }
}

fn set(text: &str) -> NodeSet {
    NodeSet::parse(text, &ANY).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> NodeSetError {
    NodeSet::parse(text, &NINE).unwrap_err()
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
    assert_eq!(set("cfg:run_state=SYNC!run_state=ERROR").fold(), "n[1-2,4-8]");
    assert_eq!(set("labels.kernel=6.12.48+deb13-amd64,n1").fold(), "n[1,5]");
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
        let error = NodeSet::parse(text, &ANY).unwrap_err();
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
        ("ab,N1", 4, "did you mean n1?"),
        ("n1,run_state!=ERROR", 4, "write *!run_state=VALUE"),
        ("a,n[0-249999]", 3, "250000"),
        ("a[0-999999]b[0-999999]c[0-999999]d[0-999999]", 1, "250000"),
        ("n[1-9999999999999999]", 5, "digits"),
    ] {
        let (found, why) = at(text);
        assert!(found == position && why.contains(reason), "{text}: {found}: {why}");
    }
    assert!(NodeSet::parse(&"a".repeat(MAX_TEXT_BYTES + 1), &ANY).is_err());
    assert!("!n1".parse::<NodeSet>().is_err(), "without a resolver nothing is known of all nodes");
}

#[test]
fn what_does_not_exist_is_refused_wherever_it_stands_in_a_set() {
    for text in ["n10", "n1,n10", "n[1-3]!n10", "n1&n10", "n1^n10", "!n10", "n[8-10]", "n1 n10"] {
        let error = refused(text);
        assert_eq!(error.kind, NodeSetErrorKind::NoSuchNode, "{text}");
        assert!(error.to_string().starts_with("no such node: n10 (did you mean n1?)"), "{error}");
    }
    for text in ["@rack9", "n1!@rack9", "*&@rack9", "n1,run_state=LOST", "!cfg:run_state=LOST"] {
        assert_eq!(refused(text).kind, NodeSetErrorKind::Unknown, "{text}");
    }
    let all = refused("n[1-3]!n01,x9").to_string();
    assert_eq!(all, "no such node: n01,x9 (did you mean n[1,9]?)");
    assert!(refused("cgf:run_state=SYNC").reason.contains("did you mean cfg:?"));
    assert!(NodeSet::parse("run_state=SYNC", &NINE).unwrap().is_empty());
}

#[test]
fn the_nodes_that_a_text_names_are_told_also_those_that_it_excludes() {
    assert_eq!(NodeSet::named("n[1-3]!n2,n9").unwrap().fold(), "n[1-3,9]");
    for more in ["!n1", "n1,@rack1", "n1,run_state=ERROR", "*", "n["] {
        assert_eq!(NodeSet::named(more), None, "{more}");
    }
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

/// An atom of a set, and the nodes of the nine that it stands for.
fn known_atom() -> impl Strategy<Value = (String, Vec<usize>)> {
    prop_oneof![
        (1..=9_usize).prop_map(|n| (format!("n{n}"), vec![n])),
        (1..=9_usize, 0..=8_usize, 1..=3_usize).prop_map(|(from, more, step)| {
            let to = (from + more).min(9);
            (format!("n[{from}-{to}/{step}]"), (from..=to).step_by(step).collect())
        }),
        Just(("@rack1".to_owned(), vec![1, 2, 3, 4])),
        Just(("@even".to_owned(), vec![2, 4, 6, 8])),
        Just(("*".to_owned(), (1..=9).collect())),
        Just(("run_state=ERROR".to_owned(), vec![3])),
        Just(("run_state=SYNC".to_owned(), vec![])),
        Just(("cfg:run_state=SYNC".to_owned(), (1..=8).collect())),
    ]
}

/// An atom that the cluster does not have.
fn unknown_atom() -> impl Strategy<Value = String> {
    prop_oneof![
        (10..99_usize).prop_map(|n| format!("n{n}")),
        (1..=9_usize).prop_map(|n| format!("n0{n}")),
        (1..=9_usize, 10..20_usize).prop_map(|(from, to)| format!("n[{from}-{to}]")),
        "[m-z]{2,4}[0-9]".prop_map(|name| name),
        "@[a-z]{1,3}".prop_map(|name| name),
        Just("run_state=LOST".to_owned()),
        Just("run_stat=ERROR".to_owned()),
        Just("cfg:run_state=ERROR".to_owned()),
        Just("cgf:run_state=SYNC".to_owned()),
    ]
}

fn operator() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&[",", "!", "&", "^", " ", " , ", " !"][..])
}

/// Operators and atoms in a row; the first operator is none, or the `!` that begins with every node.
fn atoms() -> impl Strategy<Value = Vec<(&'static str, (String, Vec<usize>))>> {
    proptest::collection::vec((operator(), known_atom()), 1..8).prop_map(|mut atoms| {
        atoms[0].0 = if atoms[0].0.contains('!') { "!" } else { "" };
        atoms
    })
}

fn naively(atoms: &[(&'static str, (String, Vec<usize>))]) -> std::collections::BTreeSet<usize> {
    let mut set = std::collections::BTreeSet::new();
    for (operator, (_, nodes)) in atoms {
        let nodes: std::collections::BTreeSet<usize> = nodes.iter().copied().collect();
        set = match operator.trim() {
            "!" if std::ptr::eq(operator, &atoms[0].0) => &(1..=9).collect() - &nodes,
            "!" => &set - &nodes,
            "&" => &set & &nodes,
            "^" => &set ^ &nodes,
            _ => &set | &nodes,
        };
    }
    set
}

proptest! {
    #[test]
    fn a_set_of_what_exists_is_what_its_atoms_come_to_one_by_one(atoms in atoms()) {
        let text: String = atoms.iter().map(|(o, (a, _))| format!("{o}{a}")).collect();
        let wanted: NodeSet =
            naively(&atoms).into_iter().map(|n| NodeId::new(&format!("n{n}")).unwrap()).collect();
        prop_assert_eq!(NodeSet::parse(&text, &NINE), Ok(wanted), "{}", text);
    }

    #[test]
    fn one_thing_that_does_not_exist_refuses_the_whole_set(
        atoms in atoms(), at in 0..8_usize, unknown in unknown_atom()
    ) {
        let mut atoms = atoms;
        let at = at % atoms.len();
        atoms[at].1.0 = unknown;
        let text: String = atoms.iter().map(|(o, (a, _))| format!("{o}{a}")).collect();
        let error = NodeSet::parse(&text, &NINE);
        prop_assert!(error.is_err(), "{} was taken for {:?}", text, error);
        prop_assert_ne!(error.unwrap_err().kind, NodeSetErrorKind::Form, "{}", text);
    }

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
        let _ = NodeSet::parse(&text, &NINE);
        let _ = NodeSet::expand(&text);
    }
}
