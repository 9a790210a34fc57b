//! What can be measured in the demo's lab, for `cargo xtask bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::cluster::{Cluster, pause};
use super::{bring_up, checks, make_pieces};
use crate::error::Error;
use crate::interrupt;
use crate::run::check;

/// The two images that n1 runs in turn.
const WEB_1: &str = "web:1";
const WEB_2: &str = "web:2";
/// The first line of a kernel.
const KERNEL_STARTS: &str = "Linux version";
/// What the reference says when the parent has answered its first ping.
const NETWORK_UP: &str = "the network is up";
/// How often a console is looked at: far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Nothing here takes this long.
const LIMIT: Duration = Duration::from_secs(180);

/// The reference: the least that brings up the network of a lab node.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox modprobe virtio_pci
/bin/busybox modprobe virtio_net
/bin/busybox ip link set eth0 up
/bin/busybox ip addr add 10.77.0.99/24 dev eth0
until /bin/busybox ping -c 1 -W 1 10.77.0.1 > /dev/null 2>&1; do :; done
echo the network is up
exec /bin/busybox sleep 100000
";

/// What was measured, one value a run.
pub(crate) struct Figures {
    /// From a kernel's first line to its node in sync, in milliseconds.
    pub(crate) sync_ms: Vec<f64>,
    /// From the same kernel's first line to the first answer over the network, with nothing but busybox.
    pub(crate) busybox_ms: Vec<f64>,
    /// From the end of an image's main process to the start of the next one's, in microseconds.
    pub(crate) gap_us: Vec<f64>,
    /// From an empty lab to three nodes with running images.
    pub(crate) three_active: Duration,
}

/// Brings up the demo's cluster, measures, and takes it down.
pub(crate) fn measure(runs: usize) -> Result<Figures, Error> {
    let pieces = make_pieces()?;
    let mut cluster = Cluster::new(pieces.program.clone(), pieces.minos.clone())?;
    let figures = measure_in(&mut cluster, &pieces, runs);
    cluster.take_down()?;
    figures
}

fn measure_in(
    cluster: &mut Cluster,
    pieces: &super::Pieces,
    runs: usize,
) -> Result<Figures, Error> {
    bring_up(cluster, pieces)?;
    checks::wait_for_all(cluster, LIMIT)?;
    let three_active = cluster.age();
    let gap_us = swaps(cluster, runs)?;
    let initramfs = busybox_initramfs(cluster)?;
    let (mut sync_ms, mut busybox_ms) = (Vec::new(), Vec::new());
    // In turn, so that a machine that gets slower does so for both.
    for _ in 0..runs {
        sync_ms.push(kernel_to_sync(cluster)?);
        checks::wait_for_all(cluster, LIMIT)?;
        busybox_ms.push(kernel_to_ping(cluster, &initramfs)?);
    }
    Ok(Figures { sync_ms, busybox_ms, gap_us, three_active })
}

/// Swaps the image of n1 to and fro; both are fetched after the first two.
fn swaps(cluster: &mut Cluster, runs: usize) -> Result<Vec<f64>, Error> {
    let file = cluster.file();
    let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    let mut gaps = Vec::new();
    for run in 0..runs + 2 {
        let image = if run % 2 == 0 { WEB_2 } else { WEB_1 };
        let changed = text.replace(WEB_1, image);
        fs::write(&file, changed).map_err(Error::file("write", &file))?;
        let before = started(cluster)?;
        cluster.apply()?;
        let gap = cluster.wait("another image to run on n1", LIMIT, |_, nodes| {
            let n1 = nodes.get("n1").filter(|n1| n1.is_active())?;
            (n1.number("images.web.started") != before).then(|| n1.number("images.web.gap_us"))?
        })?;
        if run >= 2 {
            gaps.push(gap as f64);
        }
    }
    fs::write(&file, text).map_err(Error::file("write", &file))?;
    Ok(gaps)
}

fn started(cluster: &Cluster) -> Result<Option<u64>, Error> {
    let nodes = cluster.client.nodes()?;
    Ok(nodes.iter().find(|node| node.name == "n1").and_then(|n1| n1.number("images.web.started")))
}

/// Power-cycles n1, and times it by its console and the parent's journal: one clock, the host's.
fn kernel_to_sync(cluster: &mut Cluster) -> Result<f64, Error> {
    let console = cluster.machine_file("n1", "console.log");
    let seen = fs::metadata(&console).map_or(0, |m| m.len());
    let seq = cluster.client.latest_event()?;
    cluster.client.run(&["power", "cycle", "n1", "--yes"])?;
    let kernel = when_said(&console, seen, KERNEL_STARTS)?;
    let at = cluster.wait("n1 to be in sync again", LIMIT, |cluster, _| {
        let events = cluster.client.events_after(seq).ok()?;
        let of_n1 = |e: &&super::client::Event| e.node.as_deref() == Some("n1");
        events.iter().filter(of_n1).find(|e| e.found("run_state", "SYNC")).map(|e| e.at)
    })?;
    Ok(at as f64 - kernel)
}

/// When a console said something behind a position, in milliseconds since the Unix epoch.
fn when_said(console: &Path, from: u64, words: &str) -> Result<f64, Error> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        interrupt::check()?;
        let text = fs::read(console).unwrap_or_default();
        // A console that is shorter than before was begun anew.
        let from = usize::try_from(from).ok().filter(|from| *from <= text.len()).unwrap_or(0);
        if String::from_utf8_lossy(&text[from..]).contains(words) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            return Ok(now.as_secs_f64() * 1000.0);
        }
        pause(LOOK_EVERY);
    }
    Err(Error::Refused(format!("{} never said {words:?}", console.display())))
}

/// The initramfs of Layer 0 with busybox and a script in the place of the node binary.
fn busybox_initramfs(cluster: &Cluster) -> Result<PathBuf, Error> {
    let (tree, out) = (cluster.dir().join("busybox"), cluster.dir().join("busybox.img"));
    fs::create_dir_all(&tree).map_err(Error::file("make", &tree))?;
    let minos = cluster.minos().join("initramfs.img");
    let script = r#"set -eu
cd "$1"
zstd -dcq "$2" | cpio --extract --quiet --make-directories
mkdir -p bin
cp /bin/busybox bin/busybox
cp ../busybox.init init
chmod 0755 init
find . | cpio --create --quiet --format=newc | zstd -19 -q > "$3"
"#;
    let init = cluster.dir().join("busybox.init");
    fs::write(&init, INIT).map_err(Error::file("write", &init))?;
    let mut pack = Command::new("sh");
    pack.args(["-c", script, "sh"]).arg(&tree).arg(minos).arg(&out);
    check(&mut pack)?;
    Ok(out)
}

/// Boots the reference in a machine like the nodes', and times it by its console.
fn kernel_to_ping(cluster: &mut Cluster, initramfs: &Path) -> Result<f64, Error> {
    let console = cluster.dir().join("reference.log");
    let _ = fs::remove_file(&console);
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-no-user-config", "-nodefaults", "-machine", "pc,graphics=off"]);
    qemu.args(["-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]);
    qemu.args(["-m", "512M", "-smp", "1", "-device", "virtio-rng-pci"]);
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    qemu.args(["-netdev", "tap,id=boot,ifname=reference,script=no,downscript=no"]);
    qemu.args(["-device", "virtio-net-pci,netdev=boot,mac=52:54:00:4c:43:99"]);
    qemu.arg("-kernel").arg(cluster.minos().join("vmlinuz"));
    qemu.arg("-initrd").arg(initramfs).args(["-append", "console=ttyS0"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut machine = cluster.spawn_inside(&mut qemu)?;
    let took = plugged(cluster).and_then(|()| {
        let kernel = when_said(&console, 0, KERNEL_STARTS)?;
        Ok(when_said(&console, 0, NETWORK_UP)? - kernel)
    });
    end(&mut machine)?;
    took
}

/// Plugs the reference's network card into the bridge, as soon as it is there.
fn plugged(cluster: &Cluster) -> Result<(), Error> {
    let [ip, rest @ ..] = cluster.inside();
    let deadline = Instant::now() + LIMIT;
    loop {
        interrupt::check()?;
        let mut link = Command::new(ip);
        link.args(rest).args(["ip", "link", "set", "reference", "master", "br0", "up"]);
        match check(&mut link) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => pause(LOOK_EVERY),
        }
    }
}

fn end(machine: &mut Child) -> Result<(), Error> {
    let ended = machine.kill().and_then(|()| machine.wait());
    ended
        .map(drop)
        .map_err(|source| Error::Kernel { doing: "end the reference".to_owned(), source })
}
