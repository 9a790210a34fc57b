//! Many datagrams in one call of the kernel, on a connected socket or a socket for all.

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

/// How many at once.
pub(crate) const BATCH: usize = 64;

/// Room for the largest datagram.
const ROOM: usize = 1_200;

/// As much room as the kernel gives for what waits to be taken.
const WAITING: usize = 16 << 20;

/// A socket that takes and gives many at once. It never waits.
pub(crate) struct Batched {
    pub(crate) socket: UdpSocket,
    rooms: Vec<[u8; ROOM]>,
}

impl Batched {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        socket.set_nonblocking(true).unwrap();
        // As much as may be had without being root.
        if setsockopt(&socket, sockopt::RcvBufForce, &WAITING).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &WAITING).unwrap();
        }
        Self { socket, rooms: vec![[0; ROOM]; BATCH] }
    }

    /// Takes what has come, `BATCH` at most; says how many, and from where.
    pub(crate) fn take(&mut self, mut each: impl FnMut(&mut [u8], Option<SocketAddrV4>)) -> usize {
        let mut arrived = Vec::new();
        {
            let mut slices: Vec<_> =
                self.rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
            let fd = self.socket.as_raw_fd();
            let Ok(taken) =
                recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)
            else {
                return 0;
            };
            arrived.extend(taken.map(|m| (m.bytes, m.address.map(SocketAddrV4::from))));
        }
        for (room, (length, from)) in self.rooms.iter_mut().zip(&arrived) {
            each(&mut room[..*length], *from);
        }
        arrived.len()
    }

    /// Gives datagrams, each to where it belongs; says how many the kernel took.
    pub(crate) fn give(&self, datagrams: &[(Vec<u8>, Option<SocketAddrV4>)]) -> usize {
        let slices: Vec<_> = datagrams.iter().map(|(bytes, _)| [IoSlice::new(bytes)]).collect();
        let to: Vec<_> = datagrams.iter().map(|(_, to)| to.map(SockaddrIn::from)).collect();
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(datagrams.len(), None);
        let nothing: [ControlMessage<'_>; 0] = [];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmmsg(fd, &mut headers, slices.iter(), to, nothing, flags).map_or(0, Iterator::count)
    }
}
