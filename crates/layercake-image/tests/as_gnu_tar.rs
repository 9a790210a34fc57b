//! What an archive comes to is what GNU tar, run by root, unpacks from it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use layercake_image::{ImageStore, ImportError, ImportOptions, Source, TarError};
use proptest::prelude::*;

mod raw;
use raw::{Raw, pax};

/// A file, directory or other, as far as an image holds it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    mtime: Option<i64>,
    /// Content, target, or device.
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of its names.
    link: Option<PathBuf>,
}

/// Everything below a directory, by path. Directories that no entry told of have the time at which they
/// were made, so theirs are left out.
fn walk(root: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let full = root.join(&path);
        let facts = fs::symlink_metadata(&full).unwrap();
        let kind = facts.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            open.extend(names.iter().rev().map(|name| path.join(name)));
        }
        let (letter, content) = if kind.is_dir() {
            ('d', Vec::new())
        } else if kind.is_symlink() {
            ('l', fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            ('f', fs::read(&full).unwrap())
        } else if kind.is_fifo() {
            ('p', Vec::new())
        } else {
            (if kind.is_char_device() { 'c' } else { 'b' }, facts.rdev().to_string().into_bytes())
        };
        let first = inodes.entry(facts.ino()).or_insert_with(|| path.clone()).clone();
        let link = (!kind.is_dir() && first != path).then_some(first);
        let mtime = (!kind.is_dir()).then(|| facts.mtime().clamp(0, u32::MAX.into()));
        let owner = (facts.uid(), facts.gid());
        let xattrs = if kind.is_file() || kind.is_dir() { xattrs(&full) } else { BTreeMap::new() };
        let mode = facts.mode() & 0o7777;
        let entry = Found { kind: letter, mode, owner, mtime, content, xattrs, link };
        found.insert(path, entry);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..length].to_vec();
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let text = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(path, text, &mut buffer[..]).unwrap();
            (name.to_vec(), buffer[..length].to_vec())
        })
        .collect()
}

struct Bench {
    dir: tempfile::TempDir,
    store: ImageStore,
    options: ImportOptions,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("store")).unwrap();
    let command = vec!["/bin/x".to_owned()];
    Bench { dir, store, options: ImportOptions { command, keep_times: true, ..Default::default() } }
}

impl Bench {
    /// Has GNU tar unpack an archive; false if it complains.
    fn unpack(&self, archive: &[u8], into: &Path) -> bool {
        let file = self.dir.path().join("a.tar");
        fs::write(&file, archive).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"]);
        tar.arg(&file).arg("-C").arg(into).output().unwrap().status.success()
    }

    /// What GNU tar unpacks, or nothing if it complains.
    fn by_tar(&self, archive: &[u8]) -> Option<BTreeMap<PathBuf, Found>> {
        let root = tempfile::tempdir_in(self.dir.path()).unwrap();
        self.unpack(archive, root.path()).then(|| walk(root.path()))
    }

    /// What is in the image that we make.
    fn by_us(&self, archive: &[u8]) -> Result<BTreeMap<PathBuf, Found>, ImportError> {
        let file = self.dir.path().join("b.tar");
        fs::write(&file, archive).unwrap();
        let imported = self.store.import(&Source::Path(file), &self.options, &mut |_| {})?;
        let root = tempfile::tempdir_in(self.dir.path()).unwrap();
        let out = root.path().join("out");
        let unpacked = Command::new("unsquashfs")
            .args(["-q", "-n", "-strict-errors", "-d"])
            .arg(&out)
            .arg(self.store.blob_path(&imported.meta.digest))
            .output()
            .unwrap();
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        Ok(walk(&out))
    }

    /// Both are the same, or both refuse.
    fn compare(&self, archive: &[u8]) -> Result<(), TestCaseError> {
        match (self.by_tar(archive), self.by_us(archive)) {
            (Some(mut tar), Ok(mut ours)) => {
                // Without an entry for the root, it is what the directory was that tar was run in.
                tar.remove(Path::new(""));
                ours.remove(Path::new(""));
                prop_assert_eq!(ours, tar);
            }
            (Some(_), Err(error)) => {
                return Err(TestCaseError::fail(format!("tar takes it, we say {error}")));
            }
            // Here a file may replace a directory that is not empty.
            (None, _) => {}
        }
        Ok(())
    }
}

/// An entry in bytes, shown in words.
#[derive(Clone)]
struct Written(Vec<u8>, String);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

/// Names that often meet, written in many ways, and some that are odd.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        20 => proptest::sample::select(vec!["a", "b", "c"]).prop_map(Into::into),
        1 => Just(vec![b'n'; 120]),
        1 => Just(b"new\nline -> =%".to_vec()),
        1 => Just(b"\xff\xfe".to_vec()),
    ];
    let parts = prop_oneof![
        3 => proptest::collection::vec(part.clone(), 1),
        1 => proptest::collection::vec(part, 2..4),
    ];
    let front = proptest::sample::select(vec!["", "", "./", "/", ".//", "../"]);
    let back = proptest::sample::select(vec!["", "", "", "/"]);
    (front, parts, back).prop_map(|(front, parts, back)| {
        [front.as_bytes(), &parts.join(&b'/'), back.as_bytes()].concat()
    })
}

fn xattr() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names = vec!["user.one", "user.p%25", "trusted.two", "security.three"];
    (proptest::sample::select(names), proptest::collection::vec(any::<u8>(), 1..40))
}

/// A capability as the kernel keeps it: revision 2, with bits that make ends of lines.
const CAPABILITY: &[u8] =
    b"\x01\x00\x00\x02\x0a\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

prop_compose! {
    fn entry()(
        name in name(),
        target in name(),
        flag in proptest::sample::select(b"000000 555 1111 22 3 4 6 7 S V Z".as_slice()),
        content in proptest::collection::vec(any::<u8>(), 0..1500),
        mode in 0_u32..0o10000,
        owner in (0_u32..u32::MAX, proptest::sample::select(&[0_u32, 7, 1_800_000_001][..])),
        mtime in prop_oneof![0_i64..1 << 33, -1_i64 << 40..0],
        xattr in proptest::option::of(xattr()),
        capable in proptest::bool::weighted(0.2),
        form in 0_usize..4,
    ) -> Written {
        let flag = if flag == b' ' { b'0' } else { flag };
        let mut raw = Raw { name, flag, mode, owner, mtime, ..Raw::default() };
        match flag {
            // A hard link with `..` GNU tar makes outside of the directory that it unpacks into.
            b'1' => raw.link = target.strip_prefix(b"../").unwrap_or(&target).to_vec(),
            b'2' => {
                // GNU tar makes these last, and takes whatever has the same inode by then for their place.
                if target.starts_with(b"/") || target.starts_with(b"..") {
                    raw.name.extend(format!("-{mode}").into_bytes());
                }
                raw.link = target;
            }
            // What is made in a set-group-id directory takes its group, by the kernel and not by tar.
            b'5' => raw.mode &= 0o5777,
            b'3' | b'4' => raw.device = (1 + mode % 9, mode),
            b'0' | b'7' | b'Z' => raw.content = content,
            b'S' => {
                raw.flag = b'0';
                let shown = format!("sparse {form} {}", raw.name.escape_ascii());
                return Written(raw.sparse(form, &content, mode.into()), shown);
            }
            _ => {}
        }
        let mut records = Vec::new();
        if matches!(flag, b'0' | b'5') {
            if let Some((name, value)) = xattr {
                records.extend(pax(&format!("SCHILY.xattr.{name}"), &value));
            }
            if capable && flag == b'0' {
                records.extend(pax("SCHILY.xattr.security.capability", CAPABILITY));
            }
        }
        if flag == b'0' && !records.is_empty() {
            // GNU tar 1.34 writes a file with attributes over one of its name, instead of replacing it.
            raw.name.extend(format!("-{mode}").into_bytes());
        }
        if mode % 5 == 0 {
            records.extend(pax("mtime", format!("{mtime}.5").as_bytes()));
        }
        let (from, to) = (raw.name.escape_ascii(), raw.link.escape_ascii());
        let shown = format!("{} {from} {to} {:o} {}", flag as char, raw.mode, records.escape_ascii());
        Written(raw.write(&records), shown)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_image_is_what_gnu_tar_unpacks(entries in proptest::collection::vec(entry(), 1..40)) {
        let bench = bench();
        let root = Raw { name: b"./".to_vec(), flag: b'5', mode: 0o750, ..Raw::default() };
        let mut archive = root.write(&[]);
        // At an entry that tar complains about everything ends: such entries are left out.
        for Written(entry, _) in entries {
            let longer = [&archive[..], &entry].concat();
            let root = tempfile::tempdir_in(bench.dir.path()).unwrap();
            if bench.unpack(&raw::ended(&longer), root.path()) {
                archive = longer;
            }
        }
        bench.compare(&raw::ended(&archive))?;
    }
}

#[test]
fn what_both_refuse_is_refused() {
    let bench = bench();
    let file = |name: &str| Raw { name: name.into(), content: b"x".to_vec(), ..Raw::default() };
    let link = |name: &str, flag, to: &str| Raw { flag, link: to.into(), ..file(name) };
    for entries in [
        vec![file("a/../b")],
        vec![file("a"), file("a/b")],
        vec![link("a", b'1', "none")],
        vec![link("s", b'2', "/etc"), file("s/x")],
        vec![link("s", b'2', "none"), file("s/x")],
        vec![link("s", b'2', "")],
        vec![Raw { name: vec![b'n'; 256], ..file("") }],
    ] {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.write(&[])).collect();
        let bytes = raw::ended(&bytes);
        assert!(bench.by_tar(&bytes).is_none(), "{entries:?}");
        let refused = bench.by_us(&bytes);
        assert!(matches!(refused, Err(ImportError::Tar(_))), "{entries:?}: {refused:?}");
    }
    assert_eq!(bench.store.list().unwrap(), []);
}

#[test]
fn parts_of_archives_of_several_volumes_are_refused() {
    let bench = bench();
    let part = Raw { name: b"a".to_vec(), flag: b'M', ..Raw::default() };
    let refused = bench.by_us(&raw::ended(&part.write(&[]))).unwrap_err();
    assert!(matches!(refused, ImportError::Tar(TarError::Foreign { .. })), "{refused:?}");
}
