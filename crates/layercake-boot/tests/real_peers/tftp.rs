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
        server.event(|e| matches!(e, BootEvent::Refused { .. })).await;
        server.change_hosts([node(BootPlan::Idle)]);
        let idle = refused(&lab, b"\0\x01boot/n11.ipxe\0octet\0").await;
        assert_eq!(idle, (1, "n11 is not expected to boot now".to_owned()));
        server.change_hosts([]);
        let stranger = refused(&lab, b"\0\x01undionly.kpxe\0octet\0").await;
        assert_eq!(stranger, (2, "10.77.0.11 is not a known machine".to_owned()));
    });
}
