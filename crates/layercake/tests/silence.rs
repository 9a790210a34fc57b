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

/// The value of a node, if it has one.
fn value(
    sim: &Sim,
    node: &str,
    of: impl Fn(&serde_json::Value) -> serde_json::Value,
) -> serde_json::Value {
    let nodes = sim.says(&["get", "nodes", node, "-o", "json"]);
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    of(&nodes[0])
}

fn kind(sim: &Sim, node: &str) -> String {
    let explained = sim.says(&["explain", node, "-o", "json"]);
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    explained[0]["explanation"]["status"]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn a_node_that_is_cut_off_is_power_cycled_once_and_only_if_its_policy_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "60", "--speed", "120"]);
    sim.until("image_state=ACTIVE", 60);
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let file = file.join("cluster.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("groups:\n", "groups:\n  storage: { nodes: n005, silence: ask }\n  quiet: { nodes: n025, silence: wait }\n");
    std::fs::write(&file, text).unwrap();
    sim.says(&["apply", "-f", file.to_str().unwrap()]);
    let nodes = "n005,n025,n037";
    sim.says(&["sim", "fault", "add", "cut-off", nodes]);
    assert!(
        sim.eventually(|| ["n005", "n025", "n037"]
            .iter()
            .all(|node| kind(&sim, node) == "unheard"))
    );
    assert_eq!((cuts(&sim, "n005"), cuts(&sim, "n025"), cuts(&sim, "n037")), (0, 0, 1));
    let text = sim.says(&["explain", nodes]);
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with('n')).collect();
    for (said, why) in said.iter().zip([
        "phys_state is POWER_ON; power.off would end what runs there, and its policy is to ask: retry",
        "phys_state is POWER_ON; power.off would end what runs there, and its policy is to wait",
        "phys_state is PHYS_HANG; it was recovered once, ",
    ]) {
        assert!(said.contains(": is not heard since 20") && said.contains(why), "{said}");
    }
    assert!(said[2].contains("most likely the network between server and node"), "{text}");
    assert!(
        text.contains("boot.serve failed: its module said it was done, but that was not"),
        "{text}"
    );
    let status = sim.says(&["status"]);
    assert!(
        status.contains("3 not heard and left alone: layercake events --kind unheard"),
        "{status}"
    );
    assert_eq!(sim.says(&["events", "--kind", "unheard"]).lines().count(), 3);
    assert_eq!(value(&sim, "n037", |node| node["dsc"]["recovery"]["tried"].clone()), 1);
    // One more, when a person says so.
    sim.says(&["retry", "n005,n037"]);
    assert!(sim.eventually(|| cuts(&sim, "n037") == 2 && kind(&sim, "n037") == "unheard"));
    assert!(sim.eventually(|| cuts(&sim, "n005") == 1 && kind(&sim, "n005") == "unheard"));
    // Those that can be heard again come by themselves, also one that was in the middle of its boot.
    sim.says(&["sim", "fault", "clear", "--all"]);
    sim.until("image_state=ACTIVE", 60);
    assert_eq!(cuts(&sim, "*"), 3);
    assert!(value(&sim, "n037", |node| node["dsc"]["recovery"].clone()).is_null());
    sim.end();
}
