//! What is run: a program of a file, with its arguments.

use crate::fields::words;
use kraken_process::Run;
use kraken_yaml::{Node, Report};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The shell, where one is asked for.
const SHELL: &str = "/bin/sh";

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// Where it runs: beside its file.
    pub(crate) dir: PathBuf,
}

impl Program {
    /// Reads `command: [program, argument, …]` or `shell: text`; nothing when neither is there.
    pub(crate) fn read(
        section: &Node,
        path: &str,
        dir: &Path,
        report: &mut Report,
    ) -> Option<Self> {
        let (command, shell) = (section.get("command"), section.get("shell"));
        if let (Some(_), Some(shell)) = (command, shell) {
            let what = format!("{path} has a command and a shell");
            report.add(shell.at, path, what, "one of both is run", "leave one out");
        }
        if let Some(shell) = shell {
            let text = shell.text().filter(|text| !text.trim().is_empty());
            let Some(text) = text else {
                let what = format!("{path}.shell is no text");
                report.add(shell.at, path, what, "it is what the shell runs", "");
                return None;
            };
            let args = vec!["-c".to_owned(), text.to_owned()];
            return Some(Self { path: SHELL.into(), args, dir: dir.to_owned() });
        }
        let command = command?;
        let words = words(command).filter(|words| !words.is_empty());
        let Some(mut words) = words else {
            let what = format!("{path}.command is no list of words");
            let hint = "write [program, argument]; with shell instead of command, a shell reads it";
            report.add(command.at, path, what, "no shell takes it apart", hint);
            return None;
        };
        let name = words.remove(0);
        match find(&name, dir) {
            Ok(program) => Some(Self { path: program, args: words, dir: dir.to_owned() }),
            Err(why) => {
                let hint = "a relative one is looked for beside this file, a bare name in PATH";
                report.add(command.at, path, format!("{name} cannot be run"), why, hint);
                None
            }
        }
    }

    /// What the program and the files among its arguments are now, as far as there are such: another one has other
    /// stamps. What they read besides, nobody knows.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        let words = self.args.iter().map(|word| self.dir.join(word));
        let files = std::iter::once(self.path.clone()).chain(words);
        files.filter_map(|file| Stamp::of(&file)).collect()
    }

    pub(crate) fn run(&self, limit: Duration) -> Run {
        Run::new(&self.path, &self.args, limit).in_dir(&self.dir)
    }

    #[cfg(feature = "grpc")]
    pub(crate) fn service(&self) -> Run {
        Run::service(&self.path, &self.args).in_dir(&self.dir)
    }
}

/// By what a file is told from the one that stood there before, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    /// When it was written to: seconds and nanoseconds since 1970.
    written: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let written = (about.mtime(), about.mtime_nsec());
        Some(Self { path: path.to_owned(), inode: about.ino(), bytes: about.len(), written })
    }
}

/// The program of a name: looked for now, so that a mistake is said before anything needs it.
fn find(name: &str, dir: &Path) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = dir.join(name);
        return executable(&path).map(|()| path).map_err(|why| format!("{name}: {why}"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(name));
    found.find(|path| executable(path).is_ok()).ok_or_else(|| "it is not in PATH".to_owned())
}

fn executable(path: &Path) -> Result<(), String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    match about.is_file() && about.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err("it is not executable: chmod +x".to_owned()),
    }
}
