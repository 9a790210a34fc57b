//! What the store in one file promises when things go wrong: kill, full disk, damage, strangers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use kraken_model::{Document, Millis, NodeId, Path};
use kraken_store::{
    CfgWrite, Commit, Embedded, JournalRecord, MAX_DEFERRED_RECORDS, Store, StoreError,
};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

/// Where a child process finds its directory.
const DIRECTORY: &str = "KRAKEN_STORE_TEST_DIRECTORY";

fn write(n: u64, bytes: usize) -> CfgWrite {
    let mut doc = Document::new();
    doc.set(Path::known("n"), i64::try_from(n).unwrap());
    doc.set(Path::known("padding"), "x".repeat(bytes));
    CfgWrite { node: NodeId::new(&format!("n{n}")).unwrap(), doc: Some(doc) }
}

fn record(n: u64) -> JournalRecord {
    JournalRecord { seq: 0, at: Millis(n), node: None, body: n.to_string().into_bytes() }
}

/// Writes a document and what is said of it; gives the revision.
fn commit(
    store: &mut Embedded,
    write: CfgWrite,
    records: &[JournalRecord],
) -> Result<u64, StoreError> {
    let commit = Commit { cfg: &[write], values: &[], records };
    store.commit(&commit).map(|committed| committed.revision)
}

/// This very test program, running one of its ignored tests.
fn child(wrapper: &[&str], test: &str, directory: &std::path::Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory);
    command
}

fn directory() -> std::path::PathBuf {
    std::env::var_os(DIRECTORY).unwrap().into()
}

#[test]
fn everything_acknowledged_before_a_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=5_u64 {
        let mut child = child(&[], "child_that_commits_until_killed", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let enough = acknowledged + 20 * round;
        while acknowledged < enough {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = number.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.split_once("acknowledged ").and_then(|l| l.1.parse().ok()) {
                acknowledged = number;
            }
        }
        let mut store = Embedded::open(directory.path().join("store")).unwrap();
        let loaded = store.load().unwrap();
        assert!(loaded.revision >= acknowledged, "{} of {acknowledged}", loaded.revision);
        assert_eq!(loaded.cfg.len() as u64, loaded.revision);
        let journal = store.journal(0, usize::MAX, None).unwrap();
        assert_eq!(journal.len() as u64, loaded.revision, "record and document, or neither");
        acknowledged = loaded.revision;
    }
}

#[test]
#[ignore = "run by another test, and killed by it"]
fn child_that_commits_until_killed() {
    let mut store = Embedded::open(directory().join("store")).unwrap();
    let from = store.load().unwrap().revision;
    let mut out = std::io::stdout();
    for n in from + 1.. {
        let revision = commit(&mut store, write(n, 100), &[record(n)]).unwrap();
        // In one write, so that no half line is read.
        out.write_all(format!("\nacknowledged {revision}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn no_number_that_a_killed_process_gave_is_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut given = 0;
    for round in 1..=20_u64 {
        let mut child = child(&[], "child_that_appends_until_killed", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: &str, given: &mut u64| {
            if let Some((first, last)) = line.strip_prefix("gave ").and_then(|l| l.split_once('-'))
            {
                let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
                assert!(first > *given, "{first} was given before, up to {given}");
                // What it had kept free, and what it gave in its last line, which nobody may have read.
                let lost = 2 * MAX_DEFERRED_RECORDS as u64;
                assert!(first <= *given + 1 + lost, "{first} after {given}");
                *given = last;
            }
        };
        // More and less than what is made durable by itself.
        let enough = given + 37 * round;
        while given < enough {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            number(&line, &mut given);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| number(&line, &mut given));
    }
    let mut store = Embedded::open(directory.path().join("store")).unwrap();
    let first = store.append(&[record(1)]).unwrap();
    assert!(first > given, "{first} was given before, up to {given}");
    drop(store);
    let mut store = Embedded::open(directory.path().join("store")).unwrap();
    assert_eq!(store.append(&[record(2)]).unwrap(), first + 1, "a gap after an end in order");
}

#[test]
#[ignore = "run by another test, and killed by it"]
fn child_that_appends_until_killed() {
    let mut store = Embedded::open(directory().join("store")).unwrap();
    let mut out = std::io::stdout();
    for n in 1.. {
        let records: Vec<_> = (0..n % 7 + 1).map(record).collect();
        let first = store.append(&records).unwrap();
        let last = first + records.len() as u64 - 1;
        out.write_all(format!("\ngave {first}-{last}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_works_again_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$KRAKEN_STORE_TEST_DIRECTORY" && exec "$@""#;
    let wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"];
    let output = child(&wrapper, "child_on_a_small_disk", directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[test]
#[ignore = "run by another test, which gives it a disk of its own"]
fn child_on_a_small_disk() {
    let file = directory().join("store");
    let ballast = directory().join("ballast");
    std::fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let mut store = Embedded::open(&file).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match commit(&mut store, write(acknowledged + 1, 4000), &[record(acknowledged + 1)]) {
            Ok(revision) => acknowledged = revision,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "the disk is never full");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("no room left"), "{error}");
    // Still full: refused again, and what was acknowledged can be read.
    let loaded = store.load().unwrap();
    assert_eq!(loaded.revision, acknowledged);
    assert_eq!(loaded.cfg.len() as u64, acknowledged);
    let large = || write(acknowledged + 1, 200_000);
    let again = (0..64).find_map(|_| commit(&mut store, large(), &[]).err());
    assert!(matches!(again, Some(StoreError::Full { .. })), "{again:?}");

    std::fs::remove_file(&ballast).unwrap();
    let revision = commit(&mut store, write(acknowledged + 1, 10), &[]).unwrap();
    drop(store);
    let mut store = Embedded::open(&file).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.revision, revision);
    assert_eq!(loaded.cfg.len() as u64, acknowledged + 1);
    assert_eq!(store.journal(0, usize::MAX, None).unwrap().len() as u64, acknowledged);
}

#[test]
fn appended_records_are_durable_after_a_flush_or_a_clean_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let mut store = Embedded::open(&file).unwrap();
    store.append(&[record(1), record(2)]).unwrap();
    drop(store);
    let mut store = Embedded::open(&file).unwrap();
    assert_eq!(store.journal(0, 10, None).unwrap().len(), 2);
    assert_eq!(store.append(&[record(3)]).unwrap(), 3);
}

#[test]
fn a_file_in_use_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let _first = Embedded::open(&file).unwrap();
    let error = Embedded::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    drop(Embedded::open(&file).unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_directory_that_is_missing_or_no_directory_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let error = Embedded::open(directory.path().join("none/store")).unwrap_err();
    assert!(matches!(error, StoreError::NoDirectory { .. }), "{error:?}");
    let error = Embedded::open("/proc/store").unwrap_err();
    assert!(error.to_string().contains("/proc/store"), "{error}");
    assert!(Embedded::open(directory.path()).is_err(), "a directory is no file");
}

/// A store with some content, damaged by `damage`; opened and read, it must fail with words.
fn damaged(damage: impl FnOnce(&mut std::fs::File)) -> Option<StoreError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let mut store = Embedded::open(&file).unwrap();
    for n in 1..50 {
        commit(&mut store, write(n, 1000), &[record(n)]).unwrap();
    }
    drop(store);
    let mut raw = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    damage(&mut raw);
    drop(raw);
    let result = Embedded::open(&file).and_then(|mut store| {
        store.load()?;
        store.journal(0, usize::MAX, None)?;
        commit(&mut store, write(1, 10), &[record(1)])
    });
    result.err()
}

#[test]
fn a_damaged_file_is_refused_with_words() {
    let error = damaged(|file| file.set_len(0).unwrap()).unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let error = damaged(|file| file.write_all(&[7; 4096]).unwrap()).unwrap();
    assert!(error.to_string().contains("damaged"), "{error}");
    let error = damaged(|file| file.set_len(5000).unwrap()).unwrap();
    assert!(error.to_string().contains("restore"), "{error}");
}

#[test]
fn no_flipped_byte_makes_the_program_panic() {
    // What is flipped may lie in a page that is free, so there need not be an error.
    for step in 0..40_u64 {
        damaged(|file| {
            let length = file.seek(SeekFrom::End(0)).unwrap();
            for at in (step * 101..length).step_by(16 * 1024) {
                let mut byte = [0];
                file.seek(SeekFrom::Start(at)).unwrap();
                file.read_exact(&mut byte).unwrap();
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[!byte[0]]).unwrap();
            }
        });
    }
}

#[test]
fn a_file_of_another_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    drop(Embedded::open(&file).unwrap());
    let table = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Embedded::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 99, .. }), "{error:?}");
}
