//! Sockets of the machines' network: bound to one device, and errors that say what to do.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that wait to be accepted.
const LISTEN_BACKLOG: i32 = 1024;
/// Room for the requests of a thousand machines that are switched on together.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {what} on {address}{}: {}", on(.iface), advice(.source, what, .iface))]
pub struct BindError {
    what: &'static str,
    address: SocketAddrV4,
    iface: Option<Arc<str>>,
    #[source]
    source: io::Error,
}

fn on(iface: &Option<Arc<str>>) -> String {
    iface.as_ref().map(|name| format!(" (interface {name})")).unwrap_or_default()
}

fn advice(error: &io::Error, what: &str, iface: &Option<Arc<str>>) -> String {
    let device = iface.as_deref().unwrap_or("the device");
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another {what} server has the port; stop it (`ss -lnp` names it) or configure another"
        ),
        io::ErrorKind::PermissionDenied => {
            "not permitted; run as root or with CAP_NET_BIND_SERVICE and CAP_NET_RAW".into()
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "no interface has this address; configure it on {device} first (`ip address add`)"
        ),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            format!("there is no interface {device}; `ip link` lists those that exist")
        }
        _ => "the system refused".into(),
    }
}

/// A UDP socket on this address and port, hearing one device only where one is named.
pub(crate) fn bind_udp(
    what: &'static str,
    address: SocketAddrV4,
    iface: Option<&Arc<str>>,
    broadcast: bool,
) -> Result<UdpSocket, BindError> {
    let make = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(name) = iface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        socket.set_broadcast(broadcast)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(&SocketAddr::V4(address).into())?;
        UdpSocket::from_std(socket.into())
    };
    make().map_err(|source| BindError { what, address, iface: iface.cloned(), source })
}

/// A UDP socket of its own port that talks to one peer.
pub(crate) fn connect_udp(
    from: Ipv4Addr,
    iface: Option<&Arc<str>>,
    peer: SocketAddrV4,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(name) = iface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into())?;
    socket.connect(&SocketAddr::V4(peer).into())?;
    UdpSocket::from_std(socket.into())
}

/// A listening TCP socket on this address and port, taking connections of one device only where one
/// is named.
pub(crate) fn listen_tcp(
    what: &'static str,
    address: SocketAddrV4,
    iface: Option<&Arc<str>>,
) -> Result<TcpListener, BindError> {
    let make = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // A restarted server must not wait for connections of the one before it to fade away.
        socket.set_reuse_address(true)?;
        if let Some(name) = iface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        socket.bind(&SocketAddr::V4(address).into())?;
        socket.listen(LISTEN_BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    make().map_err(|source| BindError { what, address, iface: iface.cloned(), source })
}
