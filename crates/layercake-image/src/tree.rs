//! The tree that `tar -x` would leave behind: what an archive comes to, entry by entry.
//!
//! GNU tar, run by root in an empty directory, is the measure: a later entry replaces an earlier one of
//! the same name; a hard link keeps the file that its target was at that moment; a directory keeps what
//! is in it and takes the new mode and owner; names below a relative link lie where it leads. In one
//! thing an image differs: a file in place of a directory that is not empty is an error there, and
//! replaces it here, with a remark.
//!
//! Memory is bounded: of files only names are kept, and all together at most [`MAX_TREE_BYTES`].

use std::collections::BTreeMap;

use crate::remarks::{Remark, Remarks};
use crate::tar::{Kind, Member, Meta, TarError, Xattr, show};

/// How much memory the names and directories of an archive may take, about.
pub(crate) const MAX_TREE_BYTES: usize = 512 << 20;
/// How many symbolic links are followed on the way to a name, as in the kernel.
const MAX_LINKS: u32 = 40;
/// About what a name takes beside its bytes.
const NAME_BYTES: usize = 80;
/// About what a directory takes.
const DIRECTORY_BYTES: usize = 250;

/// A directory or whatever else has names.
type Id = u32;
const ROOT: Id = 0;

#[derive(Debug)]
enum Node {
    Directory(Box<Directory>),
    /// A symbolic link, with its target.
    Symlink(u32, Box<[u8]>),
    /// A file, device or pipe.
    Other(u32),
    /// Its last name is gone.
    Gone,
}

#[derive(Debug)]
struct Directory {
    parent: Id,
    name: Box<[u8]>,
    children: BTreeMap<Box<[u8]>, Id>,
    meta: Meta,
    /// An entry told of it, not only names below it.
    told: bool,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// How many names each node has.
    names: Vec<u32>,
    bytes: usize,
    max_bytes: usize,
    pub(crate) remarks: Remarks,
}

/// A name of what an entry made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'t> {
    /// Which entry, counted from 0.
    pub(crate) entry: u32,
    directory: Id,
    name: &'t [u8],
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Directory {
            parent: ROOT,
            name: Box::default(),
            children: BTreeMap::new(),
            meta: untold(),
            told: false,
        };
        Self {
            nodes: vec![Node::Directory(Box::new(root))],
            names: vec![1],
            bytes: 0,
            max_bytes: MAX_TREE_BYTES,
            remarks: Remarks::default(),
        }
    }

    /// Does what `tar -x` does at entry number `entry`.
    pub(crate) fn apply(&mut self, member: &Member, entry: u32) -> Result<(), TarError> {
        let path = &member.path[..];
        let Some((parent, name)) = split(path) else {
            return match member.kind {
                Kind::Directory => self.tell_of(ROOT, &member.meta, path),
                _ => Err(TarError::cannot_hold(b".", "the root of an image is a directory")),
            };
        };
        let node = match &member.kind {
            Kind::HardLink(target) => {
                let dead = || TarError::DeadLink { path: show(path), target: show(target) };
                let linked = self.linked(target).ok_or_else(dead)?;
                let directory = self.make_way(path, parent)?;
                if self.child(directory, name) == Some(linked) {
                    return Ok(());
                }
                if self.is_directory(linked) {
                    return Err(dead());
                }
                self.names[linked as usize] += 1;
                self.remove(directory, name, path);
                return self.add_name(directory, name, linked);
            }
            Kind::Directory => {
                let directory = self.make_way(path, parent)?;
                let there = self.child(directory, name).filter(|&id| self.is_directory(id));
                let id = match there {
                    Some(id) => id,
                    None => {
                        self.remove(directory, name, path);
                        self.add_directory(directory, name)?
                    }
                };
                return self.tell_of(id, &member.meta, path);
            }
            Kind::Symlink(target) if target.is_empty() => {
                return Err(TarError::cannot_hold(path, "a symbolic link needs a target"));
            }
            Kind::Symlink(target) if target.len() > crate::tar::MAX_PATH => {
                return Err(TarError::cannot_hold(path, "the target of the link is too long"));
            }
            Kind::Symlink(target) => Node::Symlink(entry, target.clone().into()),
            _ => Node::Other(entry),
        };
        let directory = self.make_way(path, parent)?;
        self.remove(directory, name, path);
        let id = self.add_node(node)?;
        self.add_name(directory, name, id)
    }

    /// Finds what a hard link leads to.
    fn linked(&self, target: &[u8]) -> Option<Id> {
        let (parent, name) = split(target)?;
        let mut links = MAX_LINKS;
        let parent = self.walk(ROOT, parent, &mut links).ok()?;
        self.child(parent, name)
    }

    /// Finds the directory of a path, and makes those that no entry told of.
    fn make_way(&mut self, path: &[u8], parent: &[u8]) -> Result<Id, TarError> {
        let mut at = ROOT;
        let mut links = MAX_LINKS;
        let mut end = 0;
        for name in names(parent) {
            end += name.len() + usize::from(end > 0);
            at = match self.child(at, name) {
                None => self.add_directory(at, name)?,
                Some(id) => self.enter(at, id, &mut links).map_err(|why| TarError::Below {
                    path: show(path),
                    below: show(&parent[..end]),
                    why,
                })?,
            };
        }
        Ok(at)
    }

    /// Goes along names that are all there.
    fn walk(&self, from: Id, path: &[u8], links: &mut u32) -> Result<Id, &'static str> {
        let mut at = from;
        for name in names(path).filter(|name| *name != b".") {
            let next = self.child(at, name).ok_or(": the link leads to nothing")?;
            at = self.enter(at, next, links)?;
        }
        Ok(at)
    }

    /// Enters a directory, also through links; `from` is where the name was found. Like GNU tar, it
    /// follows no link that could leave the root: those are made when all else is there.
    fn enter(&self, from: Id, id: Id, links: &mut u32) -> Result<Id, &'static str> {
        match &self.nodes[id as usize] {
            Node::Directory(_) => Ok(id),
            Node::Symlink(_, target) => {
                if target.starts_with(b"/") || names(target).any(|name| name == b"..") {
                    return Err(
                        ", a link that is absolute or contains `..`: tar does not follow it",
                    );
                }
                *links = links.checked_sub(1).ok_or(": too many links")?;
                self.walk(from, target, links)
            }
            Node::Other(_) | Node::Gone => Err(""),
        }
    }

    fn directory(&self, id: Id) -> Option<&Directory> {
        match self.nodes.get(id as usize) {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    fn is_directory(&self, id: Id) -> bool {
        self.directory(id).is_some()
    }

    fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        self.directory(directory)?.children.get(name).copied()
    }

    fn tell_of(&mut self, id: Id, meta: &Meta, path: &[u8]) -> Result<(), TarError> {
        self.count(
            meta.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + 48).sum(),
        )?;
        if let Node::Directory(directory) = &mut self.nodes[id as usize] {
            let mut meta = meta.clone();
            // An entry adds to the attributes of a directory that is there.
            let kept = std::mem::take(&mut directory.meta.xattrs).into_iter();
            let new = |xattr: &Xattr| meta.xattrs.iter().all(|other| other.name != xattr.name);
            let kept: Vec<_> = kept.filter(new).collect();
            meta.xattrs.splice(0..0, kept);
            if std::mem::replace(&mut directory.told, true) && directory.meta != meta {
                self.remarks.add(Remark::Replaced, if path.is_empty() { b"." } else { path });
            }
            directory.meta = meta;
        }
        Ok(())
    }

    fn add_directory(&mut self, parent: Id, name: &[u8]) -> Result<Id, TarError> {
        self.count(DIRECTORY_BYTES + name.len())?;
        let children = BTreeMap::new();
        let directory =
            Directory { parent, name: name.into(), children, meta: untold(), told: false };
        let id = self.add_node(Node::Directory(Box::new(directory)))?;
        self.add_name(parent, name, id)?;
        Ok(id)
    }

    fn add_node(&mut self, node: Node) -> Result<Id, TarError> {
        if let Node::Symlink(_, target) = &node {
            self.count(target.len())?;
        }
        let id = Id::try_from(self.nodes.len()).map_err(|_| too_large())?;
        self.nodes.push(node);
        self.names.push(1);
        Ok(id)
    }

    fn add_name(&mut self, directory: Id, name: &[u8], id: Id) -> Result<(), TarError> {
        self.count(NAME_BYTES + name.len())?;
        if let Node::Directory(directory) = &mut self.nodes[directory as usize] {
            directory.children.insert(name.into(), id);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), TarError> {
        self.bytes += bytes;
        if self.bytes > self.max_bytes { Err(too_large()) } else { Ok(()) }
    }

    /// Takes a name away, if it is there, and what has no name after that.
    fn remove(&mut self, directory: Id, name: &[u8], path: &[u8]) {
        let removed = match &mut self.nodes[directory as usize] {
            Node::Directory(directory) => directory.children.remove(name),
            _ => None,
        };
        let Some(removed) = removed else { return };
        let full = self.directory(removed).is_some_and(|removed| !removed.children.is_empty());
        self.remarks.add(if full { Remark::ReplacedTree } else { Remark::Replaced }, path);
        let mut gone = vec![removed];
        while let Some(id) = gone.pop() {
            let names = &mut self.names[id as usize];
            *names -= 1;
            if *names > 0 {
                continue;
            }
            let node = std::mem::replace(&mut self.nodes[id as usize], Node::Gone);
            if let Node::Directory(directory) = node {
                gone.extend(directory.children.into_values());
            }
        }
    }

    /// Mode, owner, time and attributes of the root.
    pub(crate) fn root(&self) -> Meta {
        self.directory(ROOT).map_or_else(untold, |root| root.meta.clone())
    }

    /// Every directory but the root, parents first, in the order of their names.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (Vec<u8>, &Meta)> {
        let inside = |id| self.directory(id).into_iter().flat_map(|at| at.children.values());
        let mut open: Vec<Id> = inside(ROOT).rev().copied().collect();
        std::iter::from_fn(move || {
            loop {
                let id = open.pop()?;
                let Some(directory) = self.directory(id) else { continue };
                open.extend(directory.children.values().rev());
                return Some((self.path(directory.parent, &directory.name), &directory.meta));
            }
        })
    }

    /// Every name of what is not a directory, sorted by the entry that made it.
    pub(crate) fn entries(&self) -> Vec<Name<'_>> {
        let mut found = Vec::new();
        for (directory, node) in (0..).zip(&self.nodes) {
            let Node::Directory(at) = node else { continue };
            for (name, &id) in &at.children {
                if let Node::Other(entry) | Node::Symlink(entry, _) = self.nodes[id as usize] {
                    found.push(Name { entry, directory, name });
                }
            }
        }
        found.sort_by_key(|name| name.entry);
        found
    }

    /// How many names there are without the root, and how many files, directories and others with it.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let directories = self.nodes.iter().filter_map(|node| match node {
            Node::Directory(directory) => Some(directory.children.len() as u64),
            _ => None,
        });
        let nodes = self.nodes.iter().filter(|node| !matches!(node, Node::Gone)).count();
        (directories.sum(), nodes as u64)
    }

    /// The path of a name.
    pub(crate) fn path_of(&self, name: Name<'_>) -> Vec<u8> {
        self.path(name.directory, name.name)
    }

    fn path(&self, directory: Id, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut at = directory;
        while at != ROOT {
            let Some(directory) = self.directory(at) else { break };
            parts.push(&directory.name);
            at = directory.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The names in a directory, and whether each is one too.
    pub(crate) fn list(&self, path: &str) -> Vec<(&[u8], bool)> {
        let mut at = Some(ROOT);
        for name in names(path.as_bytes()) {
            at = at.and_then(|at| self.child(at, name));
        }
        let directory = at.and_then(|at| self.directory(at));
        let children = directory.into_iter().flat_map(|directory| &directory.children);
        children.map(|(name, &id)| (&name[..], self.is_directory(id))).collect()
    }
}

/// What `tar -x` gives a directory that only names below it tell of.
fn untold() -> Meta {
    Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
}

fn too_large() -> TarError {
    TarError::TooLarge { what: format!("{} MiB of names", MAX_TREE_BYTES >> 20) }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

/// The directory of a path, and its last name; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    let slash = path.iter().rposition(|&byte| byte == b'/');
    Some(slash.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..])))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
