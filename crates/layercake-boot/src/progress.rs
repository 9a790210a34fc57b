//! What is known of each node's boot: its firmware, its network card, and why it does not get on.
//!
//! Pure: events go in, changes of the node's discovered document come out.

use std::collections::BTreeMap;

use kraken_model::{Change, Document, NodeId, Path};

use crate::dhcp;

/// Where the reason stands why a node does not boot.
pub(crate) const REASON: &str = "boot.reason";
/// Where the node's firmware stands.
pub(crate) const FIRMWARE: &str = "boot.firmware";
/// Where the network card stands that it booted from.
pub(crate) const CARD: &str = "boot.card";
/// All of them.
pub(crate) const FACTS: &[&str] = &[REASON, FIRMWARE, CARD];

/// What is known of the boots of all nodes, since the server was started.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    nodes: BTreeMap<NodeId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    firmware: Option<&'static str>,
    card: Option<String>,
    reason: Option<String>,
    /// The boot that is under way has fetched everything, and the machine has not joined since.
    is_served: bool,
    /// A boot that had fetched everything came to nothing; only joining disproves that.
    never_joined: bool,
}

impl Progress {
    /// Firmware has asked, or the iPXE that it started.
    pub(crate) fn firmware(&mut self, node: &NodeId, arch: u16, is_ipxe: bool) -> Vec<Change> {
        let name = dhcp::firmware(arch).map(|row| row.name);
        let known = self.nodes.entry(node.clone()).or_default();
        let mut changes = Vec::new();
        // iPXE names the firmware below it less exactly: UEFI HTTP boot looks like UEFI to it.
        if known.firmware.is_none() || !is_ipxe {
            changes.extend(told(FIRMWARE, &mut known.firmware, name));
        }
        if known.is_served {
            known.is_served = false;
            changes.extend(known.never_joined("asked the network for another boot"));
        }
        changes
    }

    /// iPXE has said which card it uses, as its setting `busid` has it: the kind of bus in two
    /// hexadecimal digits, 01 for PCI, and the numbers of vendor and device in four each.
    pub(crate) fn card(&mut self, node: &NodeId, bus_id: &str) -> Vec<Change> {
        let is_hex = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let pci = bus_id.strip_prefix("01").filter(|rest| is_hex(rest));
        let Some((vendor, device)) = pci.map(|ids| ids.split_at(4)) else { return Vec::new() };
        let known = self.nodes.entry(node.clone()).or_default();
        let card = format!("PCI {vendor}:{device}").to_ascii_lowercase().replace("pci", "PCI");
        told(CARD, &mut known.card, Some(card))
    }

    /// A machine that is expected to boot cannot, or not yet.
    pub(crate) fn stuck(&mut self, node: &NodeId, reason: String) -> Vec<Change> {
        told(REASON, &mut self.nodes.entry(node.clone()).or_default().reason, Some(reason))
    }

    /// The seed was fetched to its last byte: what stood in the way before does so no more.
    pub(crate) fn served(&mut self, node: &NodeId) -> Vec<Change> {
        let known = self.nodes.entry(node.clone()).or_default();
        known.is_served = true;
        if known.never_joined { Vec::new() } else { told(REASON, &mut known.reason, None) }
    }

    /// The machine has lost its power, which it should have.
    pub(crate) fn lost_power(&mut self, node: &NodeId) -> Vec<Change> {
        match self.nodes.get_mut(node) {
            Some(known) if known.is_served => {
                known.is_served = false;
                known.never_joined("is without power since")
            }
            _ => Vec::new(),
        }
    }

    /// The machine is switched off because it should be.
    pub(crate) fn ended(&mut self, node: &NodeId) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.is_served = false;
        }
    }

    /// The node has joined: whatever was wrong is not. `dsc` is what is known of it, which may say more
    /// than was found out since the start.
    pub(crate) fn joined(&mut self, node: &NodeId, dsc: &Document) -> Vec<Change> {
        if let Some(known) = self.nodes.get_mut(node) {
            *known =
                Known { firmware: known.firmware, card: known.card.take(), ..Known::default() };
        }
        dsc.get(REASON).map(|_| Change::remove(Path::known(REASON))).into_iter().collect()
    }

    /// The node is gone.
    pub(crate) fn gone(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }
}

impl Known {
    fn never_joined(&mut self, what: &str) -> Vec<Change> {
        self.never_joined = true;
        let card = match &self.card {
            Some(card) => format!("has Layer 0 no driver for its network card ({card}), or "),
            None => "has Layer 0 no driver for its network card, or ".to_owned(),
        };
        let reason = format!(
            "it fetched kernel, initramfs and seed, never joined, and {what}: {card}did it end early? \
             Its console tells"
        );
        told(REASON, &mut self.reason, Some(reason))
    }
}

/// The change that a value is, if it is one.
fn told<T: Clone + PartialEq + AsRef<str>>(
    path: &'static str,
    known: &mut Option<T>,
    now: Option<T>,
) -> Vec<Change> {
    if *known == now {
        return Vec::new();
    }
    *known = now;
    let path = Path::known(path);
    vec![match known {
        Some(value) => Change::set(path, value.as_ref()),
        None => Change::remove(path),
    }]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node() -> NodeId {
        NodeId::new("n1").unwrap()
    }

    /// The node's document after these changes.
    fn apply(dsc: &mut Document, changes: &[Change]) {
        dsc.apply(changes);
    }

    #[test]
    fn what_was_wrong_on_the_way_is_forgotten_when_everything_was_fetched() {
        let (mut progress, mut dsc) = (Progress::default(), Document::new());
        apply(&mut dsc, &progress.firmware(&node(), 16, false));
        apply(&mut dsc, &progress.firmware(&node(), 7, true));
        assert_eq!(dsc.text(FIRMWARE), Some("x86-64 UEFI HTTP"));
        apply(&mut dsc, &progress.stuck(&node(), "no program".to_owned()));
        assert_eq!(progress.stuck(&node(), "no program".to_owned()), [], "nothing new");
        assert_eq!(dsc.text(REASON), Some("no program"));
        apply(&mut dsc, &progress.served(&node()));
        assert_eq!(dsc.text(REASON), None);
    }

    #[test]
    fn a_machine_that_fetched_everything_and_boots_again_is_said_to_fail_in_layer_0() {
        let (mut progress, mut dsc) = (Progress::default(), Document::new());
        apply(&mut dsc, &progress.firmware(&node(), 0, true));
        apply(&mut dsc, &progress.card(&node(), "018086100E"));
        assert_eq!(dsc.text(CARD), Some("PCI 8086:100e"));
        apply(&mut dsc, &progress.served(&node()));
        apply(&mut dsc, &progress.firmware(&node(), 0, true));
        let reason = dsc.text(REASON).unwrap().to_owned();
        assert!(
            reason.contains("never joined, and asked the network for another boot"),
            "{reason}"
        );
        assert!(reason.contains("network card (PCI 8086:100e)"), "{reason}");
        apply(&mut dsc, &progress.served(&node()));
        assert_eq!(dsc.text(REASON), Some(&*reason), "it may fail just the same again");
        let changes = progress.joined(&node(), &dsc);
        apply(&mut dsc, &changes);
        assert_eq!((dsc.text(REASON), dsc.text(CARD)), (None, Some("PCI 8086:100e")));
        assert_eq!(progress.lost_power(&node()), [], "a node that had joined did not fail to");
    }

    #[test]
    fn power_that_is_lost_between_seed_and_join_is_a_failure_unless_it_was_asked_for() {
        let (mut progress, mut dsc) = (Progress::default(), Document::new());
        apply(&mut dsc, &progress.served(&node()));
        progress.ended(&node());
        assert_eq!(progress.lost_power(&node()), []);
        apply(&mut dsc, &progress.served(&node()));
        apply(&mut dsc, &progress.lost_power(&node()));
        assert!(dsc.text(REASON).unwrap().contains("never joined, and is without power since"));
    }

    #[test]
    fn a_reason_from_before_a_restart_of_the_server_ends_with_joining_too() {
        let mut dsc = Document::new();
        dsc.set(Path::known(REASON), "from before");
        let changes = Progress::default().joined(&node(), &dsc);
        apply(&mut dsc, &changes);
        assert_eq!(dsc.text(REASON), None);
    }

    #[test]
    fn what_is_not_on_a_pci_bus_is_no_card_that_can_be_named() {
        for bus_id in ["", "01", "0180861", "028086100e", "01zzzzzzzz", "018086100e00"] {
            assert_eq!(Progress::default().card(&node(), bus_id), [], "{bus_id}");
        }
    }
}
