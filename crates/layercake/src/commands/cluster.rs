//! `layercake apply` and `layercake diff`.

use super::Failure;
use super::nodes::confirm;
use crate::args::{Agreed, Output};
use crate::client::{Client, ClientError, quoted};
use crate::show;
use kraken_model::{NodeSet, counted};
use layercake_server::api::{Applied, ChangedLimits, Confirmation};
use std::io::IsTerminal;
use std::path::Path;

pub(crate) async fn apply(
    client: &Client,
    output: Output,
    file: &Path,
    agreed: Agreed,
) -> Result<(), Failure> {
    let text = read(file)?;
    let name = quoted(&file.display().to_string());
    let apply = async |query: String| -> Result<Applied, ClientError> {
        client.post(&format!("/v1/cluster?name={name}&{query}"), text.clone()).await
    };
    show_applied(output, &agreeing(agreed, apply).await?)
}

pub(crate) async fn diff(client: &Client, output: Output, file: &Path) -> Result<(), Failure> {
    let text = read(file)?;
    let name = quoted(&file.display().to_string());
    let applied: Applied =
        client.post(&format!("/v1/cluster?dry_run=true&name={name}"), text).await?;
    show_applied(output, &applied)
}

/// Applies with what is permitted beforehand, and asks for the removal of nodes that is not.
pub(crate) async fn agreeing(
    agreed: Agreed,
    apply: impl AsyncFn(String) -> Result<Applied, ClientError>,
) -> Result<Applied, Failure> {
    let Agreed { yes, rename } = agreed;
    let problem = match apply(format!("rename={rename}&remove={yes}")).await {
        Err(ClientError::Refused(problem)) => problem,
        done => return Ok(done?),
    };
    let removed = problem.confirm.as_ref().and_then(|confirm| match &**confirm {
        Confirmation { renamed: None, removed } => removed.as_ref(),
        _ => None,
    });
    let Some(removed) = removed.filter(|_| std::io::stdin().is_terminal()) else {
        return Err(ClientError::Refused(problem).into());
    };
    confirm(&format!("{removed}\nThey are no longer looked after. Apply it?"))?;
    // Those that were shown, and no others that may have come since.
    let remove = quoted(&removed.digest);
    Ok(apply(format!("rename={rename}&remove={remove}")).await?)
}

pub(crate) fn show_applied(output: Output, applied: &Applied) -> Result<(), Failure> {
    let names = || applied.nodes.iter().map(|node| node.name.to_string()).collect();
    show::answer(output, &serde_json::to_value(applied)?, || changes(applied), names)?;
    for note in &applied.notes {
        show::note(note);
    }
    Ok(())
}

pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| format!("cannot read {}: {error}", file.display()).into())
}

fn changes(applied: &Applied) -> String {
    let mut lines = Vec::new();
    for node in &applied.nodes {
        let what = match (node.added, node.removed) {
            (true, _) => " (new)",
            (_, true) => " (removed)",
            _ => "",
        };
        lines.push(format!("{}{what}", node.name));
        for change in &node.changes {
            lines.push(match (&change.before, &change.after) {
                (Some(before), Some(after)) => format!("  {}: {before} -> {after}", change.path),
                (Some(before), None) => format!("  {}: {before} -> nothing", change.path),
                (None, Some(after)) => format!("  {}: {after}", change.path),
                (None, None) => continue,
            });
        }
    }
    lines.extend(limit_lines(&applied.limits));
    let removed = applied.nodes.iter().filter(|node| node.removed);
    let removed: NodeSet = removed.map(|node| node.name.clone()).collect();
    if !removed.is_empty() {
        lines.push(format!("removed, and no longer looked after: {removed}"));
    }
    let (count, revision) = (applied.nodes.len(), applied.revision);
    lines.push(match (applied.dry_run, count) {
        (_, 0) if applied.limits.is_empty() => "nothing changes".to_owned(),
        (true, 0) => "no node would change, but limits, which would hold at once".to_owned(),
        (false, 0) => "no node changed, but limits, which hold now".to_owned(),
        (true, count) => format!("{} would change", counted(count, "node")),
        (false, count) => format!("{} changed, revision {revision}", counted(count, "node")),
    });
    lines.join("\n")
}

/// The limits that come and go, one a line.
pub(crate) fn limit_lines(limits: &ChangedLimits) -> Vec<String> {
    if limits.is_empty() {
        return Vec::new();
    }
    let gone = limits.go.iter().map(|limit| format!("  gone: {limit}"));
    let new = limits.come.iter().map(|limit| format!("  new: {limit}"));
    ["limits".to_owned()].into_iter().chain(gone).chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_limits_alone_is_said() {
        let limits = ChangedLimits {
            come: vec!["power.on: 2 at a time".to_owned()],
            go: vec!["power.on: 1 at a time".to_owned()],
        };
        let applied =
            Applied { dry_run: true, revision: 0, nodes: Vec::new(), limits, notes: Vec::new() };
        let lines = [
            "limits",
            "  gone: power.on: 1 at a time",
            "  new: power.on: 2 at a time",
            "no node would change, but limits, which would hold at once",
        ];
        assert_eq!(changes(&applied), lines.join("\n"));
        let same = Applied { limits: ChangedLimits::default(), ..applied };
        assert_eq!(changes(&same), "nothing changes");
    }
}
