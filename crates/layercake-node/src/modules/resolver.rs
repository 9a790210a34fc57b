//! From a modalias to the modules that go in, in order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::glob;

/// The most lines that are read of one file: five times what a full Debian kernel has.
const MAX_LINES: usize = 250_000;

/// What depmod knows about the modules of one kernel.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// Name of a module -> its path, relative to the module directory.
    paths: BTreeMap<String, String>,
    /// Name -> names it needs, as `modules.dep` has them: the nearest first.
    needs: BTreeMap<String, Vec<String>>,
    /// Name -> names that go in before and after it where they are there, as `modules.softdep` has them. Nothing links
    /// it to them, and yet some drivers take no card without: `r8169` without `realtek`.
    soft: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// The part before the first `:` of an alias -> patterns and modules. Devices differ first in
    /// their bus, so a look-up compares with the patterns of one bus only.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    /// Patterns whose bus is itself a pattern, such as `acpi*:`.
    wild_aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
}

impl Resolver {
    /// Reads the texts of `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin`. Lines that
    /// are not in depmod's format are left out.
    #[must_use]
    pub fn new(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut resolver = Self::default();
        for line in dep.lines().take(MAX_LINES) {
            let Some((path, needed)) = line.split_once(':') else { continue };
            let Some(name) = name_of(path) else { continue };
            let needed = needed.split_ascii_whitespace().filter_map(name_of).collect();
            resolver.paths.insert(name.clone(), path.to_owned());
            resolver.needs.insert(name, needed);
        }
        for line in alias.lines().take(MAX_LINES) {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("alias") {
                continue;
            }
            let (Some(pattern), Some(module)) = (words.next(), words.next()) else { continue };
            resolver.add_alias(pattern, module);
        }
        for line in softdep.lines().take(MAX_LINES) {
            resolver.add_softdep(line);
        }
        resolver.builtin = builtin.lines().take(MAX_LINES).filter_map(name_of).collect();
        resolver
    }

    fn add_alias(&mut self, pattern: &str, module: &str) {
        let alias = (pattern.to_owned(), canonical(module));
        let bus = pattern.split(':').next().unwrap_or_default();
        if bus.contains(['*', '?', '[', '\\']) {
            self.wild_aliases.push(alias);
        } else {
            self.aliases.entry(bus.to_owned()).or_default().push(alias);
        }
    }

    /// `softdep NAME pre: NAME… post: NAME…` (modprobe.d(5)).
    fn add_softdep(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("softdep") {
            return;
        }
        let Some(name) = words.next() else { return };
        let (pre, post) = self.soft.entry(canonical(name)).or_default();
        let mut list = None;
        for word in words {
            match (word, &mut list) {
                ("pre:", _) => list = Some(&mut *pre),
                ("post:", _) => list = Some(&mut *post),
                (word, Some(list)) => list.push(canonical(word)),
                _ => {}
            }
        }
    }

    /// The modules that serve a device with this modalias, without what they need.
    #[must_use]
    pub fn modules_for(&self, modalias: &str) -> Vec<&str> {
        let bus = modalias.split(':').next().unwrap_or_default();
        let of_bus = self.aliases.get(bus).into_iter().flatten();
        let mut found: Vec<&str> = of_bus
            .chain(&self.wild_aliases)
            .filter(|(pattern, _)| glob::matches(pattern, modalias))
            .map(|(_, module)| module.as_str())
            .collect();
        found.dedup();
        found
    }

    /// Names and paths of what has to be loaded for a module, in order; empty for one that is part of the
    /// kernel. `None` when there is no such module, or something is missing that it cannot do without.
    #[must_use]
    pub fn load_order(&self, name: &str) -> Option<Vec<(&str, &str)>> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        self.visit(&canonical(name), &mut seen, &mut order).then_some(order)
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<(&'a str, &'a str)>,
    ) -> bool {
        if self.builtin.contains(name) {
            return true;
        }
        let Some((name, path)) = self.paths.get_key_value(name) else { return false };
        // What is seen is in the order, or on its way there: soft dependencies may go in a circle.
        if !seen.insert(name) {
            return true;
        }
        let (pre, post) =
            self.soft.get(name).map(|(pre, post)| (&pre[..], &post[..])).unwrap_or_default();
        for hint in pre {
            self.visit(hint, seen, order);
        }
        // depmod lists everything a module needs, directly or not, the deepest last.
        for needed in self.needs.get(name).into_iter().flatten().rev() {
            if !self.visit(needed, seen, order) {
                return false;
            }
        }
        order.push((name, path));
        for hint in post {
            self.visit(hint, seen, order);
        }
        true
    }
}

/// The name of the module in a file: `kernel/fs/overlayfs/overlay.ko` -> `overlay`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = file.split(".ko").next()?;
    (!name.is_empty() && file.contains(".ko")).then(|| canonical(name))
}

/// The kernel takes `-` and `_` in a module's name for the same (modprobe(8)).
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Entry for fuzzing: the data is a modules.dep, a modules.alias, a modalias and a modules.softdep, each after a NUL.
pub fn fuzz_modules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let (dep, alias, modalias, softdep) = (part(), part(), part(), part());
    let resolver = Resolver::new(dep, alias, softdep, "");
    for module in resolver.modules_for(modalias) {
        let _ = resolver.load_order(module);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko
kernel/lib/crc-t10dif.ko: kernel/lib/missing.ko
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias virtio:d00000002v* virtio_blk
alias acpi*:QEMU0002:* qemu_fw_cfg
alias broken
";

    #[test]
    fn what_a_module_needs_goes_in_before_it() {
        let resolver = Resolver::new(DEP, ALIAS, "", "kernel/drivers/virtio/virtio.ko\n");
        assert_eq!(resolver.modules_for("virtio:d00000001v00001AF4"), ["virtio_net"]);
        let names = |module: &str| -> Vec<&str> {
            resolver.load_order(module).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("virtio-net"), ["failover", "net_failover", "virtio_net"]);
        assert_eq!(names("virtio_blk"), ["virtio_blk"]);
        assert_eq!(names("virtio"), Vec::<&str>::new());
    }

    #[test]
    fn a_bus_may_be_a_pattern_and_an_unknown_device_has_no_module() {
        let resolver = Resolver::new(DEP, ALIAS, "", "");
        assert_eq!(resolver.modules_for("acpi:QEMU0002:"), ["qemu_fw_cfg"]);
        assert!(resolver.modules_for("pci:v1").is_empty());
        assert!(resolver.load_order("qemu_fw_cfg").is_none());
        assert!(resolver.load_order("crc_t10dif").is_none());
    }

    #[test]
    fn what_a_module_only_hints_at_goes_in_too_where_it_is_there() {
        let dep = "r8169.ko: mii.ko\nmii.ko:\nrealtek.ko: libphy.ko\nlibphy.ko:\nled.ko:\n";
        let softdep = "# Soft dependencies\nsoftdep r8169 pre: realtek none post: led\nsoftdep realtek pre: r8169\nsoftdep x\n";
        let resolver = Resolver::new(dep, "", softdep, "");
        let names = |module: &str| -> Vec<&str> {
            resolver.load_order(module).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("r8169"), ["libphy", "realtek", "mii", "r8169", "led"]);
        assert_eq!(names("realtek"), ["mii", "r8169", "led", "libphy", "realtek"]);
        assert!(resolver.load_order("none").is_none());
    }

    proptest! {
        #[test]
        fn no_tables_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            fuzz_modules(&data);
        }
    }
}
