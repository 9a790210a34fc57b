//! Values that a module could not use, refused where they stand in the file.
#![allow(clippy::unwrap_used)]

use kraken_model::Registry;
use layercake_config::{Cluster, Context, Diagnostic, ImageFacts, ImageLookup, parse};

struct Images;

impl ImageLookup for Images {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        let kind = if reference == "login:1" { "systemd" } else { "plain" };
        let (digest, kind) = (format!("sha256:{}", "0".repeat(64)), kind.to_owned());
        Ok(ImageFacts { digest, size: 1, kind, command: vec![], env: [].into(), arch: None })
    }
}

fn read(text: &str) -> Result<Cluster, Vec<Diagnostic>> {
    let registry = Registry::new(layercake_schema::schemas()).unwrap();
    parse("c.yaml", text, &Context { registry: &registry, images: &Images, steps: &[] })
}

/// A cluster with this network, and with these nodes.
fn file(network: &str, nodes: &str) -> String {
    format!("cluster: c\nnetwork: {{ boot: {{ {network} }} }}\nnodes:\n{nodes}")
}

const NETWORK: &str = "subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1, gateway: 10.0.0.254";

/// Holds that a mistake is said of every place with a `§` before it, for these reasons, and nothing else.
fn says(marked: &str, wanted: &[&str]) {
    let mut places = Vec::new();
    for (line, text) in marked.lines().enumerate() {
        for (mark, (at, _)) in text.match_indices('§').enumerate() {
            let column = text[..at].chars().count() + 1 - mark;
            places.push(format!("c.yaml:{}:{column}: ", line + 1));
        }
    }
    let text = marked.replace('§', "");
    let found = read(&text).err().unwrap_or_default();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let all = found.join("\n");
    assert_eq!((found.len(), places.len()), (wanted.len(), wanted.len()), "{marked}\n{all}");
    for ((line, place), wanted) in found.iter().zip(&places).zip(wanted) {
        assert!(
            line.starts_with(place) && line.contains(wanted),
            "{marked}\n{line}\nwanted {place}{wanted}\n{all}"
        );
    }
}

fn nodes_say(nodes: &str, wanted: &[&str]) {
    says(&file(NETWORK, nodes), wanted);
}

const GOOD: &str = "  n1: { mac: \"52:54:00:00:00:01\", address: 10.0.0.11 }\n";

#[test]
fn a_hardware_address_that_no_machine_has_is_refused_at_its_place() {
    nodes_say(GOOD, &[]);
    for (mac, why) in [
        ("53:54:00:00:00:02", "it is a group (multicast) address"),
        ("01:00:5e:00:00:01", "group"),
        ("ff:ff:ff:ff:ff:ff", "group"),
        ("00:00:00:00:00:00", "it is all zero"),
        ("52:54:00:00:00", "a MAC address such as"),
    ] {
        nodes_say(&format!("{GOOD}  n2: {{ mac: §\"{mac}\", address: 10.0.0.12 }}\n"), &[why]);
        nodes_say(&format!("{GOOD}  n2: {{ net: {{ data: {{ mac: §\"{mac}\" }} }} }}\n"), &[why]);
    }
    // From a group or the defaults: once, where it stands.
    let text = format!(
        "cluster: c\nnetwork: {{ boot: {{ {NETWORK} }} }}\n\
         groups: {{ g: {{ nodes: \"n[2-9]\", net: {{ x: {{ mac: §\"01:00:00:00:00:00\" }} }} }} }}\n\
         nodes:\n{GOOD}  \"n[2-9]\":\n"
    );
    says(&text, &["net.x.mac cannot be 01:00:00:00:00:00"]);
}

#[test]
fn hardware_addresses_are_taken_in_every_usual_spelling_and_kept_in_one() {
    let text = file(
        NETWORK,
        "  n1: { mac: 52-54-00-AB-CD-01, address: 10.0.0.11, \
         net: { data: { mac: \"52:54:00:AB:cd:02\" } } }\n",
    );
    let cluster = read(&text).unwrap();
    assert_eq!(cluster.nodes["n1"].text("net.boot.mac"), Some("52:54:00:ab:cd:01"));
    assert_eq!(cluster.nodes["n1"].text("net.data.mac"), Some("52:54:00:ab:cd:02"));
}

#[test]
fn an_address_that_no_machine_can_have_there_is_refused_at_its_place() {
    for (address, why) in [
        ("10.0.0.0", "it is the network's own"),
        ("10.0.0.255", "it is the broadcast address"),
        ("10.0.0.1", "it is the server's"),
        ("10.0.0.254", "it is the gateway's"),
        ("10.0.1.11", "it is not in 10.0.0.0/24"),
        ("10.0.0.011", "it is not an IPv4 address"),
        ("10.0.0.11/24", "it is not an IPv4 address"),
        ("127.0.0.1", "it is a loopback address"),
        ("0.0.0.0", "it is an address of \"this network\""),
    ] {
        let why = format!("{address} cannot be the address of n1: {why}");
        let why = why.replace("10.0.0.11/24 cannot be", "cannot be");
        let node = format!("  n1: {{ mac: \"52:54:00:00:00:01\", address: §{address} }}\n");
        nodes_say(&node, &[&why]);
    }
    let by_net = |address: &str| {
        format!(
            "  n1: {{ mac: \"52:54:00:00:00:01\", net: {{ boot: {{ address: {address} }} }} }}\n"
        )
    };
    nodes_say(&by_net("10.0.0.11/24"), &[]);
    for (address, why) in [
        ("§10.0.0.11/32", "a machine boots in a network of 30 bits at most"),
        ("§10.0.0.11/31", "a machine boots in a network of 30 bits at most"),
        ("§10.0.0.11/16", "its prefix has 16 bits, and that of the network, 10.0.0.0/24, 24"),
        ("§10.0.0.11/0", "a prefix has 1 to 32 bits"),
        ("§10.0.0.255/24", "it is the broadcast address"),
        ("§10.0.0.255/16", "its prefix has 16 bits"),
        ("§10.0.0.1/24", "it is the server's"),
        ("§10.0.0.254/24", "it is the gateway's"),
        ("§10.9.0.11/24", "it is not in 10.0.0.0/24"),
        ("§224.0.0.5/24", "it is a multicast address"),
    ] {
        nodes_say(&by_net(address), &[why]);
    }
    // A second interface may be in any network, and not have the server's address.
    let second = |address: &str| {
        format!(
            "  n1: {{ net: {{ data: {{ mac: \"52:54:00:00:00:01\", address: {address} }} }} }}\n"
        )
    };
    for good in ["10.9.0.11/24", "10.9.0.0/31", "10.9.0.7/32"] {
        nodes_say(&second(good), &[]);
    }
    nodes_say(&second("§10.0.0.1/8"), &["it is the server's"]);
    nodes_say(&second("§10.9.0.255/24"), &["it is the broadcast address"]);
}

#[test]
fn machines_behind_a_relay_have_a_gateway_in_their_own_network() {
    let node = |rest: &str| {
        format!("  n1: {{ mac: \"52:54:00:00:00:01\", net: {{ boot: {{ {rest} }} }} }}\n")
    };
    nodes_say(&node("address: §10.9.0.11/24"), &["it is not in 10.0.0.0/24"]);
    nodes_say(&node("address: 10.9.0.11/24, gateway: 10.9.0.1"), &[]);
    let strange = node("address: 10.9.0.11/24, gateway: §10.0.0.254");
    nodes_say(&strange, &["it is not in 10.9.0.0/24"]);
}

#[test]
fn a_gateway_that_cannot_be_reached_is_refused_at_its_place() {
    let with = |gateway: &str| {
        let network =
            format!("subnet: 10.0.0.0/24, interface: br0, server: 10.0.0.1, gateway: {gateway}");
        file(&network, GOOD)
    };
    says(&with("10.0.0.254"), &[]);
    // The server may be the router.
    says(&with("10.0.0.1"), &[]);
    for (gateway, why) in [
        ("§10.0.1.254", "it is not in 10.0.0.0/24"),
        ("§10.0.0.0", "it is the network's own"),
        ("§10.0.0.255", "it is the broadcast address"),
        ("§gw", "it must be an IPv4 address"),
        ("§10.0.0.300", "it must be an IPv4 address"),
    ] {
        says(&with(gateway), &[why]);
    }
    let own = "  n1: { net: { data: { mac: \"52:54:00:00:00:01\", address: 10.9.0.2/24, \
               gateway: §10.9.0.2 } } }\n";
    nodes_say(own, &["net.data.gateway cannot be 10.9.0.2: it is the interface's own"]);
}

#[test]
fn a_network_in_which_no_machine_can_be_is_refused() {
    let with = |subnet: &str, server: &str, more: &str| {
        let nodes = "  n1:\n";
        file(&format!("subnet: {subnet}, interface: br0, server: {server}{more}"), nodes)
    };
    let usual = |more: &str, wanted: &[&str]| says(&with("10.0.0.0/24", "10.0.0.1", more), wanted);
    usual("", &[]);
    for (server, why) in [
        ("§10.0.0.0", "10.0.0.0 cannot be the server: it is the network's own"),
        ("§10.0.0.255", "it is the broadcast address"),
        ("§10.0.1.1", "it is not in 10.0.0.0/24"),
    ] {
        says(&with("10.0.0.0/24", server, ""), &[why]);
    }
    for bad in
        ["§10.0.0.0/31", "§10.0.0.0/32", "§10.0.0.1/24", "§10.0.0.0/7", "§10.0.0.0", "§10.0.0.0/-1"]
    {
        says(&with(bad, "10.0.0.1", ""), &["is not a network"]);
    }
    let loopback = with("§127.0.0.0/8", "§127.0.0.5", "");
    says(&loopback, &["it is a loopback address", "127.0.0.5 cannot be the server"]);
    for (more, why) in [
        (", domain: §\"a b\"", "it is not a domain"),
        (", domain: §~", "network.boot.domain has no value"),
        (", domain: §[a]", "network.boot.domain cannot be a list"),
        (", dns: §10.0.0.2", "network.boot.dns is not a list"),
        (", dns: [10.0.0.2, §ns1]", "it must be an IPv4 address"),
        (", dns: [10.0.0.2, §0.0.0.0]", "\"this network\""),
        (
            ", dns: §[1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9]",
            "8 at most",
        ),
        (", http_port: §8475", "the port on which nodes join"),
        (", http_port: §0", "a port, 1 to 65535"),
    ] {
        usual(more, &[why]);
    }
    let interface = "subnet: 10.0.0.0/24, interface: §a-name-of-16-chr, server: 10.0.0.1";
    says(&file(interface, "  n1:\n"), &["an interface name is 1 to 15"]);
}

#[test]
fn the_domain_of_the_network_reaches_every_node_unless_it_has_its_own() {
    let network = format!("{NETWORK}, domain: rep.example.");
    let nodes = "  n1: { mac: \"52:54:00:00:00:01\", address: 10.0.0.11 }
  n2:
    mac: \"52:54:00:00:00:02\"
    address: 10.0.0.12
    net: { boot: { domain: own.example, gateway: 10.0.0.253 } }
";
    let cluster = read(&file(&network, nodes)).unwrap();
    let text = |node: &str, key: &str| cluster.nodes[node].text(key).map(str::to_owned);
    assert_eq!(text("n1", "net.boot.domain").as_deref(), Some("rep.example"));
    assert_eq!(text("n1", "net.boot.gateway").as_deref(), Some("10.0.0.254"));
    assert_eq!(text("n2", "net.boot.domain").as_deref(), Some("own.example"));
    assert_eq!(text("n2", "net.boot.gateway").as_deref(), Some("10.0.0.253"));
    let bad = "  n1: { net: { boot: { domain: §\"a b\" } } }\n";
    nodes_say(bad, &["net.boot.domain cannot be a b: it is not a domain"]);
}

#[test]
fn what_two_nodes_cannot_both_have_is_refused_however_it_is_written() {
    for (body, what) in [
        (
            "mac: §\"52:54:00:00:00:01\"",
            "duplicate MAC 52:54:00:00:00:01 for n2: n1 has it already",
        ),
        ("mac: §52-54-00-00-00-01", "duplicate MAC 52:54:00:00:00:01 for n2"),
        ("net: { boot: { mac: §\"52:54:00:00:00:01\" } }", "duplicate MAC"),
        ("net: { data: { mac: §\"52:54:00:00:00:01\" } }", "duplicate MAC"),
        ("address: §10.0.0.11", "duplicate address 10.0.0.11 for n2: n1 has it already"),
        ("net: { boot: { address: §10.0.0.11/24 } }", "duplicate address 10.0.0.11 for n2"),
        ("net: { data: { address: §10.0.0.11/8 } }", "duplicate address 10.0.0.11 for n2"),
    ] {
        nodes_say(&format!("{GOOD}  n2: {{ {body} }}\n"), &[what]);
    }
    let upper = "  n1: { mac: \"52:54:00:00:00:0A\" }\n  n2: { mac: §\"52:54:00:00:00:0a\" }\n";
    nodes_say(upper, &["duplicate MAC 52:54:00:00:00:0a for n2: n1 has it already"]);
    // In the same range, twice on one node, and said twice.
    let range = "  \"n[1-2]\": { mac: [\"52:54:00:00:00:01\", §\"52:54:00:00:00:01\"] }\n";
    nodes_say(range, &["duplicate MAC"]);
    let own = "  n1: { net: { a: { address: 10.9.0.2/24 }, b: { address: §10.9.0.2/24 } } }\n";
    nodes_say(own, &["duplicate address 10.9.0.2 for n1: net.a.address has it already"]);
    let twice =
        "  n1: { mac: \"52:54:00:00:00:01\", net: { boot: { mac: §\"52:54:00:00:00:02\" } } }\n";
    nodes_say(twice, &["net.boot.mac is said twice"]);
    let taps = "  n1: { mac: \"52:54:00:00:00:01\", power: { driver: qemu, qemu: { bridge: br0, tap: t0 } } }
  n2: { mac: \"52:54:00:00:00:02\", power: { driver: qemu, qemu: { bridge: br0, tap: §t0 } } }
";
    nodes_say(taps, &["duplicate tap t0 for n2: n1 has it already"]);
}

#[test]
fn a_command_line_that_would_not_reach_the_kernel_is_refused_at_its_place() {
    let node = |cmdline: &str| format!("  n1: {{ boot: {{ cmdline: §\"{cmdline}\" }} }}\n");
    nodes_say(&node(&"x".repeat(2047)).replace('§', ""), &[]);
    for (cmdline, why) in [
        ("BOOTIF=${net0/mac:hexhyp}", "`${`, a variable of iPXE"),
        ("a || b", "`||`"),
        ("a && b", "`&&`"),
        ("a ; shell", "`;` as a word"),
        ("a #b", "a word that begins with `#`"),
        ("a\\nb", "control characters"),
        (&"x".repeat(2048), "it has 2048 bytes"),
    ] {
        nodes_say(&node(cmdline), &[why]);
    }
    // A template is judged by what it comes to.
    let template =
        "  \"n[1-3]\": { boot: { cmdline: §\"a={% if index == 1 %}${x}{% endif %}\" } }\n";
    nodes_say(template, &["boot.cmdline cannot be a=${x}: it has `${`"]);
    let from =
        "  n1: { boot: { interface: §dta }, net: { data: { mac: \"52:54:00:00:00:01\" } } }\n";
    nodes_say(from, &["there is no net.dta; there is net.data"]);
}

#[test]
fn power_that_its_driver_could_not_use_is_refused_at_its_place() {
    for (power, why) in [
        ("{ driver: §exec }", "the driver exec needs the program"),
        ("{ driver: exec, exec: { command: §power.sh } }", "it is not an absolute path"),
        ("{ driver: exec, exec: { command: §\"\" } }", "it is not an absolute path"),
        ("{ driver: §ipmi }", "is not one of qemu, exec"),
        ("{ driver: qemu, qemu: { bridge: §br0 } }", "the boot interface has no mac"),
        ("{ driver: qemu, qemu: { bridge: §\"br0,x\" } }", "an interface name"),
        ("{ driver: qemu, qemu: { memory: §5 } }", "between 256"),
    ] {
        nodes_say(&format!("  n1: {{ power: {power} }}\n"), &[why]);
    }
    // What another driver would be told is not looked at.
    let other = "  n1: { power: { driver: exec, exec: { command: /p }, qemu: { bridge: br0 } } }\n";
    nodes_say(other, &[]);
}

#[test]
fn an_image_with_which_nothing_could_be_started_is_refused_whether_it_is_used_or_not() {
    let with = |image: &str| {
        format!(
            "cluster: c\nnetwork: {{ boot: {{ {NETWORK} }} }}\n\
             images:\n  web: {{ image: \"web:1\", {image} }}\nnodes:\n  n1:\n"
        )
    };
    says(&with("command: [/x, -f], env: { A: b }"), &[]);
    let words = vec!["x"; 257].join(", ");
    let (long, variable) = ("x".repeat(4097), "x".repeat(4000));
    let variables: Vec<String> = (0..20).map(|n| format!("V{n}: {variable}")).collect();
    let variables = variables.join(", ").replacen("V0: ", "V0: §", 1);
    for (image, why) in [
        ("command: §[\"\"]", "it must begin with the name of a program"),
        ("command: §[/x, \"a\\0b\"]", "images.web.command cannot be"),
        ("command: [/x, §[a]]", "cannot be a list"),
        ("command: [/x, §~]", "has no value"),
        (&format!("command: §[{words}]"), "more than 256 members"),
        (&format!("command: §[/x, {long}]"), "is not text"),
        ("command: [/x], env: §[A]", "images.web.env is not a map"),
        ("command: [/x], env: { A: §~ }", "images.web.env.A has no value"),
        ("command: [/x], env: { §\"A B\": c }", "cannot be a variable"),
        ("command: [/x], env: { §\"A=B\": c }", "cannot be a variable"),
        (&format!("command: [/x], env: {{ {variables} }}"), "more than 64 KiB"),
        ("command: [/x], systemd: §perhaps", "true or false"),
    ] {
        says(&with(image), &[why]);
    }
    says(&with("command: []").replace("{ image", "§{ image"), &["command is missing"]);
}

#[test]
fn nothing_is_never_text() {
    let nodes = "  n1: { location: { rack§: }, labels: { a: §null, b: §~, c: \"~\", d: \"\" } }\n";
    let found =
        ["nodes.n1.location.rack has", "nodes.n1.labels.a has no value", "nodes.n1.labels.b has"];
    nodes_say(nodes, &found);
    // A section that says nothing is no mistake: its lines may be commented out.
    let head = format!("cluster: c\nnetwork: {{ boot: {{ {NETWORK} }} }}\n");
    let empty = "images:\nlimits:\ntiming:\njournal:\ndefaults:\ngroups:\n\
                 nodes:\n  n1: { labels:, want:, net: { data: } }\n  n2:\n";
    says(&format!("{head}{empty}"), &[]);
    // But for the nodes: without any, the cluster would be empty.
    says(&format!("{head}nodes: §~\n"), &["nodes is missing"]);
    let unnamed = format!("cluster: §~\nnetwork: {{ boot: {{ {NETWORK} }} }}\nnodes: {{}}\n");
    says(&unnamed, &["the file.cluster has no value"]);
}

#[test]
fn a_group_that_no_node_set_could_name_is_refused() {
    for name in ["a b", "\"*\"", "\"a,b\"", "\"@a\"", "é"] {
        let groups = format!("groups:\n  §{name}: {{ nodes: n1 }}\n");
        let text =
            format!("cluster: c\n{groups}network: {{ boot: {{ {NETWORK} }} }}\nnodes:\n{GOOD}");
        says(&text, &["cannot name a group"]);
    }
}
