//! What every store promises, asked of each.
#![allow(clippy::unwrap_used)]

use kraken_model::{Document, Millis, NodeId, Path};
use kraken_store::{
    CfgWrite, Embedded, JournalRecord, MAX_BODY_BYTES, Memory, Store, StoreError, ValueWrite,
};

const BOUND: u64 = 600;

/// Asks something of every kind of store, each empty.
fn of_each(ask: impl Fn(&mut dyn Store)) {
    ask(&mut Memory::with_bound(BOUND));
    let directory = tempfile::tempdir().unwrap();
    ask(&mut Embedded::with_bound(directory.path().join("store"), BOUND).unwrap());
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

#[test]
fn what_was_committed_is_loaded_in_the_order_of_names() {
    of_each(|store| {
        assert_eq!(store.commit(&[set("b", "1"), set("a", "2"), set("c", "3")], &[]).unwrap(), 1);
        let gone = CfgWrite { node: node("c"), doc: None };
        assert_eq!(store.commit(&[set("b", "4"), gone], &[]).unwrap(), 2);
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
fn epochs_count_from_one() {
    of_each(|store| assert_eq!((1..=3).map(|_| store.open_epoch().unwrap()).sum::<u64>(), 6));
}

#[test]
fn records_are_numbered_without_gaps_and_read_by_number_and_node() {
    of_each(|store| {
        assert_eq!(store.append(&[record(10, Some("a")), record(11, Some("b"))]).unwrap(), 1);
        store.commit(&[], &[record(12, None)]).unwrap();
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
fn a_journal_keeps_the_newest_and_stays_within_its_bound() {
    of_each(|store| {
        for batch in 0..20 {
            let records: Vec<_> = (0..100).map(|n| record(batch * 100 + n, Some("a"))).collect();
            store.append(&records).unwrap();
        }
        store.flush().unwrap();
        assert_eq!(store.journal_range().unwrap(), 1401..2001);
        let kept = store.journal(0, 10_000, Some(&node("a"))).unwrap();
        assert_eq!(kept.len() as u64, BOUND);
        assert_eq!(kept.last().unwrap().at, Millis(1999));
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
        let error = store.commit(&[set("a", "1")], std::slice::from_ref(&huge)).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert!(store.append(&[huge]).is_err());
        assert_eq!(store.load().unwrap(), Default::default());
        assert_eq!(store.append(&[record(1, None)]).unwrap(), 1);
    });
}
