//! `layercake apply` and `layercake diff`.

use super::Failure;
use crate::args::Output;
use crate::client::{Client, quoted};
use crate::show;
use layercake_server::api::Applied;
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
    let done = match (applied.dry_run, applied.nodes.len()) {
        (_, 0) => "nothing changes".to_owned(),
        (true, count) => format!("{count} nodes would change"),
        (false, count) => format!("{count} nodes changed, revision {}", applied.revision),
    };
    lines.push(done);
    lines.join("\n")
}
