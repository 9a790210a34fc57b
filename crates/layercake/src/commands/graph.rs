//! `layercake graph`: the mutations that there are, drawn and checked.

use super::Failure;
use crate::args::{GraphFormat, Output};
use crate::client::{Client, quoted};
use crate::show;
use kraken_model::counted;
use layercake_server::api::{Found, Graph};

pub(crate) async fn draw(
    client: &Client,
    output: Output,
    format: Option<GraphFormat>,
    node: Option<&str>,
) -> Result<(), Failure> {
    let query = node.map(|node| format!("?node={}", quoted(node))).unwrap_or_default();
    let graph: Graph = client.get(&format!("/v1/graph{query}")).await?;
    let drawn = match format {
        Some(GraphFormat::Json) => serde_json::to_string_pretty(&graph)?,
        Some(GraphFormat::Mermaid) => graph.mermaid(),
        Some(GraphFormat::Dot) => graph.dot(),
        None => {
            let names = || graph.mutations.iter().map(|edge| edge.mutation.to_string()).collect();
            // A program reads it, also from a terminal: no line is broken.
            if output == Output::Table {
                return show::text(graph.dot().trim_end());
            }
            return show::answer(output, &serde_json::to_value(&graph)?, String::new, names);
        }
    };
    show::text(drawn.trim_end())
}

/// Shows what a check finds. Finding something is a failure, so that a script notices.
pub(crate) async fn check(client: &Client, output: Output) -> Result<(), Failure> {
    let found: Vec<Found> = client.get("/v1/graph/check").await?;
    let lines = || found.iter().map(|found| found.text.clone()).collect::<Vec<_>>();
    let table = || if found.is_empty() { "nothing found".to_owned() } else { lines().join("\n") };
    show::answer(output, &serde_json::to_value(&found)?, table, lines)?;
    verdict(found.len())
}

fn verdict(findings: usize) -> Result<(), Failure> {
    match findings {
        0 => Ok(()),
        count => Err(counted(count, "finding").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_failure() {
        let said = [0, 1, 2].map(|findings| verdict(findings).map_err(|error| error.to_string()));
        let failed = |text: &str| Err(text.to_owned());
        assert_eq!(said, [Ok(()), failed("1 finding"), failed("2 findings")]);
    }
}
