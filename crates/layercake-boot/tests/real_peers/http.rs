use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use layercake_boot::{BootEvent, BootPlan};

use crate::lab::{SERVER, Server, armed, bytes, in_lab, node};

const BASE: &str = "http://10.77.0.1:8080/boot/n11";

#[test]
fn curl_gets_whole_files_parts_and_sizes_over_one_connection() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let mut server = Server::start([node(armed())]);
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let connects = lab
            .run(&format!(
                "curl -sS -w %{{num_connects}} {BASE}/kernel -o {at}/k {BASE}/initramfs -o {at}/i \
                 {BASE}/seed -o {at}/s"
            ))
            .await;
        assert_eq!(connects, "100", "one connection for three files");
        assert!(std::fs::read(directory.path().join("k")).unwrap() == bytes(200_000));
        assert!(std::fs::read(directory.path().join("i")).unwrap() == bytes(3_000_000));
        assert_eq!(std::fs::read(directory.path().join("s")).unwrap(), b"a secret seed");
        let served = BootEvent::SeedServed { node: "n11".into(), boot_id: "boot-7".into() };
        server.event(|event| *event == served).await;

        let headers = lab.run(&format!("curl -sS -I {BASE}/initramfs")).await;
        assert!(headers.contains("content-length: 3000000\r\n"), "{headers}");
        assert!(headers.contains("cache-control: no-store\r\n"), "{headers}");
        let headers = lab.run(&format!("curl -sS -D - -r 9-12 {BASE}/seed")).await;
        assert!(headers.starts_with("HTTP/1.1 206 "), "{headers}");
        assert!(headers.contains("content-range: bytes 9-12/13\r\n"), "{headers}");
        assert!(headers.ends_with("\r\n\r\nseed"), "{headers}");
        server.counted(|c| c.seeds_served == 2 && c.initramfs_served == 1).await;
        let status = lab.run(&format!("curl -sS -r 13- -w %{{http_code}} {BASE}/seed")).await;
        assert_eq!(status, "416");
        let script = lab.run(&format!("curl -sS {BASE}/script.ipxe")).await;
        assert!(script.starts_with("#!ipxe\n"), "{script}");
    });
}

#[test]
fn only_the_node_itself_and_only_while_armed_gets_its_files() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        lab.address("10.77.0.99");
        let mut server = Server::start([node(armed())]);
        let ask = async |from: &str, path: &str| {
            let url = format!("http://{SERVER}:8080{path}");
            lab.run(&format!("curl -sS --interface {from} -w %{{http_code}} {url}")).await
        };
        let stranger = ask("10.77.0.99", "/boot/n11/seed").await;
        assert_eq!(
            stranger,
            "10.77.0.99 is not the address of a node of this name; a machine gets only its own \
             files\n403"
        );
        server.event(|e| matches!(e, BootEvent::Refused { .. })).await;
        assert!(ask("10.77.0.99", "/boot-program/undionly.kpxe").await.ends_with("403"));
        assert!(ask("10.77.0.11", "/boot/n12/seed").await.ends_with("403"));
        assert!(ask("10.77.0.11", "/boot/n11/passwd").await.ends_with("404"));
        assert!(ask("10.77.0.11", "/boot/n11/..%2f..%2fetc%2fpasswd").await.ends_with("404"));
        server.change_hosts([node(BootPlan::Idle)]);
        let idle = ask("10.77.0.11", "/boot/n11/seed").await;
        assert_eq!(idle, "n11 is not expected to boot now\n409");
        assert_eq!(server.handle.counters().http_refused, 6);
        assert_eq!(server.handle.counters().seeds_served, 0);
    });
}

#[test]
fn slow_and_silent_clients_are_shut_out_and_others_served() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start_with([node(armed())], |config| {
            config.http_limits.header_timeout = Duration::from_millis(500);
            config.http_limits.stall_timeout = Duration::from_millis(500);
            config.http_limits.max_connections_per_client = 8;
        });
        let slow = lab.as_client(|| {
            let connect = |_| TcpStream::connect((SERVER, 8080)).unwrap();
            let silent: Vec<_> = (0..4).map(connect).collect();
            let mut stalled: Vec<_> = (0..4).map(connect).collect();
            for stream in &mut stalled {
                // More than fits the buffers on the way; it is never read.
                for _ in 0..8 {
                    stream
                        .write_all(b"GET /boot/n11/initramfs HTTP/1.1\r\nHost: s\r\n\r\n")
                        .unwrap();
                }
            }
            let mut refused = TcpStream::connect((SERVER, 8080)).unwrap();
            refused.write_all(b"GET /boot/n11/kernel HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
            let mut said = String::new();
            refused.read_to_string(&mut said).unwrap();
            assert!(said.starts_with("HTTP/1.1 503 "), "one connection too many: {said}");
            (silent, stalled)
        });
        let (silent, stalled) = slow.await;
        server.counted(|c| c.http_connections_refused >= 1 && c.http_stalled == 4).await;
        let kernel = format!("curl -sS -o /dev/null -w %{{size_download}} {BASE}/kernel");
        assert_eq!(lab.run(&kernel).await, "200000");
        tokio::task::spawn_blocking(move || {
            for mut stream in silent {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let mut said = Vec::new();
                // Closed, after an answer or without one.
                let _ = stream.read_to_end(&mut said);
                assert!(!String::from_utf8_lossy(&said).starts_with("HTTP/1.1 200"));
            }
            drop(stalled);
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_machine_with_many_downloads_is_served_and_one_with_too_many_is_told_to_come_back() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let server = Server::start([node(armed())]);
        let most = layercake_boot::http::driver::HttpLimits::default().max_connections_per_client;
        assert!(most >= 64, "a machine with several images, each in several downloads");
        let answers = lab.as_client(move || {
            let mut streams: Vec<_> =
                (0..most + 3).map(|_| TcpStream::connect((SERVER, 8080)).unwrap()).collect();
            let mut answers = Vec::new();
            for stream in &mut streams {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                stream.write_all(b"GET /boot/n11/seed HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                answers.push(String::from_utf8(head).unwrap());
            }
            answers
        });
        let answers = answers.await;
        for (number, answer) in answers.iter().enumerate() {
            if number < most {
                assert!(answer.starts_with("HTTP/1.1 200 "), "{number}: {answer}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 503 "), "{number}: {answer}");
                assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
                assert!(answer.contains("connection: close\r\n"), "{answer}");
            }
        }
        server.counted(|c| c.http_connections_refused == 3).await;
        let kernel = format!("curl -sS -o /dev/null -w %{{size_download}} {BASE}/kernel");
        assert_eq!(lab.run(&kernel).await, "200000", "places are free again");
    });
}

#[test]
fn a_boot_program_is_of_the_type_by_which_uefi_knows_what_it_can_start() {
    in_lab(|lab| async move {
        lab.address("10.77.0.11");
        let _server = Server::start_with([node(armed())], |config| {
            let programs = [("snponly.efi".into(), bytes(1000).into())];
            config.programs = std::sync::Arc::new(programs.into());
        });
        let url = format!("http://{SERVER}:8080/boot-program/snponly.efi");
        let headers = lab.run(&format!("curl -sS -I {url}")).await;
        assert!(headers.contains("content-type: application/efi\r\n"), "{headers}");
        assert!(headers.contains("content-length: 1000\r\n"), "{headers}");
    });
}
