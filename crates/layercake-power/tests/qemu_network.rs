//! A machine on a bridge, in a network namespace of its own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use layercake_power::{
    Machine, Off, PowerDriver, PowerError, PowerState, QemuConfig, QemuHost, QemuMachine,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

struct Netns(String);

impl Netns {
    fn new() -> Self {
        let name = format!("lc-power-{}", std::process::id());
        ip(&["netns", "add", &name]);
        Self(name)
    }

    /// Moves the calling thread, and what it starts, inside.
    fn enter(&self) {
        use std::os::fd::AsFd;
        let file = fs::File::open(Path::new("/run/netns").join(&self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(args: &[&str]) -> String {
    let done = Command::new("ip").args(args).output().unwrap();
    assert!(done.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn machine(dir: &Path, bridge: &str) -> QemuMachine {
    let config: QemuConfig = serde_json::from_value(
        serde_json::json!({ "memory": 256, "accel": "tcg", "bridge": bridge }),
    )
    .unwrap();
    let mac = "52:54:00:00:00:01".parse().ok();
    let machine = Machine::new("n1".parse().unwrap(), mac, &config).unwrap();
    QemuHost::new(dir).unwrap().machine(machine).unwrap()
}

#[test]
fn a_bridged_machine_is_plugged_in_and_takes_its_interface_with_it() {
    let netns = Netns::new();
    let dir = tempfile::tempdir().unwrap();
    // The namespace is the thread's: the runtime must be of this thread alone.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            netns.enter();
            ip(&["link", "add", "br0", "type", "bridge"]);
            ip(&["link", "set", "br0", "up"]);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let plugged = machine(dir.path(), "br0");
                plugged.on().await.unwrap();
                assert!(ip(&["link", "show", "master", "br0"]).contains("lc-n1"));

                // A server that died before it had plugged the machine in: the next one does.
                ip(&["link", "set", "lc-n1", "nomaster"]);
                let found = machine(dir.path(), "br0");
                assert_eq!(found.status().await.unwrap(), PowerState::On);
                assert!(ip(&["link", "show", "master", "br0"]).contains("lc-n1"));
                found.off(Off::Hard).await.unwrap();
                assert!(!ip(&["link", "show"]).contains("lc-n1"), "the interface was left");

                let lost = machine(dir.path(), "nobridge");
                let error = lost.on().await.unwrap_err();
                assert!(matches!(error, PowerError::Command { .. }), "{error}");
                assert!(error.to_string().contains("into bridge nobridge"), "{error}");
                assert_eq!(lost.status().await.unwrap(), PowerState::Off);
            });
        });
    });
}
