//! From nodes that do not exist to those that were probably meant.

use super::{NodeSet, digits};
use crate::{NodeId, nearest};
use std::collections::BTreeMap;

/// How many names are compared with every node: with very many nodes each takes a while.
const MAX_COMPARED: usize = 3;

/// How much of a set is shown, in characters.
const MAX_SHOWN: usize = 120;

/// The missing nodes in words, with those that were probably meant.
pub(super) fn correct(missing: &NodeSet, all: &NodeSet) -> String {
    let named = shortened(missing);
    let alike = alike(missing, all);
    if let Some(alike) = alike {
        return format!("{named} (did you mean {}?)", shortened(&alike));
    }
    let near: NodeSet = match missing.len() {
        ..=MAX_COMPARED => missing.iter().filter_map(|node| near(node, all)).collect(),
        _ => NodeSet::new(),
    };
    if !near.is_empty() {
        return format!("{named} (did you mean {}?)", shortened(&near));
    }
    match all.is_empty() {
        true => named,
        false => format!("{named} (there is {})", shortened(all)),
    }
}

/// The set as text, as far as a person reads it.
fn shortened(set: &NodeSet) -> String {
    let text = set.fold();
    if text.len() <= MAX_SHOWN {
        return text;
    }
    // Names are ASCII.
    format!("{}… ({} nodes)", &text[..MAX_SHOWN], set.len())
}

/// The nodes that are called like all the missing ones but for leading zeros.
fn alike(missing: &NodeSet, all: &NodeSet) -> Option<NodeSet> {
    let mut by_value: BTreeMap<String, Vec<&NodeId>> = BTreeMap::new();
    for node in all {
        by_value.entry(without_zeros(node)).or_default().push(node);
    }
    let mut alike = Vec::new();
    for node in missing {
        alike.extend(by_value.get(&without_zeros(node))?.iter().map(|node| (*node).clone()));
    }
    Some(alike.into_iter().collect())
}

/// The name with its numbers as they are counted: `r1n0` for `r01n00`.
fn without_zeros(node: &NodeId) -> String {
    let mut rest = node.as_str().as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some((first, behind)) = rest.split_first() {
        if first.is_ascii_digit() {
            match digits(&mut rest) {
                [] => name.push(b'0'),
                number => name.extend_from_slice(number),
            }
        } else {
            name.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// The node that is spelt most like another one.
fn near(node: &NodeId, all: &NodeSet) -> Option<NodeId> {
    let near = nearest(node.as_str(), all.iter().map(NodeId::as_str))?;
    NodeId::new(near).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn missing_nodes_come_with_those_that_were_probably_meant() {
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        let said = |missing, all| set(all).correct(&set(missing));
        assert_eq!(said("n1", "n[001-130]"), "n1 (did you mean n001?)");
        assert_eq!(said("n[1-3]", "n[001-130]"), "n[1-3] (did you mean n[001-003]?)");
        assert_eq!(said("n0100", "n[001-130]"), "n0100 (did you mean n100?)");
        assert_eq!(said("r1n0", "r01n00,r10n00"), "r1n0 (did you mean r01n00?)");
        assert_eq!(said("logn", "login,n[1-9]"), "logn (did you mean login?)");
        assert_eq!(said("gpu7", "n[1-9]"), "gpu7 (there is n[1-9])");
        assert_eq!(said("n[131-140]", "n[001-130]"), "n[131-140] (there is n[001-130])");
        assert_eq!(said("n1", ""), "n1");
        let odd: NodeSet = (0..200).map(|n| NodeId::new(&format!("n{}", 3 * n)).unwrap()).collect();
        assert!(odd.correct(&set("gpu7")).ends_with("… (200 nodes))"));
    }
}
