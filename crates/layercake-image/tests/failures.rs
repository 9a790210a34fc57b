//! Imports that fail change nothing: no name moves, and nothing is left.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use layercake_image::{
    Cancel, DirectoryError, ImageStore, ImportError, ImportOptions, Source, Stage,
    archive_directory,
};

mod bench;
mod raw;
use bench::{Bench, bench, plain};
use raw::Raw;

fn tagged() -> ImportOptions {
    ImportOptions { tag: Some("golden:1".parse().unwrap()), ..plain() }
}

impl Bench {
    /// The store with an image in it, which is to stay the only one.
    fn with_golden(self) -> Self {
        let source = Source::Path(self.root("golden"));
        self.store.import(&source, &tagged(), &mut |_| {}).unwrap();
        self
    }

    fn assert_unchanged(&self) {
        let images = self.store.list().unwrap();
        assert_eq!(images.len(), 1, "{images:?}");
        assert_eq!(images[0].tags.len(), 1, "{images:?}");
        for (dir, count) in [("tmp", 0), ("blobs/sha256", 1), ("meta", 1), ("tags", 1)] {
            let left: Vec<_> = fs::read_dir(self.path("store").join(dir)).unwrap().collect();
            assert_eq!(left.len(), count, "{dir}: {left:?}");
        }
    }
}

fn archive() -> Vec<u8> {
    let file = Raw { name: b"new".to_vec(), content: vec![7; 3000], ..Raw::default() };
    raw::ended(&file.write(&[]))
}

#[test]
fn a_stream_that_breaks_off_changes_nothing_also_behind_the_end_of_the_archive() {
    struct Broken(io::Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the line went dead")),
                n => Ok(n),
            }
        }
    }
    let bench = bench().with_golden();
    let whole = archive();
    let mut packed = Vec::new();
    let gzip = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.as_ref().unwrap().write_all(&whole).unwrap();
    packed.extend(gzip.wait_with_output().unwrap().stdout);
    for bytes in [&whole[..700], &whole, &packed[..packed.len() / 2], &packed, b"hsqs and more"] {
        let source = Source::stream("a stream", Broken(io::Cursor::new(bytes.to_vec())));
        let refused = bench.store.import(&source, &tagged(), &mut |_| {}).unwrap_err();
        let why = format!("{refused}: {:?}", std::error::Error::source(&refused));
        assert!(why.contains("the line went dead"), "{why}");
        bench.assert_unchanged();
    }
}

#[test]
fn an_import_that_is_called_off_ends_and_changes_nothing() {
    let bench = bench().with_golden();
    let tar = bench.path("a.tar");
    fs::write(&tar, archive()).unwrap();
    for stage in [Stage::Read, Stage::Pack, Stage::Seal] {
        let cancel = Cancel::default();
        let options = ImportOptions { cancel: cancel.clone(), ..tagged() };
        let mut at_stage = |progress: layercake_image::Progress| {
            if progress.stage == stage {
                cancel.cancel();
            }
        };
        let refused = bench.store.import(&Source::Path(tar.clone()), &options, &mut at_stage);
        assert!(matches!(refused, Err(ImportError::Cancelled)), "{stage:?}: {refused:?}");
        bench.assert_unchanged();
    }
}

/// Takes an archive, and does something as soon as a name is in it.
struct Meanwhile<F> {
    name: &'static [u8],
    act: Option<F>,
    taken: Vec<u8>,
}

impl<F: FnOnce()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken.extend_from_slice(bytes);
        if self.taken.windows(self.name.len()).any(|part| part == self.name)
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_directory_that_changes_while_it_is_read_is_no_archive() {
    let bench = bench().with_golden();
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("grows", |root| {
            let mut log = fs::File::options().append(true).open(root.join("log")).unwrap();
            log.write_all(b"more").unwrap();
        }),
        ("shrinks", |root| fs::write(root.join("log"), "").unwrap()),
        ("is written over", |root| fs::write(root.join("log"), [8; 3000]).unwrap()),
        ("vanishes", |root| fs::remove_file(root.join("then")).unwrap()),
        ("gets another file beside it", |root| fs::write(root.join("new"), "new").unwrap()),
    ];
    for (what, change) in changes {
        let root = tempfile::tempdir_in(bench.dir.path()).unwrap();
        fs::write(root.path().join("log"), [7; 3000]).unwrap();
        fs::write(root.path().join("then"), "then").unwrap();
        let path = root.path().to_owned();
        let act = Some(move || change(&path));
        let mut out = Meanwhile { name: b"log", act, taken: Vec::new() };
        let refused = archive_directory(root.path(), &mut out).unwrap_err();
        assert!(matches!(refused, DirectoryError::Changed(_)), "{what}: {refused:?}");
        // What was written until then is no archive for whoever takes it.
        let source = Source::stream("a stream", io::Cursor::new(out.taken));
        let refused = bench.store.import(&source, &tagged(), &mut |_| {});
        assert!(matches!(refused, Err(ImportError::Tar(_))), "{what}: {refused:?}");
        bench.assert_unchanged();
    }
}

#[test]
fn what_cannot_be_described_or_named_is_not_kept() {
    let bench = bench().with_golden();
    let tar = bench.path("a.tar");
    fs::write(&tar, archive()).unwrap();
    // Nothing can be written over a directory.
    let blocked = bench.path("store/tags/other:1.json");
    fs::create_dir(&blocked).unwrap();
    let options = ImportOptions { tag: Some("other:1".parse().unwrap()), ..plain() };
    let refused = bench.store.import(&Source::Path(tar), &options, &mut |_| {});
    assert!(matches!(refused, Err(ImportError::Store(_))), "{refused:?}");
    fs::remove_dir(&blocked).unwrap();
    bench.assert_unchanged();
}

#[test]
fn what_a_killed_process_left_goes_away_when_the_store_is_opened() {
    let bench = bench().with_golden();
    let store = |name: &str| bench.path("store").join(name);
    let image: PathBuf = store(&format!("blobs/sha256/{}", "ab".repeat(32)));
    let left = [store("tmp/import-x"), store("meta/.new-x"), store("tags/.new-x"), image];
    for path in &left {
        fs::write(path, "half of it").unwrap();
    }
    ImageStore::open(bench.path("store")).unwrap();
    for path in &left {
        assert!(!path.exists(), "{}", path.display());
    }
    bench.assert_unchanged();
}

/// Bytes that `make` gives, until so many were read.
struct Endless<F> {
    make: F,
    piece: io::Cursor<Vec<u8>>,
    left: u64,
}

impl<F: FnMut() -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            self.piece = io::Cursor::new((self.make)());
        }
        let most = self.left.min(buffer.len() as u64) as usize;
        let n = self.piece.read(&mut buffer[..most])?;
        self.left -= n as u64;
        Ok(n)
    }
}

/// The most memory that this process ever took, in bytes.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn memory_stays_small_whatever_an_archive_is_made_of() {
    const ARCHIVE: u64 = 96 << 20;
    let bench = bench();
    let extension = |flag, bytes: &[u8]| {
        let header = Raw { name: b"x".to_vec(), flag, ..Raw::default() };
        [&header.header(bytes.len())[..], bytes].concat()
    };
    let comment = raw::pax("comment", &vec![b'c'; (1 << 20) - 20 - 512]);
    let comment =
        [&comment[..], &vec![0; comment.len().next_multiple_of(512) - comment.len()]].concat();
    let mut number = 0_u32;
    let makers: [Box<dyn FnMut() -> Vec<u8> + Send>; 4] = [
        Box::new({
            let global = extension(b'g', &comment);
            move || global.clone()
        }),
        Box::new({
            let local = extension(b'x', &comment);
            move || local.clone()
        }),
        Box::new({
            let name = extension(b'L', &[b'n'; 4096]);
            move || name.clone()
        }),
        // Names that all differ count, but not those that are gone.
        Box::new(move || {
            number += 1;
            let name = format!("{}/{}", "n".repeat(200), number % 100).into_bytes();
            Raw { name, ..Raw::default() }.write(&[])
        }),
    ];
    for make in makers {
        let reader = Endless { make, piece: io::Cursor::default(), left: ARCHIVE };
        let refused = bench.store.import(&Source::stream("a bomb", reader), &plain(), &mut |_| {});
        assert!(matches!(refused, Err(ImportError::Tar(_))), "{refused:?}");
        assert!(most_memory() < ARCHIVE / 2, "{} MiB", most_memory() >> 20);
    }
}
