//! The graph in the language of Graphviz.

use super::{Graph, Kind};

impl Graph {
    /// The graph for `dot`: a frame for each variable, a box for each value, an arrow for each move.
    /// Red is disruptive, dashed what may be found instead, dotted where a step falls that takes too
    /// long. For a node: where it is is filled, where it should be has a double border, its way is
    /// bold, and what is closed is grey.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph mutations {\n  rankdir=LR;\n");
        out.push_str("  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n");
        out.push_str("  edge [fontname=\"sans-serif\", fontsize=9];\n");
        if let Some(node) = &self.node {
            out.push_str(&format!("  label={};\n", quoted(node)));
        }
        for (at, variable) in self.variables.iter().enumerate() {
            out.push_str(&format!("  subgraph cluster_{at} {{\n"));
            out.push_str(&format!("    label={};\n", quoted(variable.path.as_str())));
            for (place, value) in variable.values.iter().enumerate() {
                let mut style = String::new();
                if variable.is.as_ref() == Some(value) {
                    style.push_str(", style=filled, fillcolor=lightblue");
                }
                if variable.wanted.as_ref() == Some(value) {
                    style.push_str(", peripheries=2");
                }
                out.push_str(&format!("    v{at}_{place} [label={}{style}];\n", quoted(value)));
            }
            out.push_str("  }\n");
        }
        for arrow in self.arrows() {
            let mut style = Vec::new();
            match arrow.kind {
                Kind::Expected if arrow.edge.step.is_some() => style.push("style=bold"),
                Kind::Expected => {}
                Kind::Possible => style.push("style=dashed"),
                Kind::Timeout => style.push("style=dotted"),
            }
            if arrow.is_faint(self) {
                style.push("color=grey, fontcolor=grey");
            } else if arrow.edge.disruptive && arrow.kind == Kind::Expected {
                style.push("color=red, fontcolor=red");
            }
            let label = quoted(&self.label(&arrow).join("\n"));
            let ((from, at), (to, end)) = (arrow.from, arrow.to);
            let style: String = style.iter().map(|part| format!(", {part}")).collect();
            out.push_str(&format!("  v{from}_{at} -> v{to}_{end} [label={label}{style}];\n"));
        }
        out.push_str("}\n");
        out
    }
}

/// Text as a quoted string of the language, in which a line feed is written `\n`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
