//! Archives in the kernel's newc format.
#![no_main]

use layercake_cpio::{EntryKind, Tree, read};

// An archive is read within its bytes, and what is read from it can be written and read again.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut entries = read(data);
    let mut tree = Tree::new();
    for entry in entries.by_ref() {
        let Ok(entry) = entry else { return };
        let Ok(path) = std::str::from_utf8(entry.path) else { continue };
        let _ = match entry.kind {
            EntryKind::Directory => tree.directory(path, entry.permissions),
            EntryKind::File => tree.file(path, entry.permissions, entry.data),
            _ => Ok(()),
        };
    }
    assert!(entries.rest().len() <= data.len());
    let written = tree.to_bytes();
    assert!(read(&written).all(|entry| entry.is_ok()), "what was written cannot be read");
});
