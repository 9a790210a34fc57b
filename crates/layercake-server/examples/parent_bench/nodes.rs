//! The nodes: what each of them should be, and what it says of itself. Every node has its own
//! hardware addresses, numbers and times, as real ones do.

use kraken_model::{Document, NodeId};
use serde_json::json;

pub(crate) fn name(n: usize) -> NodeId {
    NodeId::new(&format!("node{n:06}")).unwrap()
}

/// What a node should be: two interfaces, an image with its environment, a place, labels.
pub(crate) fn cfg(n: usize) -> Document {
    let [_, a, b, c] = u32::try_from(n).unwrap().to_be_bytes();
    let document = json!({
        "arch": "x86_64", "platform": "ProLiant XL225n Gen10 Plus",
        "phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
        "net": {
            "boot": {
                "mac": format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
                "address": format!("10.{}.{b}.{c}/8", a + 1),
                "gateway": "10.0.0.1", "dns": ["10.0.0.2", "10.0.0.3"],
                "domain": "cluster.example.org", "mtu": 1500,
            },
            "data": {
                "mac": format!("52:54:01:{a:02x}:{b:02x}:{c:02x}"),
                "address": format!("172.{}.{b}.{c}/12", 16 + a),
                "mtu": 9000,
            },
        },
        "boot": { "interface": "boot", "cmdline": "console=ttyS0,115200 quiet" },
        "power": { "driver": "exec",
                   "exec": { "command": "/usr/local/sbin/switch", "timeout_seconds": 30 } },
        "images": { "compute": {
            "reference": "compute:2026-11", "kind": "systemd", "size": 1_503_238_553_i64,
            "digest": format!("sha256:{}", "5e".repeat(32)),
            "env": { "SLURM_CONF": "/etc/slurm/slurm.conf" },
        } },
        "location": { "rack": format!("r{:04}", n / 80), "chassis": format!("c{}", n / 4 % 20),
                      "slot": format!("s{}", n % 4), "pdu": format!("r{:04}-p{}", n / 80, n % 2) },
        "labels": { "serial": format!("CZ2{:07}", n * 7 % 10_000_000), "partition": "batch",
                    "team": if n.is_multiple_of(3) { "blue" } else { "green" } },
    });
    Document::from_json(&document).unwrap()
}

/// What a node says of itself.
pub(crate) fn dsc(n: usize) -> Document {
    let own = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let started = 1_795_000_000_000 + i64::try_from(own % 1_000_000_000).unwrap();
    let hex = format!("{own:016x}{:016x}", own.rotate_left(17));
    let boot_id =
        format!("{}-{}-4{}-9{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    let document = json!({
        "image_state": "ACTIVE", "arch": "x86_64", "platform": "ProLiant XL225n Gen10 Plus",
        "images": { "compute": {
            "digest": format!("sha256:{}", "5e".repeat(32)), "state": "running",
            "pid": 300 + own % 30_000, "started": started + 41_000, "restarts": own % 2,
            "gap_us": 9_000 + own % 5_000,
        } },
        "layer0": { "boot_id": boot_id, "started": started, "kernel": "6.12.48+deb13-amd64",
                    "version": "0.1.0", "agent_starts": 1 },
    });
    Document::from_json(&document).unwrap()
}
