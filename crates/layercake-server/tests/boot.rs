//! A server whose machine boots: what its firmware asks, and what people are told of it.
#![allow(clippy::unwrap_used)]

mod rig;

use layercake_server::{Config, Server};
use rig::*;
use serde_json::Value;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The machine of n1: a namespace with its network card, plugged into the server's bridge.
struct Machine(String);

impl Machine {
    fn plugged_in() -> Self {
        let machine = Self(format!("lcserver-boot-{}", std::process::id()));
        let name = &machine.0;
        ip(&format!("netns add {name}"));
        ip(&format!("link add far type veth peer name card netns {name}"));
        ip("link set far master lab0 up");
        ip(&format!("-n {name} link set card address 52:54:00:00:00:01 up"));
        ip(&format!("-n {name} addr add 10.99.0.11/24 dev card"));
        machine
    }

    /// Says a DISCOVER as this firmware does, and hears what file it is to boot; none if none.
    async fn discovers(&self, arch: u8) -> Option<String> {
        let socket = self.says_discover(arch).await;
        let heard = tokio::task::spawn_blocking(move || {
            let mut offer = [0; 1500];
            socket.recv(&mut offer).unwrap();
            offer[108..236].iter().take_while(|b| **b != 0).map(|b| *b as char).collect::<String>()
        });
        Some(heard.await.unwrap()).filter(|file| !file.is_empty())
    }

    /// Says a DISCOVER, and gives the socket on which an answer may come.
    async fn says_discover(&self, arch: u8) -> UdpSocket {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        let said = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut discover = vec![0; 240];
            discover[..4].copy_from_slice(&[1, 1, 6, 0]);
            discover[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
            discover[236..].copy_from_slice(&[99, 130, 83, 99]);
            discover.extend_from_slice(&[53, 1, 1, 93, 2, 0, arch, 60, 9]);
            discover.extend_from_slice(b"PXEClient\xff");
            socket.send_to(&discover, "10.99.0.1:67").unwrap();
            socket
        });
        tokio::task::spawn_blocking(|| said.join().unwrap()).await.unwrap()
    }

    /// Fetches a file of its boot: the status, and what was said.
    async fn fetches(&self, path: &str) -> (String, String) {
        let url = format!("http://10.99.0.1:8080/boot/n1/{path}");
        let curl = ["curl", "--silent", "--max-time", "60", "--write-out", "\n%{http_code}", &url];
        let mut command = tokio::process::Command::new("ip");
        let output = command.args(["netns", "exec", &self.0]).args(curl).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (said, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), said.trim_end().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// A power controller that remembers what it was told.
fn write_power_script(dir: &Path) {
    let text = format!(
        "#!/bin/sh\nstate={}/$2.power\ncase $1 in\nstatus) cat $state 2>/dev/null || echo off;;\n\
         on|off) echo $1 > $state;;\nesac\n",
        dir.display()
    );
    // Written by another process and moved: a file that is open for writing cannot be run.
    let line = format!(
        "printf %s \"$1\" > {0}.new && chmod 755 {0}.new && mv {0}.new {0}",
        dir.join("power").display()
    );
    assert!(Command::new("sh").args(["-c", &line, "sh", &text]).status().unwrap().success());
}

/// Waits until what the API says of a path holds.
async fn until(dir: &Path, path: &str, what: &str, holds: impl Fn(&str) -> bool) -> String {
    let said = std::cell::RefCell::new(String::new());
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let (_, answer) = ask(dir, &[], path).await;
            if holds(&answer) {
                return answer;
            }
            *said.borrow_mut() = answer;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never {what}: {}", said.borrow()))
}

/// Waits until a discovered variable of n1 has a value.
async fn until_found(dir: &Path, variable: &str, value: &str) {
    let is_so = |answer: &str| {
        let nodes: Vec<Value> = serde_json::from_str(answer).unwrap_or_default();
        nodes.first().is_some_and(|n1| n1["dsc"][variable] == value)
    };
    until(dir, "nodes", &format!("{variable} = {value}"), is_so).await;
}

async fn armed(dir: &Path, config: Config) -> (Server, Machine) {
    write_power_script(dir);
    let server = Server::start(config).await.unwrap();
    let (status, applied) = apply(dir, "", &cluster(dir, TWO)).await;
    assert_eq!(status, 200, "{applied}");
    until_found(dir, "boot_state", "WAIT").await;
    (server, Machine::plugged_in())
}

#[test]
fn a_machine_of_another_architecture_does_not_boot_and_explain_and_events_say_why() {
    in_namespace(|dir| async move {
        let config = config(&dir);
        std::fs::create_dir_all(&config.boot_programs).unwrap();
        for program in ["snponly.efi", "snponly-arm64.efi"] {
            std::fs::write(config.boot_programs.join(program), program).unwrap();
        }
        let (server, machine) = armed(&dir, config).await;
        assert_eq!(machine.discovers(11).await, None);
        let why = "its firmware is arm64 UEFI, and the node is x86_64";
        for path in ["explain?nodes=n1", "events?limit=1000", "nodes?nodes=n1"] {
            until(&dir, path, why, |said| said.contains(why)).await;
        }
        for file in ["script.ipxe", "kernel", "initramfs", "seed"] {
            let (status, said) = machine.fetches(file).await;
            assert!(status == "409" && said.starts_with(why), "{file}: {status} {said}");
        }
        until_found(&dir, "boot_state", "WAIT").await;

        // The right machine is put in its place.
        assert_eq!(machine.discovers(7).await.as_deref(), Some("snponly.efi"));
        assert_eq!(machine.fetches("seed?card=018086100e").await.0, "200");
        until_found(&dir, "boot_state", "INIT").await;
        let booted = |said: &str| said.contains("x86-64 UEFI") && !said.contains(why);
        until(&dir, "nodes?nodes=n1", "the reason is gone", booted).await;

        // It has everything, and is back: whatever is wrong is wrong in Layer 0.
        assert!(machine.discovers(7).await.is_some());
        let why = "never joined, and asked the network for another boot: has Layer 0 no driver for its \
                   network card (PCI 8086:100e)";
        until(&dir, "explain?nodes=n1", why, |said| said.contains(why)).await;
        server.shutdown().await;
    });
}

#[test]
fn firmware_that_is_quicker_than_its_power_controller_boots_all_the_same() {
    in_namespace(|dir| async move {
        let config = config(&dir);
        std::fs::create_dir_all(&config.boot_programs).unwrap();
        std::fs::write(config.boot_programs.join("snponly.efi"), "a program").unwrap();
        write_power_script(&dir);
        // The controller says that the machine is off, whatever it is told, until the file is there.
        std::fs::create_dir(dir.join("n1.power")).unwrap();
        let server = Server::start(config).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        let machine = Machine::plugged_in();
        until_found(&dir, "phys_state", "POWER_OFF").await;
        machine.says_discover(7).await;
        let put_off = |said: &str| said.contains("\"dhcp_put_off\":1");
        until(&dir, "status", "put off", put_off).await;
        std::fs::remove_dir(dir.join("n1.power")).unwrap();
        until_found(&dir, "boot_state", "WAIT").await;
        assert_eq!(machine.discovers(7).await.as_deref(), Some("snponly.efi"));
        server.shutdown().await;
    });
}

#[test]
fn a_layer_0_for_another_architecture_is_not_given_to_a_node() {
    in_namespace(|dir| async move {
        let config = config(&dir);
        let mut kernel = vec![0; 64];
        kernel[56..60].copy_from_slice(b"ARM\x64");
        std::fs::write(config.minos.join("vmlinuz"), kernel).unwrap();
        write_power_script(&dir);
        let server = Server::start(config).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        let why = "Layer 0 is for aarch64, and the node is x86_64";
        until(&dir, "explain?nodes=n1", why, |said| said.contains(why)).await;
        server.shutdown().await;
    });
}

#[test]
fn missing_boot_programs_are_in_the_status_with_the_package_that_has_them() {
    in_namespace(|dir| async move {
        let config = config(&dir);
        let programs = config.boot_programs.clone();
        let server = Server::start(config).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        let (_, status) = ask(&dir, &[], "status").await;
        for said in [
            &*format!("cannot list the boot programs in {}", programs.display()),
            "x86 BIOS (undionly.kpxe), x86-64 UEFI (snponly.efi or ipxe.efi)",
            "install the Debian package ipxe",
        ] {
            assert!(status.contains(said), "{said} in {status}");
        }
        server.shutdown().await;
    });
}
