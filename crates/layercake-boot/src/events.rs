//! What the boot service tells: events on a bounded channel, and counters for everything.
//!
//! Events are of two kinds. *Milestones* move a boot forward in the engine. The rest is *news*: it is
//! limited per sender and gives way when the channel fills, so that a flood from the machines'
//! network cannot push out a milestone.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::hosts::{BootId, Host, MacAddr};

/// The same news of the same sender is told at most this often.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(30);
/// Senders remembered for [`NEWS_INTERVAL`]; with more at once, further ones are only counted.
pub const MAX_REMEMBERED_SENDERS: usize = 4096;
/// The memory of senders is tidied at most this often.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// News is sent only while at least one in this many places of the channel is free.
const RESERVED_FOR_MILESTONES: usize = 4;

/// Which part of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Addresses.
    Dhcp,
    /// Boot programs and scripts.
    Tftp,
    /// Kernel, initramfs, seed.
    Http,
}

/// What firmware says of the machine it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineFacts {
    /// Option 60, the vendor class, with unprintable bytes replaced.
    pub vendor_class: Option<String>,
    /// Option 93, the processor and firmware (RFC 4578 section 2.1, IANA's list).
    pub arch: Option<u16>,
    /// Option 97, the machine's UUID, as 32 hexadecimal digits in the order sent.
    pub uuid: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// A known machine was offered its address.
    DhcpOffer {
        /// Whom.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
    },
    /// The firmware of a machine that was found running asks for something to boot.
    FirmwareAsks {
        /// On which.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
    },
    /// A known machine took its address.
    DhcpAck {
        /// Who.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
    },
    /// The firmware, or the iPXE, of a known machine asked.
    FirmwareSeen {
        /// Who.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
        /// The number of its kind (see [`crate::dhcp::FIRMWARE`]).
        arch: u16,
        /// iPXE asked, which stands on that firmware.
        is_ipxe: bool,
    },
    /// The iPXE of a known machine has said which network card it uses.
    CardSeen {
        /// Who.
        node: Arc<str>,
        /// As iPXE's setting `busid` has it, in hexadecimal digits.
        bus_id: Arc<str>,
    },
    /// A known machine asked for an address that is not its own, and was told so.
    DhcpNak {
        /// Who.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
        /// What it asked for.
        wanted: Ipv4Addr,
    },
    /// A known machine found that somebody else uses its address (DHCPDECLINE).
    AddressInUse {
        /// Who.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
        /// The address.
        address: Ipv4Addr,
    },
    /// A known machine gave its address back.
    DhcpRelease {
        /// Who.
        node: Arc<str>,
        /// Its interface.
        mac: MacAddr,
    },
    /// The node has its iPXE script.
    ScriptServed {
        /// Who.
        node: Arc<str>,
        /// For which boot.
        boot_id: BootId,
    },
    /// The last byte of the kernel was handed to the socket.
    KernelServed {
        /// Who.
        node: Arc<str>,
        /// For which boot.
        boot_id: BootId,
    },
    /// The last byte of the initramfs was handed to the socket.
    InitramfsServed {
        /// Who.
        node: Arc<str>,
        /// For which boot.
        boot_id: BootId,
    },
    /// The last byte of the seed was handed to the socket: from here on the kernel can start.
    SeedServed {
        /// Who.
        node: Arc<str>,
        /// For which boot.
        boot_id: BootId,
    },
    /// A machine that nobody knows asked for an address. It was not answered.
    UnknownMachine {
        /// Its interface.
        mac: MacAddr,
        /// What it says of itself.
        facts: MachineFacts,
        /// Where it was heard.
        iface: Arc<str>,
    },
    /// Somebody asked for what they cannot have, or something that is not the protocol.
    Refused {
        /// Which part refused.
        service: Service,
        /// The node that cannot boot because of it, where it is that.
        node: Option<Arc<str>>,
        /// Who asked.
        source: IpAddr,
        /// Why.
        reason: String,
    },
}

impl BootEvent {
    /// A known machine cannot boot as it asked.
    pub(crate) fn stuck(host: &Host, service: Service, reason: String) -> Self {
        let (node, source) = (Some(host.node.clone()), IpAddr::V4(host.address));
        Self::Refused { service, node, source, reason }
    }

    /// Whether the event moves a boot forward and must not be lost to news.
    pub fn is_milestone(&self) -> bool {
        matches!(
            self,
            Self::FirmwareAsks { .. }
                | Self::ScriptServed { .. }
                | Self::KernelServed { .. }
                | Self::InitramfsServed { .. }
                | Self::SeedServed { .. }
        )
    }

    /// The sender and kind by which news is limited; none for what a known machine does rightly.
    fn limit_key(&self) -> Option<LimitKey> {
        match self {
            Self::UnknownMachine { mac, .. } => Some(LimitKey::Mac(*mac)),
            Self::DhcpNak { mac, .. } | Self::AddressInUse { mac, .. } => Some(LimitKey::Mac(*mac)),
            Self::Refused { service, node: None, source, .. } => {
                Some(LimitKey::Source(*service, *source))
            }
            Self::Refused { node: Some(node), reason, .. } => {
                let mut hasher = DefaultHasher::new();
                (node, reason).hash(&mut hasher);
                Some(LimitKey::Text(hasher.finish()))
            }
            _ => None,
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum LimitKey {
    Mac(MacAddr),
    /// A node and what is said of it: one reason must not hide the next.
    Text(u64),
    Source(Service, IpAddr),
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the service started.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub(crate) $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
        pub struct CounterSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            fn snapshot(&self) -> CounterSnapshot {
                CounterSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Datagrams that reached the DHCP port.
    dhcp_received,
    /// Offers sent.
    dhcp_offers,
    /// Requests of firmware that were left for it to repeat, until its machine is expected.
    dhcp_put_off,
    /// Acknowledgements sent to DHCPREQUEST and DHCPINFORM.
    dhcp_acks,
    /// Messages of firmware and of iPXE, among those that were answered.
    firmware_seen,
    /// Requests of iPXE that named the network card.
    cards_seen,
    /// Refusals sent.
    dhcp_naks,
    /// Addresses found in use by their owners.
    dhcp_declines,
    /// Addresses given back.
    dhcp_releases,
    /// Datagrams from machines that nobody knows.
    dhcp_unknown_machines,
    /// Datagrams that are not DHCP, or that were refused.
    dhcp_refused,
    /// Router solicitations of booting machines that were answered with "no router".
    router_solicitations_answered,
    /// Datagrams that reached the TFTP port.
    tftp_requests,
    /// Requests that were refused.
    tftp_refused,
    /// Transfers that the peer acknowledged to the end.
    tftp_completed,
    /// Transfers that the peer gave up, as firmware does after it asked for the size.
    tftp_abandoned,
    /// Transfers whose peer fell silent.
    tftp_timed_out,
    /// Transfers that gave way to another request from the same port.
    tftp_superseded,
    /// Packets sent again.
    tftp_retransmits,
    /// Bytes of files sent by TFTP, with what was sent again.
    tftp_bytes,
    /// HTTP requests.
    http_requests,
    /// HTTP requests that were refused.
    http_refused,
    /// HTTP connections closed at once because there were too many.
    http_connections_refused,
    /// HTTP connections closed because the peer took nothing for too long.
    http_stalled,
    /// Bytes of files handed to HTTP connections.
    http_bytes,
    /// Scripts served.
    scripts_served,
    /// Kernels served to the end.
    kernels_served,
    /// Initramfs served to the end.
    initramfs_served,
    /// Seeds served to the end.
    seeds_served,
    /// Events that were not sent because they said again what was said just before.
    events_limited,
    /// Events that were not sent because the channel was full.
    events_dropped,
}

struct Shared {
    counters: Counters,
    events: mpsc::Sender<BootEvent>,
    told: Mutex<Told>,
}

/// When what was told last.
#[derive(Default)]
struct Told {
    at: HashMap<LimitKey, Instant>,
    swept: Option<Instant>,
}

impl Told {
    fn may_tell(&mut self, now: Instant, key: LimitKey) -> bool {
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < NEWS_INTERVAL;
        if self.at.get(&key).is_some_and(fresh) {
            return false;
        }
        if self.at.len() >= MAX_REMEMBERED_SENDERS && !self.at.contains_key(&key) {
            // A sweep looks at every entry, so a flood of new senders must not cause one each.
            let swept_lately = |at: Instant| now.saturating_duration_since(at) < MIN_SWEEP_INTERVAL;
            if self.swept.is_some_and(swept_lately) {
                return false;
            }
            self.swept = Some(now);
            self.at.retain(|_, at| fresh(at));
            if self.at.len() >= MAX_REMEMBERED_SENDERS {
                return false;
            }
        }
        self.at.insert(key, now);
        true
    }
}

/// Takes events from the drivers: counts, limits, sends. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Reporter(Arc<Shared>);

impl Reporter {
    /// A reporter that sends to this channel. 1,024 places are plenty for a thousand nodes.
    pub fn new(events: mpsc::Sender<BootEvent>) -> Self {
        Self(Arc::new(Shared { counters: Counters::default(), events, told: Mutex::default() }))
    }

    /// The counters at this moment.
    pub fn snapshot(&self) -> CounterSnapshot {
        self.0.counters.snapshot()
    }

    pub(crate) fn add(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        counter(&self.0.counters).fetch_add(by, Ordering::Relaxed);
    }

    /// Counts the event and sends it if its kind and the channel allow.
    pub fn report(&self, now: Instant, event: BootEvent) {
        self.count(&event);
        if let Some(key) = event.limit_key()
            && !self.told().may_tell(now, key)
        {
            self.add(|c| &c.events_limited, 1);
            return;
        }
        tracing::debug!(?event, "boot");
        let channel = &self.0.events;
        let reserved = channel.max_capacity() / RESERVED_FOR_MILESTONES;
        if (!event.is_milestone() && channel.capacity() <= reserved)
            || channel.try_send(event).is_err()
        {
            self.add(|c| &c.events_dropped, 1);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // A panic cannot leave the map half-written, so a poisoned lock is as good as any.
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, event: &BootEvent) {
        self.add(
            |c| match event {
                BootEvent::DhcpOffer { .. } => &c.dhcp_offers,
                BootEvent::FirmwareAsks { .. } => &c.dhcp_put_off,
                BootEvent::DhcpAck { .. } => &c.dhcp_acks,
                BootEvent::FirmwareSeen { .. } => &c.firmware_seen,
                BootEvent::CardSeen { .. } => &c.cards_seen,
                BootEvent::DhcpNak { .. } => &c.dhcp_naks,
                BootEvent::AddressInUse { .. } => &c.dhcp_declines,
                BootEvent::DhcpRelease { .. } => &c.dhcp_releases,
                BootEvent::ScriptServed { .. } => &c.scripts_served,
                BootEvent::KernelServed { .. } => &c.kernels_served,
                BootEvent::InitramfsServed { .. } => &c.initramfs_served,
                BootEvent::SeedServed { .. } => &c.seeds_served,
                BootEvent::UnknownMachine { .. } => &c.dhcp_unknown_machines,
                BootEvent::Refused { service: Service::Dhcp, .. } => &c.dhcp_refused,
                BootEvent::Refused { service: Service::Tftp, .. } => &c.tftp_refused,
                BootEvent::Refused { service: Service::Http, .. } => &c.http_refused,
            },
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unknown(last: u8) -> BootEvent {
        BootEvent::UnknownMachine {
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            facts: MachineFacts::default(),
            iface: "br0".into(),
        }
    }

    #[test]
    fn the_same_news_is_told_once_per_interval_and_always_counted() {
        let (sender, mut events) = mpsc::channel(16);
        let reporter = Reporter::new(sender);
        let now = Instant::now();
        for _ in 0..5 {
            reporter.report(now, unknown(1));
        }
        reporter.report(now, unknown(2));
        reporter.report(now + NEWS_INTERVAL, unknown(1));
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!(told, [unknown(1), unknown(2), unknown(1)]);
        assert_eq!(reporter.snapshot().dhcp_unknown_machines, 7);
        assert_eq!(reporter.snapshot().events_limited, 4);
    }

    #[test]
    fn a_flood_of_news_leaves_room_for_milestones() {
        let (sender, mut events) = mpsc::channel(8);
        let reporter = Reporter::new(sender);
        let now = Instant::now();
        for last in 0..200 {
            reporter.report(now, unknown(last));
        }
        let served = BootEvent::SeedServed { node: "n1".into(), boot_id: "b".into() };
        reporter.report(now, served.clone());
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!(told.len(), 7);
        assert_eq!(told.last(), Some(&served));
        assert_eq!(reporter.snapshot().events_dropped, 194);
    }

    #[test]
    fn the_memory_of_senders_is_bounded() {
        let (sender, _events) = mpsc::channel(8);
        let reporter = Reporter::new(sender);
        let now = Instant::now();
        for number in 0..(MAX_REMEMBERED_SENDERS as u32 * 2) {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = MacAddr([2, 0, a, b, c, d]);
            let facts = MachineFacts::default();
            reporter.report(now, BootEvent::UnknownMachine { mac, facts, iface: "br0".into() });
        }
        assert_eq!(reporter.told().at.len(), MAX_REMEMBERED_SENDERS);
        let later = now + NEWS_INTERVAL;
        let facts = MachineFacts::default();
        let mac = MacAddr([6; 6]);
        reporter.report(later, BootEvent::UnknownMachine { mac, facts, iface: "br0".into() });
        assert_eq!(reporter.told().at.len(), 1, "what is old makes room");
    }
}
