//! Takes a lab down, and looks whether anything is left.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::record::Record;
use crate::error::Error;
use crate::process::{self, Identity};
use crate::run::{check, command};

/// How long processes may take to end when asked to.
const GRACE: Duration = Duration::from_secs(10);
/// Processes may start others while they are being ended; after this many rounds it is a fork bomb.
const MAX_ROUNDS: usize = 5;

/// What is left of a lab after it was taken down. Empty is how it must be.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Processes that were started in the lab, or were in its network.
    pub(crate) processes: Vec<(Identity, String)>,
    /// Its network namespace.
    pub(crate) namespaces: Vec<String>,
    /// Mounts below its directory.
    pub(crate) mounts: Vec<PathBuf>,
    /// Its files.
    pub(crate) files: Vec<PathBuf>,
}

impl Leftovers {
    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
            && self.namespaces.is_empty()
            && self.mounts.is_empty()
            && self.files.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (process, command) in &self.processes {
            writeln!(f, "  process {} {command}", process.pid)?;
        }
        for name in &self.namespaces {
            writeln!(f, "  network namespace {name}")?;
        }
        for path in &self.mounts {
            writeln!(f, "  mount {}", path.display())?;
        }
        for path in &self.files {
            writeln!(f, "  file {}", path.display())?;
        }
        Ok(())
    }
}

pub(super) fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Ends and removes everything of a lab. Repeating it is harmless.
pub(super) fn take_down(dir: &Path, record: &Record) -> Result<Leftovers, Error> {
    let netns = netns_path(&record.netns);
    // Held open to the end: an inode number of a namespace is used again once the namespace is gone, and
    // a number that is held cannot mean somebody else's.
    let held = File::open(&netns).ok();
    let inode = held.as_ref().and_then(|file| file.metadata().ok()).map(|meta| meta.ino());
    for _ in 0..MAX_ROUNDS {
        let processes = processes_of(record, inode);
        if processes.is_empty() {
            break;
        }
        process::end_all(&processes, GRACE);
    }
    let mut mounts = mounts_below(dir)?;
    // Later mounts cover earlier ones.
    mounts.reverse();
    for mount in mounts {
        // What resists is reported below.
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
    if netns.exists() {
        check(&mut command("ip", ["netns", "delete", &record.netns]))?;
    }
    let mut left = Leftovers {
        processes: processes_of(record, inode).into_iter().map(|p| (p, p.command())).collect(),
        namespaces: netns.exists().then(|| record.netns.clone()).into_iter().collect(),
        mounts: mounts_below(dir)?,
        files: Vec::new(),
    };
    // The record goes last: while anything is left, the next lab must find it. And nothing is removed
    // through a mount that could not be taken away.
    if left.is_empty() {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                left.files.push(dir.to_owned());
            }
            _ => {}
        }
    }
    Ok(left)
}

/// The lab's processes: those in its network and those its owner started. A person whose shell stands in
/// the lab's directory is neither, and stays.
fn processes_of(record: &Record, inode: Option<u64>) -> Vec<Identity> {
    let in_network = inode.map(process::in_network_namespace).unwrap_or_default();
    let started = record.processes.iter().copied().filter(|process| process.is_alive());
    let all = in_network.into_iter().chain(started);
    all.map(|process| (process.pid, process)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Mount points below `dir`, in the order they were mounted.
fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let path = "/proc/self/mountinfo";
    let table = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// proc(5): space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let plain = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    plain.replace("\\134", "\\").into()
}
