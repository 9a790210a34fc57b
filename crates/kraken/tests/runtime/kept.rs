//! What is known again after the process was killed.

use crate::disk::Disk;
use crate::{PATIENCE, lit, node, start, until_lit};
use kraken::{Command, Event, Kraken, KrakenError, Limit, Scope, Terms, What};
use kraken_model::{Change, Path};
use kraken_store::StoreError;
use std::time::Duration;

fn dispatched(events: &[Event]) -> usize {
    events.iter().filter(|e| matches!(e.entry.what, What::Dispatched { .. })).count()
}

async fn events(kraken: &Kraken, name: &str) -> Vec<Event> {
    kraken.events(1, 10_000, Some(node(name))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_says_is_durable_before_it_is_acknowledged() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("hangs")], "test").await.unwrap();
    // Said again and again: what becomes durable by itself now and then would miss some.
    for round in 0..20 {
        let value = if round % 2 == 0 { "ON" } else { "OFF" };
        let said = vec![Change::set(Path::known("lamp"), value)];
        kraken.discover(&node("hangs"), said.clone(), "person").await.unwrap();
        let durable = disk.durable();
        let events = events(&kraken, "hangs").await;
        let found = events.iter().rfind(|event| &*event.entry.by == "person").unwrap();
        assert_eq!(found.entry.what, What::Discovered { changes: said });
        assert!(found.seq < durable, "{} of {durable}", found.seq);
    }
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_a_command_is_durable_before_it_is_acknowledged() {
    let disk = Disk::default();
    disk.refuse_checkpoints();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("fails")], "test").await.unwrap();
    let (this, terms) = (|| node("fails"), Terms::default);
    for round in 0..3 {
        let commands = [
            Command::Hold { node: this(), terms: terms() },
            Command::Release { node: this() },
            Command::Freeze { node: Some(this()), terms: terms() },
            Command::Thaw { node: Some(this()) },
            Command::Freeze { node: None, terms: terms() },
            Command::Thaw { node: None },
            Command::Busy { node: this(), terms: terms() },
            Command::Free { node: this() },
        ];
        for (n, command) in commands.into_iter().enumerate() {
            let by = format!("person {round} {n}");
            kraken.command(command.clone(), &by).await.unwrap();
            let durable = disk.durable();
            let events = kraken.events(0, 10_000, None).await.unwrap();
            let said = events.iter().find(|event| *event.entry.by == *by);
            let said = said.unwrap_or_else(|| panic!("nothing tells of {command:?}"));
            assert!(said.seq < durable, "{} of {durable}: {command:?}", said.seq);
        }
        // Failures to forget come by themselves.
        let failed = |what: &What| matches!(what, What::Failed { .. });
        crate::event(&kraken, "fails", failed).await;
        let by = format!("person {round} retries");
        kraken.command(Command::Retry { node: this() }, &by).await.unwrap();
        let durable = disk.durable();
        let events = events(&kraken, "fails").await;
        let said = events.iter().filter(|event| event.entry.what == What::Retried);
        assert!(said.filter(|said| *said.entry.by == *by).all(|said| said.seq < durable));
        kraken.limit(vec![Limit::at_most(round + 1, Scope::All)], &by).await.unwrap();
        let durable = disk.durable();
        let last = kraken.latest_events(10_000).await.unwrap();
        let said = last.iter().find(|event| matches!(event.entry.what, What::Limits { .. }));
        assert!(said.is_some_and(|said| said.seq < durable));
    }
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_node_is_free_is_durable_before_its_use_is_forgotten() {
    for ends_by_itself in [true, false] {
        let disk = Disk::default();
        disk.refuse_checkpoints();
        let (kraken, tasks) = start(disk.clone()).await;
        kraken.configure(vec![lit("works")], "test").await.unwrap();
        let soon = kraken.clock().now().plus(Duration::from_millis(20));
        let terms = Terms { until: ends_by_itself.then_some(soon), ..Terms::default() };
        let busy = Command::Busy { node: node("works"), terms };
        kraken.command(busy, "anna").await.unwrap();
        if !ends_by_itself {
            kraken.command(Command::Free { node: node("works") }, "anna").await.unwrap();
        }
        let free = What::Discovered { changes: vec![Change::set(Path::known("busy"), "FREE")] };
        let found = crate::event(&kraken, "works", |what| *what == free).await;
        let removed = async {
            while disk.durable_at_removal().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, removed).await.unwrap();
        let durable = disk.durable_at_removal().unwrap();
        assert!(found.seq < durable, "{} of {durable}, {ends_by_itself}", found.seq);
        kraken.stop();
        tasks.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_something_that_cannot_be_kept_is_told_why() {
    let disk = Disk::default();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("hangs")], "test").await.unwrap();
    let say = |value: &str| {
        let said = vec![Change::set(Path::known("lamp"), value)];
        let kraken = kraken.clone();
        async move {
            let node = node("hangs");
            let told = kraken.discover(&node, said, "person");
            tokio::time::timeout(PATIENCE, told).await.expect("an answer")
        }
    };
    disk.fill(true);
    let refused = say("OFF").await.unwrap_err();
    assert!(matches!(refused, KrakenError::Unkept(StoreError::Full { .. })), "{refused}");
    let view = kraken.views().get(&node("hangs")).unwrap();
    assert_eq!(view.dsc.text("lamp"), Some("OFF"), "it is known all the same, as the error says");
    disk.fill(false);
    say("ON").await.unwrap();
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_since_the_last_checkpoint_is_known_after_a_crash() {
    let disk = Disk::default();
    disk.refuse_checkpoints();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("works"), lit("gone")], "test").await.unwrap();
    until_lit(&kraken, "works").await;
    until_lit(&kraken, "gone").await;
    kraken.configure(vec![(node("gone"), None)], "test").await.unwrap();
    kraken.configure(vec![lit("gone")], "test").await.unwrap();
    until_lit(&kraken, "gone").await;
    kraken.configure(vec![(node("gone"), None)], "test").await.unwrap();
    let steps = dispatched(&events(&kraken, "works").await);
    kraken.stop();
    tasks.ended().await;

    let (kraken, tasks) = start(disk.clone()).await;
    let view = kraken.views().get(&node("works")).unwrap();
    assert_eq!(view.dsc.text("lamp"), Some("ON"));
    assert!(kraken.views().get(&node("gone")).is_none());
    // What is of another node's steps is behind whatever would have been done at the start.
    kraken.configure(vec![lit("later")], "test").await.unwrap();
    until_lit(&kraken, "later").await;
    assert_eq!(dispatched(&events(&kraken, "works").await), steps, "it was lit again");
    kraken.stop();
    tasks.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_after_a_quiet_time_is_durable_without_a_further_word() {
    let disk = Disk::default();
    disk.refuse_checkpoints();
    let (kraken, tasks) = start(disk.clone()).await;
    kraken.configure(vec![lit("works")], "test").await.unwrap();
    until_lit(&kraken, "works").await;
    let is_durable = async {
        loop {
            let events = events(&kraken, "works").await;
            let last = events.iter().rfind(|e| matches!(e.entry.what, What::Converged));
            if last.is_some_and(|last| last.seq < disk.durable()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_durable).await.unwrap();
    kraken.stop();
    tasks.ended().await;
}
