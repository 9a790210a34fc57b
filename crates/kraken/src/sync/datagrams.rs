//! Datagrams by the batch: one call of the kernel for many of them, each way.
//!
//! A call costs about as much as opening and answering a hello does; a parent of 100,000 nodes has
//! ten thousand hellos to answer every second, and all at once when a switch comes back.

use super::link::DATAGRAM_ROOM;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt,
    sockopt,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// How many datagrams one call takes or gives, and so how many are taken in a row before anything
/// else gets its turn.
const BATCH: usize = 64;

/// Room in the kernel for what waits to be taken: what 100,000 nodes say in a second, each datagram
/// counted with what the kernel keeps beside it. With the usual room a few hundred nodes that speak
/// at once would lose most of what they say.
const WAITING_BYTES: usize = 8 << 20;

/// How many datagrams wait to be sent, when the kernel takes none, before further ones are lost.
const MAX_DEPARTURES: usize = 4_096;

/// Makes room for what waits to be taken: as much as is wanted, or as a system gives to anybody.
pub(crate) fn make_room(socket: &UdpSocket) {
    let forced = setsockopt(socket, sockopt::RcvBufForce, &WAITING_BYTES);
    if let Err(error) = forced.or_else(|_| setsockopt(socket, sockopt::RcvBuf, &WAITING_BYTES)) {
        tracing::warn!(%error, "cannot make room for datagrams; those of many nodes at once may be lost");
    }
}

/// Datagrams that came.
pub(crate) struct Arrivals {
    rooms: Box<[[u8; DATAGRAM_ROOM]]>,
    arrived: Vec<(usize, SocketAddr)>,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        let rooms = vec![[0; DATAGRAM_ROOM]; BATCH].into_boxed_slice();
        Self { rooms, arrived: Vec::with_capacity(BATCH) }
    }

    /// Takes what has come, a batch at most, in place of what there was.
    pub(crate) fn take(&mut self, socket: &UdpSocket) {
        let Self { rooms, arrived } = self;
        arrived.clear();
        // Nothing has come; or an ICMP error of something that was sent, which says nothing.
        let _ = socket.try_io(Interest::READABLE, || receive(socket, rooms, arrived));
    }

    /// Each with where it came from.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let Self { rooms, arrived } = self;
        rooms.iter_mut().zip(arrived).map(|(room, (length, from))| (*from, &mut room[..*length]))
    }
}

fn receive(
    socket: &UdpSocket,
    rooms: &mut [[u8; DATAGRAM_ROOM]],
    arrived: &mut Vec<(usize, SocketAddr)>,
) -> io::Result<()> {
    let mut slices: Vec<_> = rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), None);
    let flags = MsgFlags::MSG_DONTWAIT;
    let taken = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
    // Every datagram of such a socket has an address; zip would take another's otherwise.
    let nowhere = SocketAddr::from(([0; 4], 0));
    let each = taken.map(|m| (m.bytes, m.address.and_then(internet).unwrap_or(nowhere)));
    arrived.extend(each);
    Ok(())
}

fn internet(address: SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// Datagrams to be sent. What cannot be sent is lost, as datagrams are, and repaired like them.
#[derive(Default)]
pub(crate) struct Departures {
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Departures {
    /// Adds one, unless too many wait.
    pub(crate) fn push(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if self.queue.len() < MAX_DEPARTURES {
            self.queue.push_back((to, bytes));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends until there are no more, or the kernel has no room for now.
    pub(crate) fn send(&mut self, socket: &UdpSocket) {
        while !self.queue.is_empty() {
            let waiting = self.queue.make_contiguous();
            let batch = &waiting[..waiting.len().min(BATCH)];
            match socket.try_io(Interest::WRITABLE, || give(socket, batch)) {
                Ok(given) => drop(self.queue.drain(..given)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is the first that cannot be sent: there is no way to where it belongs, or a
                // packet filter stands in it. That says nothing of the others.
                Err(error) => {
                    let lost = self.queue.pop_front();
                    tracing::debug!(to = ?lost.map(|(to, _)| to), %error, "cannot send a datagram");
                }
            }
        }
    }
}

/// Says how many the kernel took: one at least.
fn give(socket: &UdpSocket, batch: &[(SocketAddr, Vec<u8>)]) -> io::Result<usize> {
    let slices: Vec<_> = batch.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let to: Vec<_> = batch.iter().map(|(to, _)| Some(SockaddrStorage::from(*to))).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(batch.len(), None);
    let nothing: [ControlMessage<'_>; 0] = [];
    let flags = MsgFlags::MSG_DONTWAIT;
    let given = sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), to, nothing, flags);
    match given.map(Iterator::count) {
        Ok(0) => Err(Errno::EAGAIN.into()),
        Ok(given) => Ok(given),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    async fn socket(address: &str) -> UdpSocket {
        UdpSocket::bind(address).await.unwrap()
    }

    fn pushed(to: &[SocketAddr]) -> Departures {
        let mut departures = Departures::default();
        for (n, to) in to.iter().enumerate() {
            departures.push(*to, n.to_be_bytes().to_vec());
        }
        departures
    }

    /// Sends all, as the driver does: as soon as the socket can.
    async fn sent(mut departures: Departures, socket: &UdpSocket) {
        while !departures.is_empty() {
            socket.writable().await.unwrap();
            departures.send(socket);
        }
    }

    /// Takes until so many have come: from where, and what.
    async fn taken(socket: &UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut arrivals, mut taken) = (Arrivals::new(), Vec::new());
        while taken.len() < count {
            socket.readable().await.unwrap();
            arrivals.take(socket);
            taken.extend(arrivals.each().map(|(from, bytes)| (from, bytes.to_vec())));
        }
        taken
    }

    #[tokio::test]
    async fn more_than_a_batch_arrives_whole_in_order_and_from_where_it_came() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (near, far) = (socket(address).await, socket(address).await);
            make_room(&far);
            let count = 3 * BATCH + 1;
            sent(pushed(&vec![far.local_addr().unwrap(); count]), &near).await;
            let from = near.local_addr().unwrap();
            let expected: Vec<_> = (0..count).map(|n| (from, n.to_be_bytes().to_vec())).collect();
            assert_eq!(taken(&far, count).await, expected);
        }
    }

    #[tokio::test]
    async fn one_that_cannot_be_sent_takes_none_of_the_others_with_it() {
        let (near, far) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
        let to = far.local_addr().unwrap();
        // A socket of IPv4 sends nothing to an address of IPv6, nor to port 0.
        let v6 = "[::1]:9".parse().unwrap();
        sent(pushed(&[v6, to, v6, v6, to, "127.0.0.1:0".parse().unwrap(), to]), &near).await;
        let arrived = taken(&far, 3).await.into_iter().map(|(_, bytes)| bytes);
        let expected = [1_usize, 4, 6].map(|n| n.to_be_bytes().to_vec());
        assert_eq!(arrived.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_disturbs_nobody_else() {
        let (near, far) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
        let closed = socket("127.0.0.1:0").await.local_addr().unwrap();
        let to = far.local_addr().unwrap();
        for _ in 0..3 {
            sent(pushed(&[closed, to, closed]), &near).await;
            assert_eq!(taken(&far, 1).await.len(), 1);
        }
        sent(pushed(&[near.local_addr().unwrap()]), &far).await;
        assert_eq!(taken(&near, 1).await.len(), 1);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_out_when_the_socket_can() {
        let (near, far) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
        let to = far.local_addr().unwrap();
        let departures = pushed(&vec![to; MAX_DEPARTURES + 10]);
        assert_eq!(departures.queue.len(), MAX_DEPARTURES);
        sent(departures, &near).await;
    }

    #[tokio::test]
    async fn what_is_too_long_is_seen_to_be_so() {
        let (near, far) = (socket("127.0.0.1:0").await, socket("127.0.0.1:0").await);
        near.send_to(&[7; 1_400], far.local_addr().unwrap()).await.unwrap();
        let taken = taken(&far, 1).await;
        assert!(taken[0].1.len() > kraken_sync::MAX_DATAGRAM_BYTES);
    }
}
