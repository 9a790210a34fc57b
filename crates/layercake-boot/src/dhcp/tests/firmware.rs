//! What firmware is told, by what it says of itself.

use super::*;

/// The plan's boot file, the class and the vendor options of an answer to these options.
fn told(options: Vec<DhcpOption>) -> (Option<String>, Option<String>, Option<Vec<u8>>) {
    told_of(&hosts(), options)
}

fn told_of(
    hosts: &Hosts,
    options: Vec<DhcpOption>,
) -> (Option<String>, Option<String>, Option<Vec<u8>>) {
    let bytes = message(Type::Discover, options).to_vec().unwrap();
    let source = SocketAddrV4::new(NONE, CLIENT_PORT);
    let (reply, _) =
        handle(hosts, &config(), &Incoming { iface: &"br0".into(), source, bytes: &bytes });
    let offer = Message::decode(&mut Decoder::new(&reply.unwrap().bytes)).unwrap();
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let file = match offer.opts().get(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => Some(text(name)),
        _ => None,
    };
    let class = match offer.opts().get(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(class)) => Some(text(class)),
        _ => None,
    };
    let vendor = match offer.opts().get(OptionCode::VendorExtensions) {
        Some(DhcpOption::VendorExtensions(vendor)) => Some(vendor.clone()),
        _ => None,
    };
    (file, class, vendor)
}

fn class(text: &str) -> DhcpOption {
    DhcpOption::ClassIdentifier(text.as_bytes().to_vec())
}

fn architecture(number: u16) -> DhcpOption {
    DhcpOption::ClientSystemArchitecture(Architecture::from(number))
}

fn seen(arch: u16, is_ipxe: bool) -> BootEvent {
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 11]);
    BootEvent::FirmwareSeen { node: "n11".into(), mac, arch, is_ipxe }
}

#[test]
fn pxe_firmware_is_told_to_ask_no_boot_server_and_http_firmware_is_not() {
    let (file, told_class, vendor) = told(pxe(7));
    assert_eq!(file.as_deref(), Some("ipxe.efi"));
    assert_eq!(told_class.as_deref(), Some("PXEClient"));
    assert_eq!(vendor, Some(vec![6, 1, 8, 255]));
    let (file, told_class, vendor) =
        told(vec![class("HTTPClient:Arch:00016:UNDI:003001"), architecture(16)]);
    assert_eq!(file.as_deref(), Some("http://10.77.0.1:8080/boot-program/ipxe.efi"));
    assert_eq!((told_class.as_deref(), vendor), (Some("HTTPClient"), None));
    let idle = table([host(11, BootPlan::Idle)]);
    assert_eq!(told_of(&idle, pxe(7)), (None, None, None), "nothing to boot, and no promise of it");
}

#[test]
fn the_class_says_how_a_firmware_fetches_whatever_its_number_says() {
    let (file, told_class, _) = told(vec![class("HTTPClient"), architecture(7)]);
    assert_eq!(file.as_deref(), Some("http://10.77.0.1:8080/boot-program/ipxe.efi"));
    assert_eq!(told_class.as_deref(), Some("HTTPClient"));
    let (file, told_class, _) = told(vec![class("PXEClient"), architecture(16)]);
    assert_eq!((file.as_deref(), told_class.as_deref()), (Some("ipxe.efi"), Some("PXEClient")));
}

#[test]
fn a_firmware_that_names_its_architecture_in_its_class_only_or_among_others_is_understood() {
    let (file, ..) = told(vec![class("PXEClient:Arch:00007:UNDI:003016")]);
    assert_eq!(file.as_deref(), Some("ipxe.efi"));
    let (file, ..) = told(vec![class("PXEClient")]);
    assert_eq!(file.as_deref(), Some("undionly.kpxe"), "PXE 2.1 knew nothing but BIOS");
    let mut bytes = message(Type::Discover, [class("PXEClient")]).to_vec().unwrap();
    bytes.pop();
    bytes.extend_from_slice(&[93, 4, 0xff, 0xfe, 0, 7, 255]);
    let (reply, events) = send_bytes(&bytes);
    assert!(reply.unwrap().bytes.windows(8).any(|bytes| bytes == b"ipxe.efi"));
    assert_eq!(events[1], seen(7, false));
}

#[test]
fn ipxe_is_known_among_several_user_classes_and_by_its_own_options() {
    let script = Some("tftp://10.77.0.1/boot/n11.ipxe".to_owned());
    let features = || {
        let code = OptionCode::Unknown(175);
        DhcpOption::Unknown(UnknownOption::new(code, vec![177, 5, 1, 0x1a, 0xf4, 0x10, 0]))
    };
    for user in [&b"iPXE"[..], b"\x04iPXE", b"\x03lab\x04iPXE"] {
        let options = [pxe(0), vec![DhcpOption::UserClass(user.to_vec())]].concat();
        assert_eq!(told(options).0, script, "{user:?}");
    }
    let mine = DhcpOption::UserClass(b"my own".to_vec());
    assert_eq!(told([pxe(0), vec![mine, features()]].concat()).0, script);
    let old = DhcpOption::UserClass(b"gPXE".to_vec());
    let (file, ..) = told([pxe(0), vec![old, features()]].concat());
    assert_eq!(file.as_deref(), Some("undionly.kpxe"), "gPXE cannot run the script");
    assert_eq!(told(vec![DhcpOption::UserClass(b"\x09iPX".to_vec())]).0, None);
}

#[test]
fn firmware_of_another_architecture_than_the_node_gets_its_address_and_nothing_to_boot() {
    let hosts = |arch| {
        let mut host = host(11, armed());
        host.arch = arch;
        table([host])
    };
    let ipxe = |arch| [pxe(arch), vec![DhcpOption::UserClass(b"iPXE".to_vec())]].concat();
    for (node, firmware, gets) in [
        (Arch::X86_64, 0, true),
        (Arch::X86_64, 7, true),
        (Arch::X86_64, 16, true),
        (Arch::X86_64, 6, false),
        (Arch::X86_64, 11, false),
        (Arch::X86_64, 19, false),
        (Arch::X86_64, 27, false),
        (Arch::X86_64, 9999, false),
        (Arch::Aarch64, 0, false),
        (Arch::Aarch64, 7, false),
        (Arch::Aarch64, 11, true),
    ] {
        let hosts = hosts(Some(node));
        let script = told_of(&hosts, ipxe(firmware)).0;
        assert_eq!(script.is_some(), gets, "iPXE {firmware} on {node}");
        let bytes = message(Type::Discover, pxe(firmware)).to_vec().unwrap();
        let source = SocketAddrV4::new(NONE, CLIENT_PORT);
        let (reply, events) =
            handle(&hosts, &config(), &Incoming { iface: &"br0".into(), source, bytes: &bytes });
        let offer = Message::decode(&mut Decoder::new(&reply.unwrap().bytes)).unwrap();
        assert_eq!((offer.yiaddr(), events[1].clone()), (OWN, seen(firmware, false)));
        if !gets {
            assert!(!offer.opts().contains(OptionCode::BootfileName), "{firmware} on {node}");
            let [_, _, BootEvent::Refused { node: Some(_), reason, .. }] = &events[..] else {
                panic!("{events:?}")
            };
            assert!(reason.ends_with(&format!(
                ", and the node is {node}: correct `arch` in the cluster file, or the MAC address if \
                 this is another machine"
            )));
        }
    }
    assert!(told_of(&hosts(None), ipxe(11)).0.is_some(), "nobody said what the node is");
}

#[test]
fn the_domain_is_told_unless_it_is_what_a_small_client_has_no_room_for() {
    let (_, offer) = answered(&message(Type::Discover, []));
    let domain = offer.opts().get(OptionCode::DomainName);
    assert_eq!(domain, Some(&DhcpOption::DomainName("lab.example".into())));
    let mut large = host(11, armed());
    large.domain = Some(vec!["a".repeat(60); 4].join(".").into());
    large.hostname = "h".repeat(63).into();
    let hosts = table([large]);
    let ask = |options: Vec<DhcpOption>| {
        let bytes = message(Type::Discover, options).to_vec().unwrap();
        let source = SocketAddrV4::new(NONE, CLIENT_PORT);
        let incoming = Incoming { iface: &"br0".into(), source, bytes: &bytes };
        handle(&hosts, &config(), &incoming).0.unwrap().bytes
    };
    let small = ask(pxe(7));
    assert!(small.len() <= 576 - 28, "{} bytes", small.len());
    let offer = Message::decode(&mut Decoder::new(&small)).unwrap();
    assert!(!offer.opts().contains(OptionCode::DomainName));
    assert!(offer.opts().contains(OptionCode::BootfileName));
    let roomy = ask([pxe(7), vec![DhcpOption::MaxMessageSize(1472)]].concat());
    let offer = Message::decode(&mut Decoder::new(&roomy)).unwrap();
    assert!(offer.opts().contains(OptionCode::DomainName));
}

#[test]
fn the_name_of_the_boot_file_ends_with_nul_for_firmware_that_reads_it_as_c_does() {
    let (reply, _) = send_bytes(&message(Type::Discover, pxe(0)).to_vec().unwrap());
    let bytes = reply.unwrap().bytes;
    let option = [&[67, 13][..], b"undionly.kpxe\0"].concat();
    assert!(bytes.windows(option.len()).any(|window| window == option));
    assert_eq!(&bytes[108..122], b"undionly.kpxe\0", "the field of BOOTP has it too");
}

#[test]
fn firmware_that_asks_on_another_interface_of_a_node_is_told_of_and_a_system_is_unknown() {
    let ask = |options| {
        let mut discover = message(Type::Discover, options);
        discover.set_chaddr(&[0x52, 0x54, 0, 0, 1, 11]);
        send(&discover)
    };
    let (reply, events) = ask(pxe(7));
    assert!(reply.is_none());
    let [BootEvent::Refused { node: Some(node), reason, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&**node, &**reason),
        (
            "n11",
            "its firmware asks on its interface data (52:54:00:00:01:0b), and it boots from another \
             (52:54:00:00:00:0b): correct `boot.interface`, its cabling, or the order in its firmware"
        )
    );
    let (_, events) = ask(Vec::new());
    assert!(matches!(&events[..], [BootEvent::UnknownMachine { .. }]), "{events:?}");
}

#[test]
fn firmware_that_is_quicker_than_its_power_controller_hears_nothing_and_asks_again() {
    let ask = |plan, options| {
        let bytes = message(Type::Discover, options).to_vec().unwrap();
        let source = SocketAddrV4::new(NONE, CLIENT_PORT);
        let incoming = Incoming { iface: &"br0".into(), source, bytes: &bytes };
        handle(&table([host(11, plan)]), &config(), &incoming)
    };
    let (reply, events) = ask(BootPlan::Soon, pxe(7));
    assert!(reply.is_none() && matches!(&events[..], [BootEvent::FirmwareAsks { .. }]));
    assert!(ask(BootPlan::Soon, Vec::new()).0.is_some(), "a system gets its address");
    assert!(ask(BootPlan::Idle, pxe(7)).0.is_some(), "there is nothing to wait for");
}

#[test]
fn an_offer_says_no_address_of_the_client_itself() {
    let mut discover = message(Type::Discover, []);
    discover.set_ciaddr(OTHER);
    assert_eq!(answered(&discover).1.ciaddr(), NONE);
}
