//! The field: machines without an engine of their own, moved by one beside them.
#![allow(clippy::unwrap_used)]

use kraken_engine::{Engine, Input, Output, Role, Settings};
use kraken_model::{Document, Millis, NodeId, Path, Side};
use kraken_sim::{Application, Blow, Field, Ordered, Said, Seen, Wish};
use layercake_schema::Timing;
use layercake_sim::Layercake;
use std::sync::Arc;

/// How often the engine and the field hear of each other, in milliseconds.
const TURN: u64 = 20;

struct World {
    app: Layercake,
    engine: Engine,
    field: Field<Layercake>,
    now: Millis,
    /// How many events there were on the field.
    events: u64,
    /// What reached the parent of what nodes printed.
    printed: Vec<String>,
}

impl World {
    fn new() -> Self {
        let app = Layercake::served(&Timing::default(), Arc::new(|cfg, _: &Document, _| cfg));
        let settings = Settings::new(1, Role::Parent);
        let mut engine = Engine::new(settings, app.modules(), app.registry());
        engine.step(Millis(1), Input::Tick, &mut Vec::new());
        let field = Field::new(app.clone(), 7);
        Self { app, engine, field, now: Millis(1), events: 0, printed: Vec::new() }
    }

    fn configure(&mut self, node: &NodeId, cfg: Option<Document>) {
        self.step(Input::Configure { node: node.clone(), cfg, by: "test".into() });
    }

    fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.engine.step(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Dispatch(order) => {
                    let mutation = self.app.modules().mutation(order.mutation).name.clone();
                    let kraken_engine::Order { id, cfg, dsc, deadline, .. } = order;
                    self.field.order(Ordered { id, mutation, cfg, dsc, deadline });
                }
                Output::Interrupt { id, .. } => self.field.interrupt(&id),
                Output::Changed { node, .. } | Output::Permitted { node } => {
                    match self.engine.node(&node) {
                        Some(view) => {
                            let (cfg, dsc) = (view.cfg.clone(), view.dsc.clone());
                            let permitted = view.permitted.cloned();
                            self.field.see(&node, Seen { cfg, dsc, is_held: false, permitted });
                        }
                        None => self.field.forget(&node),
                    }
                }
                Output::Journal(_) | Output::Refused { .. } => {}
            }
        }
    }

    /// Lets time pass, until it is so or for an hour. Whether it was so.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.0 + 3_600_000;
        while self.now.0 < end {
            if is_so(self) {
                return true;
            }
            self.now = Millis(self.now.0 + TURN);
            while !self.field.advance(self.now, 1) {
                self.events += 1;
            }
            for said in self.field.take_said() {
                self.step(match said {
                    Said::Printed { node, stream, lines } => {
                        let lines =
                            lines.into_iter().map(|line| format!("{node} {stream}: {line}"));
                        self.printed.extend(lines);
                        continue;
                    }
                    Said::Found { node, changes, by } => Input::Discover { node, changes, by },
                    Said::Answer { id, result } => Input::Finished { id, result },
                });
            }
            self.step(Input::Tick);
        }
        is_so(self)
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now.0 + millis;
        assert!(self.until(|world| world.now.0 >= end));
    }

    fn is(&self, node: &NodeId, path: &str, value: &str) -> bool {
        self.engine.node(node).is_some_and(|view| view.dsc.text(path) == Some(value))
    }

    fn runs(&self, node: &NodeId) -> bool {
        self.is(node, "image_state", "ACTIVE") && self.is(node, "run_state", "SYNC")
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[test]
fn an_engine_elsewhere_brings_a_machine_to_its_images_and_back_after_power_was_lost() {
    let mut world = World::new();
    // Its name is that of another machine's number.
    let (first, second) = (node("n1"), node("login"));
    let cfg = world.app.cfg(0, Wish::Runs(0));
    world.configure(&first, Some(cfg.clone()));
    let mut two = cfg.clone();
    two.set(Path::known("images.shell.digest"), format!("sha256:{:064x}", 9));
    assert!(world.app.registry().validate(Side::Cfg, &two).is_empty());
    world.configure(&second, Some(two));
    assert!(world.until(|world| world.runs(&first) && world.runs(&second)));
    let shell = |world: &World, value| world.is(&second, "images.shell.state", value);
    assert!(shell(&world, "running") && !world.is(&first, "images.shell.state", "running"));

    assert!(world.until(|world| world.printed.len() == 3));
    assert!(world.printed.iter().any(|line| line.starts_with("login shell: ")));

    world.field.strike(&first, Blow::Power, true);
    assert!(world.until(|world| world.is(&first, "phys_state", "POWER_OFF")));
    world.pass(60_000);
    assert!(!world.runs(&first) && world.runs(&second));
    world.field.strike(&first, Blow::Power, false);
    assert!(world.until(|world| world.runs(&first)));

    // One image less is a swap: nothing else happens to the machine.
    world.configure(&second, Some(cfg));
    assert!(world.until(|world| world.runs(&second) && !shell(world, "running")));
}

#[test]
fn a_machine_whose_node_is_taken_away_stays_and_is_the_same_when_it_comes_again() {
    let mut world = World::new();
    let node = node("n7");
    let cfg = world.app.cfg(0, Wish::Runs(0));
    world.configure(&node, Some(cfg.clone()));
    assert!(world.until(|world| world.runs(&node)));
    world.configure(&node, None);
    world.pass(60_000);
    assert!(world.engine.node(&node).is_none());
    world.configure(&node, Some(cfg));
    // It was on all the time.
    assert!(world.until(|world| world.is(&node, "phys_state", "POWER_ON")));
    assert!(world.until(|world| world.runs(&node)));
}

#[test]
fn however_often_agents_start_machines_are_asked_for_their_power_as_often_as_before() {
    let mut world = World::new();
    let node = node("n1");
    let cfg = world.app.cfg(0, Wish::Runs(0));
    world.configure(&node, Some(cfg));
    assert!(world.until(|world| world.runs(&node)));
    let in_ten_minutes = |world: &mut World| {
        let before = world.events;
        world.pass(600_000);
        world.events - before
    };
    let before = in_ten_minutes(&mut world);
    for _ in 0..20 {
        world.field.crash_agent(&node);
        world.pass(30_000);
        assert!(world.until(|world| world.runs(&node)));
    }
    let after = in_ten_minutes(&mut world);
    assert!(after < before + before / 4, "{before} events in ten minutes, then {after}");
}
