//! What a module set looks like.

use crate::words::*;
use kraken_plan::{Graph, Guard, ModuleSet, Mutation};
use std::process::{Command, Stdio};

const POWER: (&str, &[&str]) = ("power", &["UNKNOWN", "OFF", "ON"]);
const RUN: (&str, &[&str]) = ("run", &["UNKNOWN", "UP"]);

fn mutations() -> Vec<Mutation> {
    vec![
        moving("ask", "power", "UNKNOWN", "OFF").or_finds("ON"),
        moving("on", "power", "OFF", "ON").requires(Guard::is("f", true)),
        moving("off", "power", "ON", "OFF").excludes(Guard::is("run", "UP")).disruptive(),
        moving("boot", "run", "UNKNOWN", "UP")
            .requires(Guard::is("power", "ON"))
            .on_timeout("power", "UNKNOWN"),
    ]
}

fn set() -> ModuleSet {
    ModuleSet::new(&registry(&[POWER, RUN]), mutations()).unwrap()
}

/// A node that is up and should be off.
fn of_a_node() -> Graph {
    let set = set();
    let (cfg, dsc) = (doc(&[("power", "OFF")]), doc(&[("power", "ON"), ("run", "UP")]));
    let (goal, facts) = (set.goal(&cfg), set.facts(&cfg, &dsc));
    Graph::at(&set, "n1", goal, facts, set.state(&dsc)).with_way(["m.on"])
}

/// What Graphviz makes of a text, or what it has against it.
fn drawn(text: &str) -> String {
    let mut command = Command::new("dot");
    command.arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dot = command.spawn().expect("dot is missing: cargo xtask deps");
    std::io::Write::write_all(&mut dot.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = dot.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_value_is_a_box_and_every_move_an_arrow_that_graphviz_draws() {
    let svg = drawn(&Graph::new(&set()).dot());
    let boxes = svg.matches("class=\"node\"").count();
    let arrows = svg.matches("class=\"edge\"").count();
    let frames = svg.matches("class=\"cluster\"").count();
    // One arrow for each move, one for what may be found instead, one for the fallback.
    assert_eq!((boxes, arrows, frames), (5, 6, 2), "{svg}");
    for text in ["m.off", "not while run = UP", "needs power = ON", "m.boot takes too long"] {
        assert!(svg.contains(text), "{text}\n{svg}");
    }
}

#[test]
fn a_node_is_where_it_is_and_what_it_cannot_do_has_a_reason() {
    let graph = of_a_node();
    let closed = |name: &str| {
        graph.mutations.iter().find(|edge| edge.mutation.as_ref() == name).unwrap().closed.clone()
    };
    assert_eq!(closed("m.off"), ["not while run = UP"]);
    assert_eq!(closed("m.on"), ["power is ON, not OFF", "needs f = true"]);
    assert_eq!(closed("m.boot"), ["run is UP, not UNKNOWN"]);
    let text = graph.dot();
    assert!(text.contains("v0_2 [label=\"ON\", style=filled, fillcolor=lightblue];"), "{text}");
    assert!(text.contains("v0_1 [label=\"OFF\", peripheries=2];"), "{text}");
    assert!(text.contains("label=\"m.off\\ndisruptive\\nclosed: not while run = UP\""), "{text}");
    assert!(text.contains("v0_1 -> v0_2 [label=\"1. m.on\", style=bold];"), "{text}");
    drawn(&text);
}

#[test]
fn the_same_is_written_for_mermaid() {
    let expected = r#"flowchart LR
  subgraph v0 ["power"]
    v0_0["UNKNOWN"]
    v0_1["OFF"]
    v0_2["ON"]
  end
  subgraph v1 ["run"]
    v1_0["UNKNOWN"]
    v1_1["UP"]
  end
  v0_0 -->|"m.ask"| v0_1
  v0_0 -.->|"m.ask may find"| v0_2
  v0_1 ==>|"1. m.on"| v0_2
  v0_2 -->|"m.off<br>disruptive<br>closed: not while run = UP"| v0_1
  v1_0 -->|"m.boot"| v1_1
  v1_0 -.->|"m.boot takes too long"| v0_0
  linkStyle 0,1,3,4,5 stroke:lightgrey,color:grey
  style v0_2 fill:lightblue
  style v1_1 fill:lightblue
  style v0_1 stroke-width:4px
"#;
    assert_eq!(of_a_node().mermaid(), expected);
}

#[test]
fn names_that_mean_something_in_the_language_are_only_names() {
    let odd: (&str, &[&str]) = ("odd", &["U", "a\"b", "c\\", "<d>&"]);
    let steps = vec![moving("x", "odd", "U", "a\"b"), moving("y", "odd", "c\\", "<d>&")];
    let set = ModuleSet::new(&registry(&[odd]), steps).unwrap();
    let svg = drawn(&Graph::new(&set).dot());
    assert!(svg.contains("a&quot;b") && svg.contains("&lt;d&gt;&amp;"), "{svg}");
    let mermaid = Graph::new(&set).mermaid();
    assert!(mermaid.contains("[\"a#quot;b\"]") && mermaid.contains("[\"#lt;d#gt;#amp;\"]"));
}

#[test]
fn a_graph_is_the_same_after_it_was_written_and_read() {
    let graph = of_a_node();
    let text = serde_json::to_string(&graph).unwrap();
    assert_eq!(serde_json::from_str::<Graph>(&text).unwrap(), graph);
}
