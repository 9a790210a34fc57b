//! What a node said of itself when it was last heard, and cannot be relied on any more.

use crate::{image_state, node_owns, run_state};
use kraken_model::{Document, Path};

/// What stays what it is when the node is silent: its hardware.
const LASTING: &[&str] = &["arch", "platform"];

/// What the image service says of images. It is known only while their state is.
const OF_IMAGES: &[&str] = &["images", "image_reason"];

/// Whether the value at an address of what was discovered is only what was last known: its node said
/// so, and is not heard now, or nobody on it looks after its images now. Variables are forgotten then
/// by the planner; facts stay, to be shown as what they are.
#[must_use]
pub fn is_last_known(dsc: &Document, path: &Path) -> bool {
    let is_under = |list: &[&str]| list.iter().any(|prefix| path.is_under(prefix));
    if !node_owns(path) || is_under(LASTING) {
        return false;
    }
    let is_heard = dsc.text(run_state::PATH) == Some(run_state::SYNC);
    !is_heard || (is_under(OF_IMAGES) && dsc.text(image_state::PATH).is_none())
}

/// What was discovered, apart: what is known now, and what was last known.
#[must_use]
pub fn known_and_last_known(dsc: &Document) -> (Document, Document) {
    let (mut known, mut last) = (dsc.clone(), Document::new());
    for (path, value) in dsc.iter().filter(|(path, _)| is_last_known(dsc, path)) {
        known.remove(path.as_str());
        last.set(path.clone(), value.clone());
    }
    (known, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    const SAID: [(&str, &str); 4] = [
        ("arch", "x86_64"),
        ("images.web.state", "running"),
        ("layer0.kernel", "6.12"),
        ("services.image.reason", "it was stopped"),
    ];

    fn last(states: &[(&str, &str)]) -> Vec<String> {
        let dsc = document(&[&SAID[..], states].concat());
        let (known, last) = known_and_last_known(&dsc);
        assert_eq!(known.len() + last.len(), dsc.len());
        last.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn what_a_node_said_counts_while_it_is_heard() {
        let nothing: [&str; 0] = [];
        assert_eq!(last(&[("run_state", "SYNC"), ("image_state", "ACTIVE")]), nothing);
        assert_eq!(last(&[("run_state", "SYNC")]), ["images.web.state"]);
        let all = ["images.web.state", "layer0.kernel", "services.image.reason"];
        assert_eq!(last(&[("run_state", "ERROR"), ("phys_state", "POWER_ON")]), all);
        assert_eq!(last(&[("phys_state", "POWER_OFF")]), all);
    }
}
