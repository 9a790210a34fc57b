//! What a Debian machine needs beyond git and a Rust toolchain.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::Error;
use crate::run;

/// A Debian package, why it is needed, and the file that proves that it is there. The file and not dpkg's
/// word is what counts: what somebody built by hand is as good.
struct Package {
    name: &'static str,
    proof: &'static str,
    why: &'static str,
}

const fn package(name: &'static str, proof: &'static str, why: &'static str) -> Package {
    Package { name, proof, why }
}

const PACKAGES: &[Package] = &[
    package("gcc", "/usr/bin/cc", "links every binary, and compiles the C in ring and mimalloc"),
    package("g++", "/usr/bin/g++", "compiles libFuzzer"),
    package("libc6-dev", "/usr/include/stdlib.h", "what C and static linking are done with"),
    package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "crates come over HTTPS"),
    package("qemu-system-x86", "/usr/bin/qemu-system-x86_64", "the machines of the lab"),
    package("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom", "their network boot firmware"),
    package("ipxe", "/usr/lib/ipxe/undionly.kpxe", "what BIOS and UEFI firmware loads"),
    package("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI firmware"),
    package("iproute2", "/usr/sbin/ip", "network namespaces, bridges, taps"),
    package("nftables", "/usr/sbin/nft", "drops packets in network tests"),
    package("tcpdump", "/usr/bin/tcpdump", "to look at what a test sends"),
    package("mmdebstrap", "/usr/bin/mmdebstrap", "makes the Debian system images"),
    package("squashfs-tools", "/usr/bin/mksquashfs", "packs system images"),
    package("busybox-static", "/bin/busybox", "the small image, and the reference initramfs"),
    package("cpio", "/usr/bin/cpio", "an independent reader of what minos packs"),
    package("kmod", "/usr/sbin/depmod", "kernel modules and their dependencies"),
    package("isc-dhcp-client", "/usr/sbin/dhclient", "a DHCP client to test against"),
    package("udhcpc", "/etc/udhcpc/default.script", "another DHCP client"),
    package("dnsmasq-base", "/usr/sbin/dnsmasq", "a DHCP and TFTP server to compare with"),
    package("tftp-hpa", "/usr/bin/tftp", "a TFTP client to test against"),
    package("atftp", "/usr/bin/atftp", "another TFTP client, with other options"),
    package("curl", "/usr/bin/curl", "an HTTP client to test against"),
    package("graphviz", "/usr/bin/dot", "draws the graph of mutations"),
    package(
        "python3-venv",
        "/usr/share/doc/python3-venv",
        "runs the module that is written in Python",
    ),
    package("socat", "/usr/bin/socat", "talks to sockets by hand"),
];

/// Parts of the Rust toolchain that the tests use, and how to get them.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
    /// Say what is missing and install nothing; exit status 1 when something is
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    print_table();
    if args.dry_run {
        let missing = missing(|proof| Path::new(proof).exists());
        return if missing.is_empty() { Ok(()) } else { Err(Error::Status(1)) };
    }
    ensure(args.yes)?;
    check_toolchain()?;
    println!("This machine has what is needed. Next: cargo xtask demo");
    Ok(())
}

/// Makes sure that every package is there: names those that are not and installs them, after asking
/// unless `yes`.
pub(crate) fn ensure(yes: bool) -> Result<(), Error> {
    let lacking = missing(|proof| Path::new(proof).exists());
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = lacking.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", names.join(" "));
    println!("Missing here, {} Debian packages:", lacking.len());
    for package in &lacking {
        println!("  {:<18} {}", package.name, package.why);
    }
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&os) || !Path::new("/usr/bin/apt-get").exists() {
        return Err(Error::Refused(format!(
            "this is not a Debian machine with apt-get, so these cannot be installed from here; install what \
             your distribution has instead of: {}",
            names.join(" ")
        )));
    }
    let prefix: &[&str] = if run::is_root() {
        &[]
    } else if Path::new("/usr/bin/sudo").exists() {
        &["sudo"]
    } else {
        return Err(Error::Refused(format!(
            "not root, and there is no sudo; as root run: {by_hand}"
        )));
    };
    if !yes && !confirmed(&by_hand)? {
        return Err(Error::Refused(format!("nothing was installed; to do it by hand: {by_hand}")));
    }
    install(prefix, &names)?;
    let still = missing(|proof| Path::new(proof).exists());
    if still.is_empty() {
        return Ok(());
    }
    let still: Vec<_> = still.iter().map(|p| format!("{} ({})", p.name, p.proof)).collect();
    Err(Error::Refused(format!(
        "apt-get succeeded, but these are still not there: {}",
        still.join(", ")
    )))
}

/// Makes sure that the Rust toolchain has the parts that the tests use.
pub(crate) fn check_toolchain() -> Result<(), Error> {
    for (subcommand, component) in COMPONENTS {
        if !run::capture(run::cargo().args([subcommand, "--version"]))?.ok {
            return Err(Error::Refused(format!(
                "cargo {subcommand} is not installed; run: rustup component add {component}"
            )));
        }
    }
    Ok(())
}

/// Whether `cargo <subcommand>` exists.
pub(crate) fn has_cargo(subcommand: &str) -> bool {
    run::capture(run::cargo().args([subcommand, "--version"])).is_ok_and(|done| done.ok)
}

/// Whether the package with this name is here.
pub(crate) fn is_here(name: &str) -> bool {
    let package = PACKAGES.iter().find(|package| package.name == name);
    package.is_some_and(|package| Path::new(package.proof).exists())
}

fn missing(is_there: impl Fn(&str) -> bool) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| !is_there(package.proof)).collect()
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| {
        let Some((key, value)) = line.split_once('=') else { return false };
        let words = value.trim_matches('"').split(' ');
        matches!(key, "ID" | "ID_LIKE") && words.into_iter().any(|word| word == "debian")
    })
}

fn print_table() {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["package", "here", "for"]);
    for package in PACKAGES {
        let here = if Path::new(package.proof).exists() { "yes" } else { "MISSING" };
        table.add_row([package.name, here, package.why]);
    }
    println!("{table}");
}

fn confirmed(by_hand: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Refused(format!(
            "nobody is there to ask; run again with --yes, or run: {by_hand}"
        )));
    }
    print!("Install them now with apt-get? [Y/n] ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Error::file("read", "the answer"))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

fn install(prefix: &[&str], names: &[&str]) -> Result<(), Error> {
    let started = Instant::now();
    apt(prefix, &["update"])?;
    let fixed = ["install", "--yes", "--no-install-recommends"];
    apt(prefix, &[&fixed[..], names].concat())?;
    println!("Installed {} packages in {}.", names.len(), run::human(started.elapsed()));
    Ok(())
}

/// Runs apt-get without questions, showing how far it is; what it says is shown only when it fails.
fn apt(prefix: &[&str], args: &[&str]) -> Result<(), Error> {
    let quiet = ["-q", "-o", "Dpkg::Use-Pty=0", "-o", "APT::Status-Fd=1"];
    // Through env, because sudo does not pass variables on.
    let words =
        [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"], &quiet, args];
    let words = words.concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let shown = format!("apt-get {}", args.join(" "));
    let start = |source| Error::Start { program: "apt-get".to_owned(), source };
    let mut child = command
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let errors = child
        .stderr
        .take()
        .map(|pipe| std::thread::spawn(move || std::io::read_to_string(pipe).unwrap_or_default()));
    let mut said = String::new();
    let mut shown_percent = None;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        let line = line.map_err(start)?;
        match progress(&line) {
            Some((percent, what))
                if shown_percent.is_none_or(|p| percent < p || percent >= p + 20) =>
            {
                println!("  apt-get {} {percent:3} % {what}", args[0]);
                shown_percent = Some(percent);
            }
            Some(_) => {}
            None => said = format!("{said}{line}\n"),
        }
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(());
    }
    said.push_str(&errors.and_then(|thread| thread.join().ok()).unwrap_or_default());
    Err(Error::Failed { command: shown, outcome: status.to_string(), output: said })
}

/// A line of apt's status (`README.progress-reporting` in apt's documentation): `dlstatus:1:20.5:what` or
/// `pmstatus:package:33.3:what`.
fn progress(line: &str) -> Option<(u32, &str)> {
    let rest = line.strip_prefix("dlstatus:").or_else(|| line.strip_prefix("pmstatus:"))?;
    // The package may be `name:amd64`, so the percentage is the first field that is one.
    let mut rest = rest;
    while let Some((field, after)) = rest.split_once(':') {
        if let Some((whole, fraction)) = field.split_once('.')
            && fraction.bytes().all(|b| b.is_ascii_digit())
            && let Ok(percent) = whole.parse()
        {
            return Some((percent, after));
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_files() {
        assert!(missing(|_| true).is_empty());
        let missing: Vec<_> =
            missing(|proof| proof != "/usr/bin/cc").iter().map(|p| p.name).collect();
        assert_eq!(missing, ["gcc"]);
    }

    #[test]
    fn debian_and_its_children_are_recognised() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nHOME_URL=debian\n"));
    }

    #[test]
    fn the_progress_of_apt_is_read() {
        assert_eq!(
            progress("dlstatus:1:20.5:Retrieving file 1 of 5"),
            Some((20, "Retrieving file 1 of 5"))
        );
        assert_eq!(
            progress("pmstatus:gcc:amd64:33.3333:Unpacking gcc"),
            Some((33, "Unpacking gcc"))
        );
        assert_eq!(progress("Setting up gcc (4:12.2.0-3) ..."), None);
    }
}
