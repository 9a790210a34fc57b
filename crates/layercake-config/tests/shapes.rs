//! Every value of a cluster file in every shape: what does not belong there is a mistake with its place.
#![allow(clippy::unwrap_used)]

use kraken_model::{Registry, Side};
use layercake_config::{Cluster, Context, Diagnostic, ImageFacts, ImageLookup, parse};
use proptest::prelude::*;
use std::sync::LazyLock;

struct Images;

impl ImageLookup for Images {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        if reference != "web:1" {
            return Err("it is not in the store".to_owned());
        }
        let (digest, kind) = (format!("sha256:{}", "0".repeat(64)), "plain".to_owned());
        Ok(ImageFacts {
            digest,
            size: 1,
            kind,
            command: vec!["/x".to_owned()],
            env: [].into(),
            arch: None,
        })
    }
}

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| Registry::new(layercake_schema::schemas()).unwrap());

fn read(text: &str) -> Result<Cluster, Vec<Diagnostic>> {
    let steps = &["power.on", "power.off"];
    parse("c.yaml", text, &Context { registry: &REGISTRY, images: &Images, steps })
}

/// A value of the sample, with the shapes that it may have instead.
#[derive(Clone, Debug)]
enum Tree {
    /// Names and values.
    Map(Vec<(&'static str, Tree)>, &'static [&'static str]),
    List(Vec<Tree>, &'static [&'static str]),
    Leaf(String, &'static [&'static str]),
}

/// Every shape there is, with a value of it.
const SHAPES: &[(&str, &str)] = &[
    ("null", "~"),
    ("nothing", ""),
    ("empty text", "\"\""),
    ("text", "something"),
    ("number", "300"),
    ("bool", "true"),
    ("empty list", "[]"),
    ("list", "[something]"),
    ("list of null", "[~]"),
    ("list of lists", "[[something]]"),
    ("list of maps", "[{a: b}]"),
    ("empty map", "{}"),
    ("map", "{a: b}"),
    ("map of lists", "{a: [b]}"),
    ("map of null", "{a: ~}"),
];

/// A section that may be empty, or left out.
const SECTION: &[&str] = &["null", "nothing", "empty map"];
/// A section with names that people choose.
const NAMES: &[&str] = &["null", "nothing", "empty map", "map"];
const WORDS: &[&str] = &["text", "number", "bool", "empty text"];
const NAME: &[&str] = &["text", "number", "bool"];
const NUMBER: &[&str] = &["number"];
const SWITCH: &[&str] = &["bool"];
const NETS: &[&str] = &["null", "nothing", "empty map", "map of null"];
const NODES: &[&str] = &["empty map", "map of null"];
const SET: &[&str] = &["empty text"];
/// Sections that something elsewhere in the sample speaks of.
const NEEDED: &[&str] =
    &[".images", ".defaults", ".defaults.location", ".defaults.power.exec", ".groups", ".nodes"];
const LIST: &[&str] = &["null", "nothing", "empty list"];

fn leaf(text: &str, shapes: &'static [&'static str]) -> Tree {
    Tree::Leaf(text.to_owned(), shapes)
}

fn just(text: &str) -> Tree {
    leaf(text, &[])
}

fn map(entries: Vec<(&'static str, Tree)>, shapes: &'static [&'static str]) -> Tree {
    Tree::Map(entries, shapes)
}

fn sample() -> Tree {
    let boot = map(
        vec![
            ("subnet", just("10.0.0.0/24")),
            ("interface", leaf("br0", NAME)),
            ("server", just("10.0.0.1")),
            ("gateway", just("10.0.0.254")),
            ("http_port", leaf("8080", NUMBER)),
            ("domain", leaf("rep.example", NAME)),
            ("dns", Tree::List(vec![just("10.0.0.2")], LIST)),
        ],
        &[],
    );
    let web = map(
        vec![
            ("image", just("web:1")),
            // Without a program it is refused where the image stands.
            ("command", Tree::List(vec![leaf("/x", NAME), leaf("-f", WORDS)], &["list"])),
            ("env", map(vec![("PORT", leaf("\"80\"", WORDS))], NAMES)),
            ("systemd", leaf("false", SWITCH)),
        ],
        &[],
    );
    let limits = map(
        vec![
            ("power_on", map(vec![("at_once", leaf("2", NUMBER)), ("every", just("500ms"))], &[])),
            (
                "steps",
                Tree::List(
                    vec![map(
                        vec![
                            ("of", just("power.on")),
                            ("group", just("front")),
                            ("per", just("location.rack")),
                            ("at_once", leaf("2", NUMBER)),
                        ],
                        &[],
                    )],
                    LIST,
                ),
            ),
            (
                "unavailable",
                Tree::List(vec![map(vec![("at_most", leaf("10%", NUMBER))], &[])], LIST),
            ),
        ],
        SECTION,
    );
    let defaults = map(
        vec![
            ("arch", just("x86_64")),
            ("platform", leaf("x", WORDS)),
            ("found_running", just("ask")),
            ("location", map(vec![("rack", leaf("r1", WORDS))], NAMES)),
            ("labels", map(vec![("a", leaf("1", WORDS))], NAMES)),
            (
                "power",
                map(
                    vec![
                        ("driver", just("exec")),
                        (
                            "exec",
                            map(
                                vec![
                                    ("command", just("/p")),
                                    ("timeout_seconds", leaf("5", NUMBER)),
                                ],
                                SECTION,
                            ),
                        ),
                        (
                            "qemu",
                            map(
                                vec![
                                    ("memory", leaf("512", NUMBER)),
                                    ("accel", just("tcg")),
                                    ("bridge", leaf("br0", WORDS)),
                                ],
                                SECTION,
                            ),
                        ),
                    ],
                    SECTION,
                ),
            ),
            ("boot", map(vec![("cmdline", leaf("quiet", WORDS))], SECTION)),
            (
                "net",
                map(
                    vec![(
                        "data",
                        map(
                            vec![
                                ("mtu", just("9000")),
                                ("dns", Tree::List(vec![just("10.1.0.1")], &["empty list"])),
                                ("domain", leaf("data.example", NAME)),
                            ],
                            SECTION,
                        ),
                    )],
                    NETS,
                ),
            ),
            (
                "want",
                map(
                    vec![
                        ("power", leaf("on", SWITCH)),
                        ("images", Tree::List(vec![just("web")], &["empty list"])),
                    ],
                    SECTION,
                ),
            ),
            ("services", map(vec![("image", leaf("on", SWITCH))], SECTION)),
        ],
        SECTION,
    );
    let node = map(
        vec![
            ("mac", just("52:54:00:00:00:03")),
            ("address", just("10.0.0.13")),
            ("images", leaf("web", &["empty list"])),
        ],
        SECTION,
    );
    let nodes = map(
        vec![
            (
                "n[1-2]",
                map(
                    vec![
                        ("mac", just("\"52:54:00:00:00:[01-02]\"")),
                        ("address", Tree::List(vec![just("10.0.0.11"), just("10.0.0.12")], &[])),
                    ],
                    SECTION,
                ),
            ),
            ("n3", node),
        ],
        NODES,
    );
    let front = map(
        vec![
            ("nodes", leaf("\"n[1-2]\"", SET)),
            ("labels", map(vec![("b", leaf("2", WORDS))], NAMES)),
        ],
        &[],
    );
    let storm = vec![
        ("share", just("20%")),
        ("at_least", leaf("5", NUMBER)),
        ("window", just("60s")),
        ("patience", just("5m")),
        ("per", Tree::List(vec![just("location.rack")], &["empty list"])),
    ];
    let journal = vec![("entries", just("5000")), ("size", just("1MiB")), ("age", just("30d"))];
    map(
        vec![
            ("cluster", leaf("c", NAME)),
            ("network", map(vec![("boot", boot)], &[])),
            ("images", map(vec![("web", web)], SECTION)),
            ("limits", limits),
            ("storm", map(storm, SECTION)),
            ("removed", map(vec![("keep", just("7d")), ("nodes", leaf("100", NUMBER))], SECTION)),
            ("timing", map(vec![("boot", just("5m"))], SECTION)),
            ("journal", map(journal, SECTION)),
            ("defaults", defaults),
            ("groups", map(vec![("front", front)], SECTION)),
            ("nodes", nodes),
        ],
        &[],
    )
}

/// The file, and the line of every value of the tree in the order in which they are met.
#[derive(Default)]
struct Written {
    text: String,
    lines: Vec<usize>,
}

/// Values by the order in which they are met, and what stands there instead.
type Replaced<'a> = &'a [(usize, String)];

impl Written {
    fn of(tree: &Tree, replaced: Replaced<'_>) -> Self {
        let mut written = Self::default();
        written.write(tree, 0, replaced);
        written
    }

    fn line(&self) -> usize {
        self.text.matches('\n').count() + 1
    }

    fn write(&mut self, tree: &Tree, depth: usize, replaced: Replaced<'_>) {
        let number = self.lines.len();
        self.lines.push(self.line());
        if let Some((_, other)) = replaced.iter().find(|(at, _)| *at == number) {
            // What stood below is not written, and is counted all the same.
            self.lines.extend(std::iter::repeat_n(0, below(tree)));
            self.text.push_str(&format!(" {other}\n"));
            return;
        }
        let indent = "  ".repeat(depth);
        match tree {
            Tree::Leaf(text, _) => self.text.push_str(&format!(" {text}\n")),
            Tree::List(members, _) => {
                self.text.push('\n');
                for member in members {
                    self.text.push_str(&format!("{indent}-"));
                    self.write(member, depth + 1, replaced);
                }
            }
            Tree::Map(entries, _) => {
                if !self.text.is_empty() {
                    self.text.push('\n');
                }
                for (key, value) in entries {
                    self.text.push_str(&format!("{indent}{key}:"));
                    self.write(value, depth + 1, replaced);
                }
            }
        }
    }
}

fn below(tree: &Tree) -> usize {
    let children: Vec<&Tree> = match tree {
        Tree::Map(entries, _) => entries.iter().map(|(_, tree)| tree).collect(),
        Tree::List(members, _) => members.iter().collect(),
        Tree::Leaf(..) => return 0,
    };
    children.into_iter().map(|tree| 1 + below(tree)).sum()
}

/// Every value with the keys that lead to it, in the order in which they are met.
fn values(
    tree: &Tree,
    path: &str,
    found: &mut Vec<(String, &'static [&'static str], Option<String>)>,
) {
    match tree {
        Tree::Leaf(text, shapes) => found.push((path.to_owned(), shapes, Some(text.clone()))),
        Tree::List(members, shapes) => {
            found.push((path.to_owned(), shapes, None));
            for member in members {
                values(member, &format!("{path}[]"), found);
            }
        }
        Tree::Map(entries, shapes) => {
            found.push((path.to_owned(), shapes, None));
            for (key, value) in entries {
                values(value, &format!("{path}.{key}"), found);
            }
        }
    }
}

fn all_values() -> Vec<(String, &'static [&'static str], Option<String>)> {
    let mut found = Vec::new();
    values(&sample(), "", &mut found);
    found
}

#[test]
fn the_sample_is_good() {
    let text = Written::of(&sample(), &[]).text;
    assert!(read(&text).is_ok(), "{text}\n{:#?}", read(&text));
}

#[test]
fn every_value_in_a_shape_that_does_not_belong_there_is_a_mistake_at_its_line() {
    let tree = sample();
    let (mut tried, mut wrong) = (0, Vec::new());
    for (number, (path, may_be, own)) in all_values().into_iter().enumerate().skip(1) {
        for (shape, instead) in SHAPES {
            if own.as_deref() == Some(*instead) {
                continue;
            }
            let written = Written::of(&tree, &[(number, (*instead).to_owned())]);
            let line = written.lines[number];
            let found = read(&written.text);
            let at_line = |found: &[Diagnostic]| found.iter().any(|d| d.line == line);
            match (&found, may_be.contains(shape)) {
                (Ok(_), true) => {}
                // What is there may be left out, and something else in the file needs it.
                (Err(found), true) if NEEDED.contains(&path.as_str()) && !at_line(found) => {}
                (Err(found), false) if at_line(found) => {}
                // Without a program, the image is refused where it begins.
                (Err(_), false) if path.ends_with(".command") => {}
                (Ok(_), false) => wrong.push(format!("{path} as {shape} is accepted")),
                (Err(found), _) => {
                    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                    wrong.push(format!("{path} as {shape}, line {line}: {}", found.join("\n  ")));
                }
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_key_that_is_not_known_is_a_mistake_in_every_section() {
    // Where people choose the names themselves, and what is then not known below them.
    let free =
        [".images.web.env", ".defaults.labels", ".defaults.location", ".groups.front.labels"];
    let tree = sample();
    let mut tried = 0;
    for (path, _, own) in all_values() {
        let is_list = path.ends_with("[]") || own.is_some();
        if is_list || free.contains(&path.as_str()) {
            continue;
        }
        let mut changed = tree.clone();
        let mut here = &mut changed;
        for key in path.split('.').skip(1) {
            let Tree::Map(entries, _) = here else { break };
            here = &mut entries.iter_mut().find(|(name, _)| *name == key).unwrap().1;
        }
        let Tree::Map(entries, _) = here else { continue };
        entries.push(("colour", leaf("red", &[])));
        let text = Written::of(&changed, &[]).text;
        let line = text.lines().position(|line| line.contains("colour")).unwrap() + 1;
        let found = read(&text).err().unwrap_or_default();
        assert!(found.iter().any(|d| d.line == line), "{path}: {found:#?}\n{text}");
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn a_whole_file_of_another_shape_is_refused_once() {
    for (shape, text) in SHAPES {
        let found = read(text).unwrap_err();
        assert!(!found.is_empty(), "{shape}");
        if !["null", "nothing"].contains(shape) && !shape.contains("map") {
            assert_eq!(found.len(), 1, "{shape}: {found:#?}");
            assert!(found[0].what.contains("the cluster file is not a map"), "{shape}: {found:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever comes together, what is accepted can be used, and what is not is told of.
    #[test]
    fn several_values_in_other_shapes_are_refused_with_places_or_can_be_used(
        replaced in proptest::collection::vec((1_usize..90, 0..SHAPES.len()), 1..4)
    ) {
        let replaced: Vec<(usize, String)> =
            replaced.iter().map(|(at, shape)| (*at, SHAPES[*shape].1.to_owned())).collect();
        let text = Written::of(&sample(), &replaced).text;
        let lines = text.lines().count();
        match read(&text) {
            Ok(cluster) => {
                for (node, cfg) in &cluster.nodes {
                    prop_assert_eq!(REGISTRY.validate(Side::Cfg, cfg), []);
                    prop_assert_eq!(layercake_types::refusals(node, cfg), []);
                }
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                for d in found {
                    prop_assert!((1..=lines + 1).contains(&d.line) && d.column > 0, "{d}\n{text}");
                }
            }
        }
    }
}
