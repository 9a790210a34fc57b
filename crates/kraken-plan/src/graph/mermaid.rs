//! The graph in the language of Mermaid, which forges and wikis draw by themselves.

use super::{Graph, Kind};

impl Graph {
    /// The graph for Mermaid, with the same marks as [`Graph::dot`]: thick arrows are the way ahead.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        let (mut here, mut wanted) = (Vec::new(), Vec::new());
        for (at, variable) in self.variables.iter().enumerate() {
            out.push_str(&format!("  subgraph v{at} [{}]\n", quoted(variable.path.as_str())));
            for (place, value) in variable.values.iter().enumerate() {
                out.push_str(&format!("    v{at}_{place}[{}]\n", quoted(value)));
                if variable.is.as_ref() == Some(value) {
                    here.push(format!("v{at}_{place}"));
                }
                if variable.wanted.as_ref() == Some(value) {
                    wanted.push(format!("v{at}_{place}"));
                }
            }
            out.push_str("  end\n");
        }
        let (mut red, mut grey) = (Vec::new(), Vec::new());
        for (number, arrow) in self.arrows().enumerate() {
            let line = match arrow.kind {
                Kind::Expected if arrow.edge.step.is_some() => "==>",
                Kind::Expected => "-->",
                Kind::Possible | Kind::Timeout => "-.->",
            };
            let label = quoted(&self.label(&arrow).join("\n"));
            let ((from, at), (to, end)) = (arrow.from, arrow.to);
            out.push_str(&format!("  v{from}_{at} {line}|{label}| v{to}_{end}\n"));
            if arrow.is_faint(self) {
                grey.push(number.to_string());
            } else if arrow.edge.disruptive && arrow.kind == Kind::Expected {
                red.push(number.to_string());
            }
        }
        for (numbers, style) in [(red, "stroke:red"), (grey, "stroke:lightgrey,color:grey")] {
            if !numbers.is_empty() {
                out.push_str(&format!("  linkStyle {} {style}\n", numbers.join(",")));
            }
        }
        for (places, style) in [(here, "fill:lightblue"), (wanted, "stroke-width:4px")] {
            for place in places {
                out.push_str(&format!("  style {place} {style}\n"));
            }
        }
        out
    }
}

/// Text as a quoted string of the language, which has no escapes but HTML's.
fn quoted(text: &str) -> String {
    let text = text.replace('&', "#amp;").replace('"', "#quot;");
    let text = text.replace('<', "#lt;").replace('>', "#gt;").replace('\n', "<br>");
    format!("\"{text}\"")
}
