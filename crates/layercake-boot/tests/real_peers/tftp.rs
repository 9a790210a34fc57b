use std::{net::UdpSocket, path::Path};

use layercake_boot::{BootEvent, BootPlan};

use tokio::process::Command;

use crate::lab::{Lab, SERVER, Server, armed, bytes, in_lab, node, program};

const SCRIPT_OF_N11: &str = "boot/n11.ipxe";

/// One in so many of the packets that reach the client, and of those that reach the server, is lost.
/// Not on the way out: there the sender would see an error, as it does not on a wire.
async fn lose_one_packet_in(lab: &Lab, directory: &Path, many: u32) {
    let rules = directory.join("loss.nft");
    let table = format!(
        "table inet loss {{ chain input {{ type filter hook input priority 0; \
         meta l4proto udp numgen inc mod {many} == {} drop; }}\n}}\n",
        many - 1
    );
    std::fs::write(&rules, table).unwrap();
    lab.run(&format!("nft -f {}", rules.display())).await;
    assert!(Command::new("nft").arg("-f").arg(&rules).status().await.unwrap().success());
}

#[test]
fn tftp_hpa_gets_its_nodes_script_with_and_without_a_leading_slash() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("script");
        for path in [SCRIPT_OF_N11.to_owned(), format!("/{SCRIPT_OF_N11}")] {
            lab.run(&format!("tftp -m binary {SERVER} -c get {path} {}", file.display())).await;
            let script = std::fs::read_to_string(&file).unwrap();
            assert!(script.starts_with("#!ipxe\n# n11, boot boot-7."), "{script}");
            std::fs::remove_file(&file).unwrap();
            let served = BootEvent::ScriptServed { node: "n11".into(), boot_id: "boot-7".into() };
            server.event(|event| *event == served).await;
        }
    });
}

#[test]
fn atftp_gets_a_file_with_large_blocks_and_windows() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        for options in
            ["", "--option 'blksize 1400'", "--option 'blksize 1468' --option 'windowsize 8'"]
        {
            let line =
                format!("atftp {options} -g -r undionly.kpxe -l {} {SERVER} 69", file.display());
            let status = lab.client("sh").args(["-c", &line]).status().await.unwrap();
            assert!(status.success(), "{options}");
            assert!(std::fs::read(&file).unwrap() == program(), "{options}");
            std::fs::remove_file(&file).unwrap();
        }
        server.counted(|c| c.tftp_completed == 3).await;
    });
}

#[test]
fn curl_gets_a_file_with_large_blocks() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        let url = format!("tftp://{SERVER}/undionly.kpxe");
        lab.run(&format!("curl -sS --tftp-blksize 1428 {url} -o {}", file.display())).await;
        assert!(std::fs::read(&file).unwrap() == program());
        assert_eq!(server.handle.counters().tftp_retransmits, 0);
    });
}

#[test]
fn tftp_hpa_gets_a_file_although_packets_are_lost() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        lose_one_packet_in(&lab, directory.path(), 97).await;
        let file = directory.path().join("program");
        let line = format!("tftp -m binary {SERVER} -c get undionly.kpxe {}", file.display());
        lab.run(&line).await;
        assert!(std::fs::read(&file).unwrap() == program());
        server.counted(|c| c.tftp_retransmits > 0).await;
    });
}

#[test]
fn atftp_gets_a_file_with_windows_although_packets_are_lost() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        lose_one_packet_in(&lab, directory.path(), 41).await;
        let file = directory.path().join("program");
        let line = format!(
            "atftp --option 'windowsize 8' --option 'blksize 1468' -g -r undionly.kpxe -l {} {SERVER}",
            file.display()
        );
        assert!(lab.client("sh").args(["-c", &line]).status().await.unwrap().success());
        assert!(std::fs::read(&file).unwrap() == program());
        server.counted(|c| c.tftp_retransmits > 0).await;
    });
}

#[test]
fn block_numbers_roll_over_for_tftp_hpa() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let large = bytes(66_000 * 512 + 7);
        let in_server = large.clone();
        let _server = Server::start_with([node(armed())], move |config| {
            config.programs = std::sync::Arc::new([("large".into(), in_server.into())].into());
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("large");
        lab.run(&format!("tftp -m binary {SERVER} -c get large {}", file.display())).await;
        assert!(std::fs::read(&file).unwrap() == large);
    });
}

/// Sends a request and returns the code and message of the ERROR that comes back.
async fn refused(lab: &Lab, request: &'static [u8]) -> (u8, String) {
    lab.as_client(move || {
        let socket = UdpSocket::bind("10.77.0.11:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        socket.send_to(request, (SERVER, 69)).unwrap();
        let mut answer = [0; 600];
        let len = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[..3], [0, 5, 0], "not an ERROR");
        (answer[3], String::from_utf8(answer[4..len - 1].to_vec()).unwrap())
    })
    .await
}

#[test]
fn what_a_machine_may_not_have_is_refused_with_the_reason() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(armed())]);
        for (request, code, message) in [
            (&b"\0\x01../../etc/passwd\0octet\0"[..], 2, "file name with `..`"),
            (b"\0\x01/boot/../../../etc/passwd\0octet\0", 2, "file name with `..`"),
            (b"\0\x01boot\\n11.ipxe\0octet\0", 2, "file name with a backslash"),
            (b"\0\x01/etc/passwd\0octet\0", 1, "n11 asked for etc/passwd: no such file"),
            (
                b"\0\x01boot/n12.ipxe\0octet\0",
                2,
                "n11 asked for the script of \"n12\"; a machine gets only its own",
            ),
            (b"\0\x01f\0netascii\0", 0, "mode \"netascii\"; only octet (binary) is served"),
            (b"\0\x02f\0octet\0", 2, "write request; this server only reads"),
            (b"\0\x09", 4, "not a request"),
        ] {
            assert_eq!(refused(&lab, request).await, (code, message.to_owned()));
        }
        server.counted(|c| c.tftp_refused == 8).await;
        // Newer builds of iPXE ask for it, and need not be told of.
        let optional = refused(&lab, b"\0\x01autoexec.ipxe\0octet\0").await;
        assert_eq!(optional, (1, "no such file".to_owned()));
        assert_eq!(server.handle.counters().tftp_refused, 8);
        server.event(|e| matches!(e, BootEvent::Refused { .. })).await;
        server.change_hosts([node(BootPlan::Idle)]);
        let idle = refused(&lab, b"\0\x01boot/n11.ipxe\0octet\0").await;
        assert_eq!(idle, (1, "n11 is not expected to boot now".to_owned()));
        server.change_hosts([]);
        let stranger = refused(&lab, b"\0\x01undionly.kpxe\0octet\0").await;
        assert_eq!(stranger, (2, "10.77.0.11 is not a known machine".to_owned()));
    });
}

/// A request for the boot program with these options.
fn program_request(options: &[&str]) -> Vec<u8> {
    let words = ["undionly.kpxe", "octet"].iter().chain(options);
    [&[0, 1][..], &words.flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect::<Vec<_>>()]
        .concat()
}

fn client_socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("10.77.0.11", port)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    socket
}

/// The next datagram, and the port that it came from.
fn receive(socket: &UdpSocket) -> (Vec<u8>, u16) {
    let mut buffer = [0; 2000];
    let (len, peer) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), peer.port())
}

#[test]
fn a_request_from_the_port_of_another_is_answered_at_once_and_the_other_falls_silent() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        // So long that a test that waits for it fails by its own patience.
        let server = Server::start_with([node(armed())], |config| {
            config.tftp_retransmit_after = std::time::Duration::from_secs(1000);
        });
        lab.as_client(|| {
            let socket = client_socket(2071);
            let mut ports = Vec::new();
            for _ in 0..10 {
                // The size is asked for, and the answer dropped without a word.
                socket.send_to(&program_request(&["tsize", "0"]), (SERVER, 69)).unwrap();
                let (oack, port) = receive(&socket);
                assert_eq!(oack, b"\0\x06tsize\x00300001\0");
                assert!(!ports.contains(&port), "a transfer of its own");
                ports.push(port);
            }
            socket.send_to(&program_request(&["blksize", "1400"]), (SERVER, 69)).unwrap();
            let (oack, port) = receive(&socket);
            assert_eq!(oack, b"\0\x06blksize\x001400\0");
            let got = read_on(&socket, port, 1400);
            assert!(got == program());
        })
        .await;
        server.counted(|c| c.tftp_completed == 1).await;
    });
}

/// Acknowledges the options and every block to the last.
fn read_on(socket: &UdpSocket, port: u16, block_bytes: usize) -> Vec<u8> {
    let mut got = Vec::new();
    let mut block = 0u16;
    loop {
        let [high, low] = block.to_be_bytes();
        socket.send_to(&[0, 4, high, low], (SERVER, port)).unwrap();
        let (data, from) = receive(socket);
        block = block.wrapping_add(1);
        assert_eq!((from, &data[..2], &data[2..4]), (port, &[0, 3][..], &block.to_be_bytes()[..]));
        got.extend_from_slice(&data[4..]);
        if data.len() < 4 + block_bytes {
            let [high, low] = block.to_be_bytes();
            socket.send_to(&[0, 4, high, low], (SERVER, port)).unwrap();
            return got;
        }
    }
}

#[test]
fn a_request_that_was_doubled_on_its_way_does_not_end_the_transfer_that_its_client_took_up() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        lab.as_client(|| {
            let socket = client_socket(2072);
            let request = program_request(&["blksize", "1400"]);
            socket.send_to(&request, (SERVER, 69)).unwrap();
            let (_, first) = receive(&socket);
            socket.send_to(&request, (SERVER, 69)).unwrap();
            let (_, second) = receive(&socket);
            // RFC 1350 section 4: what comes from another port is refused, and disturbs nothing.
            socket.send_to(b"\0\x05\0\x05unknown\0", (SERVER, second)).unwrap();
            assert!(read_on(&socket, first, 1400) == program());
        })
        .await;
        server.counted(|c| c.tftp_completed == 1 && c.tftp_abandoned == 1).await;
    });
}

#[test]
fn requests_that_were_dropped_without_a_word_take_no_places_from_those_that_follow() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start_with([node(armed())], |config| {
            config.tftp_retransmit_after = std::time::Duration::from_secs(1000);
        });
        lab.as_client(|| {
            for port in 2080..2090 {
                let socket = client_socket(port);
                socket.send_to(&program_request(&["tsize", "0"]), (SERVER, 69)).unwrap();
                assert_eq!(receive(&socket).0, b"\0\x06tsize\x00300001\0");
                // Kept: a closed port would tell the server.
                std::mem::forget(socket);
            }
        })
        .await;
        assert_eq!(server.handle.counters().tftp_refused, 0);
    });
}

#[test]
fn a_machine_that_falls_silent_in_a_transfer_is_told_of_with_how_far_it_was() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(armed())]);
        lab.as_client(|| {
            let socket = client_socket(2073);
            socket.send_to(&program_request(&[]), (SERVER, 69)).unwrap();
            let (_, port) = receive(&socket);
            socket.send_to(&[0, 4, 0, 1], (SERVER, port)).unwrap();
            receive(&socket);
            // The port closes, as a machine's does that is switched off.
        })
        .await;
        let event = server.event(|e| matches!(e, BootEvent::Refused { node: Some(_), .. })).await;
        let BootEvent::Refused { reason, .. } = event else { unreachable!() };
        assert_eq!(reason, "it fell silent after 512 of 300001 bytes of undionly.kpxe by TFTP");
    });
}

#[test]
fn a_machine_of_another_architecture_gets_nothing_by_tftp_and_http_either() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(armed())]);
        lab.as_client(|| {
            let socket = UdpSocket::bind("10.77.0.11:68").unwrap();
            let mut discover = vec![0; 240];
            discover[..4].copy_from_slice(&[1, 1, 6, 0]);
            discover[28..34].copy_from_slice(&crate::lab::NODE_MAC.0);
            discover[236..].copy_from_slice(&[99, 130, 83, 99]);
            discover.extend_from_slice(&[53, 1, 1, 93, 2, 0, 11, 60, 9]);
            discover.extend_from_slice(b"PXEClient\xff");
            socket.send_to(&discover, (SERVER, 67)).unwrap();
        })
        .await;
        server.event(|e| matches!(e, BootEvent::FirmwareSeen { arch: 11, .. })).await;
        let reason = "its firmware is arm64 UEFI, and the node is x86_64: correct `arch` in the \
             cluster file, or the MAC address if this is another machine";
        for request in [&b"\0\x01undionly.kpxe\0octet\0"[..], b"\0\x01boot/n11.ipxe\0octet\0"] {
            assert_eq!(refused(&lab, request).await, (2, reason.to_owned()));
        }
        for path in [
            "boot/n11/script.ipxe",
            "boot/n11/kernel",
            "boot/n11/seed",
            "boot-program/undionly.kpxe",
        ] {
            let url = format!("http://{SERVER}:8080/{path}");
            let said = lab.run(&format!("curl -sS -w %{{http_code}} {url}")).await;
            assert_eq!(said, format!("{reason}\n409"), "{path}");
        }
        assert_eq!(server.handle.counters().seeds_served, 0);
    });
}
