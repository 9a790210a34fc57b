//! `layercake apply` and `layercake diff`.

use super::Failure;
use crate::args::Output;
use crate::client::{Client, quoted};
use crate::show;
use layercake_server::api::{Applied, ChangedLimits};
use std::path::Path;

pub(crate) async fn apply(
    client: &Client,
    output: Output,
    file: &Path,
    dry_run: bool,
) -> Result<(), Failure> {
    let text = read(file)?;
    let name = quoted(&file.display().to_string());
    let path = format!("/v1/cluster?dry_run={dry_run}&name={name}");
    let applied: Applied = client.post(&path, text).await?;
    show_applied(output, &applied)
}

pub(crate) fn show_applied(output: Output, applied: &Applied) -> Result<(), Failure> {
    let names = || applied.nodes.iter().map(|node| node.name.to_string()).collect();
    show::answer(output, &serde_json::to_value(applied)?, || changes(applied), names);
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
    let (count, revision) = (applied.nodes.len(), applied.revision);
    lines.push(match (applied.dry_run, count) {
        (_, 0) if applied.limits.is_empty() => "nothing changes".to_owned(),
        (true, 0) => "no node would change, but limits, which would hold at once".to_owned(),
        (false, 0) => "no node changed, but limits, which hold now".to_owned(),
        (true, count) => format!("{count} nodes would change"),
        (false, count) => format!("{count} nodes changed, revision {revision}"),
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
