//! A fault that is common to a rack, or to what hangs on a switch, must not reboot what is behind it.

use crate::words::*;
use kraken_engine::{Command, Domain, Input, Output, Settings, Storm, What};
use kraken_model::Path;
use std::collections::BTreeSet;
use std::time::Duration;

const BACK: [(&str, &str); 2] = [("run_state", "SYNC"), ("image_state", "ACTIVE")];
const LOST: [(&str, &str); 1] = [("run_state", "ERROR")];

fn storm() -> Storm {
    let powered = Some((Path::known("phys_state"), "ON".into()));
    let per = vec![Path::known("location.rack"), Path::known("facts.switch")];
    Storm { per, powered, ..Storm::default() }
}

/// Nodes in racks of a size, all of them running.
struct Racks {
    bench: Bench,
    size: usize,
}

impl Racks {
    fn new(storm: Storm, nodes: usize, size: usize) -> Self {
        let settings = Settings { storm, ..Settings::default() };
        let mut racks = Self { bench: Bench::new(settings), size };
        for n in 0..nodes {
            racks.wants(n, n / size);
        }
        racks.bench.input(Input::Tick);
        for n in 0..nodes {
            let up = [("phys_state", "ON"), BACK[0], BACK[1]];
            racks.bench.discover(&name(n), &up);
            assert_eq!(racks.status(n), "converged");
        }
        racks
    }

    fn wants(&mut self, n: usize, rack: usize) {
        let mut cfg = running();
        cfg.set(Path::known("location.rack"), format!("r{rack}").as_str());
        self.bench.configure(&name(n), cfg);
    }

    /// The nodes of a rack.
    fn rack(&self, rack: usize) -> std::ops::Range<usize> {
        rack * self.size..(rack + 1) * self.size
    }

    /// Nodes are found silent, half a second apart.
    fn lose(&mut self, nodes: impl IntoIterator<Item = usize>) -> Vec<Output> {
        let mut out = Vec::new();
        for n in nodes {
            out.extend(self.bench.discover(&name(n), &LOST));
            out.extend(self.pass(Duration::from_millis(500)));
        }
        out
    }

    fn back(&mut self, nodes: impl IntoIterator<Item = usize>) -> Vec<Output> {
        nodes.into_iter().flat_map(|n| self.bench.discover(&name(n), &BACK)).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        self.bench.pass(time)
    }

    fn status(&self, n: usize) -> &'static str {
        self.bench.status(&name(n))
    }

    fn text(&mut self, n: usize) -> String {
        self.bench.explain(&name(n)).to_string()
    }

    fn steps(&self, out: &[Output]) -> Vec<String> {
        dispatched(&self.bench.set, out)
    }

    fn storms(&self) -> Vec<String> {
        self.bench.engine.summary().storms.iter().map(ToString::to_string).collect()
    }
}

fn name(n: usize) -> String {
    format!("n{n}")
}

fn rack(n: usize) -> Option<Domain> {
    Some(Domain { per: Path::known("location.rack"), value: format!("r{n}").into() })
}

#[test]
fn a_switch_that_is_down_gets_none_of_its_nodes_rebooted_and_holds_nobody_else_up() {
    let mut racks = Racks::new(storm(), 150, 20);
    let mut out = racks.lose(racks.rack(1));
    let began = What::StormHold { lost: 5, nodes: 20, domain: rack(1) };
    assert!(journal(&out).contains(&began), "{:?}", journal(&out));
    out.extend(racks.lose([100]));
    out.extend(racks.pass(seconds(3600)));
    let disrupted: BTreeSet<String> = racks.steps(&out).into_iter().collect();
    assert!(disrupted.contains("n100 power.off"), "elsewhere one is one: {disrupted:?}");
    assert!(disrupted.iter().all(|step| step.starts_with("n100 ")), "{disrupted:?}");
    assert_eq!((racks.status(20), racks.status(0)), ("storm_hold", "converged"));
    let text = racks.text(20);
    let said = "n20: rack r1: 20 of 20 nodes silent since 1970-01-01T00:16:40Z: power.off is held, \
                as every disruptive step there; look for a common cause, then thaw or release";
    assert!(text.starts_with(said), "{text}");
    assert_eq!(racks.storms(), ["rack r1: 20 of 20 nodes silent since 1970-01-01T00:16:40Z"]);
    let out = racks.back(racks.rack(1));
    let over = |what: &What| matches!(what, What::StormOver { domain, .. } if *domain == rack(1));
    assert!(journal(&out).iter().any(over));
    assert!(orders(&out).is_empty() && racks.storms().is_empty());
    assert_eq!(racks.status(39), "converged");
}

#[test]
fn small_racks_have_storms_of_their_own_and_two_that_are_lost_together_get_more_time() {
    for (size, fewest) in [(3, 3), (4, 3), (6, 4), (8, 5), (20, 5), (40, 9)] {
        let mut racks = Racks::new(storm(), 400 / size * size, size);
        let first = racks.rack(2).start;
        racks.lose(first..first + fewest - 1);
        assert_eq!(racks.storms(), [] as [&str; 0], "{} of {size}", fewest - 1);
        racks.lose([first + fewest - 1]);
        assert_eq!(racks.storms().len(), 1, "{fewest} of {size}");
    }
    let mut racks = Racks::new(storm(), 40, 2);
    let mut out = racks.lose([4, 5]);
    out.extend(racks.pass(seconds(240)));
    assert!(orders(&out).is_empty());
    let text = racks.text(4);
    let said = "n4: was lost 4 min ago with 1 other node of rack r2, and has power";
    assert!(text.starts_with(said), "{text}");
    racks.back([5]);
    let out = racks.pass(seconds(70));
    assert_eq!(racks.steps(&out), ["n4 power.off"], "the other one is back");
}

#[test]
fn patience_is_for_nodes_that_have_power_and_for_neighbours_that_were_lost_with_them() {
    let mut racks = Racks::new(storm(), 40, 4);
    racks.bench.discover("n4", &[("phys_state", "HANG"), ("run_state", "ERROR")]);
    racks.lose([5]);
    let out = racks.pass(seconds(15));
    assert_eq!(racks.steps(&out)[0], "n4 power.recover", "it does not look as if it had power");
    assert_eq!(racks.status(5), "settling");
    let mut racks = Racks::new(storm(), 40, 4);
    racks.lose([4]);
    racks.pass(seconds(400));
    racks.lose([5]);
    let out = racks.pass(seconds(15));
    assert_eq!(racks.steps(&out), ["n5 power.off"], "n4 is away since long before");
    racks.lose([8]);
    let out = racks.pass(seconds(15));
    assert_eq!(racks.steps(&out).first().unwrap(), "n8 power.off", "in another rack");
}

#[test]
fn a_node_is_in_every_domain_that_its_cfg_names() {
    let mut racks = Racks::new(storm(), 40, 4);
    for n in (0..40).step_by(4) {
        let mut cfg = running();
        cfg.set(Path::known("location.rack"), format!("r{}", n / 4).as_str());
        cfg.set(Path::known("facts.switch"), "s1");
        racks.bench.configure(&name(n), cfg);
    }
    let mut out = racks.lose((0..40).step_by(4).take(6));
    out.extend(racks.pass(seconds(3600)));
    assert!(orders(&out).is_empty());
    assert!(racks.text(0).starts_with("n0: switch s1: 6 of 10 nodes silent since"));
}

#[test]
fn an_operator_lets_a_rack_pass_or_ends_all_storms() {
    let mut racks = Racks::new(storm(), 150, 20);
    racks.lose(racks.rack(1).chain(racks.rack(2)));
    assert_eq!(racks.storms().len(), 3, "two racks, and the cluster: {:?}", racks.storms());
    racks.back(racks.rack(2));
    assert_eq!(racks.storms().len(), 1);
    racks.pass(seconds(60));
    let out = racks.bench.command(Command::Thaw { node: Some(node("n20")) });
    assert_eq!(racks.steps(&out), ["n20 power.off"]);
    assert_eq!(racks.status(21), "storm_hold");
    let out = racks.bench.command(Command::Release { node: node("n21") });
    assert_eq!(racks.steps(&out), ["n21 power.off"]);
    let out = racks.bench.command(Command::Thaw { node: None });
    assert_eq!(racks.steps(&out).len(), 18);
    assert!(racks.storms().is_empty());
}

#[test]
fn another_guard_ends_no_storm_that_lasts_and_counts_for_the_next_one() {
    let mut racks = Racks::new(storm(), 150, 20);
    racks.lose(racks.rack(1));
    for guard in [
        Storm { share_percent: 100, min: 1000, ..storm() },
        Storm { per: Vec::new(), ..storm() },
        Storm { per: vec![Path::known("facts.switch")], ..storm() },
    ] {
        racks.bench.input(Input::Storm(guard));
        let out = racks.pass(seconds(3600));
        assert!(orders(&out).is_empty());
        assert_eq!(racks.status(20), "storm_hold");
        assert_eq!(racks.storms(), ["rack r1: 20 of 20 nodes silent since 1970-01-01T00:16:40Z"]);
    }
    racks.wants(20, 1);
    assert_eq!(racks.status(20), "storm_hold", "also when its cfg is looked at again");
    racks.back(racks.rack(1));
    assert!(racks.storms().is_empty());
    racks.pass(seconds(60));
    let mut out = racks.lose(racks.rack(1));
    out.extend(racks.pass(seconds(15)));
    assert_eq!(racks.steps(&out).iter().filter(|step| step.ends_with("power.off")).count(), 20);
}

#[test]
fn a_guard_that_is_added_while_a_rack_is_silent_holds_what_was_not_done_yet() {
    let mut racks = Racks::new(Storm { settle: seconds(30), per: Vec::new(), ..storm() }, 150, 20);
    racks.lose(racks.rack(1));
    racks.bench.input(Input::Storm(storm()));
    assert_eq!(racks.storms().len(), 1);
    let out = racks.pass(seconds(3600));
    assert!(orders(&out).is_empty(), "{:?}", racks.steps(&out));
}

#[test]
fn a_lost_node_that_is_said_to_stand_elsewhere_counts_there() {
    let mut racks = Racks::new(storm(), 40, 4);
    racks.lose([4, 5]);
    racks.wants(8, 1);
    assert!(racks.storms().is_empty());
    racks.lose([8]);
    assert_eq!(racks.storms()[0][..22], *"rack r1: 3 of 5 nodes ");
    racks.wants(8, 2);
    assert_eq!(racks.storms().len(), 1, "that is no sign that the others are back");
    racks.back([4, 5]);
    assert!(racks.storms().is_empty());
}

#[test]
fn what_is_meant_to_be_off_is_no_part_of_its_rack() {
    let mut racks = Racks::new(storm(), 40, 4);
    for n in [5, 6, 7] {
        racks.bench.configure(&name(n), doc(&[("location.rack", "r1")]));
    }
    racks.lose([4]);
    assert_eq!(racks.bench.engine.summary().lost, 1);
    let out = racks.pass(seconds(15));
    assert_eq!(racks.steps(&out), ["n4 power.off"]);
}
