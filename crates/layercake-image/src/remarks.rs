//! Remarks on an import: what was left out, and what was taken otherwise than it was written.

use std::collections::BTreeMap;

use crate::tar::show;

/// How many names are told for each kind of remark.
const MAX_EXAMPLES: usize = 3;

/// A kind of remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remark {
    /// A socket in a directory.
    Socket,
    /// Something mounted in a directory.
    Mounted,
    /// An access control list.
    Acl,
    /// An extended attribute that squashfs cannot hold.
    Attribute,
    /// An extended attribute of the root directory.
    RootAttribute,
    /// A time that squashfs cannot hold.
    Time,
    /// A name that began with `/`.
    Absolute,
    /// A name that is in the archive again.
    Replaced,
    /// A directory with something in it, replaced by what is no directory.
    ReplacedTree,
    /// An entry of an unknown type.
    UnknownType,
    /// Bytes behind the end of the archive.
    BehindEnd,
}

impl Remark {
    fn text(self) -> &'static str {
        match self {
            Self::Socket => "sockets are left out",
            Self::Mounted => "left out, because other file systems are mounted there",
            Self::Acl => {
                "POSIX ACLs are left out, which squashfs cannot hold (the mode stays as it is, with \
                 the mask of the ACL for the group)"
            }
            Self::Attribute => {
                "extended attributes are left out that squashfs cannot hold (it has user.*, \
                 trusted.* and security.*)"
            }
            Self::RootAttribute => "extended attributes of the root directory are left out",
            Self::Time => {
                "times before 1970 or after 2106 are moved to the nearest that squashfs holds"
            }
            Self::Absolute => "names that begin with `/` are taken without it",
            Self::Replaced => "in the archive more than once, the last entry counts",
            Self::ReplacedTree => "directories are replaced, with all in them, by a later entry",
            Self::UnknownType => "entries of an unknown type are taken as files",
            Self::BehindEnd => {
                "there is something behind the end of the archive, which is not read"
            }
        }
    }
}

/// The remarks on an import, counted by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks(BTreeMap<Remark, Counted>);

#[derive(Clone, Debug, Default)]
struct Counted {
    count: u64,
    examples: Vec<String>,
}

impl Remarks {
    /// Notes a remark on `name`, which is empty when it is on the whole.
    pub(crate) fn add(&mut self, remark: Remark, name: &[u8]) {
        let counted = self.0.entry(remark).or_default();
        counted.count += 1;
        if counted.examples.len() < MAX_EXAMPLES && !name.is_empty() {
            counted.examples.push(show(name));
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        for (remark, counted) in other.0 {
            let all = self.0.entry(remark).or_default();
            all.count += counted.count;
            let room = MAX_EXAMPLES.saturating_sub(all.examples.len());
            all.examples.extend(counted.examples.into_iter().take(room));
        }
    }

    /// A line for each kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(remark, counted): (&Remark, &Counted)| {
            let text = remark.text();
            if counted.examples.is_empty() {
                return text.to_owned();
            }
            let names = counted.examples.join(", ");
            match counted.count.saturating_sub(counted.examples.len() as u64) {
                0 => format!("{text}: {names}"),
                more => format!("{text}: {names} and {more} more"),
            }
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_a_kind_are_one_line_with_a_few_names() {
        let mut remarks = Remarks::default();
        for n in 0..5 {
            remarks.add(Remark::Socket, format!("run/{n}\n").as_bytes());
        }
        let mut other = Remarks::default();
        other.add(Remark::Socket, b"late");
        other.add(Remark::BehindEnd, b"");
        remarks.append(other);
        let lines = remarks.lines();
        assert_eq!(lines[0], "sockets are left out: run/0\\n, run/1\\n, run/2\\n and 3 more");
        assert_eq!(lines[1], Remark::BehindEnd.text());
    }
}
