//! Commands that keep each other from acting: a node that is held, frozen or in use stays as it is
//! although something else is wanted of it. Whoever gives either command is told of the other.

use super::nodes::converged;
use kraken::{Mark, MarkKind, Views};
use kraken_model::{NodeId, NodeSet, Registry};
use layercake_schema::phys_state;
use std::collections::BTreeMap;

/// Marks that keep a change of power from being made, in words to follow the answer of the command;
/// empty when nothing does. `off`: the nodes lose their power, which a freeze or a user keeps from
/// happening too. Nodes that have that power already are left out.
pub(super) fn by_marks(views: &Views, nodes: &NodeSet, off: bool) -> String {
    let wanted = if off { phys_state::POWER_OFF } else { phys_state::POWER_ON };
    let freeze = views.freeze();
    let mut blocked: BTreeMap<(String, &str), NodeSet> = BTreeMap::new();
    for node in nodes {
        let Some(view) = views.get(node) else { continue };
        if view.dsc.text(phys_state::PATH) == Some(wanted) {
            continue;
        }
        let marks = view.marks.as_deref();
        let own = |kind| marks.and_then(|marks| marks.get(kind));
        let all = freeze.as_ref().filter(|_| own(MarkKind::Freeze).is_none());
        let said = |verb: &str, mark: &Mark| format!("{verb} {mark}");
        let block = if let Some(mark) = own(MarkKind::Hold) {
            (said("held by", mark), "release")
        } else if !off {
            continue;
        } else if let Some(mark) = own(MarkKind::Freeze) {
            (said("frozen by", mark), "thaw")
        } else if let Some(mark) = all {
            (said("frozen (everything is) by", mark), "")
        } else if let Some(mark) = own(MarkKind::Busy) {
            (said("in use, says", mark), "free")
        } else {
            continue;
        };
        blocked.entry(block).or_default().insert(node.clone());
    }
    let one = |((why, verb), nodes): ((String, &str), NodeSet)| {
        let until = match verb {
            "" => "`layercake thaw`".to_owned(),
            verb => format!("`layercake {verb} {}`", shell(&nodes)),
        };
        format!("; {} {why}: nothing is done until {until}", are(&nodes))
    };
    blocked.into_iter().map(one).collect()
}

/// Changes that a mark keeps from being made, in words to follow the answer of the command that makes
/// it; empty when there are none. `end` is the command that ends the mark.
pub(super) fn by_wishes(
    views: &Views,
    registry: &Registry,
    nodes: &NodeSet,
    kind: MarkKind,
    end: &str,
) -> String {
    let mut waiting: BTreeMap<&str, NodeSet> = BTreeMap::new();
    for node in nodes {
        let Some(view) = views.get(node) else { continue };
        let is = |doc: &kraken_model::Document, state| doc.text(phys_state::PATH) == Some(state);
        let wish = if is(&view.cfg, phys_state::POWER_OFF) && !is(&view.dsc, phys_state::POWER_OFF)
        {
            "to be powered off"
        } else if kind != MarkKind::Hold || converged(registry, &view.cfg, &view.dsc) {
            // A freeze and a user let happen what disrupts nothing.
            continue;
        } else if is(&view.dsc, phys_state::POWER_OFF) {
            "to be powered on"
        } else {
            "not yet as configured"
        };
        waiting.entry(wish).or_default().insert(node.clone());
    }
    let one = |(wish, nodes): (&str, NodeSet)| {
        let end = match end {
            "" => "`layercake thaw`".to_owned(),
            end => format!("`layercake {end} {}`", shell(&nodes)),
        };
        format!("; {} {wish}: that waits for {end}", are(&nodes))
    };
    waiting.into_iter().map(one).collect()
}

/// The nodes as the subject of a sentence.
fn are(nodes: &NodeSet) -> String {
    format!("{nodes} {}", if nodes.len() == 1 { "is" } else { "are" })
}

/// The nodes as a word of a shell.
fn shell(nodes: &NodeSet) -> String {
    let text = nodes.to_string();
    let is_plain = nodes.iter().map(NodeId::as_str).eq([text.as_str()]);
    if is_plain { text } else { format!("'{text}'") }
}
