//! Which images may be there to replace which.
//!
//! Pure. Cfg says what is wanted, not what takes the place of what: `web1` gives way to `web2`. An image that cannot be
//! had must not cost the one that runs in its place, so that one is stopped only when every image that came
//! into the want together with its going could be prepared.

use std::collections::{BTreeMap, BTreeSet};

use super::ImageName;

/// Remembers what came when something went.
#[derive(Debug, Default)]
pub(super) struct Replacements {
    /// The names that were wanted last; `None`: an earlier service knew.
    last: Option<BTreeSet<ImageName>>,
    /// What may replace an image that is not wanted any more and is still there.
    of: BTreeMap<ImageName, BTreeSet<ImageName>>,
}

impl Replacements {
    /// Takes in what is wanted now, and what is there without being wanted.
    pub(super) fn note(&mut self, want: BTreeSet<ImageName>, unwanted: &BTreeSet<ImageName>) {
        let came: BTreeSet<ImageName> = match &self.last {
            Some(last) => want.difference(last).cloned().collect(),
            None => want.clone(),
        };
        self.of.retain(|name, _| unwanted.contains(name));
        for name in unwanted {
            let by = self.of.entry(name.clone()).or_default();
            by.extend(came.iter().cloned());
            by.retain(|name| want.contains(name));
        }
        self.last = Some(want);
    }

    /// The images that run on because one that may replace them has failed.
    pub(super) fn spared(&self, has_failed: impl Fn(&ImageName) -> bool) -> BTreeSet<ImageName> {
        let waits = |(_, by): &(&ImageName, &BTreeSet<ImageName>)| by.iter().any(&has_failed);
        self.of.iter().filter(waits).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<ImageName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn spared(replacements: &Replacements, failed: &[&str]) -> BTreeSet<ImageName> {
        let failed = names(failed);
        replacements.spared(|name| failed.contains(name))
    }

    #[test]
    fn an_image_waits_for_what_came_when_it_went_and_for_nothing_else() {
        let mut known = Replacements::default();
        known.note(names(&["web1", "mon"]), &names(&[]));
        known.note(names(&["web2", "mon"]), &names(&["web1"]));
        assert_eq!(spared(&known, &["mon"]), names(&[]), "it failed before, and beside web1");
        assert_eq!(spared(&known, &["web2"]), names(&["web1"]));
        // Tried again: the same is wanted, and it is still so.
        known.note(names(&["web2", "mon"]), &names(&["web1"]));
        assert_eq!(spared(&known, &["web2"]), names(&["web1"]));
        known.note(names(&["web3", "mon"]), &names(&["web1"]));
        assert_eq!(spared(&known, &["web3"]), names(&["web1"]));
        assert_eq!(spared(&known, &["web2"]), names(&[]), "nobody wants that any more");
        known.note(names(&["mon"]), &names(&["web1"]));
        assert_eq!(spared(&known, &["mon"]), names(&[]), "it was taken away, not replaced");
    }

    #[test]
    fn what_an_earlier_service_left_waits_for_all() {
        let mut known = Replacements::default();
        known.note(names(&["web2", "mon"]), &names(&["web1"]));
        assert_eq!(spared(&known, &["mon"]), names(&["web1"]));
        assert_eq!(spared(&known, &[]), names(&[]));
    }
}
