//! ICMPv6 packets of machines that look for a router.
#![no_main]

use layercake_boot::{BootFile, BootPlan, Host, Hosts, MacAddr, ndp};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

/// The machine that the corpus speaks of.
static HOSTS: LazyLock<Hosts> = LazyLock::new(|| {
    let host = Host {
        node: "n1".into(),
        mac: MacAddr([0x52, 0x54, 0, 0x4c, 0x43, 1]),
        address: Ipv4Addr::new(10, 77, 0, 11),
        prefix: 24,
        gateway: None,
        dns: Vec::new(),
        hostname: "n1".into(),
        domain: None,
        arch: None,
        others: Vec::new(),
        lease_secs: 60,
        plan: BootPlan::Armed {
            boot_id: "b".into(),
            kernel: BootFile::from("k"),
            initramfs: BootFile::from("i"),
            seed: "s".into(),
            cmdline: "".into(),
        },
    };
    Hosts::new([Arc::new(host)]).expect("one host has no double")
});

// Only a machine that is known and expected is answered, and never by more than it sent.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe4c, 0x4301);
    if let Some(answer) = ndp::handle(&HOSTS, source, data) {
        assert!(answer.len() <= data.len());
        assert!(data.windows(6).any(|mac| mac == [0x52, 0x54, 0, 0x4c, 0x43, 1]));
    }
    assert_eq!(ndp::handle(&HOSTS, Ipv6Addr::LOCALHOST, data), None);
});
