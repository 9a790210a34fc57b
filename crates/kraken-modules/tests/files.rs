//! Files that are wrong, and what is said of them.
#![allow(clippy::unwrap_used)]

use kraken_model::{Field, Format, Kind, Schema, Side};
use kraken_modules::Modules;
use kraken_plan::{Context, Guard, Mutation};
use std::time::Duration;

fn application() -> (Vec<Schema>, Vec<Mutation>) {
    let fields = vec![
        Field::variable("busy", &["UNKNOWN", "FREE", "BUSY"], "").unwrap(),
        Field::variable("image_state", &["UNKNOWN", "ACTIVE", "UPDATE"], "").unwrap(),
        Field::new("labels.*", Kind::Text(Format::Any), &[Side::Cfg], "").unwrap(),
    ];
    let swap = Mutation::new("image", "swap", Context::Child);
    let swap = swap.moves("image_state", "UPDATE", "ACTIVE").excludes(Guard::is("busy", "BUSY"));
    (vec![Schema { name: "base".into(), fields }], vec![swap])
}

fn read(files: &[(&str, &str)]) -> Result<Modules, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let (schemas, mutations) = application();
    let prefix = format!("{}/", dir.path().display());
    Modules::read(dir.path(), &schemas, &mutations)
        .map_err(|all| all.iter().map(|d| d.to_string().replace(&prefix, "")).collect())
}

const GOOD: &str = "module: drain
variables:
  drain_state: { values: [UNKNOWN, IN_USE, DRAINED] }
  scheduler: { values: [UNKNOWN, UP, DOWN] }
discover: { shell: 'echo drain_state=IN_USE', requires: [cfg labels.scheduler is set] }
mutations:
  drain:
    moves: { drain_state: [IN_USE, DRAINED] }
    shell: 'exit 0'
    excludes: busy = BUSY
    timeout: 10m
    cost: 30s
    disruptive: true
    on_timeout: { drain_state: UNKNOWN }
    retry: { pause: 1s, longest: 1m, attempts: 3 }
  ask: { moves: { scheduler: [UNKNOWN, UP, DOWN] }, shell: 'exit 0' }
guards: { image.swap: { requires: [drain_state = DRAINED] } }
";

#[test]
fn a_file_adds_a_schema_mutations_a_look_and_guards_for_others() {
    let modules = read(&[("drain.yaml", GOOD), ("notes.txt", "module: [")]).unwrap();
    let (_, mut mutations) = application();
    modules.extend(&mut mutations);
    let swap = &mutations[0];
    assert_eq!(swap.requires, [Guard::is("drain_state", "DRAINED")]);
    let drain = &mutations[1];
    assert_eq!((&*drain.name, &*drain.module), ("drain.drain", "drain"));
    assert_eq!(drain.effects[0].to_string(), "drain_state: IN_USE -> DRAINED");
    assert_eq!(drain.excludes, [Guard::is("busy", "BUSY")]);
    assert_eq!((drain.timeout, drain.cost), (Duration::from_secs(600), Duration::from_secs(30)));
    assert_eq!((drain.retry.limit, drain.retry.cap), (Some(3), Duration::from_secs(60)));
    assert!(drain.disruptive && drain.on_timeout.is_some());
    assert_eq!(mutations[2].effects[0].to_string(), "scheduler: UNKNOWN -> UP or DOWN");
    let look = &mutations[3];
    assert_eq!(&*look.name, "drain.discover_drain_state");
    assert_eq!(look.effects[0].to_string(), "drain_state: UNKNOWN -> IN_USE or DRAINED");
    assert_eq!(look.requires, [Guard::configured("labels.scheduler")]);
    assert_eq!(modules.schemas()[0].fields.len(), 2);
}

#[test]
fn a_section_of_another_shape_is_a_mistake_with_its_place() {
    let good = "module: b\nvariables: {lock: {values: [UNKNOWN, OPEN, SHUT]}}\n\
                discover: {command: [/bin/true]}\n";
    assert!(read(&[("b.yaml", good)]).is_ok());
    for (key, section) in [
        ("facts", "[a]"),
        ("facts", "text"),
        ("facts", "{a: [b]}"),
        ("facts", "{a: {about: [b]}}"),
        ("mutations", "[a]"),
        ("mutations", "5"),
        ("mutations", "{shut: [a]}"),
        ("mutations", "{shut: {moves: [lock, OPEN], command: [/bin/true]}}"),
        (
            "mutations",
            "{shut: {moves: {lock: [OPEN, SHUT]}, command: [/bin/true], retry: {attempts: [3]}}}",
        ),
        ("mutations", "{shut: {moves: {lock: [OPEN, ~]}, command: [/bin/true]}}"),
        ("guards", "[a]"),
        ("guards", "text"),
    ] {
        let text = format!("{good}{key}: {section}\n");
        let said = read(&[("b.yaml", &text)]).err().unwrap_or_default();
        assert!(
            said.iter().any(|line| line.starts_with("b.yaml:4:")),
            "{key}: {section}: {said:#?}"
        );
    }
    for section in ["[a]", "text", "{lock: [a]}", "{lock: {values: [A, B], about: {a: b}}}"] {
        let text = format!("module: b\nvariables: {section}\ndiscover: {{command: [/bin/true]}}\n");
        let said = read(&[("b.yaml", &text)]).err().unwrap_or_default();
        assert!(said.iter().any(|line| line.starts_with("b.yaml:2:")), "{section}: {said:#?}");
    }
}

#[test]
fn a_directory_that_is_not_there_has_no_modules() {
    let (schemas, mutations) = application();
    let modules = Modules::read("/nowhere/modules.d".as_ref(), &schemas, &mutations).unwrap();
    assert!(modules.is_empty());
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let bad = "module: door
variabels: {}
variables:
  door: { values: [UNKNOWN] }
  lock: { values: [UNKNOWN, OPEN, SHUT], unavailable: [UNKNOWN, SHUT] }
  busy: { values: [UNKNOWN, YES] }
facts:
  knocks: { type: numbr }
  key: { side: left }
discover:
  command: [./look]
  every: 10
  requires: [busy = MAYBE]
mutations:
  shut:
    moves: { lock: [OPEN, SHOT], image_state: [UPDATE, ACTIVE] }
    timeout: 3d
    disruptive: perhaps
    requires: [lokc = OPEN, lock]
    context: self
  open: { moves: { lock: [SHUT, OPEN] }, command: [nothing-of-this-name] }
  rust: { moves: { lock: [OPEN, SHUT] }, context: itself, timeout: 1h }
guards:
  image.swop: { requires: [lock = SHUT] }
";
    let said = read(&[("a.yaml", GOOD), ("b.yaml", bad), ("c.yaml", "module: [\n")]).unwrap_err();
    let wanted = [
        ("b.yaml:2:1: unknown key \"variabels\"", "did you mean \"variables\"?"),
        ("b.yaml:4:3: variables.door has no values", "two values at least"),
        ("b.yaml:5:55: variables.lock.unavailable names", "some of [OPEN, SHUT]"),
        ("b.yaml:6:3: busy cannot be declared here", "it belongs to base"),
        ("b.yaml:8:19: facts.knocks.type is no type", "did you mean \"number\"?"),
        ("b.yaml:9:16: facts.key.side is no side", "dsc, cfg or both"),
        ("b.yaml:11:12: ./look cannot be run", "No such file"),
        ("b.yaml:12:10: discover.every cannot be this", "\"10\" is not a duration"),
        ("b.yaml:13:14: \"busy = MAYBE\" is no guard", "not one of UNKNOWN, FREE, BUSY"),
        ("b.yaml:15:3: mutations.shut.command is missing", "something has to be run"),
        ("b.yaml:16:20: SHOT is no value of lock", "lock has UNKNOWN, OPEN, SHUT"),
        ("b.yaml:16:34: image_state is no variable of this file", "one writer"),
        ("b.yaml:17:14: mutations.shut.timeout cannot be this", "not a duration"),
        ("b.yaml:18:17: \"perhaps\" cannot be", "true or false"),
        ("b.yaml:19:16: \"lokc = OPEN\" is no guard", "nothing is called lokc"),
        ("b.yaml:20:14: mutations.shut.context cannot be this", "run on the parent"),
        ("b.yaml:21:51: nothing-of-this-name cannot be run", "it is not in PATH"),
        ("b.yaml:22:68: mutations.rust.timeout cannot be said", "nobody carries it out"),
        ("b.yaml:24:3: unknown key \"image.swop\"", "did you mean \"image.swap\"?"),
        ("c.yaml:1:9: this is not YAML", "unclosed bracket"),
    ];
    let all = said.join("\n");
    for (place, what) in wanted {
        let found = said.iter().find(|line| line.starts_with(place));
        assert!(found.is_some_and(|line| line.contains(what)), "wanted {place} {what}\n{all}");
    }
    assert_eq!(said.len(), wanted.len() + 1, "one more guard that is none, in line 19\n{all}");
}

#[test]
fn no_mistake_hides_another_one_and_every_word_that_is_near_another_is_told_so() {
    let bad = "module: lock
variables: { lock: { values: [UNKNOWN, OPEN, SHUT], unavailable: [SHUTT] } }
facts:
  lock: { type: txt }
  key: { side: dcs }
discover: { command: [true], of: al }
mutations:
  shut: { command: [true], moves: { lock: [OPNE, SHTU] }, on_timeout: { lock: OPN }, context: chld, requires: [busi = BUSY] }
  open: { command: [true], moves: { lok: [SHUT, OPEN] }, requires: [busy = BUSI] }
guards:
  image.swap: {}
";
    let said = read(&[("b.yaml", bad)]).unwrap_err();
    let wanted = [
        ("b.yaml:2:", "did you mean \"SHUT\"?"),
        ("b.yaml:4:", "facts.lock.type is no type: a fact has one; did you mean \"text\"?"),
        ("b.yaml:5:", "did you mean \"dsc\"?"),
        ("b.yaml:6:", "did you mean \"all\"?"),
        ("b.yaml:8:", "did you mean \"OPEN\"? did you mean \"SHUT\"?"),
        (
            "b.yaml:8:",
            "lock = OPN is no value of this file: a value has one writer; did you mean \"OPEN\"?",
        ),
        ("b.yaml:8:", "did you mean \"child\"?"),
        ("b.yaml:8:", "nothing is called busi; did you mean \"busy\"?"),
        (
            "b.yaml:9:",
            "lok is no variable of this file: a value has one writer, so a file moves its own variables only; did you mean \"lock\"?",
        ),
        ("b.yaml:9:", "did you mean \"BUSY\"?"),
        ("b.yaml:11:", "guards.image.swap adds nothing"),
    ];
    let all = said.join("\n");
    for (place, what) in wanted {
        let is_it = |line: &&String| line.starts_with(place) && line.contains(what);
        assert!(said.iter().any(|line| is_it(&line)), "wanted {place} {what}\n{all}");
    }
    assert_eq!(said.len(), wanted.len(), "{all}");
    let twice = "module: lock\nvariables: { lock: { values: [UNKNOWN, OPEN] } }\nfacts: { lock: {} }\ndiscover: { command: [true], every: 3 }\n";
    let said = read(&[("b.yaml", twice)]).unwrap_err();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("lock is declared twice in this file"), "{said:?}");
}

#[test]
fn two_files_cannot_have_one_name_or_one_address() {
    let said = read(&[("a.yaml", GOOD), ("b.yaml", GOOD)]).unwrap_err();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("b.yaml:1:9: module drain is there already"), "{said:?}");
    assert!(
        said[1].contains("drain_state cannot be declared here: it belongs to drain"),
        "{said:?}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-d0-9:{}\\[\\]'\",&* \n-]{0,60}") {
        let _ = read(&[("a.yaml", &text)]);
        for key in ["variables", "facts", "discover", "serve", "mutations", "guards"] {
            let _ = read(&[("a.yaml", &format!("module: a\n{key}:\n  b: {text}"))]);
        }
    }
}

#[test]
fn guards_that_cut_others_off_are_refused_with_who_and_what() {
    let picky = "module: picky\nfacts: { rack: { type: text } }\ndiscover: { shell: 'exit 0' }\nguards:\n  \
                 image.swap: { requires: [GUARDS] }\n";
    let with = |guards: &str| picky.replace("GUARDS", guards);
    let wrong = [
        ("busy = BUSY", "image.swap can never be taken: what it asks for cannot hold together"),
        ("rack = r1, rack = r2", "no value is both rack = r1 and rack = r2"),
        ("busy = FREE, image_state = ACTIVE", "image.swap can never be taken"),
    ];
    for (guards, why) in wrong {
        let said = read(&[("drain.yaml", GOOD), ("picky.yaml", &with(guards))]).unwrap_err();
        let who = "picky.yaml:5:3: the guards of picky on image.swap cut others off";
        assert!(said.iter().all(|line| line.contains(who)), "{said:?}");
        assert!(said.join("\n").contains(why), "{guards}: {said:?}");
    }
    assert!(read(&[("drain.yaml", GOOD), ("picky.yaml", &with("busy = FREE, rack = r1"))]).is_ok());

    // Neither does it alone.
    let other = with("rack = r2").replace("facts: { rack: { type: text } }\n", "");
    let other = other.replace("module: picky", "module: other");
    let both = [("picky.yaml", &*with("rack = r1")), ("other.yaml", &*other)];
    let said = read(&both).unwrap_err().join("\n");
    assert!(said.contains("picky.yaml:5:3") && said.contains("other.yaml:4:3"), "{said}");
    assert!(read(&both[..1]).is_ok());
}

#[test]
fn files_may_be_called_yml_too() {
    let wrong = read(&[("drain.yml", GOOD), ("other.yaml", &GOOD.replace("moves", "mvoes"))]);
    assert!(wrong.unwrap_err().iter().any(|line| line.starts_with("other.yaml")));
    assert_eq!(read(&[("drain.yml", GOOD)]).unwrap().len(), 1);
}
