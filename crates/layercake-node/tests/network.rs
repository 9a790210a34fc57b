//! The network of a seed, brought up in a network namespace of its own. Needs root and iproute2.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

const SEED: &str = r#"{
    "version": 1, "node": "n01", "cluster": "lab", "boot_id": "b-1",
    "interfaces": [{"mac": "52:54:00:ab:cd:01", "address": "10.7.0.11/24", "mtu": 1400,
                    "gateway": "10.7.0.1", "dns": ["10.7.0.1", "10.7.0.2"]}],
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
    assert_eq!(servers, "nameserver 10.7.0.1\nnameserver 10.7.0.2\n");
}
