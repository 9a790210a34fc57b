//! What no two nodes can both have.

use crate::power::Power;
use crate::{InterfaceAddress, MacAddress, Refusal, power};
use kraken_model::{Document, NodeId};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;

/// Hardware addresses, addresses and taps, with the node that came first.
///
/// Values are compared, and not how they are written.
#[derive(Debug, Default)]
pub struct Claims {
    macs: HashMap<MacAddress, Holder>,
    addresses: HashMap<Ipv4Addr, Holder>,
    taps: HashMap<String, Holder>,
}

/// A node, and the address of the value in its cfg.
type Holder = (NodeId, String);

/// A value that another node has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The kind of value: `MAC`, `address`, `tap`.
    pub what: &'static str,
    /// The value.
    pub value: String,
    /// The node that has it.
    pub holder: NodeId,
    /// The value of the other node, as a refusal.
    pub refusal: Refusal,
}

impl Claims {
    /// Claims for a node what its cfg says, and gives back what another one has already. Values that
    /// are no such values are overlooked: [`refusals`](crate::refusals) tells of them.
    pub fn claim(&mut self, node: &NodeId, cfg: &Document) -> Vec<Duplicate> {
        let mut found = Vec::new();
        for name in cfg.names("net") {
            let at = |key: &str| format!("net.{name}.{key}");
            let text = |key: &str| cfg.text(&at(key));
            if let Some(mac) = text("mac").and_then(|text| text.parse::<MacAddress>().ok()) {
                found.extend(take(&mut self.macs, "MAC", mac, mac.to_string(), node, at("mac")));
            }
            let address = text("address").and_then(|text| text.parse::<InterfaceAddress>().ok());
            if let Some(ip) = address.map(InterfaceAddress::ip) {
                let (what, at) = ("address", at("address"));
                found.extend(take(&mut self.addresses, what, ip, ip.to_string(), node, at));
            }
        }
        if let Ok(Some(Power::Qemu(machine))) = power(node, cfg)
            && let Some(nic) = machine.nic
        {
            let (shown, at) = (nic.tap.clone(), "power.qemu.tap".to_owned());
            found.extend(take(&mut self.taps, "tap", nic.tap, shown, node, at));
        }
        found
    }
}

fn take<K: Hash + Eq>(
    held: &mut HashMap<K, Holder>,
    what: &'static str,
    key: K,
    value: String,
    node: &NodeId,
    address: String,
) -> Option<Duplicate> {
    let mine = (node.clone(), address);
    let (holder, other) = match held.entry(key) {
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(mine);
            return None;
        }
        std::collections::hash_map::Entry::Occupied(taken) => taken.get().clone(),
    };
    // Of one node's own two interfaces, their names say more than its own.
    let why = if holder == *node {
        format!("{other} has it already")
    } else {
        format!("{holder} has it already")
    };
    Some(Duplicate { what, value, holder, refusal: Refusal::new(mine.1, why) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn duplicates(nodes: &[serde_json::Value]) -> Vec<String> {
        let mut claims = Claims::default();
        let mut found = Vec::new();
        for (index, cfg) in nodes.iter().enumerate() {
            let node = NodeId::new(&format!("n{index}")).unwrap();
            let duplicates = claims.claim(&node, &Document::from_json(cfg).unwrap());
            found.extend(
                duplicates.iter().map(|d| format!("{node} {} {}: {}", d.what, d.value, d.refusal)),
            );
        }
        found
    }

    #[test]
    fn the_same_value_in_another_spelling_or_on_another_interface_is_a_duplicate() {
        let net = |name: &str, mac: &str, address: &str| json!({"net": {name: {"mac": mac, "address": address}}});
        let found = duplicates(&[
            net("boot", "52:54:00:00:00:0a", "10.0.0.2/24"),
            net("data", "52-54-00-00-00-0A", "10.0.0.3/24"),
            net("data", "52:54:00:00:00:0b", "10.0.0.2/16"),
            net("boot", "52:54:00:00:00:0c", "10.0.0.4/24"),
        ]);
        assert_eq!(
            found,
            [
                "n1 MAC 52:54:00:00:00:0a: net.data.mac: n0 has it already",
                "n2 address 10.0.0.2: net.data.address: n0 has it already",
            ]
        );
    }

    #[test]
    fn two_interfaces_of_a_node_and_two_machines_at_one_tap_are_found() {
        let both =
            json!({"net": {"a": {"address": "10.0.0.2/24"}, "b": {"address": "10.0.0.2/24"}}});
        assert_eq!(
            duplicates(&[both]),
            ["n0 address 10.0.0.2: net.b.address: net.a.address has it already"]
        );
        let qemu = |tap: Option<&str>, last: u8| {
            let mut qemu = json!({"bridge": "br0"});
            if let Some(tap) = tap {
                qemu["tap"] = tap.into();
            }
            json!({"net": {"boot": {"mac": format!("52:54:00:00:00:{last:02x}")}},
                   "power": {"driver": "qemu", "qemu": qemu}})
        };
        // The first has the name that is derived from its own.
        let found = duplicates(&[qemu(None, 1), qemu(Some("lc-n0"), 2), qemu(None, 3)]);
        assert_eq!(found, ["n1 tap lc-n0: power.qemu.tap: n0 has it already"]);
    }
}
