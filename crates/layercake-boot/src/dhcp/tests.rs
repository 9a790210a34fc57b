#![allow(clippy::unwrap_used)]
use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{
        Architecture, DhcpOption, DhcpOptions, Flags, Message, MessageType as Type, Opcode,
        OptionCode, UnknownOption, relay,
    },
};
use proptest::prelude::*;

use super::*;
use crate::{
    Arch, MacAddr,
    events::MachineFacts,
    hosts::tests::{armed, host, table},
};

mod firmware;
mod relays;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn config() -> ServerConfig {
    let programs = [("undionly.kpxe", "bios"), ("ipxe.efi", "efi")];
    let programs = programs.map(|(name, bytes)| (name.to_owned(), BootFile::from(bytes)));
    ServerConfig {
        address: SERVER,
        tftp_port: 69,
        http_port: 8080,
        programs: Arc::new(programs.into()),
    }
}

fn hosts() -> Hosts {
    table([host(11, armed()), host(12, BootPlan::Idle)])
}

/// A message of n11 with these options.
fn message(kind: Type, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let mut message = Message::new_with_id(7, NONE, NONE, NONE, NONE, &[0x52, 0x54, 0, 0, 0, 11]);
    let mut all = DhcpOptions::new();
    all.insert(DhcpOption::MessageType(kind));
    for option in options {
        all.insert(option);
    }
    message.set_opts(all);
    message
}

fn send(message: &Message) -> (Option<(SocketAddrV4, Message)>, Vec<BootEvent>) {
    let (reply, events) = send_bytes(&message.to_vec().unwrap());
    let decoded = reply.map(|r| {
        assert!(r.bytes.len() >= 300);
        (r.dest, Message::decode(&mut Decoder::new(&r.bytes)).unwrap())
    });
    (decoded, events)
}

fn send_bytes(bytes: &[u8]) -> (Option<Reply>, Vec<BootEvent>) {
    let source = SocketAddrV4::new(NONE, CLIENT_PORT);
    handle(&hosts(), &config(), &Incoming { iface: &"br0".into(), source, bytes })
}

fn answered(message: &Message) -> (SocketAddrV4, Message) {
    send(message).0.unwrap()
}

fn kind(message: &Message) -> Type {
    message.opts().msg_type().unwrap()
}

fn pxe(arch: u16) -> Vec<DhcpOption> {
    vec![
        DhcpOption::ClassIdentifier(format!("PXEClient:Arch:{arch:05}:UNDI:002001").into()),
        DhcpOption::ClientSystemArchitecture(Architecture::from(arch)),
    ]
}

#[test]
fn a_discover_is_offered_the_hosts_own_address_and_network() {
    let (dest, offer) = answered(&message(Type::Discover, []));
    assert_eq!(dest, "255.255.255.255:68".parse().unwrap());
    assert_eq!((kind(&offer), offer.opcode(), offer.xid()), (Type::Offer, Opcode::BootReply, 7));
    assert_eq!(offer.yiaddr(), OWN);
    let expected = [
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::BroadcastAddr(Ipv4Addr::new(10, 77, 0, 255)),
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![SERVER]),
        DhcpOption::Hostname("n11".into()),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::Renewal(1800),
        DhcpOption::Rebinding(3150),
    ];
    for option in expected {
        assert_eq!(offer.opts().get(OptionCode::from(&option)), Some(&option));
    }
    assert_eq!(offer.fname(), None, "a client that is no firmware gets no boot file");
}

#[test]
fn offers_and_acknowledgements_are_events() {
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 11]);
    let (_, events) = send(&message(Type::Discover, []));
    assert_eq!(events, [BootEvent::DhcpOffer { node: "n11".into(), mac }]);
    let (_, events) = send(&message(Type::Request, [DhcpOption::RequestedIpAddress(OWN)]));
    assert_eq!(events, [BootEvent::DhcpAck { node: "n11".into(), mac }]);
}

#[test]
fn a_client_that_selects_us_is_acknowledged_and_one_that_selects_another_is_left_alone() {
    let select = |server, address| {
        message(
            Type::Request,
            [DhcpOption::ServerIdentifier(server), DhcpOption::RequestedIpAddress(address)],
        )
    };
    assert_eq!(kind(&answered(&select(SERVER, OWN)).1), Type::Ack);
    assert_eq!(kind(&answered(&select(SERVER, OTHER)).1), Type::Nak);
    assert_eq!(send(&select(OTHER, OWN)), (None, vec![]));
}

#[test]
fn a_client_that_reboots_with_a_remembered_address_gets_ack_or_nak() {
    let reboot = |address| message(Type::Request, [DhcpOption::RequestedIpAddress(address)]);
    assert_eq!(kind(&answered(&reboot(OWN)).1), Type::Ack);
    let (dest, nak) = answered(&reboot(OTHER));
    assert_eq!((kind(&nak), nak.yiaddr()), (Type::Nak, NONE));
    assert_eq!(dest, "255.255.255.255:68".parse().unwrap());
}

#[test]
fn a_renewal_is_answered_to_the_address_the_client_has() {
    let mut renew = message(Type::Request, []);
    renew.set_ciaddr(OWN);
    let (dest, ack) = answered(&renew);
    assert_eq!((kind(&ack), ack.ciaddr(), ack.yiaddr()), (Type::Ack, OWN, OWN));
    assert_eq!(dest, "10.77.0.11:68".parse().unwrap());
    renew.set_ciaddr(OTHER);
    let (dest, nak) = answered(&renew);
    assert_eq!(kind(&nak), Type::Nak);
    assert_eq!(dest, "255.255.255.255:68".parse().unwrap(), "never to an address that is claimed");
}

#[test]
fn an_inform_gets_the_network_without_address_and_times() {
    let mut inform = message(Type::Inform, []);
    inform.set_ciaddr(OWN);
    let (dest, ack) = answered(&inform);
    assert_eq!((kind(&ack), ack.yiaddr()), (Type::Ack, NONE));
    assert_eq!(dest, "10.77.0.11:68".parse().unwrap());
    assert!(!ack.opts().contains(OptionCode::AddressLeaseTime));
    assert!(ack.opts().contains(OptionCode::SubnetMask));
    inform.set_ciaddr(OTHER);
    assert!(send(&inform).0.is_none());
}

#[test]
fn a_decline_is_reported_and_a_release_too() {
    let (reply, events) = send(&message(Type::Decline, [DhcpOption::RequestedIpAddress(OWN)]));
    assert!(reply.is_none());
    assert!(matches!(&events[..], [BootEvent::AddressInUse { address: OWN, .. }]));
    let mut release = message(Type::Release, [DhcpOption::ServerIdentifier(SERVER)]);
    release.set_ciaddr(OWN);
    let (reply, events) = send(&release);
    assert!(reply.is_none());
    assert!(matches!(&events[..], [BootEvent::DhcpRelease { .. }]));
}

#[test]
fn ipxe_gets_the_url_of_its_nodes_script_in_both_spellings_of_its_class() {
    for class in [&b"iPXE"[..], b"\x04iPXE"] {
        let mut options = pxe(0);
        options.push(DhcpOption::UserClass(class.to_vec()));
        let (_, offer) = answered(&message(Type::Discover, options));
        let file = offer.fname().unwrap();
        assert_eq!(file.strip_suffix(b"\0").unwrap_or(file), b"tftp://10.77.0.1/boot/n11.ipxe");
        assert_eq!(offer.siaddr(), SERVER);
        let ipxe = OptionCode::Unknown(175);
        let no_proxy = UnknownOption::new(ipxe, vec![176, 1, 1]);
        assert_eq!(offer.opts().get(ipxe), Some(&DhcpOption::Unknown(no_proxy)));
    }
}

#[test]
fn firmware_gets_the_best_boot_program_that_is_there() {
    let boot_file = |options| {
        let (_, offer) = answered(&message(Type::Discover, options));
        match offer.opts().get(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(name)) => String::from_utf8(name.clone()).unwrap(),
            _ => String::new(),
        }
    };
    assert_eq!(boot_file(pxe(0)), "undionly.kpxe");
    assert_eq!(boot_file(pxe(7)), "ipxe.efi");
    assert_eq!(boot_file(pxe(9)), "ipxe.efi");
    let http = vec![
        DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016:UNDI:003001".to_vec()),
        DhcpOption::ClientSystemArchitecture(Architecture::from(16)),
    ];
    assert_eq!(boot_file(http), "http://10.77.0.1:8080/boot-program/ipxe.efi");
}

#[test]
fn firmware_without_a_boot_program_gets_its_address_and_the_lack_is_reported() {
    let (reply, events) = send(&message(Type::Discover, pxe(11)));
    assert_eq!(reply.unwrap().1.yiaddr(), OWN);
    let [_, _, BootEvent::Refused { reason, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        reason,
        "its firmware (arm64 UEFI) needs snponly-arm64.efi or ipxe-arm64.efi, which is not among the \
         boot programs; install the Debian package ipxe, or name the directory that holds it with \
         `layercake serve --boot-programs DIR`, and start the server again"
    );
}

#[test]
fn an_idle_host_gets_its_address_and_nothing_to_boot() {
    let mut options = pxe(0);
    options.push(DhcpOption::UserClass(b"iPXE".to_vec()));
    let mut discover = message(Type::Discover, options);
    discover.set_chaddr(&[0x52, 0x54, 0, 0, 0, 12]);
    let (_, offer) = answered(&discover);
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 77, 0, 12));
    assert_eq!((offer.fname(), offer.siaddr()), (None, NONE));
    assert!(!offer.opts().contains(OptionCode::BootfileName));
}

#[test]
fn a_relayed_request_is_answered_to_the_relay_with_its_option_last() {
    let circuit = relay::RelayInfo::AgentCircuitId(b"rack3/port7".to_vec());
    let mut information = relay::RelayAgentInformation::default();
    information.insert(circuit);
    let mut relayed =
        message(Type::Discover, [DhcpOption::RelayAgentInformation(information.clone())]);
    relayed.set_giaddr(Ipv4Addr::new(10, 77, 0, 254));
    let (reply, _) = send_bytes(&relayed.to_vec().unwrap());
    let reply = reply.unwrap();
    assert_eq!(reply.dest, "10.77.0.254:67".parse().unwrap());
    let offer = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    assert_eq!(
        offer.opts().get(OptionCode::RelayAgentInformation),
        Some(&DhcpOption::RelayAgentInformation(information))
    );
    let end = reply.bytes.iter().rposition(|&b| b == 255).unwrap();
    assert!(reply.bytes[..end].ends_with(b"rack3/port7"));
    relayed.set_giaddr(Ipv4Addr::new(192, 168, 9, 1));
    let (reply, events) = send(&relayed);
    assert!(reply.is_none());
    assert!(matches!(&events[..], [BootEvent::Refused { .. }]));
}

#[test]
fn a_nak_through_a_relay_asks_the_relay_to_broadcast() {
    let mut relayed = message(Type::Request, [DhcpOption::RequestedIpAddress(OTHER)]);
    relayed.set_giaddr(Ipv4Addr::new(10, 77, 0, 254));
    let (_, nak) = answered(&relayed);
    assert!(nak.flags().broadcast());
}

#[test]
fn client_identifier_and_uuid_come_back_as_sent() {
    let uuid = [&[0][..], &[0xab; 16]].concat();
    let (_, offer) = answered(&message(
        Type::Discover,
        [
            DhcpOption::ClientIdentifier(vec![1, 2, 3]),
            DhcpOption::ClientMachineIdentifier(uuid.clone()),
        ],
    ));
    let options = offer.opts();
    assert_eq!(
        options.get(OptionCode::ClientIdentifier),
        Some(&DhcpOption::ClientIdentifier(vec![1, 2, 3]))
    );
    assert_eq!(
        options.get(OptionCode::ClientMachineIdentifier),
        Some(&DhcpOption::ClientMachineIdentifier(uuid))
    );
}

#[test]
fn an_unknown_machine_is_reported_with_what_it_says_and_not_answered() {
    let mut options = pxe(9);
    options.push(DhcpOption::ClientMachineIdentifier([&[0][..], &[0xab; 16]].concat()));
    let mut discover = message(Type::Discover, options);
    discover.set_chaddr(&[2, 2, 2, 2, 2, 2]);
    let facts = MachineFacts {
        vendor_class: Some("PXEClient:Arch:00009:UNDI:002001".into()),
        arch: Some(9),
        uuid: Some("ab".repeat(16)),
    };
    let unknown = BootEvent::UnknownMachine { mac: MacAddr([2; 6]), facts, iface: "br0".into() };
    assert_eq!(send(&discover), (None, vec![unknown]));
}

#[test]
fn what_is_malformed_is_refused_with_its_reason() {
    let good = message(Type::Discover, []).to_vec().unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let (reply, events) = send_bytes(&bytes);
        assert!(reply.is_none());
        let [BootEvent::Refused { reason, .. }] = &events[..] else { panic!("{events:?}") };
        reason.clone()
    };
    assert!(refused(&|b| b.truncate(100)).contains("100 bytes is shorter"));
    assert!(refused(&|b| b[0] = 2).contains("op 2"));
    assert!(refused(&|b| b[2] = 200).contains("200 bytes is not Ethernet"));
    assert!(refused(&|b| b[236] = 0).contains("magic cookie"));
    assert!(
        refused(&|b| b.splice(240.., [55, 200, 1]).for_each(drop)).contains("option 55 reaches")
    );
    assert!(refused(&|b| b.truncate(240)).contains("no message type"));
    assert!(refused(&|b| b.splice(240.., [53, 1, 2]).for_each(drop)).contains("no message type"));
    let short = [53, 1, 3, 50, 3, 1, 2, 3];
    assert!(refused(&|b| b.splice(240.., short).for_each(drop)).contains("option 50 has a wrong"));
}

#[test]
fn options_in_the_file_field_are_read_when_overload_says_so() {
    let mut bytes = message(Type::Request, []).to_vec().unwrap();
    bytes.splice(240.., [53, 1, 3, 52, 1, 1, 255]);
    bytes[108..115].copy_from_slice(&[50, 4, 10, 77, 0, 11, 255]);
    assert_eq!(Request::parse(&bytes).unwrap().requested, Some(OWN));
}

#[test]
fn an_option_in_pieces_is_one_value() {
    let mut bytes = message(Type::Discover, []).to_vec().unwrap();
    bytes.splice(240.., [53, 1, 1, 77, 2, b'i', b'P', 0, 77, 2, b'X', b'E', 255]);
    assert!(Request::parse(&bytes).unwrap().is_ipxe());
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        fuzz_handle(&bytes);
    }

    #[test]
    fn any_options_behind_a_good_header_are_answered_or_refused(
        options in prop::collection::vec(any::<u8>(), 0..400),
        fixed in prop::collection::vec(any::<u8>(), 24),
    ) {
        let mut bytes = message(Type::Discover, []).to_vec().unwrap();
        bytes[4..28].copy_from_slice(&fixed);
        bytes.splice(240.., [53, 1, 3].into_iter().chain(options));
        fuzz_handle(&bytes);
    }

    #[test]
    fn our_reader_agrees_with_dhcproto(
        xid in any::<u32>(), ciaddr in any::<[u8; 4]>(), giaddr in any::<[u8; 4]>(),
        requested in any::<Option<[u8; 4]>>(), server in any::<Option<[u8; 4]>>(),
        arch in any::<Option<u16>>(), class in prop::collection::vec(any::<u8>(), 1..600),
        broadcast in any::<bool>(),
    ) {
        let mut options = vec![DhcpOption::ClassIdentifier(class.clone())];
        options.extend(requested.map(|a| DhcpOption::RequestedIpAddress(a.into())));
        options.extend(server.map(|a| DhcpOption::ServerIdentifier(a.into())));
        options.extend(arch.map(|a| DhcpOption::ClientSystemArchitecture(a.into())));
        let mut sent = message(Type::Request, options);
        sent.set_xid(xid).set_ciaddr(ciaddr).set_giaddr(giaddr);
        if broadcast {
            sent.set_flags(Flags::default().set_broadcast());
        }
        let bytes = sent.to_vec().unwrap();
        let read = Request::parse(&bytes).unwrap();
        prop_assert_eq!(read.kind, MessageType::Request);
        prop_assert_eq!((read.xid, read.flags & 0x8000 != 0), (xid, broadcast));
        prop_assert_eq!((read.ciaddr, read.giaddr), (ciaddr.into(), giaddr.into()));
        prop_assert_eq!(read.requested, requested.map(Ipv4Addr::from));
        prop_assert_eq!(read.server_id, server.map(Ipv4Addr::from));
        prop_assert_eq!(read.arch, arch);
        prop_assert_eq!(read.option(60).unwrap().into_owned(), class);
    }
}

#[test]
fn firmware_on_a_machine_that_was_found_running_is_told_of_and_asks_again() {
    let hosts = table([host(11, BootPlan::Found)]);
    let ask = |kind, options: Vec<DhcpOption>| {
        let bytes = message(kind, options).to_vec().unwrap();
        let source = SocketAddrV4::new(NONE, CLIENT_PORT);
        handle(&hosts, &config(), &Incoming { iface: &"br0".into(), source, bytes: &bytes })
    };
    let ipxe = vec![DhcpOption::UserClass(b"iPXE".to_vec())];
    for firmware in [pxe(0), pxe(7), ipxe] {
        let (reply, events) = ask(Type::Discover, firmware);
        assert_eq!(reply, None);
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, 11]);
        assert_eq!(events, [BootEvent::FirmwareAsks { node: "n11".into(), mac }]);
    }
    // A system that runs there gets its address as ever.
    let (reply, events) = ask(Type::Discover, Vec::new());
    assert!(reply.is_some() && matches!(events[..], [BootEvent::DhcpOffer { .. }]), "{events:?}");
}
