//! Archives read back, and read by the cpio that everybody has.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Command, Stdio};

use layercake_cpio::{EntryKind, Tree, WriteError, read, single_file};
use proptest::prelude::*;

fn cpio(args: &[&str], archive: &[u8], dir: &std::path::Path) -> (String, String) {
    let mut child = Command::new("cpio")
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

fn lab_tree() -> Tree<'static> {
    let mut tree = Tree::new();
    tree.file("/init", 0o755, &b"#!/bin/true\n"[..]).unwrap();
    tree.file("etc/layercake/seed.json", 0o600, &b"{}"[..]).unwrap();
    tree.char_device("dev/console", 0o600, (5, 1)).unwrap();
    tree.block_device("dev/loop7", 0o660, (7, 7)).unwrap();
    tree.symlink("bin/sh", "busybox").unwrap();
    tree.directory("tmp", 0o1777).unwrap();
    tree
}

#[test]
fn cpio_lists_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (names, stderr) = cpio(&["-t", "--quiet"], &lab_tree().to_bytes(), dir.path());
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        [
            "bin",
            "bin/sh",
            "dev",
            "dev/console",
            "dev/loop7",
            "etc",
            "etc/layercake",
            "etc/layercake/seed.json",
            "init",
            "tmp"
        ]
    );
    assert_eq!(stderr, "");
}

#[test]
fn cpio_unpacks_modes_devices_and_links() {
    let dir = tempfile::tempdir().unwrap();
    cpio(&["-id", "--quiet"], &lab_tree().to_bytes(), dir.path());
    let at = |path: &str| std::fs::symlink_metadata(dir.path().join(path)).unwrap();
    assert_eq!(at("etc/layercake/seed.json").mode() & 0o7777, 0o600);
    assert_eq!(at("tmp").mode() & 0o7777, 0o1777);
    assert!(at("dev/console").file_type().is_char_device());
    assert_eq!(at("dev/console").rdev(), 5 << 8 | 1);
    assert_eq!(std::fs::read_link(dir.path().join("bin/sh")).unwrap().to_str(), Some("busybox"));
    assert_eq!(std::fs::read(dir.path().join("init")).unwrap(), b"#!/bin/true\n");
}

#[test]
fn the_order_of_calls_does_not_matter() {
    let mut other = Tree::new();
    other.directory("tmp", 0o700).unwrap();
    other.directory("tmp", 0o1777).unwrap();
    other.symlink("bin/sh", "busybox").unwrap();
    other.block_device("dev/loop7", 0o660, (7, 7)).unwrap();
    other.directory("dev", 0o755).unwrap();
    other.char_device("dev/console", 0o600, (5, 1)).unwrap();
    other.file("/etc/layercake/seed.json", 0o600, &b"{}"[..]).unwrap();
    other.file("init", 0o755, &b"#!/bin/true\n"[..]).unwrap();
    assert_eq!(other.to_bytes(), lab_tree().to_bytes());
}

#[test]
fn a_single_file_brings_its_directories() {
    let archive = single_file("/etc/layercake/seed.json", 0o600, b"{\"a\":1}").unwrap();
    let entries: Vec<_> = read(&archive).map(Result::unwrap).collect();
    let seen: Vec<_> = entries.iter().map(|e| (e.path, e.kind, e.permissions)).collect();
    assert_eq!(
        seen,
        [
            (&b"etc"[..], EntryKind::Directory, 0o755),
            (b"etc/layercake", EntryKind::Directory, 0o755),
            (b"etc/layercake/seed.json", EntryKind::File, 0o600),
        ]
    );
    assert_eq!(entries[2].data, b"{\"a\":1}");
}

#[test]
fn archives_can_follow_one_another() {
    let mut both = single_file("a", 0o644, b"12345").unwrap();
    both.extend(single_file("b", 0o644, b"").unwrap());
    let mut first = read(&both);
    assert_eq!(first.by_ref().map(|e| e.unwrap().path.to_vec()).collect::<Vec<_>>(), [b"a"]);
    let second: Vec<_> = read(first.rest()).map(|e| e.unwrap().path.to_vec()).collect();
    assert_eq!(second, [b"b"]);
}

#[test]
fn an_archive_of_cpio_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello"), "world").unwrap();
    let (archive, _) = cpio(&["-o", "-H", "newc", "--quiet"], b"hello\n", dir.path());
    let entries: Vec<_> = read(archive.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].path, entries[0].data), (&b"hello"[..], &b"world"[..]));
}

#[test]
fn paths_that_leave_the_tree_or_meet_a_file_are_refused() {
    for path in ["", "/", "..", "a/../b", "a//b", "a/", "./a", "a\0b", "TRAILER!!!"] {
        let refused = Tree::new().file(path, 0o644, &b""[..]);
        assert!(matches!(refused, Err(WriteError::Path { .. })), "{path:?}: {refused:?}");
    }
    let long = "a".repeat(4096);
    assert_eq!(Tree::new().directory(&long, 0o755), Err(WriteError::PathTooLong { bytes: 4096 }));
    let mut tree = lab_tree();
    assert!(matches!(tree.file("init", 0o644, &b""[..]), Err(WriteError::Conflict { .. })));
    assert!(matches!(tree.file("init/a", 0o644, &b""[..]), Err(WriteError::Conflict { .. })));
    assert!(matches!(tree.directory("init", 0o755), Err(WriteError::Conflict { .. })));
}

#[test]
fn a_cut_archive_is_an_error_at_every_length() {
    let whole = lab_tree().to_bytes();
    // The padding after the trailer's name may be missing without harm.
    for len in 0..whole.len() - 4 {
        let last = read(&whole[..len]).last();
        assert!(matches!(last, Some(Err(_))), "cut to {len} of {}: {last:?}", whole.len());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        files in proptest::collection::btree_map(
            "[a-z]{1,8}(-[a-z]{1,60}){0,2}",
            (0u32..0o10000, proptest::collection::vec(any::<u8>(), 0..200)),
            0..20,
        )
    ) {
        let mut tree = Tree::new();
        for (path, (mode, data)) in &files {
            tree.file(path, *mode, data.clone()).unwrap();
        }
        let archive = tree.to_bytes();
        prop_assert_eq!(archive.len() % 4, 0);
        let back: BTreeMap<_, _> = read(&archive)
            .map(|entry| {
                let e = entry.unwrap();
                assert_eq!((e.uid, e.gid, e.mtime, e.kind), (0, 0, 0, EntryKind::File));
                (String::from_utf8(e.path.to_vec()).unwrap(), (e.permissions, e.data.to_vec()))
            })
            .collect();
        prop_assert_eq!(back, files);
    }

    #[test]
    fn damaged_archives_never_panic(
        position in 0usize..1200, byte in any::<u8>(), tail in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let mut archive = lab_tree().to_bytes();
        let position = position % archive.len();
        archive[position] = byte;
        archive.extend(tail);
        let _ = read(&archive).count();
    }
}
