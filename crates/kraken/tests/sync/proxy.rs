//! Somebody on the way between node and parent: passes everything on, remembers, and adds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    outside: Arc<UdpSocket>,
    seen: Arc<Mutex<Vec<u8>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Proxy {
    pub(crate) async fn start(parent: SocketAddr) -> Self {
        // The same number for TCP and UDP, as the parent has it.
        let (tcp, inside) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        outside.connect(parent).await.unwrap();
        let (outside, seen) = (Arc::new(outside), Arc::new(Mutex::new(Vec::new())));
        let joins = tokio::spawn(async move {
            loop {
                let (mut near, _) = tcp.accept().await.unwrap();
                let mut far = TcpStream::connect(parent).await.unwrap();
                // Either end may break off; the other one sees it.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
        let datagrams = tokio::spawn(pass(inside, Arc::clone(&outside), Arc::clone(&seen)));
        Self { address, outside, seen, tasks: [joins, datagrams] }
    }

    /// The latest datagram from the node.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    /// Sends the parent something from where the node seems to be.
    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.outside.send(bytes).await.unwrap();
    }
}

async fn pass(inside: UdpSocket, outside: Arc<UdpSocket>, seen: Arc<Mutex<Vec<u8>>>) {
    let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    let mut node = None;
    loop {
        tokio::select! {
            received = inside.recv_from(&mut there) => {
                let (length, from) = received.unwrap();
                node = Some(from);
                *seen.lock().unwrap() = there[..length].to_vec();
                outside.send(&there[..length]).await.unwrap();
            }
            received = outside.recv(&mut back) => {
                if let (Ok(length), Some(node)) = (received, node) {
                    inside.send_to(&back[..length], node).await.unwrap();
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
