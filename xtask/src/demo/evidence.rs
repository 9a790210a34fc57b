//! What is kept and shown of a cluster that did not do what it should.

use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::{Cluster, whatever};
use crate::run::root;

/// How many lines of each log are shown.
const SHOWN_LINES: usize = 25;
/// How long a line of a console is shown; firmware clears the screen with hundreds of blanks.
const SHOWN_CHARS: usize = 160;

/// Where evidence is kept, until the next failure.
fn dir() -> PathBuf {
    root().join("target/demo-failure")
}

/// Keeps everything that tells what happened, and shows the ends that concern `node`.
pub(super) fn keep(cluster: &Cluster, node: &str) {
    let dir = dir();
    // Evidence is worth having in part; what cannot be kept is not there.
    let _ = fs::remove_dir_all(&dir);
    let _ = fs::create_dir_all(&dir);
    let _ = fs::copy(cluster.file(), dir.join("cluster.yaml"));
    let _ = fs::copy(cluster.log(), dir.join("serve.log"));
    for node in ["n1", "n2", "n3"] {
        for file in ["console.log", "qemu.log"] {
            let _ = fs::copy(cluster.machine_file(node, file), dir.join(format!("{node}.{file}")));
        }
    }
    let said = [
        ("nodes.json", &["--output", "json", "get", "nodes"][..]),
        ("explain.txt", &["explain", "n[1-3]"]),
        ("events.txt", &["events", "--limit", "10000"]),
        ("status.txt", &["status"]),
    ];
    for (file, args) in said {
        let _ = fs::write(dir.join(file), whatever(&mut cluster.client.command(args)));
    }
    show("the server's log", &dir.join("serve.log"));
    show(&format!("the console of {node}"), &dir.join(format!("{node}.console.log")));
    show("what is done about the nodes", &dir.join("explain.txt"));
    println!("everything is kept in {}", dir.display());
}

fn show(what: &str, path: &Path) {
    let bytes = fs::read(path).unwrap_or_default();
    println!("----- the end of {what} -----");
    for line in last_lines(&String::from_utf8_lossy(&bytes)) {
        println!("{line}");
    }
    println!("-----");
}

/// The last lines that say something, without what would move the reader's cursor.
fn last_lines(text: &str) -> Vec<String> {
    let printable = |line: &str| -> String {
        let kept = line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect::<String>();
        kept.trim_end().to_owned()
    };
    let lines: Vec<_> = text.lines().map(printable).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_console_are_shown_without_its_escapes() {
        let mut console = "\x1b[2J\n\nfirst\r\n".to_owned();
        assert_eq!(last_lines(&console), ["[2J", "first"]);
        console.push_str(&"more\n".repeat(SHOWN_LINES));
        let lines = last_lines(&console);
        assert_eq!((lines.len(), lines[0].as_str()), (SHOWN_LINES, "more"));
    }
}
