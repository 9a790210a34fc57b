//! A machine that was found running is expected to boot as soon as its firmware asks, and not before.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use kraken::{Context, Failure, FoundRunning, Keeper, Kraken, Module, Options, Order, Settings};
use kraken_model::{Change, Document, NodeId, Path, Registry};
use kraken_plan::{Guard, ModuleSet};
use kraken_store::Memory;
use layercake_boot::{BootEvent, BootModule, BootPlan, Hosts};
use layercake_boot::{Material, Ticket, Tickets};
use layercake_schema::{Timing, boot_state, claim, phys_state, run_state};
use layercake_seed::{JoinToken, KeyFingerprint, SeedParent};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const PATIENCE: Duration = Duration::from_secs(30);

/// Sees every machine run, whatever is done.
struct Power;

#[async_trait]
impl Module for Power {
    fn name(&self) -> &str {
        "power"
    }

    async fn run(&self, context: Context) {
        let mut subscription = context.subscribe();
        loop {
            for (node, view) in subscription.changed().await {
                if view.is_some_and(|view| view.dsc.text(phys_state::PATH).is_none()) {
                    context
                        .discover(&node, vec![set(phys_state::PATH, phys_state::POWER_ON)])
                        .await;
                }
            }
        }
    }

    async fn take(&self, _order: &Order, _context: &Context) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Default)]
struct Counting(AtomicU64);

#[async_trait]
impl Tickets for Counting {
    async fn mint(&self, _node: &NodeId) -> Result<Ticket, String> {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let token = JoinToken::new(vec![7; 32]).ok_or("too short")?;
        Ok(Ticket { boot_id: format!("b{count}"), token })
    }

    async fn withdraw(&self, _node: &NodeId) {}
}

fn set(path: &str, value: &str) -> Change {
    Change::set(Path::known(path), value)
}

fn cfg() -> Document {
    let mut cfg = Document::new();
    cfg.apply(&[
        set(phys_state::PATH, phys_state::POWER_ON),
        set(run_state::PATH, run_state::SYNC),
        set("power.driver", "exec"),
        set("net.boot.mac", "52:54:00:00:00:01"),
        set("net.boot.address", "10.0.0.2/24"),
    ]);
    cfg
}

struct Rig {
    kraken: Kraken,
    tasks: kraken::Tasks,
    hosts: watch::Receiver<Arc<Hosts>>,
    events: mpsc::Sender<BootEvent>,
}

impl Rig {
    async fn start() -> Self {
        let keeper = Keeper::new(Box::new(Memory::default()));
        let (hosts_in, hosts) = watch::channel(Arc::new(Hosts::default()));
        let (events, events_in) = mpsc::channel(16);
        let material = Material {
            cluster: "c".to_owned(),
            kernel: "k".into(),
            initramfs: "i".into(),
            parents: vec![SeedParent { addr: "10.0.0.1:8475".parse().unwrap() }],
            parent_key: KeyFingerprint([0; 32]),
            image_base: "http://10.0.0.1:8080/images".parse().unwrap(),
        };
        let tickets = Arc::new(Counting::default());
        let boot = BootModule::new(material, tickets, keeper.clone(), hosts_in, events_in);
        let registry = Registry::new(layercake_schema::schemas()).unwrap();
        let mutations = layercake_schema::mutations(&Timing::default());
        let modules = ModuleSet::new(&registry, mutations).unwrap();
        let found_running = FoundRunning {
            variable: Path::known(phys_state::PATH),
            runs: vec![phys_state::POWER_ON.into()],
            found: phys_state::PHYS_FOUND.into(),
            seen_by: vec!["power".into()],
            claim: Path::known(claim::PATH),
            awaited: claim::AWAITED.into(),
            granted: claim::GRANTED.into(),
            patience: PATIENCE,
            left: Guard::wanted("found_running", "leave"),
        };
        let options = Options {
            registry: Arc::new(registry),
            modules: Arc::new(modules),
            hosted: vec![Arc::new(Power), Arc::new(boot)],
            keeper,
            settings: Settings { found_running: Some(found_running), ..Settings::default() },
        };
        let (kraken, tasks) = Kraken::start(options).await.unwrap();
        Self { kraken, tasks, hosts, events }
    }

    async fn until_plan(&mut self, wanted: impl Fn(&BootPlan) -> bool) -> BootPlan {
        let plan = |hosts: &Arc<Hosts>| hosts.by_node("n1").map(|host| host.plan.clone());
        let seen = self.hosts.wait_for(|hosts| plan(hosts).is_some_and(|plan| wanted(&plan)));
        let Ok(seen) = tokio::time::timeout(PATIENCE, seen).await else {
            panic!("{}", self.kraken.explain(&node()).await.unwrap());
        };
        let seen = seen.unwrap();
        plan(&seen).unwrap()
    }

    async fn until_state(&self, path: &str, value: &str) {
        let mut subscription = self.kraken.views().subscribe();
        let is_so = || self.kraken.views().get(&node()).unwrap().dsc.text(path) == Some(value);
        let seen = tokio::time::timeout(PATIENCE, async {
            while !is_so() {
                subscription.changed().await;
            }
        });
        seen.await.unwrap();
    }

    async fn firmware_asks(&self) {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        let asks = BootEvent::FirmwareAsks { node: "n1".into(), mac };
        self.events.send(asks).await.unwrap();
    }

    async fn end(self) {
        self.kraken.stop();
        self.tasks.ended().await;
    }
}

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

fn is_armed(plan: &BootPlan) -> bool {
    matches!(plan, BootPlan::Armed { .. })
}

#[tokio::test]
async fn firmware_that_asks_on_a_machine_that_was_found_running_is_expected_from_then_on() {
    let mut rig = Rig::start().await;
    rig.kraken.configure(vec![(node(), Some(cfg()))], "test").await.unwrap();
    rig.until_plan(|plan| *plan == BootPlan::Found).await;
    rig.until_state(phys_state::PATH, phys_state::PHYS_FOUND).await;
    rig.firmware_asks().await;
    rig.until_plan(is_armed).await;
    rig.until_state(boot_state::PATH, boot_state::WAIT).await;
    rig.end().await;
}

#[tokio::test]
async fn a_boot_under_way_is_kept_for_a_node_that_leaves_and_comes_back() {
    let mut rig = Rig::start().await;
    rig.kraken.configure(vec![(node(), Some(cfg()))], "test").await.unwrap();
    rig.until_plan(|plan| *plan == BootPlan::Found).await;
    rig.firmware_asks().await;
    let armed = rig.until_plan(is_armed).await;
    rig.kraken.configure(vec![(node(), None)], "test").await.unwrap();
    let gone = rig.hosts.wait_for(|hosts| hosts.by_node("n1").is_none());
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    rig.kraken.configure(vec![(node(), Some(cfg()))], "test").await.unwrap();
    assert_eq!(rig.until_plan(is_armed).await, armed, "the same seed and token");
    // Its machine was on its way, and is served to the end: so nothing else runs there.
    rig.until_state(phys_state::PATH, phys_state::PHYS_FOUND).await;
    let BootPlan::Armed { boot_id, .. } = armed else { unreachable!() };
    rig.events.send(BootEvent::SeedServed { node: "n1".into(), boot_id }).await.unwrap();
    rig.until_state(run_state::PATH, run_state::INIT).await;
    rig.until_state(phys_state::PATH, phys_state::POWER_ON).await;
    rig.end().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_served_is_left_out_alone_and_says_why() {
    let mut rig = Rig::start().await;
    let bad = NodeId::new("n2").unwrap();
    let mut same_address = cfg();
    same_address.set(Path::known("net.boot.mac"), "52:54:00:00:00:02");
    let both = vec![(node(), Some(cfg())), (bad.clone(), Some(same_address))];
    rig.kraken.configure(both, "test").await.unwrap();
    rig.until_plan(|plan| *plan == BootPlan::Found).await;
    let asks =
        BootEvent::FirmwareAsks { node: "n2".into(), mac: "52:54:00:00:00:02".parse().unwrap() };
    rig.events.send(asks).await.unwrap();
    rig.firmware_asks().await;
    rig.until_plan(is_armed).await;
    assert!(rig.hosts.borrow().by_node("n2").is_none());
    let mut subscription = rig.kraken.views().subscribe();
    let why = async {
        loop {
            let text = rig.kraken.explain(&bad).await.unwrap().to_string();
            if text.contains("nodes n1 and n2 both have address 10.0.0.2") {
                return;
            }
            // Whatever changes, it is asked again.
            let _ = tokio::time::timeout(Duration::from_millis(200), subscription.changed()).await;
        }
    };
    tokio::time::timeout(PATIENCE, why).await.unwrap();
    rig.end().await;
}
