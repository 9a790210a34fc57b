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
    /// The part before the first `:` of an alias -> patterns and modules. Devices differ first in
    /// their bus, so a look-up compares with the patterns of one bus only.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    /// Patterns whose bus is itself a pattern, such as `acpi*:`.
    wild_aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
}

impl Resolver {
    /// Reads the texts of `modules.dep`, `modules.alias` and `modules.builtin`. Lines that are not
    /// in depmod's format are left out.
    #[must_use]
    pub fn new(dep: &str, alias: &str, builtin: &str) -> Self {
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

    /// Names and paths of what has to be loaded for a module, itself last; empty for one that is
    /// part of the kernel. `None` when there is no such module.
    #[must_use]
    pub fn load_order(&self, name: &str) -> Option<Vec<(&str, &str)>> {
        let name = canonical(name);
        if self.builtin.contains(&name) {
            return Some(Vec::new());
        }
        let (name, path) = self.paths.get_key_value(&name)?;
        let mut order: Vec<(&str, &str)> = Vec::new();
        // depmod lists everything a module needs, directly or not, the deepest last.
        for needed in self.needs.get(name).into_iter().flatten().rev() {
            match self.paths.get_key_value(needed) {
                Some((needed, path)) => order.push((needed, path)),
                None if self.builtin.contains(needed) => {}
                None => return None,
            }
        }
        order.push((name, path));
        Some(order)
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

/// Entry for fuzzing: the data is a modules.dep, a modules.alias and a modalias, each after a NUL.
pub fn fuzz_modules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let resolver = Resolver::new(part(), part(), "");
    for module in resolver.modules_for(part()) {
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
        let resolver = Resolver::new(DEP, ALIAS, "kernel/drivers/virtio/virtio.ko\n");
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
        let resolver = Resolver::new(DEP, ALIAS, "");
        assert_eq!(resolver.modules_for("acpi:QEMU0002:"), ["qemu_fw_cfg"]);
        assert!(resolver.modules_for("pci:v1").is_empty());
        assert!(resolver.load_order("qemu_fw_cfg").is_none());
        assert!(resolver.load_order("crc_t10dif").is_none());
    }

    proptest! {
        #[test]
        fn no_tables_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            fuzz_modules(&data);
        }
    }
}
