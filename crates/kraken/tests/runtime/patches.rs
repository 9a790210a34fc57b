//! Changes of what nodes should be: none is lost to another, and each is durable with who wanted it.

use crate::disk::Disk;
use crate::{event, lit, node, start};
use kraken::{CfgChange, Kraken, KrakenError, Limit, Scope, What};
use kraken_model::{Document, Edit, NodeId, Patch, Path};
use kraken_store::{Memory, Store, StoreError, ValueWrite};
use std::collections::BTreeMap;

/// What a file wants: these nodes, in use by nobody but its owner.
fn file(names: &[&str]) -> CfgChange {
    let nodes: BTreeMap<NodeId, Document> =
        names.iter().map(|name| (node(name), lit(name).1.unwrap())).collect();
    CfgChange::whole(&nodes)
}

fn busy(name: &str) -> (NodeId, Patch) {
    (node(name), Patch::Edit(vec![Edit::set(Path::known("busy"), "BUSY")]))
}

fn cfg(kraken: &Kraken, name: &str) -> Option<Vec<String>> {
    let view = kraken.views().get(&node(name))?;
    Some(view.cfg.iter().map(|(path, value)| format!("{path}={value}")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_evaluated_against_what_is_there_when_it_is_written() {
    let (kraken, tasks) = start(Memory::default()).await;
    let by_file = kraken.change(file(&["a", "b"]), "anna").await.unwrap();
    assert_eq!((by_file.revision, by_file.nodes.len()), (1, 2));
    // Made while the file still had both nodes, and written after it had lost one.
    let edit = CfgChange::of(vec![busy("a"), busy("b")]);
    let without_b = kraken.change(file(&["a"]), "anna").await.unwrap();
    assert_eq!(without_b.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["b"]);
    let edited = kraken.change(edit, "bert").await.unwrap();
    assert_eq!(edited.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(cfg(&kraken, "a").unwrap(), ["busy=BUSY", "lamp=ON"]);
    assert_eq!(cfg(&kraken, "b"), None, "it was taken away");
    // What the file says counts again, and what changes is worked out in the same order.
    let again = kraken.change(file(&["a"]), "anna").await.unwrap();
    assert_eq!(again.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["a"]);
    let nothing = kraken.change(file(&["a"]), "anna").await.unwrap();
    assert_eq!((nothing.revision, nothing.nodes), (again.revision, Vec::new()));
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_and_edits_at_the_same_time_each_is_whole_and_none_is_lost() {
    let (kraken, tasks) = start(Memory::default()).await;
    let all: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (large, small) = (file(&all), file(&all[..25]));
    for _ in 0..20 {
        kraken.change(large.clone(), "anna").await.unwrap();
        let edit = CfgChange::of(all.iter().map(|name| busy(name)).collect());
        let (applied, edited) =
            tokio::join!(kraken.change(small.clone(), "anna"), kraken.change(edit, "bert"));
        let (applied, edited) = (applied.unwrap().revision, edited.unwrap().revision);
        let expected: &[&str] =
            if applied < edited { &["busy=BUSY", "lamp=ON"] } else { &["lamp=ON"] };
        for name in &all[..25] {
            assert_eq!(cfg(&kraken, name).unwrap(), expected, "{name}");
        }
        assert_eq!(kraken.views().len(), 25, "nodes came back that were taken away");
    }
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_is_durable_with_who_wanted_it_and_what_belongs_to_it() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    let value = |text: &str| ValueWrite {
        namespace: "file".into(),
        key: "text".into(),
        value: Some(text.as_bytes().to_vec()),
    };
    let one = vec![Limit::at_most(1, Scope::All)];
    let change = CfgChange { values: vec![value("one")], ..file(&["hangs"]) };
    let limited = CfgChange { limits: Some(one.clone()), ..change.clone() };
    kraken.change(limited, "anna").await.unwrap();
    let durable = disk.durable();
    let events = kraken.events(0, 10_000, None).await.unwrap();
    let said: Vec<_> = events.iter().filter(|e| &*e.entry.by == "anna").collect();
    assert!(matches!(said[0].entry.what, What::Limits { .. }), "{said:?}");
    assert!(matches!(said[1].entry.what, What::Configured { .. }), "{said:?}");
    assert!(said.len() == 2 && said.iter().all(|e| e.seq < durable), "{said:?} {durable}");

    // All of it or nothing.
    disk.fill(true);
    let other = CfgChange {
        limits: Some(Vec::new()),
        values: vec![value("two")],
        ..file(&["hangs", "works"])
    };
    let refused = kraken.change(other, "bert").await.unwrap_err();
    assert!(matches!(refused, KrakenError::Keep(StoreError::Full { .. })), "{refused}");
    disk.fill(false);
    assert_eq!(cfg(&kraken, "works"), None);
    let kept = disk.clone().get("file", "text").unwrap();
    assert_eq!(kept.as_deref(), Some(b"one".as_slice()));
    // The limit is still the one before: of two nodes one has to wait.
    kraken.configure(vec![lit("works")], "anna").await.unwrap();
    let text = kraken.explain(&node("works")).await.unwrap().to_string();
    assert!(text.contains("waits for a limit on all steps: 1 of 1 under way"), "{text}");
    let events = kraken.events(0, 10_000, None).await.unwrap();
    assert!(events.iter().all(|event| &*event.entry.by != "bert"), "it was refused");
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_a_change_stands_before_it_also_after_the_disk_was_full() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("fails")], "test").await.unwrap();
    let failed =
        |n: u32| move |what: &What| matches!(what, What::Failed { failures, .. } if *failures >= n);
    event(&kraken, "fails", failed(1)).await;
    disk.fill(true);
    // Whoever asks for a change is told at once, while what happens waits.
    let text = || async { kraken.explain(&node("fails")).await.unwrap().to_string() };
    while !text().await.contains("3 times") {
        let refused = kraken.configure(vec![lit("works")], "test").await.unwrap_err();
        assert!(matches!(refused, KrakenError::Keep(StoreError::Full { .. })), "{refused}");
    }
    disk.fill(false);
    kraken.configure(vec![lit("works")], "test").await.unwrap();
    let third = event(&kraken, "fails", failed(3)).await;
    let configured = |what: &What| matches!(what, What::Configured { .. });
    let works = event(&kraken, "works", configured).await;
    assert!(third.seq < works.seq, "{} and {}", third.seq, works.seq);
    kraken.stop();
    tasks.ended().await;
}
