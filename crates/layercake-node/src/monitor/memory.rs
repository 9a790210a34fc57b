//! Seeing that the kernel killed processes because memory had run out.

use std::fs;
use std::path::{Path, PathBuf};

/// A count that stands before a container is started and is compared after its end.
pub(super) struct MemoryWatch {
    events: PathBuf,
    /// Processes that were killed anywhere on the node before.
    before: Option<u64>,
}

/// What was counted at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    /// Processes of this container.
    Here(u64),
    /// Processes of the node: the kernel does not count by container. It says something about one only together with
    /// how it ended.
    Somewhere(u64),
}

impl MemoryWatch {
    /// Begins to count for the container of a cgroup.
    pub(super) fn begin(cgroup: &Path) -> Self {
        Self { events: cgroup.join("memory.events"), before: on_the_node() }
    }

    /// The processes that were killed since.
    pub(super) fn killed(&self) -> Killed {
        // It counts whatever the kernel kills in the group and below it for lack of memory, whether of the group
        // or of the node (Documentation/admin-guide/cgroup-v2.rst, memory.events).
        let here = fs::read_to_string(&self.events).ok();
        match here.as_deref().and_then(|text| value(text, "oom_kill")) {
            Some(killed) => Killed::Here(killed),
            // A kernel without the memory controller.
            None => {
                let now = on_the_node().unwrap_or(0);
                Killed::Somewhere(now.saturating_sub(self.before.unwrap_or(now)))
            }
        }
    }
}

/// The processes that the kernel has killed for lack of memory since it was started.
pub(crate) fn on_the_node() -> Option<u64> {
    value(&fs::read_to_string("/proc/vmstat").ok()?, "oom_kill")
}

/// The number behind a name, in a file with one of each a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernels_count_of_the_cgroup_is_read_and_nothing_that_resembles_it() {
        let dir = tempfile::tempdir().unwrap();
        let watch = MemoryWatch::begin(dir.path());
        assert!(matches!(watch.killed(), Killed::Somewhere(_)));
        let events = "low 0\nhigh 3\nmax 41\noom 2\noom_kill 7\noom_group_kill 5\n";
        fs::write(dir.path().join("memory.events"), events).unwrap();
        assert_eq!(watch.killed(), Killed::Here(7));
        fs::write(dir.path().join("memory.events"), "oom_kill_all 9\n").unwrap();
        assert!(matches!(watch.killed(), Killed::Somewhere(_)));
    }
}
