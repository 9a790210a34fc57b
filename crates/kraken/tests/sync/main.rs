//! Parent and nodes in touch over real sockets, and everything that tries to come between.
#![allow(clippy::unwrap_used)]

mod proxy;
mod site;

use kraken::{Event, Identity, Keeper, Remembrance, What};
use kraken_model::{Change, Document, Path};
use kraken_store::Embedded;
use kraken_sync::Secret;
use proxy::Proxy;
use site::{Machine, STALLED, Site, Told, event, node, set};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

fn told(site: &Site, name: &'static str, boot: (String, Secret)) -> Told {
    Told { name, parent: site.sync.address(), pin: site.sync.pin(), boot }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_its_token_joins_does_what_is_wanted_and_leaves() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    assert_eq!(site.state("n1", "run_state").as_deref(), Some("SYNC"));
    machine.stop.cancel();
    machine.agent.await.unwrap();
    site.until_state("n1", "run_state", "INIT").await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_of_its_services_with_its_join_and_starts_what_is_needed() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    assert_eq!(site.state("n1", "services.app.state").as_deref(), Some("RUNNING"));
    // Nobody had to ask whether it runs.
    let events = event(&machine.kraken, 0, |what| matches!(what, What::Converged)).await;
    let steps: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.entry.what {
            What::Dispatched { mutation, .. } => Some(mutation.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!(steps, ["service.start-app", "app.look", "app.start"]);
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_of_this_boot_of_this_node_lets_in_and_only_once() {
    let site = Site::fresh().await;
    let n2 = site.boot("n2").await;
    let (old_id, old) = site.boot("n1").await;
    let (boot_id, token) = site.sync.mint(&node("n1")).await.unwrap();
    let wrong = [
        ("made up", boot_id.clone(), Secret::new([7; 32])),
        ("of another node", boot_id.clone(), n2.1),
        ("of an earlier boot", old_id.clone(), old),
        ("for another boot", old_id, token.clone()),
    ];
    let mut refused = 0;
    for (what, boot_id, token) in wrong {
        let machine = Machine::start(told(&site, "n1", (boot_id, token))).await;
        refused += 1;
        site.counted("/joins/refused", refused).await;
        machine.vanish().await;
        assert_eq!(site.state("n1", "run_state").as_deref(), Some("INIT"), "{what}");
        refused = site.sync.counters()["joins"]["refused"].as_u64().unwrap();
    }
    let good = told(&site, "n1", (boot_id, token));
    let machine = Machine::start(good.clone()).await;
    site.until_state("n1", "run_state", "SYNC").await;
    // Another machine that learnt the token is late, and harms nobody.
    let late = Machine::start(good).await;
    site.counted("/joins/refused", refused + 1).await;
    late.vanish().await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    assert_eq!(site.sync.counters()["joins"]["joined"], 1);
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_was_withdrawn_is_refused() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    site.sync.withdraw(&node("n1")).await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.counted("/joins/refused", 1).await;
    assert_eq!(site.state("n1", "run_state").as_deref(), Some("INIT"));
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_nothing_to_a_parent_with_another_key() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let mut told = told(&site, "n1", boot);
    told.pin = Identity::generate().unwrap().pin().unwrap();
    let machine = Machine::start(told.clone()).await;
    site.counted("/joins/broken", 1).await;
    machine.vanish().await;
    assert_eq!(site.sync.counters()["joins"]["refused"], 0);
    // The token was not shown: with the right key it is still good.
    told.pin = site.sync.pin();
    let machine = Machine::start(told).await;
    site.until_state("n1", "run_state", "SYNC").await;
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_parent_a_node_comes_by_itself_and_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let open = || Keeper::new(Box::new(Embedded::open(dir.path().join("s.redb")).unwrap()));
    let site = Site::start("127.0.0.1:0".parse().unwrap(), &identity, open()).await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    let next = site.converged("n1").await;
    let address = site.sync.address();
    site.end().await;

    let site = Site::start(address, &identity, open()).await;
    let events = site.event(next, |what| matches!(what, What::Adopted)).await;
    let disturbed = events.iter().find(|e| matches!(e.entry.what, What::Dispatched { .. }));
    assert!(disturbed.is_none(), "{events:#?}");
    assert_eq!(site.state("n1", "run_state").as_deref(), Some("SYNC"));
    assert_eq!(site.state("n1", "app_state").as_deref(), Some("ACTIVE"));
    let kept = std::fs::metadata(machine.dir.path().join("resume")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&kept.permissions()) & 0o777, 0o600);
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_was_permitted_lapses_with_its_parent_and_comes_back_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let open = || Keeper::new(Box::new(Embedded::open(dir.path().join("s.redb")).unwrap()));
    let site = Site::start("127.0.0.1:0".parse().unwrap(), &identity, open()).await;
    let boot = site.boot("n1").await;
    let without = site.kraken.views().get(&node("n1")).unwrap().cfg;
    let mut with = without.clone();
    with.set(Path::known("permitted.swap"), true);
    site.kraken.configure(vec![(node("n1"), Some(with.clone()))], "test").await.unwrap();
    let machine = Machine::start(told(&site, "n1", boot)).await;
    machine.until_cfg(&with).await;
    let address = site.sync.address();
    site.end().await;
    machine.until_cfg(&without).await;
    let site = Site::start(address, &identity, open()).await;
    machine.until_cfg(&with).await;
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_silent_before_a_restart_is_confirmed_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let open = || Keeper::new(Box::new(Embedded::open(dir.path().join("s.redb")).unwrap()));
    let site = Site::start("127.0.0.1:0".parse().unwrap(), &identity, open()).await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    let next = site.converged("n1").await;
    machine.vanish().await;
    site.until_state("n1", "run_state", "ERROR").await;
    let address = site.sync.address();
    site.end().await;

    let site = Site::start(address, &identity, open()).await;
    // Otherwise nothing disruptive, and so nothing that helps, would ever be done to it again.
    site.event(next, |what| matches!(what, What::Adopted)).await;
    assert_eq!(site.state("n1", "run_state").as_deref(), Some("ERROR"));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_held_frozen_or_in_use_is_told_what_is_wanted_of_it_all_the_same() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    let id = || node("n1");
    let terms = kraken::Terms::default;
    let marks = [
        kraken::Command::Hold { node: id(), terms: terms() },
        kraken::Command::Freeze { node: Some(id()), terms: terms() },
        kraken::Command::Freeze { node: None, terms: terms() },
        kraken::Command::Busy { node: id(), terms: terms() },
    ];
    for (mark, word) in marks.into_iter().zip(["a", "b", "c", "d"]) {
        site.kraken.command(mark, "test").await.unwrap();
        let mut cfg = site.kraken.views().get(&id()).unwrap().cfg;
        cfg.set(Path::known(&format!("permitted.{word}")), true);
        site.kraken.configure(vec![(id(), Some(cfg.clone()))], "test").await.unwrap();
        // Otherwise it would go on to say that it is as it should be.
        machine.until_cfg(&cfg).await;
    }
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_to_hang_does_not_when_it_is_heard() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let hang = vec![Change::set(Path::known("phys_state"), "PHYS_HANG")];
    site.kraken.discover(&node("n1"), hang, "test").await.unwrap();
    site.until_state("n1", "phys_state", "PHYS_HANG").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "phys_state", "POWER_ON").await;
    site.until_state("n1", "run_state", "SYNC").await;
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_vanishes_is_found_silent() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    machine.vanish().await;
    site.until_state("n1", "run_state", "ERROR").await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_what_its_parent_makes_of_its_cfg_whenever_something_is_known_anew() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let mut cfg = site.kraken.views().get(&node("n1")).unwrap().cfg;
    cfg.set(Path::known("door"), true);
    site.kraken.configure(vec![(node("n1"), Some(cfg))], "test").await.unwrap();
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "run_state", "SYNC").await;
    let open = Change::set(Path::known("door"), true);
    let on_node = machine.kraken.views().get(&node("n1")).unwrap().cfg;
    assert_eq!((on_node.get("app_state"), on_node.get("door")), (None, open.value.as_ref()));
    site.kraken.discover(&node("n1"), vec![open], "doorman").await.unwrap();
    site.until_state("n1", "app_state", "ACTIVE").await;
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_node_says_only_what_it_owns_is_taken() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    // Nothing is wanted of the application any more, so that nobody undoes the lie.
    let mut cfg = site.kraken.views().get(&node("n1")).unwrap().cfg;
    cfg.remove("app_state");
    site.kraken.configure(vec![(node("n1"), Some(cfg.clone()))], "test").await.unwrap();
    machine.until_cfg(&cfg).await;
    let lies = vec![
        Change::set(Path::known("phys_state"), "POWER_OFF"),
        Change::set(Path::known("app_state"), "IDLE"),
    ];
    machine.kraken.discover(&node("n1"), lies, "liar").await.unwrap();
    // Both were sent together: when one has arrived, so has the other.
    site.until_state("n1", "app_state", "IDLE").await;
    assert_eq!(site.state("n1", "phys_state").as_deref(), Some("POWER_ON"));
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_replayed_and_senseless_datagrams_are_counted_and_change_nothing() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let proxy = Proxy::start(site.sync.address()).await;
    let mut told = told(&site, "n1", boot);
    told.parent = proxy.address;
    let machine = Machine::start(told).await;
    let from = site.converged("n1").await;
    let real = proxy.seen();
    proxy.send(&real).await;
    site.counted("/replayed", 1).await;
    let mut forged = real;
    *forged.last_mut().unwrap() ^= 1;
    // The number after it was not used yet, so that only the seal can tell.
    proxy.send(&forged).await;
    proxy.send(&[0xff; 1500]).await;
    proxy.send(b"").await;
    site.counted("/not_ours", 1).await;
    let counters = site.sync.counters();
    assert!(counters["replayed"].as_u64().unwrap() + counters["bad_seal"].as_u64().unwrap() >= 2);
    let events = site.kraken.events(from, 100, None).await.unwrap();
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(site.state("n1", "run_state").as_deref(), Some("SYNC"));
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_or_nonsense_do_not_keep_others_out() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let mut garbage = TcpStream::connect(site.sync.address()).await.unwrap();
    garbage.write_all(&[b'x'; 4000]).await.unwrap();
    site.counted("/joins/broken", 1).await;
    // More than there are places, all from one machine that never says a word.
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(site.sync.address()).await.unwrap());
    }
    site.counted("/joins/crowded", 1).await;
    let asked = Instant::now();
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "run_state", "SYNC").await;
    // Without waiting for the silent ones to be given up.
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(silent);
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_away_and_is_remembered_joins_again_with_what_it_has_when_it_is_back()
{
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.converged("n1").await;
    let cfg = site.kraken.views().get(&node("n1")).unwrap().cfg;
    site.kraken.configure(vec![(node("n1"), None)], "test").await.unwrap();
    // It finds its parent silent, tries the secret of its boot again and again, and is told to go on with that.
    site.counted("/joins/away", 3).await;
    let site_runs = machine.kraken.views().get(&node("n1")).unwrap();
    assert_eq!(site_runs.dsc.text("app_state"), Some("ACTIVE"), "what it was told it still is");
    site.kraken.configure(vec![(node("n1"), Some(cfg))], "test").await.unwrap();
    site.until_state("n1", "app_state", "ACTIVE").await;
    let counters = site.sync.counters();
    let counted = |pointer| counters.pointer(pointer).and_then(|count| count.as_u64());
    assert_eq!((counted("/joins/joined"), counted("/joins/refused")), (Some(2), Some(0)));
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_shown_while_its_node_is_away_is_good_when_it_is_back() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let cfg = site.kraken.views().get(&node("n1")).unwrap().cfg;
    site.kraken.configure(vec![(node("n1"), None)], "test").await.unwrap();
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.counted("/joins/away", 1).await;
    site.kraken.configure(vec![(node("n1"), Some(cfg))], "test").await.unwrap();
    site.until_state("n1", "app_state", "ACTIVE").await;
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_away_is_remembered_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let open = || Keeper::new(Box::new(Embedded::open(dir.path().join("s.redb")).unwrap()));
    let site = Site::start("127.0.0.1:0".parse().unwrap(), &identity, open()).await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.converged("n1").await;
    let cfg = site.kraken.views().get(&node("n1")).unwrap().cfg;
    site.kraken.configure(vec![(node("n1"), None)], "test").await.unwrap();
    let address = site.sync.address();
    site.end().await;
    let site = Site::start(address, &identity, open()).await;
    site.counted("/joins/away", 1).await;
    site.kraken.configure(vec![(node("n1"), Some(cfg))], "test").await.unwrap();
    site.until_state("n1", "app_state", "ACTIVE").await;
    machine.vanish().await;
    site.end().await;
    // Of one that is not remembered, nothing lets anybody in, whatever is left of it.
    let forgetful = open().remembering(Remembrance { nodes: 0, ..Remembrance::default() });
    let site = Site::start(address, &identity, forgetful).await;
    site.kraken.configure(vec![(node("n1"), None)], "test").await.unwrap();
    let forgotten = tokio::time::timeout(site::PATIENCE, async {
        let left = || site.kraken.keeper().with(|store| store.list("tokens"));
        while !left().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    forgotten.await.unwrap();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_away_and_is_not_remembered_cannot_come_back() {
    let keeper = Keeper::new(Box::new(kraken_store::Memory::default()));
    let keeper = keeper.remembering(Remembrance { nodes: 0, ..Remembrance::default() });
    let identity = Identity::generate().unwrap();
    let site = Site::start("127.0.0.1:0".parse().unwrap(), &identity, keeper).await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    site.until_state("n1", "run_state", "SYNC").await;
    site.kraken.configure(vec![(node("n1"), None)], "test").await.unwrap();
    // It finds its parent silent, tries the secret of its boot, and is refused.
    site.counted("/joins/refused", 1).await;
    assert!(site.kraken.views().is_empty());
    machine.vanish().await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_stood_still_does_not_take_its_nodes_for_silent() {
    let site = Site::fresh().await;
    let boot = site.boot("n1").await;
    let machine = Machine::start(told(&site, "n1", boot)).await;
    let from = site.converged("n1").await;
    let mut cfg = Document::new();
    cfg.set(Path::known("stalls"), true);
    site.kraken.configure(vec![(node("n2"), Some(cfg))], "test").await.unwrap();
    STALLED.notified().await;
    // The node lost patience, and comes again by itself.
    site.counted("/joins/joined", 2).await;
    site.until_state("n1", "app_state", "ACTIVE").await;
    let events = site.kraken.events(from, 10_000, Some(node("n1"))).await.unwrap();
    let is_silent = |event: &Event| match &event.entry.what {
        What::Discovered { changes } => changes.contains(&set("run_state", "ERROR")),
        _ => false,
    };
    assert!(!events.iter().any(is_silent), "{events:#?}");
    machine.vanish().await;
    site.end().await;
}
