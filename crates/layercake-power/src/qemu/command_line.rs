//! The command line of a machine.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::accel::Accel;
use super::run_dir::RunDir;
use layercake_types::Machine;

/// After a boot that found nothing the firmware waits this long and starts over (SeaBIOS
/// `etc/boot-fail-wait`), so that a machine switched on before its boot server comes to it later.
const BOOT_RETRY_MS: u32 = 5_000;

/// Everything QEMU is told to be `machine`.
pub(super) fn arguments(machine: &Machine, dir: &RunDir, accel: Accel) -> Vec<OsString> {
    let mut args = Arguments(Vec::new());
    // Nothing that is not asked for below: no user configuration, no default devices.
    args.flag("-no-user-config").flag("-nodefaults");
    args.pair("-name", format!("guest={}", machine.name)).pair("-uuid", machine.uuid());
    // `graphics=off` makes the firmware and iPXE talk to the serial console.
    args.pair("-machine", "pc,graphics=off").pair("-display", "none");
    args.pair("-accel", accel.qemu_argument()).pair("-cpu", accel.cpu());
    args.pair("-m", format!("{}M", machine.memory_mib)).pair("-smp", machine.cpus.to_string());
    args.pair("-boot", format!("order=n,strict=on,reboot-timeout={BOOT_RETRY_MS}"));
    // Layer 0 needs entropy for its keys before anything else.
    args.pair("-device", "virtio-rng-pci");
    args.chardev("console", &dir.console_socket(), Some(&dir.console_log()));
    args.pair("-serial", "chardev:console");
    for (id, socket) in [("qmp", dir.qmp_socket()), ("events", dir.events_socket())] {
        args.chardev(id, &socket, None);
        args.pair("-mon", format!("chardev={id},mode=control"));
    }
    if let Some(nic) = &machine.nic {
        args.pair("-netdev", format!("tap,id=boot,ifname={},script=no,downscript=no", nic.tap));
        args.pair("-device", format!("virtio-net-pci,netdev=boot,mac={},bootindex=1", nic.mac));
    }
    // System calls that an escaped guest would like. `spawn` and `elevateprivileges` cannot be denied
    // together with -daemonize, which needs fork and setsid after the filter is in place.
    args.pair("-sandbox", "on,obsolete=deny,resourcecontrol=deny");
    args.path("-D", &dir.qemu_log());
    args.path("-pidfile", &dir.pid_file());
    // A session of its own, no parent, ready when the launcher returns.
    args.flag("-daemonize");
    args.0
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.extend([name.into(), value.into()]);
        self
    }

    fn path(&mut self, name: &str, path: &Path) -> &mut Self {
        self.pair(name, path)
    }

    fn chardev(&mut self, id: &str, socket: &Path, log: Option<&Path>) -> &mut Self {
        let mut value = format!("socket,id={id},server=on,wait=off,path=").into_bytes();
        value.extend(comma_doubled(socket));
        if let Some(log) = log {
            value.extend_from_slice(b",logappend=on,logfile=");
            value.extend(comma_doubled(log));
        }
        self.pair("-chardev", OsString::from_vec(value))
    }
}

/// In QEMU's option lists a comma ends a value unless it is doubled.
fn comma_doubled(path: &Path) -> Vec<u8> {
    let mut doubled = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        doubled.push(byte);
        if byte == b',' {
            doubled.push(byte);
        }
    }
    doubled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::QemuConfig;

    #[test]
    fn a_bridged_machine_boots_from_its_card_and_never_gives_up() {
        let config = QemuConfig { bridge: Some("br0".into()), ..QemuConfig::default() };
        let machine =
            Machine::new("n1".parse().unwrap(), "52:54:00:00:00:01".parse().ok(), &config).unwrap();
        let dir = RunDir::new(Path::new("/run/a,b"), &machine.name).unwrap();
        let args = arguments(&machine, &dir, Accel::Tcg);
        let line = args.join(&OsString::from(" ")).into_string().unwrap();
        for part in [
            "-nodefaults",
            "-accel tcg,thread=multi -cpu max,la57=off -m 512M -smp 1",
            "-boot order=n,strict=on,reboot-timeout=5000",
            "-netdev tap,id=boot,ifname=lc-n1,script=no,downscript=no",
            "-device virtio-net-pci,netdev=boot,mac=52:54:00:00:00:01,bootindex=1",
            "path=/run/a,,b/n1/console.sock,logappend=on,logfile=/run/a,,b/n1/console.log",
            "-pidfile /run/a,b/n1/pid -daemonize",
        ] {
            assert!(line.contains(part), "{part:?} is missing in {line}");
        }
        assert!(!line.contains("-no-reboot"), "machines must reset like real ones");
    }
}
