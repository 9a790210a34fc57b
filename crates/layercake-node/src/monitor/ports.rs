//! Who has the port that a program could not get.
//!
//! Images share the network of their node. What a program prints when a port is taken names no owner; the kernel's
//! tables do: who listens on which port, and to which process and image the socket belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The kernel's tables, and the state in which a socket of each waits for others (proc(5), include/net/tcp_states.h).
const TABLES: [(&str, &str); 4] = [
    ("/proc/net/tcp", "0A"),
    ("/proc/net/tcp6", "0A"),
    ("/proc/net/udp", "07"),
    ("/proc/net/udp6", "07"),
];

/// What programs print that ask for a port which is taken: the text of EADDRINUSE, and its name.
const COMPLAINTS: [&str; 4] =
    ["address already in use", "address in use", "eaddrinuse", "port already in use"];

/// How deep a systemd image's own tree of cgroups is looked through.
const MAX_DEPTH: u32 = 16;

/// Says who has a port that these lines complain about, if they do. `words` are what the program was started with,
/// which may name the port when it does not; `own` is the cgroup of its image, beside those of the others.
pub(super) fn taken<'a>(
    lines: &[String],
    words: impl Iterator<Item = &'a str>,
    own: &Path,
) -> Option<String> {
    let complaints: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let is_complaint = |line: &&String| COMPLAINTS.iter().any(|text| line.contains(text));
    let first = complaints.iter().position(|line| is_complaint(&line))?;
    let held = held_ports(own);
    // The port is named in the line itself, or near it.
    let named = numbers(&complaints[first]);
    let near = complaints.iter().flat_map(|line| numbers(line));
    let asked = words.flat_map(numbers);
    let found =
        named.into_iter().chain(near).chain(asked).find_map(|port| Some((port, held.get(&port)?)));
    if let Some((port, holder)) = found {
        return Some(format!("port {port} is taken by {holder}"));
    }
    let all: Vec<String> =
        held.iter().map(|(port, holder)| format!("{port} by {holder}")).collect();
    (!all.is_empty()).then(|| format!("ports that are taken on this node: {}", all.join(", ")))
}

/// The numbers in a line that can be a port.
fn numbers(line: &str) -> Vec<u16> {
    let words = line.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).filter(|port| *port != 0).collect()
}

/// The ports that somebody else listens on, with who does.
fn held_ports(own: &Path) -> BTreeMap<u16, String> {
    let mut ports = BTreeMap::new();
    for (table, state) in TABLES {
        let text = fs::read_to_string(table).unwrap_or_default();
        ports.extend(text.lines().filter_map(|line| listener(line, state)));
    }
    let images = images(own);
    let wanted: BTreeSet<u64> = ports.keys().copied().collect();
    let mut held = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name();
        let Some(pid) = pid.to_str().and_then(|pid| pid.parse::<i32>().ok()) else { continue };
        for inode in sockets(&entry.path()).filter(|inode| wanted.contains(inode)) {
            let port = ports.get(&inode).copied().unwrap_or(0);
            held.entry(port).or_insert_with(|| match images.get(&pid) {
                Some(image) => format!("image {image}"),
                None => command(&entry.path()),
            });
        }
    }
    held
}

/// Inode and port of a listening socket: a line of the kernel's table.
fn listener(line: &str, state: &str) -> Option<(u64, u16)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let port = fields.get(1)?.rsplit(':').next()?;
    (*fields.get(3)? == state).then_some(())?;
    Some((fields.get(9)?.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

/// The sockets that a process has open, by inode.
fn sockets(process: &Path) -> impl Iterator<Item = u64> {
    let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| {
        let target = fs::read_link(fd.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// A process that belongs to no image, by the name of its program.
fn command(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("{} of Layer 0", name.trim())
}

/// The processes of all images, which have their cgroups side by side: `<root>/<image>/<number>`.
fn images(own: &Path) -> BTreeMap<i32, String> {
    let mut found = BTreeMap::new();
    let Some(root) = own.parent().and_then(Path::parent) else { return found };
    for image in fs::read_dir(root).into_iter().flatten().flatten() {
        if let Ok(name) = image.file_name().into_string() {
            members(&image.path(), MAX_DEPTH, &mut |pid| drop(found.insert(pid, name.clone())));
        }
    }
    found
}

fn members(group: &Path, depth: u32, note: &mut dyn FnMut(i32)) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).for_each(&mut *note);
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            members(&entry.path(), depth - 1, note);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn listening_sockets_are_read_from_the_kernels_tables() {
        let line = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listener(line, "0A"), Some((4711, 80)));
        assert_eq!(listener(line, "07"), None);
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(listener(header, "0A"), None);
    }

    #[test]
    fn the_owner_of_a_taken_port_is_named_for_every_wording_and_protocol() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let (tcp, udp) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let own = Path::new("/nowhere/web/1");
        let taken = |lines: &[String]| super::taken(lines, std::iter::empty(), own);
        for (lines, port) in [
            (vec![format!("httpd: bind: 0.0.0.0:{tcp}: Address already in use")], tcp),
            (vec![format!("Error: listen EADDRINUSE: address already in use :::{tcp}")], tcp),
            (
                vec![
                    format!("listening on [::1]:{udp}"),
                    "OSError: [Errno 98] Address in use".into(),
                ],
                udp,
            ),
        ] {
            let text = taken(&lines).unwrap();
            assert!(text.starts_with(&format!("port {port} is taken by ")), "{text}");
            assert!(text.ends_with(" of Layer 0"), "{text}");
        }
        let unnamed = taken(&["bind: Address already in use".to_owned()]).unwrap();
        assert!(unnamed.contains(&format!("{tcp} by ")), "{unnamed}");
        assert_eq!(taken(&[format!("cannot open file {tcp}")]), None);
        let (lines, port) = (["bind: Address already in use".to_owned()], tcp.to_string());
        let asked = super::taken(&lines, ["-p", port.as_str()].into_iter(), own).unwrap();
        assert!(asked.starts_with(&format!("port {tcp} is taken by ")), "{asked}");
    }

    proptest! {
        #[test]
        fn no_line_of_a_table_and_nothing_printed_makes_it_panic(line in ".{0,120}") {
            let _ = listener(&line, "0A");
            let _ = numbers(&line.to_lowercase());
        }
    }
}
