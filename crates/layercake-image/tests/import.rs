//! Imports with the real tar, mksquashfs and unsquashfs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use layercake_image::{
    Digest, EntryError, ImageStore, ImportError, ImportOptions, Kind, Source, Stage, StoreError,
    TarError,
};

mod bench;
use bench::{bench, plain, run};

#[test]
fn a_directory_keeps_owners_modes_devices_and_links() {
    let bench = bench();
    let mut stages = BTreeSet::new();
    let imported = bench
        .store
        .import(&Source::Path(bench.root("root")), &plain(), &mut |progress| {
            stages.insert((progress.stage == Stage::Seal, progress.percent));
        })
        .unwrap();
    assert!(stages.contains(&(false, Some(100))) && stages.contains(&(true, None)), "{stages:?}");
    assert_eq!(imported.meta.file_count, 7);
    assert_eq!(imported.meta.entry.kind, Kind::Plain);

    let blob = bench.store.blob_path(&imported.meta.digest);
    assert_eq!(fs::metadata(&blob).unwrap().len(), imported.meta.size_bytes);
    let out = bench.path("out");
    run(Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&out).arg(&blob));
    let show = |path: &str| {
        let shown = run(Command::new("stat").args(["-c", "%a %u:%g %h %F"]).arg(out.join(path)));
        shown.trim().to_owned()
    };
    assert_eq!(show("usr/bin/tool"), "4755 33:44 2 regular file");
    assert_eq!(show("dev/null"), "644 0:0 1 character special file");
    assert_eq!(show("."), "751 0:0 4 directory");
    assert_eq!(fs::read_link(out.join("bin")).unwrap(), Path::new("usr/bin"));
}

#[test]
fn the_same_content_is_the_same_image() {
    let bench = bench();
    let first = bench.import(&bench.root("one")).unwrap();
    let two = bench.root("two");
    run(Command::new("touch").args(["-d", "1999-01-01"]).arg(two.join("usr/bin/tool")));
    let second = bench.import(&two).unwrap();
    assert_eq!(first.meta.digest, second.meta.digest);
    assert!(!first.was_known && second.was_known);
    assert_eq!(bench.store.list().unwrap().len(), 1);
}

#[test]
fn every_packing_of_a_tar_is_the_same_image() {
    let bench = bench();
    let root = bench.root("root");
    let import = |name: &str, packing: &[&str]| {
        let path = bench.path(name);
        run(Command::new("tar").args(packing).arg("-cf").arg(&path).arg("-C").arg(&root).arg("."));
        bench.import(&path).unwrap().meta
    };
    let plain = import("a.tar", &[]);
    for packing in ["--gzip", "--xz", "--zstd"] {
        assert_eq!(import("packed.tar", &[packing]).digest, plain.digest, "{packing}");
    }
    let listing = run(Command::new("unsquashfs")
        .args(["-lln", "-d", ""])
        .arg(bench.store.blob_path(&plain.digest)));
    assert!(listing.starts_with("drwxr-x--x 0/0"), "the root keeps its mode: {listing}");
    assert!(listing.contains("33/44"), "{listing}");
}

#[test]
fn a_squashfs_is_taken_as_it_is() {
    let bench = bench();
    let made = bench.path("made.squashfs");
    run(Command::new("mksquashfs")
        .arg(bench.root("root"))
        .arg(&made)
        .args(["-quiet", "-comp", "gzip"]));
    let imported = bench.import(&made).unwrap();
    let (digest, size) = Digest::of_reader(fs::File::open(&made).unwrap()).unwrap();
    assert_eq!((imported.meta.digest, imported.meta.size_bytes), (digest, size));
    let end = fs::read(&made).unwrap();
    fs::write(&made, &end[..end.len() - 4096]).unwrap();
    assert!(bench.import(&made).is_err(), "cut off in what fills it up");
    fs::write(&made, "hsqs and nothing more").unwrap();
    assert!(matches!(bench.import(&made), Err(ImportError::Tool(_))));
}

#[test]
fn systemd_is_recognised_and_a_plain_image_needs_a_command() {
    let bench = bench();
    let root = bench.root("root");
    let bare = |root: &Path| {
        let source = Source::Path(root.to_owned());
        bench.store.import(&source, &ImportOptions::default(), &mut |_| {})
    };
    let refused = bare(&root);
    assert!(matches!(refused, Err(ImportError::Entry(EntryError::NoCommand))), "{refused:?}");
    bench.assert_nothing_left();

    fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
    fs::create_dir_all(root.join("usr/sbin")).unwrap();
    fs::write(root.join("usr/lib/systemd/systemd"), "").unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("usr/sbin", root.join("sbin")).unwrap();
    symlink("/lib/systemd/systemd", root.join("usr/sbin/init")).unwrap();
    assert_eq!(bare(&root).unwrap().meta.entry.kind, Kind::Systemd);
}

#[test]
fn names_that_leave_the_archive_are_refused_and_nothing_is_written() {
    let bench = bench();
    let target = bench.path("victim");
    fs::create_dir(&target).unwrap();
    let victim = target.display();
    for (name, entries) in [
        ("dots.tar", "add('ok'); add('../../victim/x', data=b'x')".to_owned()),
        ("link.tar", "add('f'); add('l', tarfile.LNKTYPE, '../f')".to_owned()),
        ("long.tar", format!("add('a/' * 200 + '../../{victim}/x', data=b'x')")),
    ] {
        let refused = bench.import(&bench.tar(name, &entries));
        assert!(
            matches!(refused, Err(ImportError::Tar(TarError::Escapes { .. }))),
            "{name}: {refused:?}"
        );
    }
    // Through a symbolic link that could lead out.
    let through = format!("add('s', tarfile.SYMTYPE, '{victim}'); add('s/x', data=b'x')");
    let refused = bench.import(&bench.tar("through.tar", &through)).unwrap_err();
    assert!(refused.to_string().contains("non-directory"), "{refused}");
    for target in ["nowhere", "/etc/shadow"] {
        let dead = format!("add('l', tarfile.LNKTYPE, '{target}')");
        let dead = bench.import(&bench.tar("dead.tar", &dead));
        assert!(matches!(dead, Err(ImportError::Tar(TarError::DeadLink { .. }))), "{dead:?}");
    }
    bench.assert_nothing_left();
    // A name that is absolute only looks so: it is taken below the root, as by GNU tar.
    let absolute = format!("add('{victim}/x', data=b'x')");
    let taken = bench.import(&bench.tar("absolute.tar", &absolute)).unwrap().meta;
    assert!(taken.remarks[0].contains("without it"), "{:?}", taken.remarks);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn damaged_archives_are_refused_with_the_reason() {
    let bench = bench();
    let root = bench.root("root");
    let whole = bench.path("whole.tar");
    run(Command::new("tar").arg("-cf").arg(&whole).arg("-C").arg(&root).arg("."));
    let bytes = fs::read(&whole).unwrap();
    let import = |name: &str, bytes: &[u8]| {
        let path = bench.path(name);
        fs::write(&path, bytes).unwrap();
        bench.import(&path).unwrap_err()
    };
    assert!(matches!(import("cut.tar", &bytes[..3000]), ImportError::Tar(TarError::CutOff { .. })));
    let nonsense = import("nonsense", &b"this is not an archive ".repeat(100));
    assert!(matches!(nonsense, ImportError::Tar(TarError::NotTar { at: 0 })), "{nonsense}");
    let empty = import("empty.tar", &[0; 10240]);
    assert!(matches!(empty, ImportError::Tar(TarError::Empty)), "{empty}");

    run(Command::new("gzip").arg("-k").arg(&whole));
    let packed = fs::read(bench.path("whole.tar.gz")).unwrap();
    let cut = import("cut.tar.gz", &packed[..packed.len() - 6]);
    let why = format!("{cut}: {:?}", std::error::Error::source(&cut));
    assert!(why.contains("unexpected end of file"), "{why}");

    let small = ImportOptions { max_unpacked_bytes: 4096, ..plain() };
    let refused = bench.store.import(&Source::Path(whole), &small, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("4096 bytes"), "{refused}");
    let missing = bench.import(&bench.path("missing.tar")).unwrap_err();
    assert!(matches!(missing, ImportError::Open { .. }), "{missing}");
    bench.assert_nothing_left();
}

/// Runs one of the ignored tests below as a process of its own.
fn child(test: &str, script: &str, dir: &Path) {
    run(Command::new("unshare")
        .args(["--mount", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("IMAGE_TEST_DIR", dir));
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os("IMAGE_TEST_DIR").map(PathBuf::from)
}

#[test]
fn a_tar_comes_from_standard_input() {
    let bench = bench();
    let root = bench.root("root");
    let script = "tar -C \"$IMAGE_TEST_DIR/root\" -cz . | \"$0\" --exact \"$1\" --ignored";
    child("child_imports_standard_input", script, bench.dir.path());
    let images = bench.store.list().unwrap();
    assert_eq!(images.len(), 1);
    let tar = bench.path("a.tar");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg("."));
    assert_eq!(bench.import(&tar).unwrap().meta.digest, images[0].meta.digest);
}

#[test]
#[ignore = "run by a_tar_comes_from_standard_input"]
fn child_imports_standard_input() {
    let Some(dir) = child_dir() else { return };
    let store = ImageStore::open(dir.join("store")).unwrap();
    store.import(&Source::from_argument(Path::new("-")), &plain(), &mut |_| {}).unwrap();
}

#[test]
fn a_full_disk_fails_with_the_reason_and_leaves_nothing() {
    let bench = bench();
    let script =
        "mount -t tmpfs -o size=2m none \"$IMAGE_TEST_DIR\"; \"$0\" --exact \"$1\" --ignored";
    child("child_fills_the_disk", script, bench.dir.path());
}

#[test]
#[ignore = "run by a_full_disk_fails_with_the_reason_and_leaves_nothing"]
fn child_fills_the_disk() {
    let Some(dir) = child_dir() else { return };
    let bench = tempfile::tempdir().unwrap();
    fs::create_dir(bench.path().join("root")).unwrap();
    let random = fs::File::open("/dev/urandom").unwrap();
    let mut file = fs::File::create(bench.path().join("root/random")).unwrap();
    std::io::copy(&mut std::io::Read::take(random, 8 << 20), &mut file).unwrap();
    let tar = bench.path().join("a.tar");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(bench.path().join("root")).arg("."));
    let store = ImageStore::open(dir.join("store")).unwrap();
    for source in [tar, bench.path().join("root")] {
        let refused = store.import(&Source::Path(source), &plain(), &mut |_| {}).unwrap_err();
        assert!(refused.to_string().contains("No space left on device"), "{refused}");
        for sub in ["tmp", "blobs/sha256", "meta", "tags"] {
            assert_eq!(fs::read_dir(dir.join("store").join(sub)).unwrap().count(), 0, "{sub}");
        }
    }
}

#[test]
fn what_is_mounted_in_a_directory_is_not_imported() {
    let bench = bench();
    bench.root("root");
    let script = "mount -t proc proc \"$IMAGE_TEST_DIR/root/dev\"
        touch \"$IMAGE_TEST_DIR/secret\"
        mount --bind \"$IMAGE_TEST_DIR/secret\" \"$IMAGE_TEST_DIR/root/usr/bin/tool\"
        \"$0\" --exact \"$1\" --ignored";
    child("child_imports_a_mount", script, bench.dir.path());
}

#[test]
#[ignore = "run by what_is_mounted_in_a_directory_is_not_imported"]
fn child_imports_a_mount() {
    let Some(dir) = child_dir() else { return };
    let store = ImageStore::open(dir.join("store")).unwrap();
    let source = Source::Path(dir.join("root"));
    let imported = store.import(&source, &plain(), &mut |_| {}).unwrap().meta;
    let remark = "left out, because other file systems are mounted there: dev, usr/bin/tool";
    assert_eq!(imported.remarks, [remark]);
    let blob = store.blob_path(&imported.digest);
    let listing = run(Command::new("unsquashfs").args(["-lc", "-d", ""]).arg(blob));
    assert_eq!(listing, "/bin\n/dev\n/usr/bin/other\n", "the mount points are there and empty");
}

#[test]
fn many_may_import_at_once_and_leftovers_of_killed_ones_go_away() {
    let bench = bench();
    let leftover = bench.path("store/tmp/import-killed");
    fs::write(&leftover, "half an image").unwrap();
    let (same, other) = (bench.root("same"), bench.root("other"));
    fs::write(other.join("more"), "more").unwrap();
    let digests: BTreeSet<_> = std::thread::scope(|scope| {
        let imports: Vec<_> = [&same, &same, &other, &other]
            .into_iter()
            .map(|root| {
                let store = ImageStore::open(bench.path("store")).unwrap();
                let source = Source::Path(root.clone());
                scope.spawn(move || store.import(&source, &plain(), &mut |_| {}).unwrap())
            })
            .collect();
        imports.into_iter().map(|import| import.join().unwrap().meta.digest).collect()
    });
    assert_eq!(digests.len(), 2);
    for digest in &digests {
        bench.store.verify(digest).unwrap();
    }
    assert!(!leftover.exists());
    assert_eq!(fs::read_dir(bench.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn names_move_and_collection_takes_what_nobody_names() {
    let bench = bench();
    let root = bench.root("root");
    let tagged = ImportOptions { tag: Some("compute".parse().unwrap()), ..plain() };
    let source = Source::Path(root.clone());
    let old = bench.store.import(&source, &tagged, &mut |_| {}).unwrap().meta;
    fs::write(root.join("new"), "new").unwrap();
    let mut changed = tagged.clone();
    changed.env.insert("MODE".to_owned(), "new".to_owned());
    let new = bench.store.import(&source, &changed, &mut |_| {}).unwrap().meta;

    let facts = bench.store.facts("compute").unwrap();
    assert_eq!((facts.digest, facts.entry.env["MODE"].as_str()), (new.digest, "new"));
    assert_eq!(bench.store.facts(&old.digest.to_string()).unwrap().size_bytes, old.size_bytes);
    assert_eq!(bench.store.list().unwrap().len(), 2, "several are kept");

    bench.store.tag(&"previous".parse().unwrap(), &old.digest).unwrap();
    let refused = bench.store.remove(&old.digest);
    assert!(matches!(refused, Err(StoreError::Tagged { .. })), "{refused:?}");
    assert_eq!(bench.store.inspect("previous").unwrap().tags.len(), 1);
    bench.store.untag(&"previous".parse().unwrap()).unwrap();
    let keep = BTreeSet::from([old.digest]);
    assert!(bench.store.gc(&keep).unwrap().images.is_empty());
    assert_eq!(bench.store.gc(&BTreeSet::new()).unwrap().images, [old.digest]);
    assert!(!bench.store.blob_path(&old.digest).exists());
    for reference in ["previous", "../lock", "no such", &old.digest.to_string()] {
        let refused = bench.store.facts(reference);
        assert!(matches!(refused, Err(StoreError::Unknown { .. })), "{reference}: {refused:?}");
    }
}

#[test]
fn corruption_is_found_and_cured_by_another_import() {
    let bench = bench();
    let root = bench.root("root");
    let digest = bench.import(&root).unwrap().meta.digest;
    bench.store.verify(&digest).unwrap();
    let blob = bench.store.blob_path(&digest);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[200] ^= 1;
    fs::write(&blob, bytes).unwrap();
    assert!(matches!(bench.store.verify(&digest), Err(StoreError::Corrupt { .. })));
    bench.import(&root).unwrap();
    bench.store.verify(&digest).unwrap();
}

#[test]
fn digests_and_tags_are_read_strictly() {
    let hex = "0f".repeat(32);
    let digest: Digest = hex.parse().unwrap();
    assert_eq!(digest.to_string(), format!("sha256:{hex}"));
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    for text in
        ["", "sha256:", &hex[1..], &format!("sha512:{hex}"), &format!("{hex}0f"), &"g".repeat(64)]
    {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
    for text in ["", "-a", ".hidden", "a/b", "a b", "ä", &hex, "sha256:x", &"a".repeat(129)] {
        assert!(text.parse::<layercake_image::Tag>().is_err(), "{text}");
    }
    assert!("compute:2026-11_a".parse::<layercake_image::Tag>().is_ok());
}
