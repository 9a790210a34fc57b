//! Real firmware in a lab of its own: UEFI by PXE and by HTTP boot to a running image, and a machine that fails
//! in Layer 0, which the server has to find out by itself.
//!
//! Their power is a script (the driver `exec`), because no virtual machine that Layercake starts itself has such
//! firmware.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::checks::Check;
use super::client::Node;
use super::cluster::Cluster;
use super::images::GREETING;
use super::{Pieces, check, checks, images, make_pieces_with};
use crate::error::Error;
use crate::{deps, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install missing Debian packages without asking
    #[arg(long, short)]
    yes: bool,
}

/// Debian's firmware for x86-64 machines: its program, and what it remembers.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Firmware, kernel and image take twenty seconds; only a failure waits this long.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// What there is: two UEFI machines, and one with a card that the kernel of the lab has no driver for.
const NODES: &str = r#"
nodes:
  "n[1-3]": { mac: "52:54:00:4c:44:[01-03]", address: "10.77.0.[11-13]", images: [web] }
"#;
const HEAD: &str = r#"cluster: firmware
network:
  boot: { subnet: 10.77.0.0/24, interface: br0, server: 10.77.0.1, gateway: 10.77.0.1, domain: lab.example }
images:
  web: { image: "web:1", command: [/bin/httpd, -f, -p, "80", -h, /www] }
"#;

/// A machine of the lab, as QEMU's arguments: what all have, and what makes it one of these.
const EVERY: &str = "-no-user-config -nodefaults -display none -accel tcg,thread=multi -m 512M -smp 1 \
    -device virtio-rng-pci -daemonize";
const UEFI: &str = "-machine q35,graphics=off -device virtio-net-pci,netdev=boot,romfile=,mac=";
/// UEFI tries PXE before HTTP, each for minutes; without its PXE it begins with HTTP.
const HTTP_FIRST: &str = "-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=no \
    -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no";
const OTHER_CARD: &str = "-machine pc,graphics=off -device e1000,netdev=boot,mac=";
/// The same card, as the node is told to have it: Intel 82540EM.
const ITS_NUMBERS: &str = "PCI 8086:100e";

/// Switches a machine: `ACTION NODE`. One that has ended and that nobody has waited for has no command line.
const POWER: &str = r#"#!/bin/sh
set -eu
dir=@DIR@/$2
runs() { [ -s "$dir/pid" ] && [ -n "$(tr -d '\0' < "/proc/$(cat "$dir/pid")/cmdline" 2> /dev/null)" ]; }
case $1 in
status) if runs; then echo on; else echo off; fi ;;
on) runs || { rm -f "$dir/pid"; sh "$dir/start"; } ;;
off) if runs; then kill -9 "$(cat "$dir/pid")"; while runs; do sleep 0.1; done; fi ;;
esac
"#;

const CHECKS: &[Check] = &[
    Check {
        promise: "real UEFI firmware boots by PXE to a running image",
        node: "n1",
        run: |cluster| boots(cluster, "n1", "x86-64 UEFI", "10.77.0.11"),
    },
    Check {
        promise: "real UEFI firmware boots by HTTP to a running image",
        node: "n2",
        run: |cluster| boots(cluster, "n2", "x86-64 UEFI HTTP", "10.77.0.12"),
    },
    Check {
        promise: "a machine whose network card Layer 0 cannot drive is told of, with the card",
        node: "n3",
        run: fails_in_layer0,
    },
];

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    deps::ensure(args.yes)?;
    run::require_root("firmware", "a network of virtual machines")?;
    let pieces = make_pieces_with(images::make_web_only)?;
    let cluster = Cluster::with_file(pieces.program.clone(), pieces.minos.clone(), cluster_file)?;
    check(cluster, &pieces, CHECKS, bring_up)
}

fn machines(dir: &Path) -> std::path::PathBuf {
    dir.join("machines")
}

fn cluster_file(dir: &Path) -> Result<String, Error> {
    let script = machines(dir).join("power");
    // Every JSON string is one of YAML.
    let command = serde_json::json!(script.to_string_lossy());
    let power = format!("power: {{ driver: exec, exec: {{ command: {command} }} }}");
    Ok(format!("{HEAD}defaults:\n  arch: x86_64\n  {power}\n{NODES}"))
}

fn bring_up(cluster: &mut Cluster, pieces: &Pieces) -> Result<(), Error> {
    let all = machines(cluster.dir());
    for (node, mac, arguments) in [
        ("n1", "52:54:00:4c:44:01", uefi("")),
        ("n2", "52:54:00:4c:44:02", uefi(HTTP_FIRST)),
        ("n3", "52:54:00:4c:44:03", OTHER_CARD.to_owned()),
    ] {
        let dir = all.join(node);
        fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
        fs::copy(VARIABLES, dir.join("variables")).map_err(Error::file("copy", VARIABLES))?;
        let start = dir.join("start");
        let text = start_script(&dir, node, mac, &arguments);
        fs::write(&start, text).map_err(Error::file("write", &start))?;
        plug_in(cluster, node)?;
    }
    let power = all.join("power");
    let write = |text: String| {
        fs::write(&power, text)?;
        fs::set_permissions(&power, fs::Permissions::from_mode(0o755))
    };
    write(POWER.replace("@DIR@", &quoted(&all))).map_err(Error::file("write", &power))?;
    cluster.start_server()?;
    cluster.import(&pieces.images)?;
    cluster.apply()
}

fn uefi(more: &str) -> String {
    let drive = "-drive if=pflash,format=raw";
    let flash = format!("{drive},unit=0,readonly=on,file={CODE} {drive},unit=1,file=variables");
    format!("{flash} {more} {UEFI}")
}

/// The shell words that start a machine in its directory, which a checkout may have put anywhere.
fn start_script(dir: &Path, node: &str, mac: &str, arguments: &str) -> String {
    let net = format!("-netdev tap,id=boot,ifname={node},script=no,downscript=no");
    let files = "-serial file:console.log -pidfile pid";
    let dir = quoted(dir);
    format!("cd {dir}\nexec qemu-system-x86_64 {EVERY} {files} {net} {arguments}{mac}\n")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// A port of the lab's bridge, for a machine that is still to be switched on.
fn plug_in(cluster: &Cluster, node: &str) -> Result<(), Error> {
    let [ip, rest @ ..] = cluster.inside();
    for words in [
        ["ip", "tuntap", "add", node, "mode", "tap"],
        ["ip", "link", "set", node, "master", "br0"],
        ["ip", "link", "set", "dev", node, "up"],
    ] {
        run::check(Command::new(ip).args(rest).args(words))?;
    }
    Ok(())
}

fn boots(cluster: &mut Cluster, name: &str, by: &str, address: &str) -> Result<String, Error> {
    let wait = format!("{name} to run its image, started by {by} firmware");
    let is_there = |node: &Node| node.is_active() && node.text("boot.firmware") == by;
    cluster
        .wait(&wait, LIMIT, |_, nodes| nodes.get(name).filter(|node| is_there(node)).map(drop))?;
    let took = run::human(cluster.age());
    let address = address.parse().map_err(|_| Error::Refused(format!("{address}: no address")))?;
    checks::wait_for_page(cluster, address, "web:1")?;
    Ok(format!("{GREETING}web:1, {took} after the lab's first process"))
}

fn fails_in_layer0(cluster: &mut Cluster) -> Result<String, Error> {
    cluster.wait("n3 to have fetched everything", LIMIT, |_, nodes| {
        let n3 = nodes.get("n3")?;
        (n3.text("boot_state") == "INIT" && n3.text("boot.card") == ITS_NUMBERS).then_some(())
    })?;
    let power = machines(cluster.dir()).join("power");
    let [ip, rest @ ..] = cluster.inside();
    run::check(Command::new(ip).args(rest).arg(power).args(["off", "n3"]))?;
    let reason = cluster.wait("n3 to be told of", LIMIT, |_, nodes| {
        let reason = nodes.get("n3")?.text("boot.reason");
        reason.contains("never joined").then(|| reason.to_owned())
    })?;
    if !reason.contains(ITS_NUMBERS) {
        return Err(Error::Refused(format!("the card is not named: {reason}")));
    }
    cluster.client.run(&["power", "off", "n3", "--yes"])?;
    Ok(reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn scripts_and_cluster_file_name_files_of_the_lab_wherever_it_is() {
        let dir = Path::new("/home/o'neill/my lab");
        assert!(
            cluster_file(dir)
                .unwrap()
                .contains(r#"command: "/home/o'neill/my lab/machines/power" "#)
        );
        let start = start_script(&dir.join("n1"), "n1", "52:54:00:4c:44:01", &uefi(HTTP_FIRST));
        assert!(start.starts_with(r"cd '/home/o'\''neill/my lab/n1'"), "{start}");
        assert!(start.ends_with("romfile=,mac=52:54:00:4c:44:01\n"), "{start}");
        let line = format!("sh -n <<'EOF'\n{POWER}\n{start}\nEOF\n").replace("@DIR@", "/x");
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }
}
