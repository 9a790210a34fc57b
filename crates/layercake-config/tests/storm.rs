//! What cluster files say of nodes that fall silent, good and bad.
#![allow(clippy::unwrap_used)]

use kraken_model::Registry;
use layercake_config::{Cluster, Context, Diagnostic, ImageFacts, ImageLookup, Storm, parse};
use std::time::Duration;

struct NoImages;

impl ImageLookup for NoImages {
    fn find(&self, _: &str) -> Result<ImageFacts, String> {
        Err("there is none".to_owned())
    }
}

const HEAD: &str =
    "cluster: c\nnetwork: {boot: {subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1}}\n";
const NODES: &str =
    "nodes: {n1: {mac: '52:54:00:00:00:01', address: 10.0.0.2, labels: {switch: s1}}}\n";

fn read(sections: &str) -> Result<Cluster, Vec<Diagnostic>> {
    let registry = Registry::new(layercake_schema::schemas()).unwrap();
    let context = Context { registry: &registry, images: &NoImages, steps: &[] };
    parse("c.yaml", &format!("{HEAD}{sections}{NODES}"), &context)
}

fn storm(sections: &str) -> Storm {
    read(sections).unwrap().settings.storm
}

fn said(sections: &str) -> Vec<String> {
    read(sections).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_storm_is_what_the_file_says_and_the_rest_as_it_comes() {
    let all = "storm: { share: 30%, at_least: 3, window: 2m, patience: 10m, per: [location.rack, labels.switch] }\n";
    let per: Vec<_> = ["location.rack", "labels.switch"].map(kraken_model::Path::known).into();
    let (window, patience) = (Duration::from_secs(120), Duration::from_secs(600));
    assert_eq!(storm(all), Storm { share: 30, at_least: 3, window, patience, per });
    let usual = Storm::default();
    assert_eq!(storm(""), usual);
    assert_eq!(storm("storm:\n"), usual);
    assert_eq!(storm("storm: { share: 50 % }\n"), Storm { share: 50, ..usual.clone() });
    assert_eq!(storm("storm: { per: [] }\n"), Storm { per: Vec::new(), ..usual.clone() });
    let one = vec![kraken_model::Path::known("labels.switch")];
    assert_eq!(storm("storm: { per: labels.switch }\n"), Storm { per: one, ..usual.clone() });
    assert_eq!(usual.per[0].as_str(), "location.rack");
}

#[test]
fn a_storm_that_could_not_be_judged_is_refused_where_it_stands() {
    let text = "storm:
  share: 0%
  at_least: 0
  window: soon
  patience: 5
  per: [rack, location.rack, location.rak, run_state, location.rack, busy, [x]]
  pre: []
";
    let said = said(text);
    let wanted = [
        "c.yaml:4:10: \"0%\" cannot be storm.share: it must be 1% to 100%",
        "c.yaml:5:13: \"0\" cannot be storm.at_least",
        "c.yaml:6:11: storm.window cannot be read",
        "c.yaml:7:13: storm.patience cannot be read",
        "c.yaml:8:9: \"rack\" cannot name failure domains: no value of that address can be configured",
        "c.yaml:8:44: \"run_state\" cannot name failure domains",
        "c.yaml:8:55: duplicate address location.rack: it stands there already",
        "c.yaml:8:70: \"busy\" cannot name failure domains",
        "c.yaml:8:76: \"\" cannot name failure domains",
        "c.yaml:9:3: unknown key \"pre\"",
    ];
    for (line, start) in said.iter().zip(wanted) {
        assert!(line.starts_with(start), "{line}\nis not\n{start}");
    }
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (text, start) in [
        ("storm: 20%\n", "c.yaml:3:8: storm is not a map"),
        ("storm: [20%]\n", "c.yaml:3:8: storm is not a map"),
        ("storm: { share: 20 }\n", "c.yaml:3:17: \"20\" cannot be storm.share"),
        ("storm: { share: 101% }\n", "c.yaml:3:17: \"101%\" cannot be storm.share"),
        ("storm: { share: ~ }\n", "c.yaml:3:17: storm.share has no value"),
        ("storm: { per: ~ }\n", "c.yaml:3:15: storm.per cannot be read"),
        ("storm: { per: {rack: 1} }\n", "c.yaml:3:15: storm.per cannot be read"),
        ("storm: { window: 5s }\n", "c.yaml:3:18: storm.window is too short: 5s: nodes behind one"),
        ("storm: {}\ntiming: {hello: 30s, silent: 2m}\n", "c.yaml:3:8: storm.window is too short"),
    ] {
        let said = self::said(text);
        assert!(said.len() == 1 && said[0].starts_with(start), "{said:?}\nis not\n{start}");
    }
}

#[test]
fn domains_that_no_node_is_in_are_known_unless_they_come_by_themselves() {
    let unused = |text: &str| {
        let cluster = read(text).unwrap();
        let unused = cluster.settings.storm.unused(&cluster.nodes);
        unused.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(unused(""), [] as [&str; 0]);
    assert_eq!(unused("storm: { per: [labels.switch, labels.pdu] }\n"), ["labels.pdu"]);
    assert_eq!(unused("storm: { per: [location.rack] }\n"), [] as [&str; 0]);
}

#[test]
fn what_is_done_about_a_silent_node_is_said_for_all_for_a_group_or_for_one() {
    let read = |nodes: &str| {
        let registry = Registry::new(layercake_schema::schemas()).unwrap();
        let context = Context { registry: &registry, images: &NoImages, steps: &[] };
        parse("c.yaml", &format!("{HEAD}{nodes}"), &context)
    };
    let at = |n: u8| format!("mac: '52:54:00:00:00:0{n}', address: 10.0.0.1{n}");
    let text = format!(
        "defaults: {{ silence: ask }}\ngroups: {{ storage: {{ nodes: 'n[2-3]', silence: wait }} }}\n\
         nodes:\n  n1: {{ {} }}\n  n2: {{ {} }}\n  n3: {{ {}, silence: recover }}\n",
        at(1),
        at(2),
        at(3)
    );
    let nodes = read(&text).unwrap().nodes;
    let of: Vec<_> = nodes.values().map(|cfg| cfg.text("silence").unwrap()).collect();
    assert_eq!(of, ["ask", "wait", "recover"]);
    let wrong = read(&format!("nodes:\n  n1: {{ {}, silence: never }}\n", at(1))).unwrap_err();
    let said = wrong[0].to_string();
    assert!(said.starts_with("c.yaml:4:64: ") && said.contains("\"never\""), "{said}");
}
