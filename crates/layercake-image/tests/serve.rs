//! The image service, over real connections on loopback.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use layercake_image::{Digest, ImageStore, ServeCounters, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Service {
    _dir: tempfile::TempDir,
    address: SocketAddr,
    digest: Digest,
    content: Vec<u8>,
    counters: Arc<ServeCounters>,
}

/// A service with one image of `len` bytes.
async fn service(len: usize) -> Service {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let content: Vec<u8> = (0..len).map(|i| ((i / 256) ^ i) as u8).collect();
    let (digest, _) = Digest::of_reader(&content[..]).unwrap();
    fs::write(store.blob_path(&digest), &content).unwrap();
    let counters = Arc::<ServeCounters>::default();
    let app = router(store, Arc::clone(&counters));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Service { _dir: dir, address, digest, content, counters }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Service {
    fn path(&self) -> String {
        format!("/images/sha256/{}", self.digest.to_hex())
    }

    /// Sends a request on an open connection and reads one answer.
    async fn ask(&self, stream: &mut TcpStream, line: &str, headers: &str) -> Answer {
        let request = format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if line.starts_with("HEAD") || status == 304 { 0 } else { length }];
        stream.read_exact(&mut body).await.unwrap();
        Answer { status, head, body }
    }
}

#[tokio::test]
async fn whole_images_and_parts_come_over_one_connection() {
    let service = service(300_000).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let get = format!("GET {}", service.path());

    let whole = service.ask(&mut stream, &get, "").await;
    assert_eq!((whole.status, whole.body.len()), (200, 300_000));
    assert!(whole.body == service.content);
    assert!(whole.head.contains(&format!("etag: \"{}\"", service.digest)), "{}", whole.head);
    assert!(whole.head.contains("accept-ranges: bytes"));

    let part = service.ask(&mut stream, &get, "Range: bytes=100000-199999\r\n").await;
    assert_eq!(part.status, 206);
    assert!(part.body == service.content[100_000..200_000]);
    assert!(part.head.contains("content-range: bytes 100000-199999/300000"), "{}", part.head);

    let rest = service.ask(&mut stream, &get, "Range: bytes=299990-\r\n").await;
    assert_eq!((rest.status, rest.body), (206, service.content[299_990..].to_vec()));

    let beyond = service.ask(&mut stream, &get, "Range: bytes=300000-\r\n").await;
    assert_eq!(beyond.status, 416);
    assert!(beyond.head.contains("content-range: bytes */300000"), "{}", beyond.head);

    let head = service.ask(&mut stream, &format!("HEAD {}", service.path()), "").await;
    assert_eq!(head.status, 200);
    assert!(head.head.contains("content-length: 300000"), "{}", head.head);

    let same = format!("If-None-Match: \"{}\"\r\n", service.digest);
    assert_eq!(service.ask(&mut stream, &get, &same).await.status, 304);
    let other = "Range: bytes=0-9\r\nIf-Range: \"other\"\r\n";
    assert_eq!(service.ask(&mut stream, &get, other).await.status, 200);

    let counts = service.counters.snapshot();
    assert_eq!((counts.full, counts.partial, counts.unsatisfiable), (3, 2, 1));
    assert_eq!((counts.not_modified, counts.bytes_sent), (1, 700_010));
}

#[tokio::test]
async fn what_is_not_an_image_is_not_found() {
    let service = service(10).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let zeros = "0".repeat(64);
    for path in [
        format!("/images/sha256/{zeros}"),
        "/images/sha256/..%2f..%2flock".to_owned(),
        "/images/sha256/short".to_owned(),
        "/images/sha256/".to_owned(),
        "/".to_owned(),
        format!("/images/sha256/sha256:{}", service.digest.to_hex()),
    ] {
        let answer = service.ask(&mut stream, &format!("GET {path}"), "").await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let put = service.ask(&mut stream, &format!("DELETE {}", service.path()), "").await;
    assert_eq!(put.status, 405);
    assert_eq!(service.counters.snapshot().not_found, 4);
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn two_hundred_clients_that_read_nothing_cost_little_and_do_not_stop_another() {
    let service = service(32 << 20).await;
    let before = resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", service.path());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        slow.push(stream);
    }
    let mut quick = TcpStream::connect(service.address).await.unwrap();
    let answer = service.ask(&mut quick, &format!("GET {}", service.path()), "").await;
    assert!(answer.body == service.content);
    drop(answer);
    assert_eq!(service.counters.snapshot().active, 200);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "200 clients took {} MiB", grown >> 20);

    drop(slow);
    while service.counters.snapshot().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.counters.snapshot().aborted, 200);
}
