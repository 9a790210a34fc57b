//! What every store promises, asked of each.
#![allow(clippy::unwrap_used)]

use kraken_model::{Document, Millis, NodeId, Path};
use kraken_store::{
    Bounds, CfgWrite, Commit, Committed, Embedded, JournalRecord, MAX_BODY_BYTES, Memory, PastRow,
    Snapshot, Store, StoreError, ValueWrite,
};
use std::time::Duration;

/// Asks something of every kind of store, each empty.
fn of_each(ask: impl Fn(&mut dyn Store)) {
    ask(&mut Memory::new());
    let directory = tempfile::tempdir().unwrap();
    ask(&mut Embedded::open(directory.path().join("store")).unwrap());
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn document(text: &str) -> Document {
    let mut document = Document::new();
    document.set(Path::known("text"), text);
    document
}

fn record(at: u64, node: Option<&str>) -> JournalRecord {
    let body = format!("{{\"at\":{at}}}").into_bytes();
    JournalRecord { seq: 0, at: Millis(at), node: node.map(|n| NodeId::new(n).unwrap()), body }
}

fn set(name: &str, text: &str) -> CfgWrite {
    CfgWrite { node: node(name), doc: Some(document(text)) }
}

/// Writes documents and what is said of them.
fn commit(
    store: &mut dyn Store,
    cfg: &[CfgWrite],
    records: &[JournalRecord],
) -> Result<Committed, StoreError> {
    store.commit(&Commit { cfg, values: &[], records })
}

#[test]
fn what_belongs_together_is_committed_together_or_not_at_all() {
    of_each(|store| {
        let value = |key: &str, text: &str| ValueWrite {
            namespace: "file".into(),
            key: key.into(),
            value: Some(text.as_bytes().to_vec()),
        };
        store.append(&[record(1, None)]).unwrap();
        let (cfg, values) = ([set("a", "1")], [value("text", "one"), value("name", "x")]);
        let records = [record(2, Some("a")), record(3, None)];
        let all = Commit { cfg: &cfg, values: &values, records: &records };
        assert_eq!(store.commit(&all).unwrap(), Committed { revision: 1, first: 2 });
        let only = Commit { values: &[value("text", "two")], ..Commit::default() };
        let committed = store.commit(&only).unwrap();
        assert_eq!(committed, Committed { revision: 1, first: 4 }, "cfg is as it was");
        assert_eq!(store.get("file", "text").unwrap().unwrap(), b"two");
        assert_eq!(store.load().unwrap().revision, 1);
        let body = vec![b'x'; MAX_BODY_BYTES + 1];
        let huge = [JournalRecord { body, ..record(4, None) }];
        let refused =
            Commit { cfg: &[set("a", "3")], values: &[value("text", "3")], records: &huge };
        store.commit(&refused).unwrap_err();
        assert_eq!(store.load().unwrap().cfg, [(node("a"), document("1"))]);
        assert_eq!(store.get("file", "text").unwrap().unwrap(), b"two");
        assert_eq!(store.journal(0, 10, None).unwrap().len(), 3);
    });
}

#[test]
fn what_was_committed_is_loaded_in_the_order_of_names() {
    of_each(|store| {
        let three = [set("b", "1"), set("a", "2"), set("c", "3")];
        assert_eq!(commit(store, &three, &[]).unwrap().revision, 1);
        let gone = CfgWrite { node: node("c"), doc: None };
        assert_eq!(commit(store, &[set("b", "4"), gone], &[]).unwrap().revision, 2);
        let loaded = store.load().unwrap();
        assert_eq!(loaded.cfg, [(node("a"), document("2")), (node("b"), document("4"))]);
        assert_eq!(loaded.revision, 2);
        assert!(loaded.checkpoint.is_empty());
    });
}

#[test]
fn a_checkpoint_is_not_configuration() {
    of_each(|store| {
        let nodes = [(node("a"), Some(document("up"))), (node("b"), Some(document("up")))];
        store.checkpoint(&nodes).unwrap();
        store.checkpoint(&[(node("b"), None)]).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.checkpoint, [(node("a"), document("up"))]);
        assert!(loaded.cfg.is_empty());
        assert_eq!(loaded.revision, 0);
    });
}

#[test]
fn what_the_checkpoint_does_not_hold_is_told_and_not_trimmed() {
    of_each(|store| {
        assert_eq!(store.load().unwrap().checkpointed, 0);
        store.append(&[record(1, Some("a")), record(2, Some("a"))]).unwrap();
        store.checkpoint(&[(node("a"), Some(document("up")))]).unwrap();
        assert_eq!(store.load().unwrap().checkpointed, 3);
        store.append(&[record(3, Some("a"))]).unwrap();
        let seq = store.begin_snapshot(Millis(3), false).unwrap();
        let row = PastRow { node: None, body: b"{}".to_vec() };
        store.write_snapshot(seq, None, &[row], true).unwrap();
        store.append(&[record(4, Some("a"))]).unwrap();
        let bounds = Bounds { records: 1, ..NO_BOUNDS };
        store.trim(&bounds, Millis(5)).unwrap();
        assert_eq!(store.journal_range().unwrap(), 1..5, "record 3 is in no checkpoint");
        store.checkpoint(&[]).unwrap();
        store.trim(&bounds, Millis(5)).unwrap();
        assert_eq!(store.journal_range().unwrap(), 4..5);
    });
}

#[test]
fn epochs_count_from_one() {
    of_each(|store| assert_eq!((1..=3).map(|_| store.open_epoch().unwrap()).sum::<u64>(), 6));
}

#[test]
fn records_are_numbered_without_gaps_and_read_by_number_and_node() {
    of_each(|store| {
        assert_eq!(store.append(&[record(10, Some("a")), record(11, Some("b"))]).unwrap(), 1);
        assert_eq!(commit(store, &[], &[record(12, None)]).unwrap().first, 3);
        assert_eq!(store.append(&[record(13, Some("a"))]).unwrap(), 4);
        let numbers = |records: Vec<JournalRecord>| -> Vec<(u64, u64)> {
            records.iter().map(|r| (r.seq, r.at.0)).collect()
        };
        let all = store.journal(0, 10, None).unwrap();
        assert_eq!(numbers(all), [(1, 10), (2, 11), (3, 12), (4, 13)]);
        assert_eq!(numbers(store.journal(2, 2, None).unwrap()), [(2, 11), (3, 12)]);
        assert_eq!(numbers(store.journal(0, 10, Some(&node("a"))).unwrap()), [(1, 10), (4, 13)]);
        assert_eq!(numbers(store.journal(2, 1, Some(&node("a"))).unwrap()), [(4, 13)]);
        assert_eq!(store.journal(5, 10, None).unwrap(), []);
        assert_eq!(store.journal(0, 0, None).unwrap(), []);
        store.flush().unwrap();
        assert_eq!(
            store.journal(0, 1, None).unwrap(),
            [JournalRecord { seq: 1, ..record(10, Some("a")) }]
        );
    });
}

#[test]
fn the_latest_records_are_found_from_the_end_and_by_time() {
    of_each(|store| {
        let records: Vec<_> =
            (0..1000).map(|n| record(n * 10, Some(["a", "b"][n as usize % 2]))).collect();
        store.append(&records[..900]).unwrap();
        store.flush().unwrap();
        store.append(&records[900..]).unwrap();
        let numbers =
            |records: Vec<JournalRecord>| -> Vec<u64> { records.iter().map(|r| r.seq).collect() };
        assert_eq!(numbers(store.journal_before(u64::MAX, 2, None).unwrap()), [999, 1000]);
        assert_eq!(numbers(store.journal_before(902, 3, None).unwrap()), [899, 900, 901]);
        let a = node("a");
        assert_eq!(numbers(store.journal_before(902, 2, Some(&a)).unwrap()), [899, 901]);
        assert_eq!(store.journal_before(1, 5, None).unwrap(), []);
        for (at, seq) in [(0, 1), (10, 2), (11, 3), (8_990, 900), (9_991, 1001), (99_999, 1001)] {
            assert_eq!(store.journal_from(Millis(at)).unwrap(), seq, "{at}");
        }
    });
}

/// A snapshot of these nodes, whole, in parts of two rows.
fn snapshot(store: &mut dyn Store, at: u64, nodes: &[(&str, &str)]) -> u64 {
    let row = |(name, body): &(&str, &str)| PastRow {
        node: Some(node(name)),
        body: body.as_bytes().to_vec(),
    };
    let everything = PastRow { node: None, body: b"all".to_vec() };
    let rows: Vec<PastRow> = std::iter::once(everything).chain(nodes.iter().map(row)).collect();
    let seq = store.begin_snapshot(Millis(at), false).unwrap();
    let parts: Vec<&[PastRow]> = rows.chunks(2).collect();
    let mut after = None;
    for (n, part) in parts.iter().enumerate() {
        store.write_snapshot(seq, after, part, n + 1 == parts.len()).unwrap();
        after = part.last();
    }
    seq
}

/// Trims until nothing is left to do.
fn trim(store: &mut dyn Store, bounds: Bounds, now: u64) {
    store.checkpoint(&[]).unwrap();
    for _ in 0..100 {
        if !store.trim(&bounds, Millis(now)).unwrap() {
            return;
        }
    }
    panic!("trimming has no end");
}

const NO_BOUNDS: Bounds = Bounds { records: u64::MAX, bytes: u64::MAX, age: Duration::MAX };

#[test]
fn a_journal_is_trimmed_to_each_bound_at_a_snapshot_and_its_numbers_go_on() {
    let bounds = [
        Bounds { records: 10_000, ..NO_BOUNDS },
        Bounds { bytes: 10_000 * 47, ..NO_BOUNDS },
        Bounds { age: Duration::from_millis(10_000), ..NO_BOUNDS },
    ];
    for bounds in bounds {
        of_each(|store| {
            for batch in 0..20 {
                snapshot(store, batch * 1000, &[("a", "x")]);
                let records: Vec<_> =
                    (0..1000).map(|n| record(100_000 + batch * 1000 + n, Some("a"))).collect();
                store.append(&records).unwrap();
            }
            trim(store, bounds, 19_500);
            let range = store.journal_range().unwrap();
            assert_eq!(range.end, 20_001, "{bounds:?}");
            assert!((9_001..=10_001).contains(&range.start), "{bounds:?}: {range:?}");
            assert_eq!(range.start % 1000, 1, "it begins at a snapshot");
            assert_eq!(store.snapshots().unwrap()[0].seq, range.start);
            let kept = store.journal(0, 100_000, Some(&node("a"))).unwrap();
            assert_eq!(kept.len() as u64, range.end - range.start, "by node as well");
            assert_eq!(store.append(&[record(1, None)]).unwrap(), 20_001);
            assert!(!store.trim(&bounds, Millis(19_500)).unwrap(), "there is nothing more to do");
        });
    }
}

#[test]
fn a_journal_without_a_whole_snapshot_is_not_trimmed() {
    of_each(|store| {
        store.append(&[record(1, None)]).unwrap();
        store.begin_snapshot(Millis(2), true).unwrap();
        store.append(&[record(3, None)]).unwrap();
        let none = Bounds { records: 0, bytes: 0, age: Duration::ZERO };
        trim(store, none, 10);
        assert_eq!(store.journal_range().unwrap(), 1..3);
        let kept = store.snapshots().unwrap();
        assert_eq!(kept, [Snapshot { seq: 2, at: Millis(2), is_whole: false, is_start: true }]);
    });
}

#[test]
fn every_snapshot_says_what_was_then_also_when_earlier_ones_are_gone() {
    of_each(|store| {
        let states: [&[(&str, &str)]; 5] = [
            &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")],
            &[("a", "1"), ("b", "2"), ("d", "1")],
            &[],
            &[("b", "2"), ("c", "3"), ("e", "1"), ("f", "1")],
            &[("b", "3"), ("f", "1")],
        ];
        let mut numbers = Vec::new();
        for (n, nodes) in states.iter().enumerate() {
            numbers.push(snapshot(store, n as u64, nodes));
            store.append(&[record(n as u64, None)]).unwrap();
        }
        for from in 0..states.len() {
            let bounds = Bounds { records: (states.len() - from) as u64, ..NO_BOUNDS };
            trim(store, bounds, 10);
            assert_eq!(store.snapshots().unwrap().len(), states.len() - from);
            for (seq, nodes) in numbers.iter().zip(states).skip(from) {
                let mut found = Vec::new();
                let mut after = None;
                while let Some(row) = store.past(*seq, after.as_ref(), 1).unwrap().pop() {
                    found.push((row.node.clone(), row.body.clone()));
                    after = Some(row);
                }
                let all = store.past(*seq, None, 100).unwrap();
                assert_eq!(all.len(), found.len());
                let named =
                    |(name, body): &(&str, &str)| (Some(node(name)), body.as_bytes().to_vec());
                let wanted: Vec<_> = std::iter::once((None, b"all".to_vec()))
                    .chain(nodes.iter().map(named))
                    .collect();
                assert_eq!(found, wanted, "snapshot {seq} after trimming to {from}");
                for name in ["a", "b", "c", "d", "e", "f"] {
                    let wanted = nodes.iter().find(|(n, _)| *n == name);
                    let body = store.past_of(*seq, Some(&node(name))).unwrap();
                    assert_eq!(body, wanted.map(|(_, body)| body.as_bytes().to_vec()));
                }
            }
        }
    });
}

#[test]
fn a_large_fleet_is_trimmed_a_step_at_a_time_and_what_is_needed_stays() {
    of_each(|store| {
        let count = 2 * kraken_store::TRIM_STEP + 100;
        for round in 0..3_u8 {
            let row = |n| PastRow { node: Some(node(&format!("n{n:05}"))), body: vec![round + 1] };
            // Every third node differs each time, and some are gone in the end.
            let changed = |n: &usize| round == 0 || n.is_multiple_of(3);
            let rows: Vec<PastRow> = (0..count)
                .filter(|n| round < 2 || !n.is_multiple_of(5))
                .map(|n| if changed(&n) { row(n) } else { PastRow { body: vec![1], ..row(n) } })
                .collect();
            let seq = store.begin_snapshot(Millis(u64::from(round)), false).unwrap();
            store.write_snapshot(seq, None, &rows, true).unwrap();
            let records: Vec<_> = (0..5000).map(|n| record(n, None)).collect();
            store.append(&records).unwrap();
        }
        let wanted = store.past(10_001, None, usize::MAX).unwrap();
        assert_eq!(wanted.len(), count - count.div_ceil(5));
        trim(store, Bounds { records: 5000, ..NO_BOUNDS }, 10);
        assert!(store.past(10_001, None, usize::MAX).unwrap() == wanted);
        for spent in ["n00003", "n08001"] {
            assert_eq!(store.past_of(5_001, Some(&node(spent))).unwrap(), None, "replaced since");
        }
    });
}

#[test]
fn values_are_kept_by_namespace_and_key() {
    of_each(|store| {
        store.put("tokens", "b", b"2").unwrap();
        store.put("tokens", "a", b"1").unwrap();
        store.put("tokens2", "a", b"other").unwrap();
        store.put("tokens", "b", b"3").unwrap();
        assert_eq!(store.get("tokens", "b").unwrap(), Some(b"3".to_vec()));
        assert_eq!(store.get("tokens", "c").unwrap(), None);
        let both = vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"3".to_vec())];
        assert_eq!(store.list("tokens").unwrap(), both);
        assert!(store.delete("tokens", "a").unwrap());
        assert!(!store.delete("tokens", "a").unwrap());
        assert_eq!(store.list("token").unwrap(), []);
        let write = |key: &str, value: Option<&[u8]>| ValueWrite {
            namespace: "tokens".to_owned(),
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        store.put_all(&[write("b", None), write("d", Some(b"4")), write("none", None)]).unwrap();
        assert_eq!(store.list("tokens").unwrap(), [("d".to_owned(), b"4".to_vec())]);
    });
}

#[test]
fn a_record_beyond_all_measure_is_refused_and_nothing_with_it_is_done() {
    of_each(|store| {
        let huge = JournalRecord { body: vec![0; MAX_BODY_BYTES + 1], ..record(1, None) };
        let error = commit(store, &[set("a", "1")], std::slice::from_ref(&huge)).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert!(store.append(&[huge]).is_err());
        assert_eq!(store.load().unwrap(), Default::default());
        assert_eq!(store.append(&[record(1, None)]).unwrap(), 1);
    });
}
