//! Kernel modules: which depend on which, and the tables of depmod cut down to a choice.

use std::collections::{BTreeMap, BTreeSet};

/// How many modules one table may have; Debian's largest kernel has about 4,500.
const MAX_MODULES: usize = 100_000;

/// Why `modules.dep` cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DepError {
    /// A line without a colon, or a path that is not clean.
    #[error("line {line} of modules.dep is not `path: path…`")]
    Line {
        /// Counted from one.
        line: usize,
    },
    /// More modules than any kernel has.
    #[error("modules.dep names more than {MAX_MODULES} modules")]
    TooMany,
}

/// The name of the module in a file: `kernel/fs/ext4/mb-cache.ko.xz` is `mb_cache`.
#[must_use]
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// What `modules.dep` and its companions say, by module name.
#[derive(Debug, Clone, Default)]
pub struct ModuleTable {
    files: BTreeMap<String, ModuleFile>,
    soft: BTreeMap<String, Vec<String>>,
    built_in: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct ModuleFile {
    path: String,
    needs: Vec<String>,
}

impl ModuleTable {
    /// Reads the text of `modules.dep`, `modules.softdep` and `modules.builtin` (modprobe.d(5),
    /// modules.dep(5)).
    pub fn parse(dep: &str, softdep: &str, builtin: &str) -> Result<Self, DepError> {
        let mut table = Self::default();
        for (index, line) in dep.lines().enumerate() {
            let error = DepError::Line { line: index + 1 };
            let Some((path, needs)) = line.split_once(':') else { return Err(error) };
            let mut paths = needs.split_ascii_whitespace();
            if !is_clean(path) || !paths.clone().all(is_clean) {
                return Err(error);
            }
            if table.files.len() == MAX_MODULES {
                return Err(DepError::TooMany);
            }
            let needs = paths.by_ref().map(module_name).collect();
            table.files.insert(module_name(path), ModuleFile { path: path.to_owned(), needs });
        }
        for line in softdep.lines() {
            if let Some((name, wants)) = parse_softdep(line) {
                table.soft.insert(name, wants);
            }
        }
        table.built_in = builtin.lines().map(module_name).collect();
        Ok(table)
    }

    /// Whether there is a file for this module.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether this module is part of the kernel itself.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// Where the file of a module is, below `lib/modules/<release>`.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|file| file.path.as_str())
    }

    /// Everything that `wanted` needs, itself included: hard dependencies, and soft ones that exist.
    #[must_use]
    pub fn closure<N: Into<String>>(
        &self,
        wanted: impl IntoIterator<Item = N>,
    ) -> BTreeSet<String> {
        let mut open: Vec<String> = wanted.into_iter().map(Into::into).collect();
        let mut chosen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(file) = self.files.get(&name) else { continue };
            let soft = self.soft.get(&name);
            if chosen.insert(name) {
                open.extend(file.needs.iter().chain(soft.into_iter().flatten()).cloned());
            }
        }
        chosen
    }

    /// `modules.dep` for `chosen`, sorted by path; compressed modules lose their suffix because they
    /// are unpacked on their way into the initramfs.
    #[must_use]
    pub fn cut_dep(&self, chosen: &BTreeSet<String>) -> String {
        let mut lines: Vec<String> = Vec::with_capacity(chosen.len());
        for file in chosen.iter().filter_map(|name| self.files.get(name)) {
            let mut line = format!("{}:", plain_path(&file.path));
            for need in file.needs.iter().filter_map(|name| self.path(name)) {
                line.push(' ');
                line.push_str(plain_path(need));
            }
            line.push('\n');
            lines.push(line);
        }
        lines.sort();
        lines.concat()
    }
}

/// Keeps the lines of `modules.alias` (`alias <pattern> <module>`) that lead to a chosen module.
pub(crate) fn cut_alias(alias: &str, chosen: &BTreeSet<String>) -> String {
    let keep = |line: &&str| {
        let module = line.rsplit(' ').next().unwrap_or_default();
        line.starts_with("alias ") && chosen.contains(&module.replace('-', "_"))
    };
    alias.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
}

/// Keeps the lines of `modules.softdep` that speak of a chosen module.
pub(crate) fn cut_softdep(softdep: &str, chosen: &BTreeSet<String>) -> String {
    let keep = |line: &&str| parse_softdep(line).is_some_and(|(name, _)| chosen.contains(&name));
    softdep.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
}

/// The path of a module once it is unpacked.
fn plain_path(path: &str) -> &str {
    path.rsplit_once(".ko").map_or(path, |(stem, _)| &path[..stem.len() + 3])
}

/// `softdep <module> pre: a b post: c`.
fn parse_softdep(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.strip_prefix("softdep ")?.split_ascii_whitespace();
    let name = words.next()?.replace('-', "_");
    let wants = words.filter(|word| !word.ends_with(':')).map(|word| word.replace('-', "_"));
    Some((name, wants.collect()))
}

/// A relative path of plain names that ends in a module. Space would make it several in a
/// `modules.dep`.
fn is_clean(path: &str) -> bool {
    path.contains(".ko")
        && !path.contains(|c: char| c.is_ascii_whitespace())
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DEP: &str = "kernel/a/virtio_net.ko.xz: kernel/b/net-failover.ko.xz kernel/b/failover.ko.xz\n\
                       kernel/b/net-failover.ko.xz: kernel/b/failover.ko.xz\n\
                       kernel/b/failover.ko.xz:\nkernel/c/unrelated.ko.xz:\nkernel/d/soft.ko.xz:\n";
    const SOFT: &str =
        "# comment\nsoftdep virtio-net pre: soft nobody\nsoftdep unrelated pre: soft\n";

    fn table() -> ModuleTable {
        ModuleTable::parse(DEP, SOFT, "kernel/net/packet/af_packet.ko\n").unwrap()
    }

    #[test]
    fn a_choice_brings_everything_it_needs_and_nothing_else() {
        let chosen = table().closure(["virtio_net", "missing"]);
        let names: Vec<_> = chosen.iter().map(String::as_str).collect();
        assert_eq!(names, ["failover", "net_failover", "soft", "virtio_net"]);
        assert!(table().is_built_in("af_packet"));
    }

    #[test]
    fn the_tables_are_cut_to_the_choice() {
        let chosen = table().closure(["virtio_net"]);
        assert_eq!(
            table().cut_dep(&chosen),
            "kernel/a/virtio_net.ko: kernel/b/net-failover.ko kernel/b/failover.ko\n\
             kernel/b/failover.ko:\nkernel/b/net-failover.ko: kernel/b/failover.ko\nkernel/d/soft.ko:\n"
        );
        let alias = "# x\nalias virtio:d1v* virtio_net\nalias pci:v2* unrelated\n";
        assert_eq!(cut_alias(alias, &chosen), "alias virtio:d1v* virtio_net\n");
        assert_eq!(cut_softdep(SOFT, &chosen), "softdep virtio-net pre: soft nobody\n");
    }

    #[test]
    fn a_path_with_a_space_is_refused_because_it_could_not_be_written() {
        let refused = ModuleTable::parse("k/a.ko:\nk/b c.ko:\n", "", "");
        assert_eq!(refused.unwrap_err(), DepError::Line { line: 2 });
    }

    #[test]
    fn a_table_that_leads_out_of_its_directory_is_refused() {
        for (line, dep) in
            [(1, "../../etc/a.ko:\n"), (2, "k/a.ko:\nk/b.ko: /etc/c.ko\n"), (1, "a\n")]
        {
            let refused = ModuleTable::parse(dep, "", "");
            assert_eq!(refused.unwrap_err(), DepError::Line { line }, "{dep}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z./]{0,6}(\\.ko)?[: \n]{0,2}){0,40}") {
            if let Ok(table) = ModuleTable::parse(&text, &text, &text) {
                let all = table.closure(table.files.keys().cloned());
                assert!(ModuleTable::parse(&table.cut_dep(&all), "", "").is_ok());
            }
        }
    }
}
