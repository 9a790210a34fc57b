//! The table of machines the boot service answers: immutable, indexed, cheap to share.
//!
//! A change of one host is a new table; drivers take the `Arc` of the moment and never wait for a
//! writer.

use std::{
    collections::HashMap,
    fmt, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;

use crate::{arch::Arch, dhcp};

/// A kernel or initramfs larger than this is refused when it is read: it is held in memory.
pub const MAX_BOOT_FILE_BYTES: u64 = 1 << 30;
/// A node's name is part of URLs, of file names and of the 128 bytes of DHCP's `file` field.
pub const MAX_NODE_NAME_BYTES: usize = 63;
/// One DHCP option holds 255 bytes; DNS allows 253.
pub const MAX_HOST_NAME_BYTES: usize = 253;
/// Linux takes at most 2048 bytes on x86 (`COMMAND_LINE_SIZE`), including the end.
pub const MAX_CMDLINE_BYTES: usize = 2047;
/// More name servers than this do not fit where small DHCP clients expect them.
pub const MAX_DNS_SERVERS: usize = 4;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an Ethernet address: six pairs of hexadecimal digits, as in 52:54:00:12:34:56"
)]
pub struct MacParseError(String);

impl FromStr for MacAddr {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacParseError(text.chars().take(40).collect());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

/// One boot of one node, as the engine numbered it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub Arc<str>);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for BootId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A file that machines fetch, read once and shared by every transfer.
#[derive(Clone, PartialEq, Eq)]
pub struct BootFile(Bytes);

/// Why a boot file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BootFileError {
    /// The file system refused.
    #[error("cannot read boot file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Nothing in it, or more than is held in memory.
    #[error("boot file {} has {bytes} bytes; expected 1 to {MAX_BOOT_FILE_BYTES}", path.display())]
    Size {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

impl BootFile {
    /// Reads the file. Blocks: call it where that is allowed, once per file and not per host.
    pub fn read(path: &Path) -> Result<Self, BootFileError> {
        let at = |source| BootFileError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(at)?.len();
        if bytes == 0 || bytes > MAX_BOOT_FILE_BYTES {
            return Err(BootFileError::Size { path: path.to_owned(), bytes });
        }
        std::fs::read(path).map(Self::from).map_err(at)
    }

    /// The content; cloning it copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for BootFile {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for BootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootFile({} bytes)", self.0.len())
    }
}

/// The second initrd of one boot: a cpio archive with the node's identity and its join token. It is
/// secret, so it never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Bytes);

impl Seed {
    /// The archive; cloning it copies nothing.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for Seed {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({} bytes, secret)", self.0.len())
    }
}

/// What a machine that asks is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootPlan {
    /// It is expected to boot now.
    Armed {
        /// This boot; comes back in the events.
        boot_id: BootId,
        /// The kernel.
        kernel: BootFile,
        /// The first initrd, the same for many nodes.
        initramfs: BootFile,
        /// The second initrd, of this boot only.
        seed: Seed,
        /// The kernel's command line. Never a place for secrets.
        cmdline: Arc<str>,
    },
    /// It gets its address and nothing to boot, so that it does not turn in circles.
    Idle,
    /// It was found running, and is not expected. When firmware asks on it, nothing runs there any more: the firmware
    /// hears nothing, which has it ask again, and [`BootEvent::FirmwareAsks`](crate::BootEvent::FirmwareAsks) is told.
    /// Whatever else asks gets its address.
    Found,
    /// It will be expected in a moment, and firmware that asks before hears nothing, as above.
    Soon,
}

/// A known machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the cluster: `[A-Za-z0-9._-]`, at most [`MAX_NODE_NAME_BYTES`].
    pub node: Arc<str>,
    /// The address of the interface it boots from.
    pub mac: MacAddr,
    /// The address it is given.
    pub address: Ipv4Addr,
    /// The length of its network's prefix, 1 to 30.
    pub prefix: u8,
    /// Its router, where there is one.
    pub gateway: Option<Ipv4Addr>,
    /// Its name servers, at most [`MAX_DNS_SERVERS`].
    pub dns: Vec<Ipv4Addr>,
    /// The domain that names without a dot are looked up in, where there is one.
    pub domain: Option<Arc<str>>,
    /// The architecture that its firmware must have; any if none.
    pub arch: Option<Arch>,
    /// Its other interfaces, by name: it does not boot from these.
    pub others: Vec<(Arc<str>, MacAddr)>,
    /// The host name it is told; the node's name as a rule.
    pub hostname: Arc<str>,
    /// How long a lease holds, in seconds; at least 60.
    pub lease_secs: u32,
    /// What it boots.
    pub plan: BootPlan,
}

impl Host {
    /// The netmask of the host's network.
    pub fn netmask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The broadcast address of the host's network.
    pub fn broadcast(&self) -> Ipv4Addr {
        self.address | !self.netmask()
    }

    /// Whether `other` is in the host's network.
    pub fn shares_network_with(&self, other: Ipv4Addr) -> bool {
        self.address & self.netmask() == other & self.netmask()
    }

    /// Whether a firmware with this number (see [`dhcp::FIRMWARE`]) can start what is built for the host.
    ///
    /// # Errors
    /// With what does not fit, for a person.
    pub fn fits(&self, firmware: u16) -> Result<(), String> {
        let Some(arch) = self.arch else { return Ok(()) };
        if dhcp::firmware(firmware).is_some_and(|row| row.processor == Some(arch)) {
            return Ok(());
        }
        Err(format!(
            "its firmware is {}, and the node is {arch}: correct `arch` in the cluster file, or the \
             MAC address if this is another machine",
            dhcp::firmware_name(firmware)
        ))
    }

    fn check(&self) -> Result<(), HostsError> {
        let bad = |reason: String| HostsError::Bad { node: self.node.clone(), reason };
        if !is_node_name(&self.node) {
            return Err(bad(format!(
                "a node's name has 1 to {MAX_NODE_NAME_BYTES} of the characters A-Z a-z 0-9 . _ -, \
                 and does not start with a dot"
            )));
        }
        if !(1..=30).contains(&self.prefix) {
            return Err(bad(format!("prefix /{} is not between /1 and /30", self.prefix)));
        }
        if self.address == self.broadcast() || self.address == self.address & self.netmask() {
            return Err(bad(format!("{} is not a host's address in its network", self.address)));
        }
        if self.mac.0[0] & 1 == 1 || self.mac.0 == [0; 6] {
            return Err(bad(format!("{} is not the address of one interface", self.mac)));
        }
        if self.lease_secs < 60 {
            return Err(bad(format!("a lease of {} s is shorter than 60 s", self.lease_secs)));
        }
        if self.dns.len() > MAX_DNS_SERVERS {
            return Err(bad(format!("more than {MAX_DNS_SERVERS} name servers")));
        }
        if !is_host_name(&self.hostname) {
            return Err(bad(format!(
                "host name {:?} is not 1 to {MAX_HOST_NAME_BYTES} of the characters A-Z a-z 0-9 . _ -",
                self.hostname
            )));
        }
        if let Some(domain) = self.domain.as_deref().filter(|domain| !is_host_name(domain)) {
            return Err(bad(format!("{domain:?} is not a domain")));
        }
        if let BootPlan::Armed { boot_id, cmdline, .. } = &self.plan {
            if !is_boot_id(&boot_id.0) {
                return Err(bad("a boot's id has 1 to 128 printable characters, no blanks".into()));
            }
            check_cmdline(cmdline).map_err(|reason| bad(reason.into()))?;
        }
        Ok(())
    }
}

/// Dots included, for those who give their nodes full names (RFC 1123 section 2.1).
fn is_host_name(name: &str) -> bool {
    (1..=MAX_HOST_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// It is printed in scripts, where a line break would begin a command.
fn is_boot_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// A line break or `${` in the command line would be read by iPXE as part of its script.
fn check_cmdline(cmdline: &str) -> Result<(), &'static str> {
    if cmdline.len() > MAX_CMDLINE_BYTES {
        Err("the kernel command line is longer than 2047 bytes")
    } else if cmdline.chars().any(char::is_control) {
        Err("the kernel command line contains a control character")
    } else if ["${", "||", "&&"].iter().any(|s| cmdline.contains(s)) {
        Err("the kernel command line contains `${`, `||` or `&&`, which iPXE would interpret")
    } else {
        Ok(())
    }
}

/// Whether a name may stand in URLs and file names without escapes.
pub fn is_node_name(name: &str) -> bool {
    (1..=MAX_NODE_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Why a set of hosts is not a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// A host that cannot be served.
    #[error("node {node}: {reason}")]
    Bad {
        /// Which.
        node: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Two hosts with one name, MAC or address.
    #[error("nodes {first} and {second} both have {what} {value}; give one of them another")]
    Duplicate {
        /// The one that came first.
        first: Arc<str>,
        /// The one that came later.
        second: Arc<str>,
        /// `name`, `MAC` or `address`.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// An immutable table of hosts. A host is found in constant time by MAC, address or name.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: Vec<Arc<Host>>,
    by_mac: HashMap<MacAddr, usize>,
    /// The host and the place in [`Host::others`]; of two hosts, the one that came first.
    by_other: HashMap<MacAddr, (usize, usize)>,
    by_address: HashMap<Ipv4Addr, usize>,
    by_node: HashMap<Arc<str>, usize>,
}

impl Hosts {
    /// Checks and indexes. Hosts that did not change since the last table can be passed as they are.
    pub fn new(hosts: impl IntoIterator<Item = Arc<Host>>) -> Result<Self, HostsError> {
        let mut table = Self::default();
        for host in hosts {
            table.add(host)?;
        }
        Ok(table)
    }

    /// The table of those hosts that can be served, and each of the others with its reason: one mistake costs one
    /// node. Of two that have something in common, the one that comes first is served.
    pub fn usable(
        hosts: impl IntoIterator<Item = Arc<Host>>,
    ) -> (Self, Vec<(Arc<Host>, HostsError)>) {
        let (mut table, mut refused) = (Self::default(), Vec::new());
        for host in hosts {
            if let Err(error) = table.add(Arc::clone(&host)) {
                refused.push((host, error));
            }
        }
        (table, refused)
    }

    /// Adds a host, or leaves everything as it is.
    fn add(&mut self, host: Arc<Host>) -> Result<(), HostsError> {
        host.check()?;
        let taken = [
            ("name", host.node.to_string(), self.by_node.get(&host.node)),
            ("MAC", host.mac.to_string(), self.by_mac.get(&host.mac)),
            ("address", host.address.to_string(), self.by_address.get(&host.address)),
        ];
        for (what, value, earlier) in taken {
            if let Some(earlier) = earlier {
                let (first, second) = (self.hosts[*earlier].node.clone(), host.node.clone());
                return Err(HostsError::Duplicate { first, second, what, value });
            }
        }
        let at = self.hosts.len();
        self.by_node.insert(host.node.clone(), at);
        self.by_mac.insert(host.mac, at);
        self.by_address.insert(host.address, at);
        for (other, (_, mac)) in host.others.iter().enumerate() {
            self.by_other.entry(*mac).or_insert((at, other));
        }
        self.hosts.push(host);
        Ok(())
    }

    /// The host with this interface.
    pub fn by_mac(&self, mac: MacAddr) -> Option<&Arc<Host>> {
        self.by_mac.get(&mac).map(|&at| &self.hosts[at])
    }

    /// The host that has this interface and does not boot from it, with the interface's name.
    pub fn by_other_mac(&self, mac: MacAddr) -> Option<(&Arc<Host>, &str)> {
        let &(at, other) = self.by_other.get(&mac)?;
        let host = &self.hosts[at];
        host.others.get(other).map(|(name, _)| (host, &**name))
    }

    /// The host that is given this address.
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Arc<Host>> {
        self.by_address.get(&address).map(|&at| &self.hosts[at])
    }

    /// The host with this name.
    pub fn by_node(&self, node: &str) -> Option<&Arc<Host>> {
        self.by_node.get(node).map(|&at| &self.hosts[at])
    }

    /// All hosts, in the order given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Host>> {
        self.hosts.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn host(number: u8, plan: BootPlan) -> Host {
        Host {
            node: format!("n{number}").into(),
            mac: MacAddr([0x52, 0x54, 0, 0, 0, number]),
            address: Ipv4Addr::new(10, 77, 0, number),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 77, 0, 1)),
            dns: vec![Ipv4Addr::new(10, 77, 0, 1)],
            domain: Some("lab.example".into()),
            arch: None,
            others: vec![("data".into(), MacAddr([0x52, 0x54, 0, 0, 1, number]))],
            hostname: format!("n{number}").into(),
            lease_secs: 3600,
            plan,
        }
    }

    pub(crate) fn armed() -> BootPlan {
        BootPlan::Armed {
            boot_id: "b-1".into(),
            kernel: BootFile::from(vec![b'k'; 3000]),
            initramfs: BootFile::from(vec![b'i'; 5000]),
            seed: Seed::from(&b"seed"[..]),
            cmdline: "console=ttyS0 quiet".into(),
        }
    }

    pub(crate) fn table(hosts: impl IntoIterator<Item = Host>) -> Hosts {
        Hosts::new(hosts.into_iter().map(Arc::new)).unwrap()
    }

    #[test]
    fn a_host_is_found_by_mac_address_and_name() {
        let table = table([host(11, BootPlan::Idle), host(12, armed())]);
        assert_eq!(&*table.by_mac(MacAddr([0x52, 0x54, 0, 0, 0, 12])).unwrap().node, "n12");
        assert_eq!(&*table.by_address(Ipv4Addr::new(10, 77, 0, 11)).unwrap().node, "n11");
        assert_eq!(table.by_node("n12").unwrap().address, Ipv4Addr::new(10, 77, 0, 12));
        assert!(table.by_node("n13").is_none());
        let (host, name) = table.by_other_mac(MacAddr([0x52, 0x54, 0, 0, 1, 12])).unwrap();
        assert_eq!((&*host.node, name), ("n12", "data"));
        assert!(table.by_other_mac(host.mac).is_none());
    }

    #[test]
    fn a_duplicate_names_both_nodes_and_the_value() {
        let mut second = host(12, BootPlan::Idle);
        second.mac = host(11, BootPlan::Idle).mac;
        let error = Hosts::new([host(11, BootPlan::Idle), second].map(Arc::new)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nodes n11 and n12 both have MAC 52:54:00:00:00:0b; give one of them another"
        );
    }

    #[test]
    fn a_host_that_cannot_be_served_costs_no_other_one() {
        let (mut same, mut bad) = (host(12, armed()), host(13, armed()));
        same.address = host(11, armed()).address;
        bad.mac.0[0] = 1;
        let hosts = [host(11, armed()), same, bad, host(14, armed())].map(Arc::new);
        let (table, refused) = Hosts::usable(hosts);
        let served: Vec<&str> = table.iter().map(|host| &*host.node).collect();
        assert_eq!(served, ["n11", "n14"]);
        assert!(table.by_mac(host(12, armed()).mac).is_none(), "nothing of it is left behind");
        let refused: Vec<&str> = refused.iter().map(|(host, _)| &*host.node).collect();
        assert_eq!(refused, ["n12", "n13"]);
    }

    #[test]
    fn a_host_that_cannot_be_served_is_refused_with_its_reason() {
        let refused = |change: fn(&mut Host)| {
            let mut bad = host(11, armed());
            change(&mut bad);
            Hosts::new([Arc::new(bad)]).unwrap_err().to_string()
        };
        assert!(refused(|h| h.node = "../etc".into()).contains("name has 1 to 63"));
        assert!(refused(|h| h.prefix = 32).contains("/32"));
        assert!(refused(|h| h.address = Ipv4Addr::new(10, 77, 0, 255)).contains("10.77.0.255"));
        assert!(refused(|h| h.mac.0[0] = 1).contains("one interface"));
        assert!(refused(|h| h.lease_secs = 3).contains("60 s"));
        assert!(refused(|h| h.domain = Some("a b".into())).contains("\"a b\" is not a domain"));
        assert!(refused(|h| h.hostname = "a b".into()).contains("host name \"a b\""));
        assert!(
            refused(|h| if let BootPlan::Armed { boot_id, .. } = &mut h.plan {
                *boot_id = "b\nshell".into();
            })
            .contains("boot's id")
        );
        assert!(
            refused(|h| if let BootPlan::Armed { cmdline, .. } = &mut h.plan {
                *cmdline = "a\nshell".into();
            })
            .contains("control character")
        );
        assert!(
            refused(|h| if let BootPlan::Armed { cmdline, .. } = &mut h.plan {
                *cmdline = "a=${net0/mac}".into();
            })
            .contains("iPXE would interpret")
        );
    }

    #[test]
    fn mac_addresses_are_read_in_both_common_spellings_and_nothing_else() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0xaf]);
        assert_eq!("52:54:00:12:34:af".parse(), Ok(mac));
        assert_eq!("52-54-00-12-34-AF".parse(), Ok(mac));
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:af:01", "5:254:0:12:34:af", "+2:54:00:12:34:af"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_never_shows_its_content() {
        assert_eq!(format!("{:?}", Seed::from(&b"token"[..])), "Seed(5 bytes, secret)");
    }
}
