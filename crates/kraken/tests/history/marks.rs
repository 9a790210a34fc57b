//! Holds, freezes and uses outlast the application, but not their time.

use crate::rig::*;
use kraken::{Cause, Command, KrakenError, Mark, Terms, What};
use std::time::Duration;

fn terms(why: &str, until: Option<kraken_model::Millis>) -> Terms {
    Terms { why: Some(why.into()), until, ..Terms::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_said_is_still_so_after_a_restart_with_who_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let app = Application::start(&file).await;
    let held = Command::Hold { node: node("a"), terms: terms("new bulb", None) };
    let frozen = Command::Freeze { node: Some(node("b")), terms: terms("a party", None) };
    let busy = Command::Busy { node: node("c"), terms: terms("somebody reads", None) };
    app.kraken
        .configure(["a", "b", "c"].map(|n| (node(n), Some(Default::default()))).to_vec(), "test")
        .await
        .unwrap();
    app.kraken.commands(vec![held, frozen, busy], "anna").await.unwrap();
    let freeze = Command::Freeze { node: None, terms: terms("a storm", None) };
    app.kraken.command(freeze, "berta").await.unwrap();
    app.stop().await;

    let app = Application::start(&file).await;
    let views = app.kraken.views();
    let all_held = Mark { by: "berta".into(), terms: terms("a storm", None) };
    assert_eq!(views.freeze(), Some(all_held));
    let by = |why| Some(Mark { by: "anna".into(), terms: terms(why, None) });
    let marks = |name| views.get(&node(name)).unwrap().marks.unwrap();
    assert_eq!(marks("a").hold, by("new bulb"));
    assert_eq!(marks("b").freeze, by("a party"));
    assert_eq!(marks("c").busy, by("somebody reads"));
    assert_eq!(views.get(&node("c")).unwrap().dsc.text("busy"), Some("BUSY"));
    let ends = [
        Command::Release { node: node("a") },
        Command::Thaw { node: Some(node("b")) },
        Command::Free { node: node("c") },
        Command::Thaw { node: None },
    ];
    app.kraken.commands(ends.to_vec(), "anna").await.unwrap();
    app.stop().await;

    let app = Application::start(&file).await;
    assert!(app.kraken.views().all().values().all(|view| !view.held && view.marks.is_none()));
    assert_eq!(app.kraken.views().freeze(), None);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_and_is_said_anew_at_once_is_still_so_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let app = Application::start(&file).await;
    app.kraken.configure(vec![(node("a"), Some(Default::default()))], "test").await.unwrap();
    let busy = |why: &str| Command::Busy { node: node("a"), terms: terms(why, None) };
    let hold = |why: &str| Command::Hold { node: node("a"), terms: terms(why, None) };
    app.kraken.commands(vec![busy("anna reads"), hold("a new bulb")], "anna").await.unwrap();
    let (free, release) = (Command::Free { node: node("a") }, Command::Release { node: node("a") });
    let anew = vec![free, release, busy("berta reads"), hold("a new switch")];
    app.kraken.commands(anew, "berta").await.unwrap();
    app.stop().await;
    let app = Application::start(&file).await;
    let marks = app.kraken.views().get(&node("a")).unwrap().marks.unwrap();
    let by = |why| Some(Mark { by: "berta".into(), terms: terms(why, None) });
    assert_eq!((&marks.busy, &marks.hold), (&by("berta reads"), &by("a new switch")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_time_comes_while_nobody_runs_ends_once_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let app = Application::start(&file).await;
    app.kraken.configure(vec![(node("a"), Some(Default::default()))], "test").await.unwrap();
    let until = app.kraken.clock().now().plus(Duration::from_millis(20));
    let held = Command::Hold { node: node("a"), terms: terms("for a moment", Some(until)) };
    app.kraken.command(held, "anna").await.unwrap();
    app.kraken.configure(vec![(node("a"), Some(lit()))], "test").await.unwrap();
    app.stop().await;
    let ended = |what: &What| matches!(what, What::Released);
    for _ in 0..2 {
        let app = Application::start(&file).await;
        app.until(|kraken| kraken.views().get(&node("a")).is_some_and(|v| !v.held)).await;
        app.until(|kraken| {
            kraken.views().get(&node("a")).is_some_and(|v| v.dsc.text("lamp") == Some("ON"))
        })
        .await;
        let events = app.told("a", |event| ended(&event.entry.what)).await;
        let ends: Vec<_> = events.iter().filter(|event| ended(&event.entry.what)).collect();
        assert_eq!(ends.len(), 1, "it ends once: {ends:?}");
        let cause = Some(Cause::Expired { by: "anna".into(), until });
        assert_eq!(ends[0].entry.cause, cause);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_held_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let app = Application::start(&file).await;
    let come = || vec![(node("a"), Some(lit()))];
    app.kraken.configure(come(), "test").await.unwrap();
    let held = Command::Hold { node: node("a"), terms: Terms::default() };
    app.kraken.command(held, "anna").await.unwrap();
    app.kraken.configure(vec![(node("a"), None)], "test").await.unwrap();
    app.stop().await;
    let app = Application::start(&file).await;
    assert!(app.kraken.views().is_empty(), "what was said of it is no node");
    app.kraken.configure(come(), "test").await.unwrap();
    let is_held = |app: &Application| {
        let marks = app.kraken.views().get(&node("a")).unwrap().marks;
        marks.and_then(|marks| marks.hold.as_ref().map(|hold| hold.by.to_string()))
    };
    assert_eq!(is_held(&app).as_deref(), Some("anna"));
    app.stop().await;
    let app = Application::start(&file).await;
    assert_eq!(is_held(&app).as_deref(), Some("anna"), "durable with its return");
    app.kraken.command(Command::Release { node: node("a") }, "anna").await.unwrap();
    app.kraken.configure(vec![(node("a"), None)], "test").await.unwrap();
    app.kraken.configure(come(), "test").await.unwrap();
    assert_eq!(is_held(&app), None, "what had ended before it went does not count again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_many_nodes_are_kept_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let app = Application::start(&dir.path().join("store")).await;
    let nodes: Vec<_> = (0..500).map(|n| node(&format!("n{n}"))).collect();
    let writes = nodes.iter().map(|n| (n.clone(), Some(Default::default()))).collect();
    app.kraken.configure(writes, "test").await.unwrap();
    let terms = Terms::default();
    let holds = nodes.iter().map(|n| Command::Hold { node: n.clone(), terms: terms.clone() });
    app.kraken.commands(holds.collect(), "anna").await.unwrap();
    assert!(app.kraken.views().all().values().all(|view| view.held));
    app.kraken.stop();
    let late = app.kraken.command(Command::Thaw { node: None }, "anna").await;
    assert!(matches!(late, Err(KrakenError::Ended)), "{late:?}");
    app.stop().await;
}
