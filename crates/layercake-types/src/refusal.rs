//! Everything of a node's cfg that some module cannot use.

use crate::{architecture, boot_machine, image, interfaces, power};
use kraken_model::{Document, NodeId, Value};
use std::fmt;

/// The most values that the cfg of one node may have. A real one has some dozens.
pub const MAX_CFG_VALUES: usize = 2048;

/// The most bytes of addresses and values: a quarter of what can be told to a node at once.
pub const MAX_CFG_BYTES: usize = 256 << 10;

/// A value of a cfg that a module cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The address of the value; of one that is missing, the address where it belongs.
    pub address: String,
    /// Why it cannot be used, for a person.
    pub why: String,
    /// What to do about it; may be empty.
    pub hint: &'static str,
}

impl Refusal {
    pub(crate) fn new(address: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { address: address.into(), why: why.to_string(), hint: "" }
    }

    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, why, hint } = self;
        write!(f, "{address}: {why}")?;
        if hint.is_empty() { Ok(()) } else { write!(f, "; {hint}") }
    }
}

impl std::error::Error for Refusal {}

/// Everything that some module would refuse of a node's cfg; nothing when all of them can use it.
#[must_use]
pub fn refusals(node: &NodeId, cfg: &Document) -> Vec<Refusal> {
    let mut found = Vec::new();
    found.extend(interfaces(cfg).err().into_iter().flatten());
    found.extend(boot_machine(cfg).err().into_iter().flatten());
    found.extend(power(node, cfg).err().into_iter().flatten());
    for name in cfg.names("images") {
        found.extend(image(cfg, name).err().into_iter().flatten());
    }
    found.extend(architecture::refusals(cfg));
    found.extend(too_large(cfg));
    // The interface that a node boots from is one of its interfaces.
    let mut told: Vec<Refusal> = Vec::new();
    for refusal in found {
        if told.iter().all(|other| other.address != refusal.address) {
            told.push(refusal);
        }
    }
    told
}

/// A node is told its cfg in one piece, and keeps it in memory.
fn too_large(cfg: &Document) -> Option<Refusal> {
    let bytes: usize = cfg.iter().map(|(path, value)| path.as_str().len() + size(value)).sum();
    if cfg.len() <= MAX_CFG_VALUES && bytes <= MAX_CFG_BYTES {
        return None;
    }
    let largest = cfg.iter().max_by_key(|(_, value)| size(value))?;
    let values = cfg.len();
    let why = format!(
        "all that is said of one node has {values} values and {bytes} bytes; {MAX_CFG_VALUES} and \
         {MAX_CFG_BYTES} are possible, and this is the largest value"
    );
    Some(Refusal::new(largest.0.as_str(), why))
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.iter().map(|member| size(member) + 1).sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Path;

    fn of(cfg: &Document) -> Vec<String> {
        let found = refusals(&NodeId::new("n1").unwrap(), cfg);
        found.iter().map(|refusal| refusal.address.clone()).collect()
    }

    #[test]
    fn everything_is_refused_at_once_and_each_value_once() {
        let cfg = serde_json::json!({
            "net": {"boot": {"mac": "01:00:5e:00:00:01", "address": "10.0.0.255/24"}},
            "boot": {"cmdline": "a || b"},
            "power": {"driver": "qemu", "qemu": {"bridge": "br0", "memory": 1}},
            "images": {"web": {"size": 1}},
        });
        let found = of(&Document::from_json(&cfg).unwrap());
        let wanted = [
            "net.boot.mac",
            "net.boot.address",
            "boot.cmdline",
            "images.web.digest",
            "images.web.command",
        ];
        assert_eq!(found, wanted, "the memory is looked at when there is a machine to give it to");
    }

    #[test]
    fn more_than_a_node_can_be_told_is_refused_at_its_largest_value() {
        let mut cfg = Document::new();
        for n in 0..70 {
            cfg.set(Path::known(&format!("labels.l{n}")), "x".repeat(4000));
        }
        assert_eq!(of(&cfg).len(), 1);
        cfg.set(Path::known("labels.long"), "x".repeat(4096));
        assert_eq!(of(&cfg), ["labels.long"]);
        let mut cfg = Document::new();
        for n in 0..=MAX_CFG_VALUES {
            cfg.set(Path::known(&format!("labels.l{n}")), "x");
        }
        assert_eq!(of(&cfg).len(), 1);
    }
}
