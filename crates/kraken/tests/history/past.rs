//! The cluster as it was: held against what was seen then, across restarts and trimming.

use crate::rig::*;
use kraken::{Command, KrakenError, PastError, Terms, Then};
use kraken_model::{Change, Document, Millis, NodeId, Path};
use kraken_store::Bounds;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Act {
    Configure(u8, Vec<(u8, u8)>),
    Remove(u8),
    Discover(u8, u8, Option<u8>),
    Lamp(u8, &'static str),
    Hold(u8),
    Release(u8),
    Freeze,
    Thaw,
    Restart,
    Look,
}

fn act() -> impl Strategy<Value = Act> {
    let n = 0..4_u8;
    let notes = proptest::collection::vec((0..3_u8, 0..3_u8), 0..3);
    prop_oneof![
        4 => (n.clone(), notes).prop_map(|(n, notes)| Act::Configure(n, notes)),
        1 => n.clone().prop_map(Act::Remove),
        6 => (n.clone(), 0..3_u8, proptest::option::of(0..4_u8))
            .prop_map(|(n, note, value)| Act::Discover(n, note, value)),
        2 => (n.clone(), prop_oneof![Just("OFF"), Just("ON")]).prop_map(|(n, v)| Act::Lamp(n, v)),
        1 => n.clone().prop_map(Act::Hold),
        1 => n.prop_map(Act::Release),
        1 => Just(Act::Freeze),
        1 => Just(Act::Thaw),
        1 => Just(Act::Restart),
        5 => Just(Act::Look),
    ]
}

fn name(n: u8) -> NodeId {
    node(&format!("n{n}"))
}

fn note(n: u8) -> Path {
    Path::known(&format!("note.x{n}"))
}

/// An application that is used at random, and what was seen of it when.
struct Witness {
    store: std::path::PathBuf,
    bounds: Bounds,
    app: Application,
    seen: Vec<(Millis, Then)>,
    said: u32,
}

impl Witness {
    async fn start(store: std::path::PathBuf, bounds: Bounds) -> Self {
        let app = Application::start_bounded(&store, bounds).await;
        Self { store, bounds, app, seen: Vec::new(), said: 0 }
    }

    /// Waits until nothing moves: no lamp is on its way to where it should be.
    async fn rest(&self) {
        self.app
            .until(|kraken| {
                let is_held = |v: &kraken::View| v.marks.as_ref().is_some_and(|m| m.hold.is_some());
                let is_due = |v: kraken::View| {
                    !is_held(&v) && v.cfg.text("lamp").is_some() && v.dsc.text("lamp") != Some("ON")
                };
                !kraken.views().all().into_values().any(is_due)
            })
            .await;
    }

    /// Waits until the clock shows another time than any that something happened at.
    async fn moment(&self) -> Millis {
        let before = self.app.kraken.clock().now();
        while self.app.kraken.clock().now() <= before.plus(Duration::from_millis(1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before.plus(Duration::from_millis(1))
    }

    async fn look(&mut self) {
        self.rest().await;
        let views = self.app.kraken.views();
        let past = |view: kraken::View| kraken::Past {
            cfg: view.cfg,
            dsc: view.dsc,
            marks: view.marks.as_deref().cloned().unwrap_or_default(),
        };
        let nodes = views.all().into_iter().map(|(node, view)| (node, past(view))).collect();
        let then = Then { nodes, freeze: views.freeze() };
        let at = self.moment().await;
        self.seen.push((at, then));
    }

    async fn take(mut self, act: Act) -> Self {
        let kraken = &self.app.kraken;
        let is_there = |n| kraken.views().get(&name(n)).is_some();
        match act {
            Act::Configure(n, notes) => {
                let mut cfg = Document::new();
                for (key, value) in notes {
                    cfg.set(note(key), format!("{value}"));
                }
                if n % 2 == 0 {
                    cfg.set(Path::known("lamp"), "ON");
                }
                kraken.configure(vec![(name(n), Some(cfg))], "test").await.unwrap();
            }
            Act::Remove(n) if is_there(n) => {
                kraken.configure(vec![(name(n), None)], "test").await.unwrap();
            }
            Act::Discover(n, key, value) if is_there(n) => {
                let value = value.map(|value| format!("{value}").into());
                let change = Change { path: note(key), value: value.clone() };
                kraken.discover(&name(n), vec![change], "test").await.unwrap();
                let is_so = |v: kraken::View| v.dsc.get(note(key).as_str()) == value.as_ref();
                self.app.until(|kraken| kraken.views().get(&name(n)).is_some_and(is_so)).await;
            }
            Act::Lamp(n, value) if is_there(n) => {
                // Said with a number, which tells when the engine has heard of it: the lamp may be
                // switched on again before anybody sees that it was off.
                self.said += 1;
                let (path, said) = (Path::known("note.said"), self.said.to_string());
                let lamp = Change::set(Path::known("lamp"), value);
                let changes = vec![lamp, Change::set(path, said.clone())];
                kraken.discover(&name(n), changes, "test").await.unwrap();
                let is_so = |v: kraken::View| v.dsc.text("note.said") == Some(&said);
                self.app.until(|kraken| kraken.views().get(&name(n)).is_some_and(is_so)).await;
            }
            Act::Hold(n) if is_there(n) => {
                // What is under way goes on.
                self.rest().await;
                let terms = Terms { why: Some("because".into()), ..Terms::default() };
                kraken.command(Command::Hold { node: name(n), terms }, "anna").await.unwrap();
            }
            Act::Release(n) if is_there(n) => {
                kraken.command(Command::Release { node: name(n) }, "anna").await.unwrap();
            }
            Act::Freeze => {
                let terms = Terms::default();
                kraken.command(Command::Freeze { node: None, terms }, "anna").await.unwrap();
            }
            Act::Thaw => kraken.command(Command::Thaw { node: None }, "anna").await.unwrap(),
            Act::Restart => {
                self.rest().await;
                self.app.stop().await;
                self.app = Application::start_bounded(&self.store, self.bounds).await;
            }
            Act::Look => self.look().await,
            _ => {}
        }
        self
    }

    /// Whether everything that was seen is what is told now, as far as the journal reaches.
    async fn check(&self) -> usize {
        let mut told = 0;
        for (at, seen) in &self.seen {
            match self.app.kraken.past(*at, None).await {
                Ok(then) => {
                    assert_eq!(&then, seen, "at {}", at.rfc3339());
                    told += 1;
                    let one: BTreeSet<NodeId> = [name(1)].into();
                    // It may be trimmed away meanwhile.
                    let Ok(then) = self.app.kraken.past(*at, Some(one)).await else { continue };
                    assert_eq!(then.nodes.get(&name(1)), seen.nodes.get(&name(1)));
                    assert!(then.nodes.len() <= 1 && then.freeze == seen.freeze);
                }
                Err(KrakenError::Past(PastError::NotKept { since: Some(since), .. })) => {
                    assert!(since > *at, "it reaches back to {}", since.rfc3339());
                }
                Err(error) => panic!("{error}"),
            }
        }
        told
    }
}

fn witnessed(acts: Vec<Act>, bounds: Bounds) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut witness = Witness::start(dir.path().join("store"), bounds).await;
        for act in acts {
            witness = witness.take(act).await;
        }
        witness.look().await;
        witness.check().await;
        // Once more from what is kept alone.
        let seen = std::mem::take(&mut witness.seen);
        witness = witness.take(Act::Restart).await;
        witness.seen = seen;
        let told = witness.check().await;
        let count = witness.seen.len();
        witness.app.stop().await;
        (told, count)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]
    #[test]
    fn what_is_told_of_the_past_is_what_was_seen(
        acts in proptest::collection::vec(act(), 10..80)
    ) {
        let (told, seen) = witnessed(acts, Bounds::default());
        prop_assert_eq!(told, seen, "nothing was trimmed");
    }

    #[test]
    fn a_trimmed_journal_tells_all_that_it_reaches_back_to(
        acts in proptest::collection::vec(act(), 40..120)
    ) {
        let bounds = Bounds { records: 40, ..Bounds::default() };
        witnessed(acts, bounds);
    }
}

#[test]
fn a_journal_with_small_bounds_is_trimmed_and_still_tells_of_the_last_moments() {
    let acts = (0..400_u16).map(|n| match n % 4 {
        0 => Act::Configure(n as u8 % 3, vec![(0, (n % 7) as u8)]),
        1 | 2 => Act::Discover(n as u8 % 3, 1, Some((n % 5) as u8)),
        _ => Act::Look,
    });
    let (told, seen) = witnessed(acts.collect(), Bounds { records: 50, ..Bounds::default() });
    assert!(told > 5 && told < seen, "{told} of {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_everything_is_refused_with_how_far_back_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let app = Application::start(&dir.path().join("store")).await;
    let refused = app.kraken.past(Millis(1_000), None).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("1970-01-01T00:00:01Z is not kept"), "{text}");
    app.stop().await;
}
