use std::{fs::File, path::PathBuf, process::Stdio, time::Duration};

use bytes::Bytes;
use layercake_boot::{BootEvent, BootFile, BootPlan, Seed};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::lab::{NODE_MAC, Server, bytes, in_lab, node};

/// The smallest thing that iPXE takes for a Linux kernel (Documentation/arch/x86/boot.rst): a boot
/// sector, one setup sector with its header, some payload. It halts.
fn kernel() -> Bytes {
    let mut image = vec![0; 4096];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x200..0x202].copy_from_slice(&[0xeb, 0x6e]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x0206u16.to_le_bytes());
    image[0x211] = 1;
    image[0x22c..0x230].copy_from_slice(&0x37ff_ffffu32.to_le_bytes());
    image[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
    image[0x270..0x274].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfc]);
    image.into()
}

fn plan() -> BootPlan {
    BootPlan::Armed {
        boot_id: "boot-9".into(),
        kernel: BootFile::from(kernel()),
        initramfs: BootFile::from(bytes(1_000_000)),
        seed: Seed::from("a secret seed"),
        cmdline: "console=ttyS0 quiet".into(),
    }
}

/// A machine with iPXE in the ROM of its network card. It ends when dropped.
struct Machine {
    process: Child,
    console: PathBuf,
    _directory: TempDir,
}

impl Machine {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        let process = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-nographic", "-m", "256"])
            .args(["-accel", "tcg", "-serial", "stdio"])
            .args(["-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"])
            .args(["-device", &format!("virtio-net-pci,netdev=net,mac={NODE_MAC}")])
            .stdin(Stdio::null())
            .stdout(File::create(&console).unwrap())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, console, _directory: directory }
    }

    /// Ends the machine, and gives what its console said.
    async fn end(mut self) -> String {
        self.process.kill().await.unwrap();
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap()).into_owned()
    }
}

/// A test that fails shows how far the machine has come.
#[allow(clippy::print_stderr)]
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = std::fs::read(&self.console).unwrap_or_default();
            eprintln!("the console:\n{}", String::from_utf8_lossy(&console));
        }
    }
}

#[test]
fn an_ipxe_rom_boots_although_the_server_is_restarted_on_its_way() {
    in_lab(|_lab| async move {
        // At first, there is no place for any HTTP connection: the script arrives and the kernel not.
        let mut server = Server::start_with([node(plan())], |config| {
            config.http_limits.max_connections = 0;
        });
        let machine = Machine::start();
        let boot = async {
            let (name, boot_id) = ("n11".into(), "boot-9".into());
            let script = BootEvent::ScriptServed { node: name, boot_id };
            server.event(|event| *event == script).await;
            server.counted(|c| c.http_connections_refused > 0).await;
            server.counted(|c| c.router_solicitations_answered > 0).await;
            server.handle.shutdown().await;
            server = Server::start([node(plan())]);
            let (name, boot_id) = ("n11".into(), "boot-9".into());
            let card = BootEvent::CardSeen { node: "n11".into(), bus_id: "011af41000".into() };
            server.event(|event| *event == card).await;
            let seed = BootEvent::SeedServed { node: name, boot_id };
            server.event(|event| *event == seed).await;
            server.handle.counters()
        };
        let counters = tokio::time::timeout(Duration::from_secs(80), boot).await;
        let console = machine.end().await;
        let counters = counters.unwrap_or_else(|_| panic!("{console}"));
        assert_eq!(counters.kernels_served, 1, "{console}");
        assert_eq!(counters.initramfs_served, 1, "{console}");
    });
}

#[test]
fn an_ipxe_rom_reports_what_failed_and_takes_its_script_anew() {
    in_lab(|_lab| async move {
        let mut bad = plan();
        if let BootPlan::Armed { kernel, .. } = &mut bad {
            // Too large for what BIOS would start without looking at it.
            *kernel = BootFile::from(bytes(1_000_000));
        }
        let mut server = Server::start([node(bad)]);
        let machine = Machine::start();
        let boot = async {
            let told = |e: &BootEvent| matches!(e, BootEvent::Refused { node: Some(_), .. });
            let event = server.event(told).await;
            server.change_hosts([node(plan())]);
            let (name, boot_id) = ("n11".into(), "boot-9".into());
            let seed = BootEvent::SeedServed { node: name, boot_id };
            server.event(|event| *event == seed).await;
            (event, server.handle.counters())
        };
        let done = tokio::time::timeout(Duration::from_secs(80), boot).await;
        let console = machine.end().await;
        let (event, counters) = done.unwrap_or_else(|_| panic!("{console}"));
        let BootEvent::Refused { reason, .. } = event else { unreachable!() };
        assert_eq!(
            reason,
            "its iPXE could not load the kernel: not a program that it can start \
             (https://ipxe.org/2e008001); it tries again",
            "{console}"
        );
        assert_eq!(counters.scripts_served, 2, "{console}");
    });
}
