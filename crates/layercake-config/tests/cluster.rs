//! Cluster files, good and bad.
#![allow(clippy::unwrap_used)]

use kraken_model::{Path, Registry, Side, Value};
use layercake_config::{Cluster, Context, Diagnostic, ImageFacts, ImageLookup, Journal, parse};
use layercake_config::{Portion, Removed, Steps, UnavailableLimit, Where};
use std::time::Duration;

struct Images;

impl ImageLookup for Images {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        let kind = match reference {
            "web:1" => "plain",
            "login:1" => "systemd",
            _ => return Err("it is not in the store".to_owned()),
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let arch = (kind == "systemd").then(|| "x86_64".to_owned());
        let (command, env) = (vec![], [].into());
        Ok(ImageFacts { digest, size: 4096, kind: kind.into(), command, env, arch })
    }
}

const STEPS: &[&str] = &["power.on", "power.off", "power.recover"];

fn read(text: &str) -> Result<Cluster, Vec<Diagnostic>> {
    let registry = Registry::new(layercake_schema::schemas()).unwrap();
    let context = Context { registry: &registry, images: &Images, steps: STEPS };
    let cluster = parse("c.yaml", text, &context)?;
    for (node, doc) in &cluster.nodes {
        assert_eq!(registry.validate(Side::Cfg, doc), [], "{node}");
    }
    Ok(cluster)
}

fn said(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

const HEAD: &str = "cluster: c\nnetwork: {boot: {subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1, gateway: 10.0.0.254}}\nimages: {web: {image: 'web:1', command: [/x]}}\n";

#[test]
fn the_lab_is_read() {
    let cluster = read(include_str!("../../../examples/lab/cluster.yaml")).unwrap();
    assert_eq!(cluster.name, "lab");
    let (n2, n3) = (&cluster.nodes["n2"], &cluster.nodes["n3"]);
    assert_eq!(n2.text("net.boot.mac"), Some("52:54:00:4c:43:02"));
    assert_eq!(n2.text("net.boot.address"), Some("10.77.0.12/24"));
    assert_eq!(n2.get("power.qemu.memory"), Some(&Value::Int(512)));
    assert_eq!(n2.text("images.web.kind"), Some("plain"));
    assert_eq!(n2.text("image_state"), Some("ACTIVE"));
    assert_eq!(n3.text("images.login.kind"), Some("systemd"));
    let arch = (n2.text("images.web.arch"), n3.text("images.login.arch"));
    assert_eq!(arch, (None, Some("x86_64")), "as far as the store knows");
    assert_eq!(n3.names("images"), ["login"]);
}

#[test]
fn a_journal_is_bounded_by_entries_size_and_age_or_as_it_comes() {
    let nodes = "nodes: {n1: {mac: '52:54:00:00:00:01', address: 10.0.0.2}}\n";
    assert_eq!(read(&format!("{HEAD}{nodes}")).unwrap().settings.journal, Journal::default());
    let bounds = "journal: {entries: 5000, size: 512MiB, age: 30d}\n";
    let journal = read(&format!("{HEAD}{bounds}{nodes}")).unwrap().settings.journal;
    let age = Duration::from_secs(30 * 86_400);
    let wanted = Journal { entries: Some(5000), bytes: Some(512 << 20), age: Some(age) };
    assert_eq!(journal, wanted);
    for bad in ["entries: 10", "size: 5", "size: 1KiB", "age: 10m", "age: '18:00'", "ages: 1d"] {
        let said = said(&format!("{HEAD}journal: {{{bad}}}\n{nodes}"));
        assert!(said.len() == 1 && said[0].starts_with("c.yaml:4:"), "{bad}: {said:?}");
    }
}

#[test]
fn nodes_that_have_left_the_file_are_remembered_for_as_long_as_it_says() {
    let nodes = "nodes: {n1: {mac: '52:54:00:00:00:01', address: 10.0.0.2}}\n";
    assert_eq!(read(&format!("{HEAD}{nodes}")).unwrap().settings.removed, Removed::default());
    let removed = read(&format!("{HEAD}removed: {{keep: 30d, nodes: 0}}\n{nodes}")).unwrap();
    let keep = Some(Duration::from_secs(30 * 86_400));
    assert_eq!(removed.settings.removed, Removed { keep, nodes: Some(0) });
    for bad in ["keep: 1m", "keep: for ever", "nodes: -1", "nodes: many", "days: 7"] {
        let said = said(&format!("{HEAD}removed: {{{bad}}}\n{nodes}"));
        assert!(said.len() == 1 && said[0].starts_with("c.yaml:4:"), "{bad}: {said:?}");
    }
}

#[test]
fn what_is_done_about_a_machine_that_is_found_running_is_said_of_nodes_the_later_over_the_earlier()
{
    let text = |defaults: &str, n2: &str| {
        format!(
            "{HEAD}defaults: {{{defaults}}}\ngroups: {{old: {{nodes: n3, found_running: leave}}}}\n\
             nodes:\n  n[1,3]: {{mac: '52:54:00:00:00:[01-02]', address: '10.0.0.[2-3]'}}\n  \
             n2: {{mac: '52:54:00:00:00:09', address: 10.0.0.9, found_running: {n2}}}\n"
        )
    };
    let cluster = read(&text("found_running: reboot", "ask")).unwrap();
    let said_of = |node: &str| cluster.nodes[node].text("found_running");
    let all = ["n1", "n2", "n3"].map(said_of);
    assert_eq!(all, [Some("reboot"), Some("ask"), Some("leave")]);
    assert_eq!(read(&text("", "ask")).unwrap().nodes["n1"].text("found_running"), None);
    for bad in ["boot", "{policy: ask}", "[ask]", "''"] {
        let said = said(&text("", bad));
        assert!(said.len() == 1 && said[0].starts_with("c.yaml:8:"), "{bad}: {said:?}");
    }
    let said = said(&text("found_runing: ask", "ask"));
    assert!(said[0].contains("did you mean \"found_running\"?"), "{said:?}");
}

#[test]
fn times_that_cannot_hold_together_are_refused_where_they_stand() {
    let said_of = |timing: &str| {
        let nodes = "nodes: {n1: {mac: '52:54:00:00:00:01', address: 10.0.0.2}}\n";
        said(&format!("{HEAD}timing: {timing}\n{nodes}"))
    };
    let lost = "a healthy node would count as lost between two of its hellos";
    assert_eq!(
        said_of("{hello: 2m, silent: 10s}"),
        [format!(
            "c.yaml:4:29: timing.silent is too short: 10s beside hello of 2m: {lost}; set silent to \
             6m at the least, or a shorter hello"
        )]
    );
    let by_default = said_of("{hello: 20s}");
    assert!(by_default[0].starts_with("c.yaml:4:17: timing.silent is too short: 45s beside hello"));
    let cap = said_of("{retry: 1m, retry_cap: 10s}");
    assert!(cap.len() == 1 && cap[0].contains("timing.retry_cap is too short"), "{cap:?}");
}

#[test]
fn ranges_groups_and_templates_come_together() {
    let cluster = read(include_str!("../../../examples/cluster-130.yaml")).unwrap();
    assert_eq!(cluster.nodes.len(), 131);
    let last = &cluster.nodes["ml130"];
    assert_eq!(last.text("net.boot.mac"), Some("52:54:00:00:01:82"));
    assert_eq!(last.text("net.boot.address"), Some("10.20.3.11/16"));
    assert_eq!(last.text("location.rack"), Some("r2"));
    assert_eq!(last.text("location.slot"), Some("rack2-130"));
    assert_eq!(last.text("phys_state"), Some("POWER_OFF"));
    assert_eq!(last.text("run_state"), None);
    assert_eq!(cluster.groups["spare"].to_string(), "ml[121-130]");
    assert_eq!(cluster.settings.timing.boot.as_secs(), 300);
    let power_on = &cluster.settings.limits.steps[0];
    assert_eq!(power_on.of, Steps::Named(vec!["power.on".into()]));
    assert_eq!((power_on.at_once, power_on.every), (Some(10), Some(Duration::from_millis(500))));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_in_order() {
    let text = "cluster: c
netwrk: {}
network: {boot: {subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1}}
images: {web: {image: 'web:1', command: [/x]}, old: {image: 'old:1'}}
timing: {bot: 3s, join: 5}
defaults: {power: {driver: qemu, qemu: {memory: 5}}, boot: {cmdlin: x}}
nodes:
  n[1-3]: {mac: '52:54:00:00:00:[01-02]', address: '10.0.0.[1-3]', images: [webb]}
  n3: {address: 10.0.1.7}
  n4: {address: 10.0.0.3}
  n5: {address: 10.0.0.255, location: {rack: '{{ nod }}'}}
";
    let said = said(text);
    let wanted = [
        ("c.yaml:2:1: unknown key \"netwrk\"", "did you mean \"network\"?"),
        ("c.yaml:4:", "image \"old:1\" cannot be used: it is not in the store"),
        ("c.yaml:5:10: unknown key \"bot\"", "did you mean \"boot\"?"),
        ("c.yaml:5:", "not a duration"),
        ("c.yaml:6:", "power.qemu.memory cannot be 5: 5 is not between 256"),
        ("c.yaml:6:", "unknown key \"cmdlin\""),
        ("c.yaml:8:", "2 values of mac for 3 nodes"),
        ("c.yaml:8:", "10.0.0.1 cannot be the address of n1: it is the server's"),
        ("c.yaml:8:", "unknown image \"webb\""),
        ("c.yaml:9:3", "duplicate node n3: it stands in line 8 already"),
        ("c.yaml:9:", "10.0.1.7 cannot be the address of n3: it is not in 10.0.0.0/24"),
        ("c.yaml:10:", "duplicate address 10.0.0.3 for n4: n3 has it already"),
        ("c.yaml:11:", "it is the broadcast address"),
        ("c.yaml:11:", "\"nod\", for node n5"),
    ];
    let all = said.join("\n");
    assert_eq!(said.len(), wanted.len(), "{all}");
    for (line, (place, what)) in said.iter().zip(wanted) {
        assert!(
            line.starts_with(place) && line.contains(what),
            "{line}\nwanted {place} {what}\n{all}"
        );
    }
}

#[test]
fn what_must_be_unique_is() {
    let text = format!(
        "{HEAD}nodes:\n  a: {{mac: '52:54:00:00:00:01'}}\n  b: {{mac: '52:54:00:00:00:01'}}\n  a: {{}}\n"
    );
    let said = said(&text);
    assert_eq!(
        said,
        [
            "c.yaml:6:12: duplicate MAC 52:54:00:00:00:01 for b: a has it already",
            "c.yaml:7:3: duplicate key \"a\": it stands in line 5 already; join the two"
        ]
    );
}

#[test]
fn later_layers_say_over_earlier_ones() {
    let text = format!(
        "{HEAD}defaults: {{arch: x86_64, labels: {{a: 1, b: 1, c: 1}}, images: [web]}}
groups: {{g: {{nodes: '*', labels: {{b: 2, c: 2}}}}, h: {{nodes: x1, labels: {{c: 3}}, images: []}}}}
nodes: {{x1: {{labels: {{d: 4}}}}, x2: {{}}}}\n"
    );
    let cluster = read(&text).unwrap();
    let labels = |node: &str| {
        let doc = &cluster.nodes[node];
        doc.under("labels").map(|(_, v)| v.to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!((labels("x1").as_str(), labels("x2").as_str()), ("1234", "122"));
    assert_eq!(cluster.nodes["x1"].text("image_state"), Some("IDLE"));
    assert_eq!(cluster.nodes["x2"].text("image_state"), Some("ACTIVE"));
}

#[test]
fn services_run_while_they_are_needed_unless_a_layer_says_otherwise() {
    let text = format!(
        "{HEAD}defaults: {{images: [web]}}
groups: {{quiet: {{nodes: 'x[2-4]', services: {{image: off}}}}}}
nodes: {{x1: {{}}, x2: {{}}, x3: {{services: {{image: on}}}}, x4: {{want: {{power: off}}}}}}\n"
    );
    let cluster = read(&text).unwrap();
    let wanted = |node: &str| {
        let doc = &cluster.nodes[node];
        let text = |path| doc.text(path).unwrap_or("-");
        [text("run_state"), text("services.image.state"), text("image_state")].join(" ")
    };
    assert_eq!(wanted("x1"), "SYNC - ACTIVE");
    // What is not looked after cannot be wanted to be anything, but it is still what runs there.
    assert_eq!(wanted("x2"), "SYNC STOPPED -");
    assert_eq!(cluster.nodes["x2"].names("images"), ["web"]);
    assert_eq!(wanted("x3"), "SYNC RUNNING ACTIVE");
    assert_eq!(wanted("x4"), "- - -");
}

#[test]
fn a_service_that_there_is_not_and_one_that_is_neither_on_nor_off_are_refused() {
    let text = format!(
        "{HEAD}defaults: {{services: {{image: STOPPED}}}}\nnodes: {{x1: {{services: {{imag: off}}}}}}\n"
    );
    let said = said(&text);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("c.yaml:4:30: image is neither on nor off"), "{}", said[0]);
    let unknown =
        "unknown key \"imag\": nothing of this name belongs here; did you mean \"image\"?";
    assert!(said[1].ends_with(unknown), "{}", said[1]);
}

#[test]
fn limits_are_on_steps_and_on_what_is_unavailable_for_groups_and_values() {
    let text = format!(
        "{HEAD}groups: {{ front: {{ nodes: 'x1' }} }}
limits:
  steps:
    - {{ of: disruptive, per: location.rack, at_once: 2 }}
    - {{ of: [power.off, power.on], per: labels.pdu, every: 2s }}
    - {{ of: all, group: front, at_once: 1 }}
  unavailable:
    - {{ at_most: 10% }}
    - {{ group: front, per: location.rack, at_most: 2 }}
nodes: {{ 'x[1-2]': {{ location: {{ rack: r1 }}, labels: {{ pdu: p1 }} }} }}\n"
    );
    let limits = read(&text).unwrap().settings.limits;
    let of: Vec<&Steps> = limits.steps.iter().map(|limit| &limit.of).collect();
    let named = Steps::Named(vec!["power.off".into(), "power.on".into()]);
    assert_eq!(of, [&Steps::Disruptive, &named, &Steps::All]);
    let per = |address: &str| Some(Path::known(address));
    assert_eq!(limits.steps[1].nodes, Where { group: None, per: per("labels.pdu") });
    assert_eq!(limits.steps[1].every, Some(Duration::from_secs(2)));
    let front = Some("front".to_owned());
    assert_eq!(
        limits.unavailable,
        [
            UnavailableLimit { nodes: Where::default(), at_most: Portion::Percent(10) },
            UnavailableLimit {
                nodes: Where { group: front, per: per("location.rack") },
                at_most: Portion::Count(2)
            },
        ]
    );
}

#[test]
fn whatever_a_group_names_exists_wherever_it_stands_in_the_set() {
    let refused = |set: &str| {
        let groups = format!("groups: {{g: {{nodes: '{set}'}}, later: {{nodes: n1}}}}\n");
        let limits = "limits: {steps: [{of: all, group: g, at_once: 1}]}\n";
        let said = said(&format!("{HEAD}{limits}{groups}nodes: {{'n[1-3]': {{}}, login: {{}}}}\n"));
        assert_eq!(said.len(), 1, "{set}: {said:?}");
        assert!(said[0].starts_with("c.yaml:5:21: "), "{}", said[0]);
        said[0].clone()
    };
    for (set, why) in [
        ("n[1-3],n4", "no such node: n4 (did you mean n1?)"),
        ("n[1-3]!n01", "no such node: n01 (did you mean n1?)"),
        ("n[1-3]&lgin", "no such node: lgin (did you mean login?)"),
        ("n[1-3]^n[2-9]", "no such node: n[4-9] (there is login,n[1-3])"),
        ("!x", "no such node: x (there is login,n[1-3])"),
        ("n1!@gg", "no such group: @gg"),
        ("n1,@later", "further down"),
        ("@g", "is this one"),
        ("*!labels.role=login", "labels.role=login cannot stand here"),
    ] {
        let said = refused(set);
        assert!(said.contains(why), "{set}: {said}");
    }
}

#[test]
fn no_mistake_in_limits_or_images_hides_another_one() {
    let text = format!(
        "{HEAD}  old: {{image: 'old:1', command: /x, systemd: maybe}}
limits:
  steps:
    - {{ of: disruptiv, at_once: few }}
    - {{ of: alll, group: fron, per: location.rakc, at_once: 1, every: never }}
groups: {{ front: {{ nodes: 'x1' }} }}
nodes: {{ x1: {{ location: {{ rack: r1 }}, want: {{ power: of }}, power: {{ driver: qmu }} }} }}\n"
    )
    .replace("command: [/x]}}\n", "command: [/x]},\n")
    .replace("systemd: maybe}\n", "systemd: maybe}}\n");
    let wanted = [
        "image \"old:1\" cannot be used",
        "command is not a list",
        "\"maybe\" cannot be images.old.systemd",
        "there is no step \"disruptiv\": `layercake graph` shows the steps that there are; did you mean \"disruptive\"?",
        "\"few\" cannot be limits.steps[0].at_once",
        "there is no step \"alll\": `layercake graph` shows the steps that there are; did you mean \"all\"?",
        "there is no group \"fron\"",
        "no node has a value at location.rakc",
        "limits.steps[1].every cannot be read",
        "power is neither on nor off: a machine is one of both; did you mean \"off\"?",
        "\"qmu\" is not one of qemu, exec; did you mean \"qemu\"?",
    ];
    let said = said(&text);
    for wanted in wanted {
        assert!(said.iter().any(|line| line.contains(wanted)), "{wanted}: {said:#?}");
    }
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
}

#[test]
fn limits_that_could_not_hold_are_refused() {
    let text = format!(
        "{HEAD}limits:
  power_on: {{ at_once: 0 }}
  steps:
    - {{ of: power.of, at_once: 1 }}
    - {{ of: all, group: frnt, at_once: 1 }}
    - {{ of: all, per: image_reason, at_once: 1 }}
    - {{ of: all }}
    - {{ at_once: 1 }}
    - {{ of: all, per: location.rak, at_once: 1 }}
  unavailable:
    - {{ at_most: 0 }}
    - {{ at_most: 101% }}
    - {{ per: location.rack }}
groups: {{ front: {{ nodes: 'x1' }} }}
nodes: {{ x1: {{ location: {{ rack: r1 }} }} }}\n"
    );
    let wanted = [
        "\"0\" cannot be limits.power_on.at_once: it must be a number from 1",
        "there is no step \"power.of\"",
        "there is no group \"frnt\": it is not in the section groups; did you mean \"front\"?",
        "\"image_reason\" cannot be counted by",
        "limits.steps[3] limits nothing",
        "limits.steps[4].of is missing",
        "no node has a value at location.rak",
        "\"0\" cannot be limits.unavailable[0].at_most",
        "\"101%\" cannot be limits.unavailable[1].at_most",
        "limits.unavailable[2].at_most is missing",
    ];
    let said = said(&text);
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (line, wanted) in said.iter().zip(wanted) {
        assert!(line.contains(wanted), "{line}\nwanted {wanted}");
    }
}

#[test]
fn what_could_grow_or_nest_without_end_is_refused() {
    assert!(said("a: &x [1]\nb: *x\n")[0].contains("anchor"));
    assert!(!said(&"[".repeat(100_000)).is_empty());
    assert!(!said(&"a: {".repeat(1000)).is_empty());
    assert!(!said("").is_empty());
    assert!(said("a: 'b\n")[0].contains("not YAML"));
    assert!(said(&format!("{HEAD}nodes: {{'n[0-99999999]': {{}}}}"))[0].contains("250000"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-c0-9:{}\\[\\]'\"&*\n -]{0,60}") {
        let _ = read(&text);
        let _ = read(&format!("{HEAD}nodes:\n  {text}"));
    }
}
