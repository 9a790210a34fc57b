use std::{net::UdpSocket, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use layercake_boot::{BootEvent, BootPlan, MacAddr};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::lab::{NODE, NODE_MAC, SERVER, Server, armed, in_lab, node};

/// A script for DHCP clients that writes what it was told into a file.
fn client_script(directory: &Path) -> String {
    let script = directory.join("script");
    let text = format!("#!/bin/sh\nenv > {0}/env.$1.$reason\n", directory.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script.to_str().unwrap().to_owned()
}

#[test]
fn udhcpc_gets_address_network_and_host_name() {
    in_lab(|lab| async move {
        let mut server = Server::start([node(BootPlan::Idle)]);
        let directory = tempfile::tempdir().unwrap();
        let script = client_script(directory.path());
        lab.run(&format!("udhcpc -i c0 -f -q -n -t 10 -T 1 -O broadcast -s {script}")).await;
        let told = std::fs::read_to_string(directory.path().join("env.bound.")).unwrap();
        for expected in [
            "ip=10.77.0.11",
            "subnet=255.255.255.0",
            "router=10.77.0.1",
            "dns=10.77.0.1",
            "hostname=n11",
            "domain=lab.example",
            "broadcast=10.77.0.255",
            "serverid=10.77.0.1",
            "lease=3600",
        ] {
            assert!(told.lines().any(|line| line == expected), "{expected} in\n{told}");
        }
        let offer = BootEvent::DhcpOffer { node: "n11".into(), mac: NODE_MAC };
        let ack = BootEvent::DhcpAck { node: "n11".into(), mac: NODE_MAC };
        server.event(|event| *event == offer).await;
        server.event(|event| *event == ack).await;
    });
}

/// dhclient in the foreground, when it has told its address.
async fn dhclient(lab: &crate::lab::Lab, directory: &Path, bound_to: &str) -> Child {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let mut command = lab.client("dhclient");
    command.args(["-4", "-1", "-d", "-v", "-sf", &client_script(directory)]);
    command.args(["-lf", &at("leases"), "-pf", &at("pid"), "c0"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let bound = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with(&format!("bound to {bound_to} ")) {
                return true;
            }
            said.push(line);
        }
        false
    });
    assert!(bound.await.unwrap_or(false), "{said:#?}");
    // Keep its pipe open: it goes on to speak.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[test]
fn dhclient_is_refused_an_old_address_gets_its_own_and_releases_it() {
    in_lab(|lab| async move {
        let mut server = Server::start([node(BootPlan::Idle)]);
        let directory = tempfile::tempdir().unwrap();
        let mut first = dhclient(&lab, directory.path(), "10.77.0.11").await;
        first.kill().await.unwrap();

        let mut moved = node(BootPlan::Idle);
        moved.address = "10.77.0.12".parse().unwrap();
        server.change_hosts([moved]);
        let mut second = dhclient(&lab, directory.path(), "10.77.0.12").await;
        let nak = BootEvent::DhcpNak { node: "n11".into(), mac: NODE_MAC, wanted: NODE };
        server.event(|event| *event == nak).await;
        second.kill().await.unwrap();

        lab.address("10.77.0.12");
        let at = directory.path().display();
        lab.run(&format!("dhclient -4 -r -sf {at}/script -lf {at}/leases -pf {at}/none c0")).await;
        let release = BootEvent::DhcpRelease { node: "n11".into(), mac: NODE_MAC };
        server.event(|event| *event == release).await;
    });
}

#[test]
fn an_unknown_machine_is_reported_and_gets_nothing() {
    in_lab(|lab| async move {
        let mut known = node(BootPlan::Idle);
        known.mac = MacAddr([0x52, 0x54, 0, 0, 0, 99]);
        let mut server = Server::start([known]);
        let (bound, _) =
            lab.try_run("udhcpc -i c0 -f -q -n -t 2 -T 1 -V rack-pdu -s /bin/true").await;
        assert!(!bound);
        let event = server.event(|e| matches!(e, BootEvent::UnknownMachine { .. })).await;
        let BootEvent::UnknownMachine { mac, facts, iface } = event else { unreachable!() };
        assert_eq!((mac, &*iface), (NODE_MAC, "br0"));
        assert_eq!(facts.vendor_class.as_deref(), Some("rack-pdu"));
        assert_eq!(server.handle.counters().dhcp_offers, 0);
    });
}

#[test]
fn malformed_datagrams_are_counted_and_the_next_client_is_served() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(BootPlan::Idle)]);
        lab.as_client(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for len in [0, 1, 239, 240, 241, 1400] {
                socket.send_to(&vec![0xff; len], (SERVER, 67)).unwrap();
            }
        })
        .await;
        server.counted(|c| c.dhcp_refused == 6).await;
        let event = server.event(|e| matches!(e, BootEvent::Refused { .. })).await;
        let BootEvent::Refused { reason, .. } = event else { unreachable!() };
        assert_eq!(reason, "datagram of 0 bytes is shorter than a DHCP message");
        lab.run("udhcpc -i c0 -f -q -n -t 10 -T 1 -s /bin/true").await;
        server.counted(|c| c.dhcp_acks == 1).await;
    });
}

#[test]
fn a_second_server_on_the_port_says_what_to_do() {
    in_lab(|_lab| async move {
        let _server = Server::start([node(armed())]);
        let (_hosts, table) = tokio::sync::watch::channel(Default::default());
        let start = |iface, address| {
            let (events, _) = tokio::sync::mpsc::channel(8);
            let config = layercake_boot::BootConfig::new(iface, address);
            let Err(error) = layercake_boot::BootService::start(config, table.clone(), events)
            else {
                panic!("started on {iface}");
            };
            error.to_string()
        };
        assert_eq!(
            start("br0", SERVER),
            "cannot serve DHCP on 0.0.0.0:67 (interface br0): another DHCP server has the port; stop \
             it (`ss -lnp` names it) or configure another"
        );
        assert_eq!(
            start("br7", SERVER),
            "cannot serve DHCP on 0.0.0.0:67 (interface br7): there is no interface br7; `ip link` \
             lists those that exist"
        );
        assert!(
            start("tap0", "10.99.0.1".parse().unwrap()).contains("no interface has this address")
        );
    });
}
