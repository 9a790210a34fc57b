//! The program that a container runs.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Access;
use rustix::io::Errno;

use super::{Stage, StageFailure, executable};
use crate::image::ImageSpec;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was found, with everything it is started with.
pub(super) struct Program {
    path: PathBuf,
    words: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: PathBuf,
}

impl Program {
    /// Looks for the program, so that a missing one is known before the old container is stopped.
    pub(super) fn find(image: &ImageSpec) -> Result<Self, StageFailure> {
        let words = image.command_line();
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
            // Tells systemd and others that they are in a container, and whose
            // (systemd.io/CONTAINER_INTERFACE).
            ("container".to_owned(), "layercake".to_owned()),
        ]);
        env.extend(image.env.clone());
        let workdir = PathBuf::from(image.workdir.as_deref().unwrap_or("/"));
        if !workdir.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(error_at("enter the working directory", &workdir, &error));
        }
        let name = words.first().map(Path::new).unwrap_or(Path::new("/sbin/init"));
        let path = look_up(name, &workdir, env.get("PATH").map_or(DEFAULT_PATH, String::as_str))
            .map_err(|error| error_at("run the program", name, &error))?;
        executable::check(&path)
            .map_err(|reason| error_at("run the program", &path, &io::Error::other(reason)))?;
        Ok(Self { path, words, env, workdir })
    }

    /// The command that starts it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some((name, arguments)) = self.words.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env_clear().envs(&self.env).current_dir(&self.workdir);
        command
    }

    /// Becomes the program; returns only when that failed.
    pub(super) fn replace_this_process(&self) -> StageFailure {
        error_at("run the program", &self.path, &in_words(self.command().exec()))
    }

    /// Starts it as a child.
    pub(super) fn spawn(&self) -> Result<std::process::Child, StageFailure> {
        let started = self.command().spawn().map_err(in_words);
        started.stage(format!("run the program {}", self.path.display()))
    }
}

/// The kernel's last word about a program that looked as if it could run.
fn in_words(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(Errno::NOEXEC.raw_os_error()) {
        return error;
    }
    let machine = executable::own_architecture();
    io::Error::other(format!(
        "the kernel of this {machine} node does not execute files of its kind"
    ))
}

fn error_at(stage: &str, path: &Path, error: &io::Error) -> StageFailure {
    StageFailure::new(format!("{stage} {}", path.display()), error)
}

/// As execvp(3) does, but before it counts.
fn look_up(name: &Path, workdir: &Path, path: &str) -> io::Result<PathBuf> {
    let candidates: Vec<PathBuf> = if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        vec![workdir.join(name)]
    } else {
        path.split(':').map(|dir| workdir.join(dir).join(name)).collect()
    };
    let mut first_reason = None;
    for candidate in candidates {
        match rustix::fs::access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Ok(()) => {}
            Err(error) => {
                first_reason.get_or_insert(io::Error::from(error));
            }
        }
    }
    let reason = first_reason.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    Err(match reason.kind() {
        kind @ io::ErrorKind::NotFound => io::Error::new(kind, "the image has no such file"),
        kind @ io::ErrorKind::PermissionDenied => {
            io::Error::new(kind, "the file is not marked as executable")
        }
        _ => reason,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        let root = Path::new("/");
        assert_eq!(look_up(Path::new("/bin/sh"), root, "").unwrap(), Path::new("/bin/sh"));
        assert_eq!(
            look_up(Path::new("./sh"), Path::new("/bin"), "").unwrap(),
            Path::new("/bin/./sh")
        );
        assert_eq!(look_up(Path::new("sh"), root, "/none:/bin").unwrap(), Path::new("/bin/sh"));
        let missing = look_up(Path::new("sh"), root, "/none").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let not_executable = look_up(Path::new("/etc/passwd"), root, "").unwrap_err();
        assert_eq!(not_executable.kind(), io::ErrorKind::PermissionDenied);
    }
}
