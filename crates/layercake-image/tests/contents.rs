//! What of an archive or directory is in the image, and what is said to be left out.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use layercake_image::{ImportError, ImportOptions, Source, TarError};
use rustix::fs::{XattrFlags, lsetxattr};

mod bench;
mod raw;
use bench::{Bench, bench, plain, run};
use raw::{Raw, pax};

/// An access control list as the kernel keeps it: rwx for the owner, group 4 and the mask, r-x else.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\
    \x08\0\x07\0\x04\0\0\0\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";

const ACLS_LEFT_OUT: &str = "POSIX ACLs are left out, which squashfs cannot hold (the mode stays as it \
    is, with the mask of the ACL for the group): var/log/journal";

impl Bench {
    /// The remarks on the import of an archive of these bytes, and what `unsquashfs` lists.
    fn imported(&self, entries: &[u8]) -> (Vec<String>, String) {
        let path = self.path("made.tar");
        fs::write(&path, raw::ended(entries)).unwrap();
        let meta = self.import(&path).unwrap().meta;
        let mut list = Command::new("unsquashfs");
        list.args(["-lln", "-d", ""]).arg(self.store.blob_path(&meta.digest));
        (meta.remarks, run(&mut list))
    }
}

fn raw(name: &str) -> Raw {
    Raw { name: name.into(), ..Raw::default() }
}

#[test]
fn owners_are_numbers_whatever_the_server_calls_them() {
    let bench = bench();
    let mut entry = Raw { owner: (4242, 4243), ..raw("file") }.write(&[]);
    // As a name that every server has, of another user.
    for at in [265, 297] {
        entry[at..at + 6].copy_from_slice(b"daemon");
    }
    entry[148..156].copy_from_slice(b"        ");
    let sum: u32 = entry.iter().map(|&byte| u32::from(byte)).sum();
    entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let named = [pax("uname", b"daemon"), pax("gname", b"daemon")].concat();
    let other = Raw { owner: (4244, 4245), ..raw("other") }.write(&named);
    let (_, listing) = bench.imported(&[entry, other].concat());
    assert!(listing.contains("4242/4243") && listing.contains("4244/4245"), "{listing}");
}

#[test]
fn acls_are_left_out_and_said_in_whatever_form_they_come() {
    let bench = bench();
    let directory = Raw { flag: b'5', mode: 0o775, ..raw("var/log/journal") };
    for records in [
        pax("SCHILY.xattr.system.posix_acl_access", ACL),
        pax("SCHILY.acl.access", b"user::rwx\ngroup::r-x\nmask::rwx\nother::r-x\n"),
        pax("LIBARCHIVE.xattr.system.posix_acl_default", b"AgAAAA"),
    ] {
        let (remarks, listing) = bench.imported(&directory.write(&records));
        assert_eq!(remarks, [ACLS_LEFT_OUT]);
        assert!(listing.contains("drwxrwxr-x 0/0"), "{listing}");
    }
    let root = bench.root("root");
    let journal = root.join("var/log/journal");
    fs::create_dir_all(&journal).unwrap();
    let acl = lsetxattr(&journal, "system.posix_acl_access", ACL, XattrFlags::empty());
    // Not every file system has ACLs.
    if acl.is_ok() {
        assert_eq!(bench.import(&root).unwrap().meta.remarks, [ACLS_LEFT_OUT]);
    }
}

#[test]
fn attributes_that_squashfs_cannot_hold_are_left_out_and_said() {
    let bench = bench();
    let records = [
        pax("SCHILY.xattr.user.kept", b"1"),
        pax("SCHILY.xattr.btrfs.compression", b"zstd"),
        pax("SCHILY.xattr.user.a%3Db", b"1"),
        pax("SCHILY.xattr.user.large", &[7; 70_000]),
    ];
    let (remarks, _) = bench.imported(&raw("file").write(&records.concat()));
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    let names = "btrfs.compression of file, user.a=b of file, user.large of file";
    assert!(remarks[0].ends_with(names), "{remarks:?}");
    let root = Raw { flag: b'5', ..raw("./") }.write(&pax("SCHILY.xattr.user.x", b"1"));
    let (remarks, _) = bench.imported(&root);
    assert_eq!(remarks, ["extended attributes of the root directory are left out: user.x"]);
}

#[test]
fn holes_are_the_same_in_every_format_and_in_a_directory() {
    let bench = bench();
    let root = bench.root("root");
    let sparse = |name: &str, pieces: &[(u64, usize)], size: u64| {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for &(offset, length) in pieces {
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; length], offset).unwrap();
        }
    };
    sparse("small", &[(0, 2)], 4098);
    sparse("hole", &[], 10 << 20);
    sparse("end", &[(5 << 20, 5)], (5 << 20) + 5);
    let many: Vec<_> = (0..60).map(|n| (n << 17, 3000)).collect();
    sparse("many", &many, 60 << 17);
    let whole = bench.import(&root).unwrap().meta;
    let out = bench.path("out");
    let blob = bench.store.blob_path(&whole.digest);
    run(Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&out).arg(&blob));
    run(Command::new("diff")
        .arg("-r")
        .args(["--no-dereference", "--exclude=dev"])
        .args([&root, &out]));
    for options in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let tar = bench.path("sparse.tar");
        let mut make = Command::new("tar");
        make.arg("-S").args(options).args(["--sort=name", "-cf"]).arg(&tar).arg("-C").arg(&root);
        run(make.arg("."));
        assert!(fs::metadata(&tar).unwrap().len() < 1 << 20, "the holes are not in it");
        let imported = bench.import(&tar).unwrap().meta;
        let out = bench.path("tar-out");
        let blob = bench.store.blob_path(&imported.digest);
        run(Command::new("unsquashfs").args(["-q", "-n", "-f", "-d"]).arg(&out).arg(&blob));
        run(Command::new("diff")
            .args(["-r", "--no-dereference", "--exclude=dev"])
            .args([&root, &out]));
    }
}

#[test]
fn sockets_in_a_directory_are_left_out_and_said() {
    let bench = bench();
    let root = bench.root("root");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("dev/log")).unwrap();
    run(Command::new("mkfifo").arg(root.join("dev/pipe")));
    let imported = bench.import(&root).unwrap().meta;
    assert_eq!(imported.remarks, ["sockets are left out: dev/log"]);
    assert_eq!(imported.file_count, 8, "the pipe is in it");
}

#[test]
fn a_directory_and_a_tar_of_it_hold_the_same() {
    let bench = bench();
    let root = bench.root("root");
    let odd = root.join(std::ffi::OsStr::from_bytes(b"odd\xff\n"));
    fs::create_dir(&odd).unwrap();
    let deep = odd.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    symlink("x".repeat(300), deep.join("link")).unwrap();
    lsetxattr(deep.join("file"), "user.a=b%", b"1\n\0", XattrFlags::empty()).unwrap();
    lsetxattr(deep.join("link"), "trusted.l", b"2", XattrFlags::empty()).unwrap();
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tool = root.join("usr/bin/tool");
    lsetxattr(&tool, "security.capability", capability, XattrFlags::empty()).unwrap();
    let tar = bench.path("a.tar");
    let mut make = Command::new("tar");
    make.args(["--xattrs", "--sort=name", "--format=posix", "-cf"]).arg(&tar);
    run(make.arg("-C").arg(&root).arg("."));
    let unpacked = |path: &Path, name: &str| {
        let imported = bench.import(path).unwrap().meta;
        assert!(imported.remarks[0].contains("user.a=b%"), "{:?}", imported.remarks);
        let out = bench.path(name);
        let blob = bench.store.blob_path(&imported.digest);
        run(Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&out).arg(&blob));
        let mut list = Command::new("tar");
        list.args(["--xattrs", "--xattrs-include=*", "--sort=name", "--format=posix", "-cC"]);
        list.arg(&out).args([".", "--mtime=@0", "--pax-option=delete=atime,delete=ctime"]);
        list.output().unwrap().stdout
    };
    assert!(unpacked(&root, "one") == unpacked(&tar, "two"));
    assert_eq!(
        rustix::fs::lgetxattr_query(bench.path("one/usr/bin/tool"), "security.capability"),
        Ok(20)
    );
}

#[test]
fn the_architecture_is_that_of_what_it_starts() {
    let bench = bench();
    let root = bench.path("root");
    for dir in ["bin", "sbin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let arch = |command: &str| {
        let command = vec![command.to_owned()];
        let options = ImportOptions { command, ..ImportOptions::default() };
        let source = Source::Path(root.clone());
        let meta = bench.store.import(&source, &options, &mut |_| {}).unwrap().meta;
        let facts = bench.store.facts(&meta.digest.to_string()).unwrap();
        assert_eq!(facts.arch, meta.arch);
        meta.arch
    };
    fs::write(root.join("bin/script"), "#! /bin/interpreter -x\n").unwrap();
    assert_eq!(arch("/bin/script"), None, "no program is there");
    let mut foreign = vec![0; 64];
    foreign[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    foreign[18] = 183;
    fs::write(root.join("bin/foreign"), &foreign).unwrap();
    fs::copy(std::env::current_exe().unwrap(), root.join("bin/sh")).unwrap();
    symlink("/bin/foreign", root.join("bin/interpreter")).unwrap();
    assert_eq!(arch("/bin/foreign").as_deref(), Some("aarch64"));
    assert_eq!(arch("/bin/script").as_deref(), Some("aarch64"), "that of its interpreter");
    assert_eq!(arch("foreign").as_deref(), Some("aarch64"), "wherever it is found");
    assert_eq!(arch("/data/missing").as_deref(), Some(std::env::consts::ARCH), "that of its shell");
    symlink("../bin/foreign", root.join("sbin/init")).unwrap();
    assert_eq!(arch("/data/missing").as_deref(), Some("aarch64"), "that of its init");
    let squashfs = bench.path("made.squashfs");
    run(Command::new("mksquashfs").arg(&root).arg(&squashfs).arg("-quiet"));
    let source = Source::Path(squashfs);
    let meta = bench.store.import(&source, &plain(), &mut |_| {}).unwrap().meta;
    assert_eq!(meta.arch.as_deref(), Some("aarch64"), "also of what others packed");
}

#[test]
fn what_is_no_root_is_refused_with_what_it_is() {
    let bench = bench();
    let layer = format!("{}/layer.tar", "a".repeat(64));
    let saved: Vec<u8> = [&layer[..], "manifest.json", "repositories"]
        .iter()
        .flat_map(|name| Raw { content: b"{}".to_vec(), ..raw(name) }.write(&[]))
        .collect();
    let zip = b"PK\x03\x04 and so on".to_vec();
    let cpio = [&b"070701"[..], &[b'0'; 600]].concat();
    for (bytes, what) in [
        (raw::ended(&saved), "`docker save`"),
        (zip, "a zip archive"),
        (cpio, "a cpio archive"),
        (b"short".to_vec(), "not a tar archive"),
        (Vec::new(), "the archive is empty"),
    ] {
        let path = bench.path("other");
        fs::write(&path, &bytes).unwrap();
        let refused = bench.import(&path).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
        run(Command::new("gzip").arg("-kf").arg(&path));
        let refused = bench.import(&bench.path("other.gz")).unwrap_err().to_string();
        assert!(refused.contains(what), "packed: {refused}");
    }
    let root = bench.root("system");
    for dir in ["etc", "var"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    let tar = bench.path("wrapped.tar");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(bench.dir.path()).arg("system"));
    let refused = bench.import(&tar).unwrap_err();
    assert!(matches!(refused, ImportError::Tar(TarError::Foreign { .. })), "{refused:?}");
    assert!(refused.to_string().contains("tar -C system -c ."), "{refused}");
    bench.assert_nothing_left();
}

#[test]
fn modes_of_directories_are_those_of_the_last_entry() {
    let bench = bench();
    let directory =
        |mode, owner| Raw { flag: b'5', mode, owner: (owner, 0), ..raw("d") }.write(&[]);
    let file = raw("d/f").write(&[]);
    let (remarks, listing) =
        bench.imported(&[directory(0o700, 1), file, directory(0o711, 2)].concat());
    assert!(listing.contains("drwx--x--x 2/0"), "{listing}");
    assert_eq!(remarks, ["in the archive more than once, the last entry counts: d"]);
    let mode = fs::metadata(bench.path("made.tar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "the archive itself is left alone");
}
