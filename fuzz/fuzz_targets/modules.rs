//! The tables of depmod, as the node reads them at boot and as the initramfs is cut from them.
#![no_main]

use layercake_minos::ModuleTable;

// The parts stand behind NULs: modules.dep, and modules.alias or modules.softdep, and what is wanted.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    layercake_node::modules::fuzz_modules(data);
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let Ok(table) = ModuleTable::parse(part(), part(), part()) else { return };
    let chosen = table.closure(part().split_ascii_whitespace());
    assert!(chosen.iter().all(|module| table.contains(module)));
    let cut = ModuleTable::parse(&table.cut_dep(&chosen), "", "");
    assert!(cut.is_ok(), "a modules.dep was written that cannot be read");
});
