//! What steps were found to take outlasts the application.

use crate::rig::*;
use kraken::{Command, Kraken, Terms};

/// How often the step was taken that is next for the node that waits.
async fn runs(kraken: &Kraken) -> Option<u32> {
    let explained = kraken.explain(&node("waits")).await.unwrap();
    Some(explained.next.first()?.experience?.runs)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let app = Application::start(&file).await;
    app.kraken.configure(vec![(node("waits"), Some(Default::default()))], "test").await.unwrap();
    let hold = Command::Hold { node: node("waits"), terms: Terms::default() };
    app.kraken.command(hold, "test").await.unwrap();
    app.kraken.configure(vec![(node("waits"), Some(lit()))], "test").await.unwrap();
    assert_eq!(runs(&app.kraken).await, None);

    let lamps = ["a", "b", "c", "d", "e"];
    let writes = lamps.map(|name| (node(name), Some(lit()))).to_vec();
    app.kraken.configure(writes, "test").await.unwrap();
    let is_lit = |kraken: &Kraken, name: &str| {
        kraken.views().get(&node(name)).is_some_and(|view| view.dsc.text("lamp") == Some("ON"))
    };
    app.until(|kraken| lamps.iter().all(|name| is_lit(kraken, name))).await;
    assert_eq!(runs(&app.kraken).await, Some(5));
    app.stop().await;

    let app = Application::start(&file).await;
    assert_eq!(runs(&app.kraken).await, Some(5));
    app.stop().await;
}
