//! An image server with faults to switch on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use layercake_node::image::Digest;
use layercake_seed::ImageBase;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with the next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection closes after so many bytes of the body.
    BreakAfter(usize),
    /// One byte of the body is another.
    FlipByte(usize),
    /// The whole image is sent although a part was asked for.
    IgnoreRange,
    /// The answer is 503.
    Busy,
}

#[derive(Default)]
struct State {
    images: HashMap<String, Arc<Vec<u8>>>,
    faults: Vec<Fault>,
    /// The `Range` of every request, `None` without.
    ranges: Vec<Option<String>>,
}

pub(crate) struct Server {
    base: ImageBase,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/images", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // The client may have gone; that is its right.
                let _ = answer(stream, &shared).await;
            }
        });
        Self { base, state, task }
    }

    pub(crate) fn base(&self) -> ImageBase {
        self.base.clone()
    }

    pub(crate) fn offer(&self, digest: Digest, bytes: Vec<u8>) {
        self.state.lock().unwrap().images.insert(digest.to_hex(), Arc::new(bytes));
    }

    /// The next requests go wrong in this order.
    pub(crate) fn fail_next(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults = faults.iter().rev().copied().collect();
    }

    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().ranges.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? <= 2 {
            break;
        }
        request.push(line.trim_end().to_owned());
    }
    let path = request.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let range = request
        .iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: ").map(str::to_owned));
    let (image, fault) = {
        let mut state = state.lock().unwrap();
        state.ranges.push(range.clone());
        let name = path.strip_prefix("/images/sha256/").unwrap_or_default();
        (state.images.get(name).cloned(), state.faults.pop())
    };
    let Some(image) = image else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    };
    if fault == Some(Fault::Busy) {
        return stream
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
            .await;
    }
    let start = range.filter(|_| fault != Some(Fault::IgnoreRange)).map(|range| {
        range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
    });
    let mut body = image[start.unwrap_or(0)..].to_vec();
    let head = match start {
        Some(start) => format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{}/{}\r\n",
            image.len() - 1,
            image.len()
        ),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    match fault {
        Some(Fault::BreakAfter(bytes)) => body.truncate(bytes),
        Some(Fault::FlipByte(at)) => body[at] ^= 1,
        _ => {}
    }
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}
