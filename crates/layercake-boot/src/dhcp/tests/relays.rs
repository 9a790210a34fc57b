//! Relays and switches on the way, and clients that are behind a router.

use super::*;

const CIRCUIT: &[u8] = b"\x01\x06\x00\x04\x00\x01\x01\x05\x02\x08\x00\x06\xaa\xbb\xcc\xdd\xee\xff";
const AWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 1);

/// The bytes of a message with an option that dhcproto would not write as it stands here.
fn with(message: &Message, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec().unwrap();
    assert_eq!(bytes.pop(), Some(255));
    for piece in value.chunks(255) {
        bytes.extend_from_slice(&[code, piece.len() as u8]);
        bytes.extend_from_slice(piece);
    }
    bytes.push(255);
    bytes
}

fn from(source: Ipv4Addr, port: u16, bytes: &[u8]) -> (Option<Reply>, Vec<BootEvent>) {
    let source = SocketAddrV4::new(source, port);
    handle(&hosts(), &config(), &Incoming { iface: &"br0".into(), source, bytes })
}

/// What stands behind the code and length of the last option.
fn last_option(reply: &Reply) -> &[u8] {
    let end = reply.bytes.iter().rposition(|&b| b == 255).unwrap();
    &reply.bytes[..end]
}

#[test]
fn option_82_of_a_switch_that_leaves_giaddr_zero_comes_back_as_the_last_in_every_answer() {
    let wrong = message(Type::Request, [DhcpOption::RequestedIpAddress(OTHER)]);
    let right = message(Type::Request, [DhcpOption::RequestedIpAddress(OWN)]);
    let mut inform = message(Type::Inform, []);
    inform.set_ciaddr(OWN);
    for message in [message(Type::Discover, pxe(0)), right, wrong, inform] {
        let (reply, _) = send_bytes(&with(&message, 82, CIRCUIT));
        let reply = reply.unwrap();
        assert!(last_option(&reply).ends_with(&[&[82, 18], CIRCUIT].concat()), "{message}");
    }
}

#[test]
fn an_option_82_in_pieces_comes_back_whole() {
    let long: Vec<u8> = (0..400).map(|at| at as u8).collect();
    let (reply, _) = send_bytes(&with(&message(Type::Discover, []), 82, &long));
    let reply = reply.unwrap();
    let expected = [&[82, 255], &long[..255], &[82, 145], &long[255..]].concat();
    assert!(last_option(&reply).ends_with(&expected));
}

#[test]
fn a_relay_names_the_network_of_its_client_by_link_selection() {
    let mut relayed = message(Type::Discover, []);
    relayed.set_giaddr(AWAY);
    let inside = with(&relayed, 82, &[&[5, 4], &[10, 77, 0, 254][..]].concat());
    let (reply, _) = from(AWAY, 67, &inside);
    assert_eq!(reply.unwrap().dest, "192.168.9.1:67".parse().unwrap());
    let outside = with(&relayed, 82, &[&[5, 4], &[10, 78, 0, 254][..]].concat());
    let (reply, events) = from(AWAY, 67, &outside);
    assert!(reply.is_none());
    let [BootEvent::Refused { node: Some(node), reason, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&**node, &**reason),
        (
            "n11",
            "it asked in the network of 10.78.0.254, but its address is 10.77.0.11/24; check its \
             cabling or its address"
        )
    );
}

#[test]
fn a_relay_that_stands_in_for_the_server_is_named_as_the_server() {
    let gateway = Ipv4Addr::new(10, 77, 0, 254);
    let select = |server| {
        let options = [DhcpOption::ServerIdentifier(server), DhcpOption::RequestedIpAddress(OWN)];
        let mut select = message(Type::Request, options);
        select.set_giaddr(gateway);
        with(&select, 82, &[&[11, 4], &gateway.octets()[..]].concat())
    };
    let (reply, _) = from(gateway, 67, &select(gateway));
    let ack = Message::decode(&mut Decoder::new(&reply.unwrap().bytes)).unwrap();
    let server = ack.opts().get(OptionCode::ServerIdentifier);
    assert_eq!(server, Some(&DhcpOption::ServerIdentifier(gateway)));
    assert!(from(gateway, 67, &select(OTHER)).0.is_none(), "it selects another server");
}

#[test]
fn a_relay_that_sends_from_a_port_of_its_own_is_answered_there() {
    let mut relayed = message(Type::Discover, []);
    relayed.set_giaddr(Ipv4Addr::new(10, 77, 0, 254));
    let (reply, _) = from(Ipv4Addr::new(10, 77, 0, 254), 5067, &with(&relayed, 82, &[19, 0]));
    assert_eq!(reply.unwrap().dest, "10.77.0.254:5067".parse().unwrap());
}

#[test]
fn a_client_behind_a_router_renews_and_releases_its_lease_without_its_relay() {
    let away = |plan| {
        let mut host = host(11, plan);
        host.address = Ipv4Addr::new(10, 99, 0, 11);
        table([host])
    };
    let address = Ipv4Addr::new(10, 99, 0, 11);
    let ask = |source: Ipv4Addr, kind| {
        let mut message = message(kind, []);
        message.set_ciaddr(address);
        let source = SocketAddrV4::new(source, CLIENT_PORT);
        let bytes = &message.to_vec().unwrap();
        let incoming = Incoming { iface: &"br0".into(), source, bytes };
        handle(&away(armed()), &config(), &incoming)
    };
    let (reply, _) = ask(address, Type::Request);
    assert_eq!(reply.unwrap().dest, "10.99.0.11:68".parse().unwrap());
    let (_, events) = ask(address, Type::Release);
    assert!(matches!(&events[..], [BootEvent::DhcpRelease { .. }]), "{events:?}");
    let (reply, events) = ask(NONE, Type::Request);
    assert!(reply.is_none(), "it is not behind a router, but plugged in here");
    assert!(matches!(&events[..], [BootEvent::Refused { node: Some(_), .. }]), "{events:?}");
}

proptest! {
    #[test]
    fn whatever_relays_say_is_answered_or_refused_and_comes_back(
        value in prop::collection::vec(any::<u8>(), 1..300), giaddr in any::<[u8; 4]>(),
    ) {
        let mut relayed = message(Type::Discover, []);
        relayed.set_giaddr(giaddr);
        let (reply, _) = send_bytes(&with(&relayed, 82, &value));
        if let Some(reply) = reply {
            let tail = &value[value.len() - value.len() % 255..];
            prop_assert!(last_option(&reply).ends_with(tail));
        }
    }
}
