//! Who needs what: attachments, mounts and containers, counted.
//!
//! Pure: the ledger knows objects and their users and says in which order they are built and taken
//! down; the service does it. An object that nobody uses any more is taken down, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Digest, InstanceId};

/// Something that exists in the kernel because a container needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// An image's file as a block device.
    Attachment(Digest),
    /// The image's squashfs, read-only, shared by every container that runs it.
    Mount(Digest),
    /// One container's root: an overlay of memory over the mount.
    Root(InstanceId, Digest),
    /// A container: its cgroup and its processes.
    Container(InstanceId, Digest),
}

impl Object {
    /// What must be there before this can be.
    #[must_use]
    pub fn needs(&self) -> Option<Self> {
        match self {
            Self::Attachment(_) => None,
            Self::Mount(digest) => Some(Self::Attachment(*digest)),
            Self::Root(_, digest) => Some(Self::Mount(*digest)),
            Self::Container(id, digest) => Some(Self::Root(id.clone(), *digest)),
        }
    }
}

/// The objects that exist, each with its users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    users: BTreeMap<Object, BTreeSet<Object>>,
}

impl Ledger {
    /// What must be built for `object`, in order, itself last.
    #[must_use]
    pub fn to_build(&self, object: &Object) -> Vec<Object> {
        let mut missing = Vec::new();
        let mut next = Some(object.clone());
        while let Some(object) = next.filter(|object| !self.users.contains_key(object)) {
            next = object.needs();
            missing.push(object);
        }
        missing.reverse();
        missing
    }

    /// Notes that `object` was built.
    pub fn built(&mut self, object: Object) {
        if let Some(needed) = object.needs() {
            self.users.entry(needed).or_default().insert(object.clone());
        }
        self.users.entry(object).or_default();
    }

    /// What must be taken down once `object` is not wanted, in order: itself, then what only it
    /// needed. Empty while somebody uses `object`.
    #[must_use]
    pub fn to_take_down(&self, object: &Object) -> Vec<Object> {
        let mut gone = Vec::new();
        let mut next = Some(object.clone());
        while let Some(object) = next {
            let Some(users) = self.users.get(&object) else { break };
            if users.iter().any(|user| !gone.contains(user)) {
                break;
            }
            next = object.needs();
            gone.push(object);
        }
        gone
    }

    /// Notes that `object` was taken down.
    pub fn taken_down(&mut self, object: &Object) {
        self.users.remove(object);
        if let Some(users) = object.needs().and_then(|needed| self.users.get_mut(&needed)) {
            users.remove(object);
        }
    }

    /// Objects below containers that nobody uses: what a failure half-way leaves to be undone.
    #[must_use]
    pub fn unused(&self) -> Vec<Object> {
        let is_unused = |(object, users): &(&Object, &BTreeSet<Object>)| {
            users.is_empty() && !matches!(object, Object::Container(..))
        };
        self.users.iter().filter(is_unused).map(|(object, _)| object.clone()).collect()
    }

    /// Does it exist?
    #[must_use]
    pub fn contains(&self, object: &Object) -> bool {
        self.users.contains_key(object)
    }

    /// Everything that exists.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.users.keys()
    }

    /// Is some container running from this image?
    #[must_use]
    pub fn uses_image(&self, digest: Digest) -> bool {
        self.users.contains_key(&Object::Attachment(digest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn container(name: &str, number: u64, image: u8) -> Object {
        let id = InstanceId { name: name.parse().unwrap(), number };
        Object::Container(id, Digest::new([image; 32]))
    }

    fn build(ledger: &mut Ledger, object: &Object) -> usize {
        let missing = ledger.to_build(object);
        for object in &missing {
            ledger.built(object.clone());
        }
        missing.len()
    }

    fn take_down(ledger: &mut Ledger, object: &Object) -> usize {
        let gone = ledger.to_take_down(object);
        for object in &gone {
            ledger.taken_down(object);
        }
        gone.len()
    }

    #[test]
    fn two_containers_of_one_image_share_its_mount() {
        let mut ledger = Ledger::default();
        assert_eq!(build(&mut ledger, &container("a", 1, 7)), 4);
        assert_eq!(build(&mut ledger, &container("b", 1, 7)), 2);
        assert_eq!(take_down(&mut ledger, &container("a", 1, 7)), 2);
        assert!(ledger.uses_image(Digest::new([7; 32])));
        assert_eq!(take_down(&mut ledger, &container("b", 1, 7)), 4);
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn what_is_used_is_not_taken_down() {
        let mut ledger = Ledger::default();
        let user = container("a", 1, 7);
        build(&mut ledger, &user);
        assert_eq!(ledger.to_take_down(&user.needs().unwrap()), []);
    }

    #[test]
    fn a_failure_half_way_shows_as_unused_objects() {
        let mut ledger = Ledger::default();
        let wanted = container("a", 1, 7);
        for object in &ledger.to_build(&wanted)[..3] {
            ledger.built(object.clone());
        }
        let unused = ledger.unused();
        assert_eq!(unused, [wanted.needs().unwrap()]);
        assert_eq!(take_down(&mut ledger, &unused[0]), 3);
        assert_eq!(ledger, Ledger::default());
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_nothing_is_left_and_nothing_needed_is_missing(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..4, 0_u8..3), 0..64)
        ) {
            let mut ledger = Ledger::default();
            for (up, number, image) in steps {
                let object = container("x", number, image);
                if up { build(&mut ledger, &object); } else { take_down(&mut ledger, &object); }
                for object in ledger.objects() {
                    prop_assert!(object.needs().is_none_or(|needed| ledger.contains(&needed)));
                }
                prop_assert!(ledger.unused().is_empty());
            }
            let containers: Vec<_> =
                ledger.objects().filter(|o| matches!(o, Object::Container(..))).cloned().collect();
            for object in containers { take_down(&mut ledger, &object); }
            prop_assert_eq!(ledger, Ledger::default());
        }
    }
}
