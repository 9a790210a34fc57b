//! A plan from the command line to a real server and back, in a network namespace of its own.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::Lab;
use std::path::Path;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_was_planned_and_kept_is_applied_once_and_refused_when_the_state_moved_on() {
    let lab = Lab::new(&[]);
    let file = lab.cluster("on");
    let plan = lab.dir.join("plan.json");
    let said = lab.says(&["plan", "-f", path(&file), "--save", path(&plan)]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("NODES   TAKES  DONE"), "{said}");
    assert!(lines[1].starts_with("n[1-2]") && lines[1].contains("power.on, boot.arm"), "{said}");
    assert!(said.contains("2 nodes change: 2 with steps ahead, 0 disrupted"), "{said}");
    assert!(said.contains("steps that wait for the limit on power.on: 1, "), "{said}");
    for dry in [["plan", "--dry-run"], ["apply", "--dry-run"]] {
        assert_eq!(lab.says(&[&dry[..], &["-f", path(&file)]].concat()), said);
    }
    assert!(!lab.layercake(&["get", "nodes"]).status.success(), "planning applied something");
    assert_eq!(lab.says(&["plan", "-f", path(&file), "-o", "name"]), "n1\nn2\n");
    let json: serde_json::Value =
        serde_json::from_str(&lab.says(&["plan", "-f", path(&file), "-o", "json"])).unwrap();
    assert_eq!(json["plan"]["nodes"][0]["node"], "n1");

    let edited = lab.dir.join("edited.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&edited, text.replace("at_once: 1", "at_once: 2")).unwrap();
    let refused = lab.layercake(&["apply", "--plan", path(&edited)]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it was edited") && said.contains("plan anew"), "{said}");

    let said = lab.says(&["apply", "--plan", path(&plan)]);
    assert!(said.contains("2 nodes changed, revision 1"), "{said}");
    let again = lab.layercake(&["apply", "--plan", path(&plan)]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(said.starts_with("layercake: the plan no longer holds: "), "{said}");
    assert!(said.contains("cfg: it was planned at revision 0, now it is 1"), "{said}");

    let refused = lab.layercake(&["apply", "--plan", path(&file)]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is no plan") && said.contains("layercake plan -f"), "{said}");
    let said = lab.says(&["plan", "-f", path(&lab.cluster("on"))]);
    assert_eq!(said, "nothing changes\n");
}

#[test]
fn the_graph_is_drawn_for_all_and_for_a_node_and_checked() {
    let lab = Lab::new(&[]);
    let dot = lab.says(&["graph"]);
    assert!(dot.starts_with("digraph mutations {") && dot.ends_with("}\n"), "{dot}");
    assert!(
        dot.contains("label=\"power.off\\ndisruptive\\nneeds cfg power.driver is set"),
        "{dot}"
    );
    assert_eq!(lab.says(&["graph", "check"]), "nothing found\n");
    lab.says(&["apply", "-f", path(&lab.cluster("on"))]);
    let mermaid = lab.says(&["graph", "--node", "n1", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR") && mermaid.contains("==>|\"1. "), "{mermaid}");
    let json = lab.says(&["graph", "--node", "n1", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let join = json["mutations"].as_array().unwrap();
    let join = join.iter().find(|edge| edge["mutation"] == "sync.join").unwrap();
    let closed = join["closed"].as_array().unwrap();
    assert!(closed.contains(&"run_state is UNKNOWN, not INIT".into()), "{join}");
    let missing = lab.layercake(&["graph", "--node", "n9"]);
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(
        (missing.status.code(), said.as_str()),
        (Some(1), "layercake: no such node: n9 (did you mean n1?)\n")
    );
}
