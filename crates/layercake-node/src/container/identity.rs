//! Who the node is, as the files of an image say it.
//!
//! Whoever logs in to an image sees the node: its name, its machine id, its name servers, whatever the image
//! was called where it was built. The node's network is the image's, so `localhost` and the node's own name
//! have to resolve.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::inside::{replace, says_something};
use super::{ContainerSpec, Stage, StageFailure};

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const MACHINE_ID: &str = "/etc/machine-id";
/// The machine id as D-Bus keeps it; a link to the other one in most images.
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Writes it all. What an image can do without is no reason not to start it: it is returned, in words.
pub(super) fn write(spec: &ContainerSpec) -> Result<Vec<String>, StageFailure> {
    let name = match &spec.image.hostname {
        Some(name) => {
            rustix::system::sethostname(name.as_bytes()).stage("set the host name")?;
            name.clone()
        }
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let mut lacks = Vec::new();
    let mut put = |path: &str, content: &str, what: &str| {
        if let Err(error) = replace(Path::new(path), content) {
            lacks.push(format!("cannot write {path}, so {what}: {error}"));
        }
    };
    if spec.image.hostname.is_some() || !says_something(Path::new(HOSTNAME)) {
        put(HOSTNAME, &format!("{name}\n"), "it may say another host name");
    }
    if !says_something(Path::new(HOSTS)) {
        let hosts = hosts(&name, &spec.addresses, search_domain(spec));
        put(HOSTS, &hosts, "localhost and the node's own name may not resolve");
    }
    // A node that knows no name server leaves the image its own.
    if let Some(resolv_conf) = spec.resolv_conf.as_ref().filter(|text| !text.trim().is_empty()) {
        put(RESOLV_CONF, resolv_conf, "names may not resolve");
    }
    write_machine_id(&spec.machine_id)?;
    Ok(lacks)
}

/// hosts(5): `localhost`, and the node's name for the address under which others reach it.
fn hosts(name: &str, addresses: &[IpAddr], domain: Option<&str>) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let names = match domain {
        Some(domain) if !name.contains('.') => format!("{name}.{domain} {name}"),
        _ => name.to_owned(),
    };
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    if addresses.is_empty() {
        // As Debian has it for a machine without an address of its own.
        text.push_str(&format!("127.0.1.1\t{names}\n"));
    }
    text
}

/// The domain in which the node's names are looked up: resolv.conf(5), `search` or `domain`.
fn search_domain(spec: &ContainerSpec) -> Option<&str> {
    let mut lines = spec.resolv_conf.as_deref()?.lines();
    lines.find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.next())?
    })
}

/// machine-id(5): an id that an image brings would be that of every node that runs it.
fn write_machine_id(id: &str) -> Result<(), StageFailure> {
    replace(Path::new(MACHINE_ID), &format!("{id}\n")).stage(format!("write {MACHINE_ID}"))?;
    // Only where it is a file: a link leads to the one above, and what is not there is not missed.
    if fs::symlink_metadata(DBUS_MACHINE_ID).is_ok_and(|found| found.is_file()) {
        let written = replace(Path::new(DBUS_MACHINE_ID), &format!("{id}\n"));
        written.stage(format!("write {DBUS_MACHINE_ID}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_nodes_own_name_is_that_of_its_addresses() {
        let addresses = ["10.7.0.11".parse().unwrap(), "fd00::11".parse().unwrap()];
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(hosts("n1", &addresses, None), format!("{local}10.7.0.11\tn1\nfd00::11\tn1\n"));
        let named = hosts("n1", &addresses[..1], Some("rep.example"));
        assert_eq!(named, format!("{local}10.7.0.11\tn1.rep.example n1\n"));
        let whole = hosts("n1.lab", &[], Some("rep.example"));
        assert_eq!(whole, format!("{local}127.0.1.1\tn1.lab\n"));
    }
}
