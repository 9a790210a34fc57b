//! No source file grows past what fits into a head.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The most lines a Rust file may have.
const MAX_LINES: usize = 600;
/// Where the sources are.
const ROOMS: &[&str] = &["crates", "examples", "fuzz", "tests", "xtask"];

/// Counts the lines of every Rust file below `root`.
pub(crate) fn check(root: &Path) -> Result<String, Error> {
    let mut files = Vec::new();
    for room in ROOMS {
        collect(&root.join(room), &mut files)?;
    }
    let mut wrong = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            let path = path.strip_prefix(root).unwrap_or(path).display();
            wrong.push(format!(
                "{path} has {lines} lines, more than {MAX_LINES}: split it by ideas"
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(format!("{} files, none above {MAX_LINES} lines", files.len()));
    }
    Err(Error::Refused(wrong.join("\n")))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(Error::file("list", dir))?;
        let kind = entry.file_type().map_err(Error::file("look at", entry.path()))?;
        let name = entry.file_name();
        if kind.is_dir() && name != "target" {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && entry.path().extension().is_some_and(|ext| ext == "rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_one_line_too_long_is_named_and_build_output_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let src = root.path().join("crates/a/src");
        fs::create_dir_all(&src).unwrap();
        fs::create_dir_all(root.path().join("fuzz/target")).unwrap();
        fs::write(root.path().join("fuzz/target/x.rs"), "\n".repeat(9999)).unwrap();
        fs::write(src.join("lib.rs"), "//\n".repeat(MAX_LINES)).unwrap();
        assert!(check(root.path()).unwrap().starts_with("1 files"));
        fs::write(src.join("lib.rs"), "//\n".repeat(MAX_LINES + 1)).unwrap();
        let error = check(root.path()).unwrap_err().to_string();
        assert!(error.contains("crates/a/src/lib.rs has 601 lines"), "{error}");
    }
}
