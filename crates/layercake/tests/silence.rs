//! What becomes of nodes that are not heard, together or alone.
#![allow(clippy::unwrap_used)]

mod simulated;

use simulated::Sim;

/// A minute a second.
const SPEED: &str = "60";

/// How often the power of nodes was cut, as their events tell.
fn cuts(sim: &Sim, nodes: &str) -> usize {
    let events = sim.says(&["events", nodes, "--kind", "dispatched", "--limit", "10000"]);
    events.lines().filter(|l| l.contains("power.off") || l.contains("power.recover")).count()
}

#[test]
fn a_rack_whose_switch_is_down_for_minutes_is_left_alone_and_everybody_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "130", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 130);
    sim.says(&["sim", "fault", "add", "rack-switch", "r2"]);
    sim.until("run_state=ERROR", 20);
    let status = sim.says(&["status"]);
    let storm = "storm: rack r2: 20 of 20 nodes silent since 20";
    assert!(status.contains(storm) && status.contains("layercake thaw"), "{status}");
    let text = sim.says(&["explain", "n021"]);
    assert!(text.starts_with("n021: rack r2: 20 of 20 nodes silent since 20"), "{text}");
    assert!(text.contains("power.off is held, as every disruptive step there"), "{text}");
    // The storm goes on whatever the file says of storms now, and the rest of the cluster is not held.
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let file = file.join("cluster.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("per: [location.rack] }", "per: [] }").replace("login:1", "login:2");
    std::fs::write(&file, text).unwrap();
    let applied = sim.says(&["apply", "-f", file.to_str().unwrap()]);
    assert!(applied.contains("new: storm guard: more than 20 % and at least 5"), "{applied}");
    let is_swapped = || sim.says(&["history", "n001"]).contains("image.swap");
    assert!(sim.eventually(is_swapped), "{}", sim.says(&["explain", "n001"]));
    assert!(sim.says(&["status"]).contains(storm));
    sim.says(&["sim", "fault", "clear", "--all"]);
    sim.until("image_state=ACTIVE", 130);
    assert!(!sim.says(&["status"]).contains("storm: "));
    assert_eq!(cuts(&sim, "*"), 0, "{}", sim.says(&["events", "--limit", "1000"]));
    sim.end();
}
