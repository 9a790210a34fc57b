use std::{fs::File, process::Stdio, time::Duration};

use bytes::Bytes;
use layercake_boot::{BootEvent, BootFile, BootPlan, Seed};
use tokio::process::Command;

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

#[test]
fn an_ipxe_rom_boots_although_the_server_is_restarted_on_its_way() {
    in_lab(|_lab| async move {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        // At first, every HTTP connection is dropped: the script arrives and the kernel does not.
        let mut server = Server::start_with([node(plan())], |config| {
            config.http_limits.max_connections = 0;
        });
        let mut machine = Command::new("qemu-system-x86_64")
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
        let boot = async {
            let (name, boot_id) = ("n11".into(), "boot-9".into());
            let script = BootEvent::ScriptServed { node: name, boot_id };
            server.event(|event| *event == script).await;
            server.counted(|c| c.http_connections_refused > 0).await;
            server.counted(|c| c.router_solicitations_answered > 0).await;
            server.handle.shutdown().await;
            server = Server::start([node(plan())]);
            let (name, boot_id) = ("n11".into(), "boot-9".into());
            let seed = BootEvent::SeedServed { node: name, boot_id };
            server.event(|event| *event == seed).await;
            server.handle.counters()
        };
        let counters = tokio::time::timeout(Duration::from_secs(80), boot).await;
        machine.kill().await.unwrap();
        let console = String::from_utf8_lossy(&std::fs::read(&console).unwrap()).into_owned();
        let counters = counters.unwrap_or_else(|_| panic!("{console}"));
        assert_eq!(counters.kernels_served, 1, "{console}");
        assert_eq!(counters.initramfs_served, 1, "{console}");
        assert_eq!(counters.scripts_served, 1, "the script was fetched anew: {console}");
    });
}
