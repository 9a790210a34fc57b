//! The network of a seed, brought up in a network namespace of its own. Needs root and iproute2.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

const SEED: &str = r#"{
    "version": 1, "node": "n01", "cluster": "lab", "boot_id": "b-1",
    "interfaces": [{"mac": "52:54:00:ab:cd:01", "address": "10.7.0.11/24", "mtu": 1400,
                    "gateway": "10.7.0.1", "domain": "lab.example",
                    "dns": ["10.7.0.1", "10.7.0.2"]}],
    "parents": [{"addr": "10.7.0.1:7171"}],
    "parent_key_sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "join_token": "5e0c7f0e5e0c7f0e5e0c7f0e5e0c7f0e",
    "image_base": "http://10.7.0.1:8080/images"
}"#;

/// A network namespace that goes with the test.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(purpose: &str) -> Self {
        let name = format!("layercake-{purpose}-{}", std::process::id());
        let namespace = Self { name };
        namespace.ip(&["netns", "add", &namespace.name]);
        namespace
    }

    fn ip(&self, arguments: &[&str]) {
        let output = Command::new("ip").args(arguments).output().expect("install iproute2");
        assert!(output.status.success(), "ip {arguments:?}: {}", text(&output));
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("ip");
        // The host name is part of the seed and must not become this machine's.
        command.args(["netns", "exec", &self.name, "unshare", "--uts"]);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.inside().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn a_device_that_appears_late_is_configured_as_the_seed_says_and_twice_is_as_good_as_once() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, resolv_conf) = (dir.path().join("seed.json"), dir.path().join("resolv.conf"));
    std::fs::write(&seed, SEED).unwrap();
    let namespace = Namespace::new("net");
    let mut node = namespace.inside();
    node.arg(env!("CARGO_BIN_EXE_layercake-node")).arg("network").arg(&seed).arg(&resolv_conf);
    let waiting = node.stdout(std::process::Stdio::piped()).spawn().unwrap();

    // Names of links are per namespace, so these cannot meet those of another test.
    let add = ["link", "add", "port", "type", "veth", "peer", "name", "far"];
    namespace.run(&[&["ip"][..], &add].concat());
    namespace.run(&["ip", "link", "set", "far", "up"]);
    namespace.run(&["ip", "link", "set", "port", "address", "52:54:00:ab:cd:01"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(text(&output), "52:54:00:ab:cd:01 is up as port\n");

    let again = node.output().unwrap();
    assert_eq!(text(&again), "52:54:00:ab:cd:01 is up as port\n");
    let addresses = namespace.run(&["ip", "-4", "-o", "address", "show", "dev", "port"]);
    assert_eq!(addresses.matches("inet 10.7.0.11/24").count(), 1, "{addresses}");
    let routes = namespace.run(&["ip", "route"]);
    assert!(routes.contains("default via 10.7.0.1 dev port proto static"), "{routes}");
    assert!(namespace.run(&["ip", "link", "show", "port"]).contains("mtu 1400"));
    assert!(namespace.run(&["ip", "link", "show", "lo"]).contains("LOWER_UP"));
    let servers = std::fs::read_to_string(&resolv_conf).unwrap();
    assert_eq!(servers, "search lab.example\nnameserver 10.7.0.1\nnameserver 10.7.0.2\n");
}

/// A seed with a second interface, of this hardware address.
fn with_second(mac: &str) -> String {
    let second = format!("{{\"mac\": \"{mac}\", \"address\": \"10.8.0.11/24\"}}");
    SEED.replace("\"10.7.0.2\"]}],", &format!("\"10.7.0.2\"]}}, {second}],"))
}

#[test]
fn what_is_waited_for_is_said_at_once_and_one_missing_card_does_not_cost_the_other() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let (seed, resolv_conf) = (dir.path().join("seed.json"), dir.path().join("resolv.conf"));
    std::fs::write(&seed, with_second("52:54:00:ab:cd:02")).unwrap();
    let namespace = Namespace::new("wait");
    let mut node = namespace.inside();
    node.arg(env!("CARGO_BIN_EXE_layercake-node")).arg("network").arg(&seed).arg(&resolv_conf);
    let mut node = node
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(node.stderr.take().unwrap()).lines().map(Result::unwrap);
    for mac in ["52:54:00:ab:cd:01", "52:54:00:ab:cd:02"] {
        let words = format!(
            "no network interface has the address {mac}; interfaces: none; waiting for it, "
        );
        let line = said.next().unwrap();
        assert!(line.contains(&words), "{line}");
    }
    let add = ["link", "add", "port", "type", "veth", "peer", "name", "far"];
    namespace.run(&[&["ip"][..], &add].concat());
    namespace.run(&["ip", "link", "set", "port", "address", "52:54:00:ab:cd:01"]);
    // Its other end is down: no link, which is said when it has had its time.
    let line = said.next().unwrap();
    assert!(
        line.contains("port (52:54:00:ab:cd:01) has no link: is its cable plugged in"),
        "{line}"
    );
    let addresses = namespace.run(&["ip", "-4", "-o", "address", "show", "dev", "port"]);
    assert!(addresses.contains("inet 10.7.0.11/24"), "configured without waiting for the other");
    namespace.run(&["ip", "link", "set", "far", "up"]);
    // The second one appears as well, and then there is nothing to wait for any more.
    let add = ["link", "add", "port2", "type", "veth", "peer", "name", "far2"];
    namespace.run(&[&["ip"][..], &add].concat());
    namespace.run(&["ip", "link", "set", "far2", "up"]);
    namespace.run(&["ip", "link", "set", "port2", "address", "52:54:00:ab:cd:02"]);
    let output = node.wait_with_output().unwrap();
    let both = "52:54:00:ab:cd:01 is up as port\n52:54:00:ab:cd:02 is up as port2\n";
    assert_eq!(text(&output), both);
}

#[test]
fn a_card_that_never_comes_is_a_problem_of_its_own_and_no_card_at_all_is_an_error() {
    let namespace = Namespace::new("never");
    let add = ["link", "add", "port", "type", "veth", "peer", "name", "far"];
    namespace.run(&[&["ip"][..], &add].concat());
    namespace.run(&["ip", "link", "set", "far", "up"]);
    // Names and addresses of links are per network namespace, and so is the thread that looks at them.
    let name = namespace.name.clone();
    let port = namespace.run(&["cat", "/sys/class/net/port/address"]);
    let inside = std::thread::spawn(move || {
        enter(&name);
        let dir = tempfile::tempdir().unwrap();
        let resolv_conf = dir.path().join("resolv.conf");
        let up = |mac: &str, second: &str| {
            let text = with_second(second).replace("52:54:00:ab:cd:01", mac);
            let seed = layercake_seed::Seed::parse(text.as_bytes()).unwrap();
            let mut said = Vec::new();
            let limit = std::time::Duration::from_millis(50);
            let up = layercake_node::network::bring_up(&seed, &resolv_conf, limit, &mut |text| {
                said.push(text.to_owned());
            });
            (up, said)
        };
        let (one, said) = up(port.trim(), "52:54:00:ab:cd:02");
        let one = one.unwrap();
        assert_eq!((one.configured.len(), one.problems.len(), said.len()), (1, 1, 1));
        let words = "no network interface has the address 52:54:00:ab:cd:02; interfaces: ";
        assert!(one.problems[0].starts_with(words), "{one:?}");
        let (none, _) = up("52:54:00:ab:cd:03", "52:54:00:ab:cd:02");
        let error = none.unwrap_err().to_string();
        assert!(
            error.starts_with("no network interface has the address 52:54:00:ab:cd:03"),
            "{error}"
        );
    });
    inside.join().unwrap();
}

/// Moves this thread into a network namespace, and into a host name of its own.
fn enter(namespace: &str) {
    use layercake_sys::Namespaces;
    use rustix::thread::LinkNameSpaceType;
    layercake_sys::unshare(Namespaces { uts: true, ..Namespaces::default() }).unwrap();
    let namespace = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    let kind = Some(LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
}
