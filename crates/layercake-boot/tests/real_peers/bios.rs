//! The conversation of a BIOS PXE client (PXE 2.1 and RFC 4578), replayed: every ROM that can be had for
//! virtual machines is iPXE itself, which behaves otherwise.

use std::{net::UdpSocket, path::Path, sync::Arc, time::Duration};

use layercake_boot::programs::{DEFAULT_DIRECTORY, read_programs};
use socket2::{Domain, Socket, Type};

use crate::lab::{NODE_MAC, SERVER, Server, armed, in_lab, node};

const XID: [u8; 4] = [0x4c, 0x43, 0x42, 0x4f];
/// What Intel's boot agent asks for.
const WANTED: &[u8] = &[
    1, 2, 3, 4, 5, 6, 11, 12, 13, 15, 16, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59,
    60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135,
];
/// What it can take beside a header of IPv4, UDP and TFTP in one frame.
const BLOCK_BYTES: usize = 1456;

/// A message of the client, with the options that all of its messages have.
fn message(kind: u8, more: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&XID);
    bytes[8..12].copy_from_slice(&[0, 4, 0x80, 0]);
    bytes[28..34].copy_from_slice(&NODE_MAC.0);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    let uuid = [&[0][..], &[0x4c; 16]].concat();
    let same: [(u8, &[u8]); 6] = [
        (55, WANTED),
        (57, &[0x04, 0xec]),
        (97, &uuid),
        (93, &[0, 0]),
        (94, &[1, 2, 1]),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
    ];
    for (code, value) in [(53, &[kind][..])].iter().chain(more).chain(&same) {
        bytes.extend_from_slice(&[*code, value.len() as u8]);
        bytes.extend_from_slice(value);
    }
    bytes.push(255);
    bytes.resize(548, 0);
    bytes
}

/// The value of an option of an answer.
fn option(answer: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &answer[240..];
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [255, ..] | [] => return None,
            [code, len, after @ ..] => {
                let (value, after) = after.split_at(usize::from(*len));
                if *code == wanted {
                    return Some(value);
                }
                rest = after;
            }
            [_] => return None,
        }
    }
}

/// What the client says by broadcast, as long as it has no address, and what it is answered.
fn ask(socket: &UdpSocket, message: &[u8]) -> Vec<u8> {
    socket.send_to(message, "255.255.255.255:67").unwrap();
    let mut answer = [0; 1500];
    let len = socket.recv(&mut answer).unwrap();
    assert_eq!((answer[0], &answer[4..8]), (2, &XID[..]), "an answer to what was asked");
    answer[..len].to_vec()
}

fn dhcp_socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind_device(Some(b"c0")).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.bind(&"0.0.0.0:68".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.into()
}

/// DISCOVER to ACK; the name of the boot file, as BIOS takes it.
fn dhcp() -> String {
    let socket = dhcp_socket();
    let offer = ask(&socket, &message(1, &[]));
    let told = |answer: &[u8], kind: u8| {
        assert_eq!(option(answer, 53), Some(&[kind][..]));
        assert_eq!(&answer[16..24], &[[10, 77, 0, 11], SERVER.octets()].concat(), "yiaddr, siaddr");
        assert_eq!(option(answer, 60), Some(&b"PXEClient"[..]), "or it waits for a proxyDHCP");
        assert_eq!(option(answer, 43), Some(&[6, 1, 8, 255][..]), "or it asks a boot server");
        assert_eq!(option(answer, 97).map(<[u8]>::len), Some(17), "PXE 2.1: it must come back");
        assert_eq!(option(answer, 67), Some(&b"undionly.kpxe"[..]));
        answer[108..236].iter().take_while(|b| **b != 0).map(|b| *b as char).collect::<String>()
    };
    let name = told(&offer, 2);
    let server = option(&offer, 54).unwrap();
    let ack = ask(&socket, &message(3, &[(50, &[10, 77, 0, 11]), (54, server)]));
    assert_eq!(told(&ack, 5), name);
    name
}

struct Tftp {
    socket: UdpSocket,
}

impl Tftp {
    /// Sends a request from a port of its own; what is answered, and from which port.
    fn request(port: u16, name: &str, options: &[&str]) -> (Self, Vec<u8>, u16) {
        let socket = UdpSocket::bind(("10.77.0.11", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let words: Vec<u8> = [name, "octet"]
            .iter()
            .chain(options)
            .flat_map(|word| [word.as_bytes(), b"\0"].concat())
            .collect();
        socket.send_to(&[&[0, 1][..], &words].concat(), (SERVER, 69)).unwrap();
        let tftp = Self { socket };
        let (answer, peer) = tftp.receive();
        (tftp, answer, peer)
    }

    fn receive(&self) -> (Vec<u8>, u16) {
        let mut buffer = [0; 2000];
        let (len, peer) = self.socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), peer.port())
    }

    fn send(&self, bytes: &[u8], port: u16) {
        self.socket.send_to(bytes, (SERVER, port)).unwrap();
    }
}

/// Asks for the size and gives that request up, then fetches the file to its last byte.
fn tftp(name: &str) -> Vec<u8> {
    let (probe, answer, port) = Tftp::request(2070, name, &["tsize", "0"]);
    let size: String = answer.iter().skip(8).take_while(|b| **b != 0).map(|b| *b as char).collect();
    probe.send(b"\0\x05\0\0TFTP Aborted\0", port);

    let (transfer, answer, port) = Tftp::request(2071, name, &["blksize", "1456"]);
    assert_eq!(answer, b"\0\x06blksize\x001456\0");
    let mut got = Vec::new();
    let mut block = 0u16;
    loop {
        let [high, low] = block.to_be_bytes();
        transfer.send(&[0, 4, high, low], port);
        if block > 0 && got.len() < usize::from(block) * BLOCK_BYTES {
            assert_eq!(got.len().to_string(), size);
            return got;
        }
        let (data, peer) = transfer.receive();
        block += 1;
        assert_eq!((peer, &data[..4]), (port, &[[0, 3], block.to_be_bytes()].concat()[..]));
        got.extend_from_slice(&data[4..]);
    }
}

#[test]
fn a_bios_pxe_client_gets_undionly_to_its_last_byte() {
    in_lab(|lab| async move {
        let programs = read_programs(Path::new(DEFAULT_DIRECTORY));
        assert!(programs.left_out.is_empty(), "{:?}", programs.left_out);
        let undionly = programs.found.get("undionly.kpxe").expect("the Debian package ipxe");
        let undionly = undionly.bytes().clone();
        let server = Server::start_with([node(armed())], |config| {
            config.programs = Arc::new(programs.found);
        });
        let name = lab.as_client(dhcp).await;
        lab.address("10.77.0.11");
        let got = lab.as_client(move || tftp(&name)).await;
        assert!(got == undionly, "{} bytes of {}", got.len(), undionly.len());
        server.counted(|c| c.tftp_completed == 1 && c.tftp_abandoned == 1).await;
    });
}
