//! Paths of an image, followed inside its root, and files put there.
//!
//! An image may have links where others have directories: `/tmp -> /var/tmp`, `/run -> var/run`, and they may
//! lead nowhere yet. Everything here happens after the change of root, so that even an absolute link leads to
//! the image's own files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// The most links that are followed on the way to one path, as path_resolution(7) has it.
const MAX_LINKS: u32 = 40;

/// The most bytes of a file of an image that are looked at.
const MAX_LOOK: u64 = 64 * 1024;

fn problem(path: &Path, words: &str) -> io::Error {
    io::Error::other(format!("{} in the image {words}", path.display()))
}

/// Makes a directory with its parents and returns where it is without links. A link on the way is
/// followed, and the directory that it names is made when it is missing.
pub(super) fn make_directory(path: &Path) -> io::Result<PathBuf> {
    let mut links = 0;
    let mut ahead: Vec<PathBuf> = components(path);
    let mut at = PathBuf::from("/");
    while let Some(next) = ahead.pop() {
        if next == Path::new("..") {
            at.pop();
            continue;
        }
        let here = at.join(&next);
        match fs::symlink_metadata(&here) {
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(problem(path, "is a link that leads in a circle"));
                }
                let target = fs::read_link(&here)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(components(&target));
            }
            Ok(found) if found.is_dir() => at = here,
            Ok(_) => return Err(problem(&here, "is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&here)?;
                at = here;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// The components of a path, the last first, without what names the directory itself.
fn components(path: &Path) -> Vec<PathBuf> {
    let is_step = |one: &Component<'_>| matches!(one, Component::Normal(_) | Component::ParentDir);
    let mut steps: Vec<PathBuf> =
        path.components().filter(is_step).map(|one| PathBuf::from(one.as_os_str())).collect();
    steps.reverse();
    steps
}

/// Makes a directory where the image has none, also in place of a link or a file: for what is mounted there the
/// name itself has to be a directory.
pub(super) fn make_own_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(path)
}

/// Replaces a file, also where the image has a link, which may lead nowhere, or an empty directory.
pub(super) fn replace(path: &Path, content: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let path = make_directory(parent)?.join(path.file_name().unwrap_or_default());
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => {
            let removed = fs::remove_dir(&path).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => {
                    problem(&path, "is a directory with files in it")
                }
                _ => error,
            });
            removed?;
        }
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::write(path, content)
}

/// Whether a file of the image says something: it is there, and there is more in it than blanks and comments.
pub(super) fn says_something(path: &Path) -> bool {
    // Only of a file: to open a pipe would wait for its other end.
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LOOK).read_to_end(&mut content));
    if read.is_err() {
        return false;
    }
    let mut lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    lines.any(|line| !line.is_empty() && !line.starts_with(b"#"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory in which links are relative: in a container they begin at its root.
    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_directory_is_made_where_a_chain_of_dangling_links_leads() {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        symlink("var/run", at("run")).unwrap();
        symlink("state/./live/../kept", at("var")).unwrap();
        symlink(at("deep/state"), at("state")).unwrap();
        assert_eq!(make_directory(&at("run")).unwrap(), at("deep/state/kept/run"));
        assert!(at("run").is_dir());
        assert_eq!(make_directory(&at("run")).unwrap(), at("deep/state/kept/run"));
    }

    #[test]
    fn what_cannot_become_a_directory_is_named() {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let circle = make_directory(&at("a")).unwrap_err().to_string();
        assert!(circle.contains("/a in the image is a link that leads in a circle"), "{circle}");
        fs::write(at("file"), "").unwrap();
        let file = make_directory(&at("file/below")).unwrap_err().to_string();
        assert!(file.contains("/file in the image is not a directory"), "{file}");
    }

    #[test]
    fn a_directory_of_its_own_replaces_links_and_files_and_nothing_behind_them() {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("kept")).unwrap();
        symlink("kept", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["link", "dangling", "file", "missing", "kept"] {
            make_own_directory(&at(name)).unwrap();
            assert!(fs::symlink_metadata(at(name)).unwrap().is_dir(), "{name}");
        }
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn a_file_is_put_in_place_of_whatever_is_there() {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("target"), "theirs").unwrap();
        symlink("target", at("link")).unwrap();
        symlink("nowhere/at/all", at("dangling")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("file"), "before").unwrap();
        symlink("not/there/yet", at("etc")).unwrap();
        for name in ["link", "dangling", "empty", "file", "new", "etc/hosts"] {
            replace(&at(name), "ours").unwrap();
            assert_eq!(fs::read_to_string(at(name)).unwrap(), "ours", "{name}");
        }
        assert_eq!(fs::read_to_string(at("target")).unwrap(), "theirs");
        fs::create_dir_all(at("full/file")).unwrap();
        let full = replace(&at("full"), "ours").unwrap_err().to_string();
        assert!(full.contains("/full in the image is a directory with files in it"), "{full}");
    }

    #[test]
    fn blanks_and_comments_say_nothing() {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        for (content, expected) in [
            ("", false),
            (" \t\r\n\n", false),
            ("# 127.0.0.1 localhost\n  # x\n", false),
            ("# x\n127.0.0.1 localhost", true),
        ] {
            fs::write(at("file"), content).unwrap();
            assert_eq!(says_something(&at("file")), expected, "{content:?}");
        }
        symlink("nowhere", at("dangling")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
        for name in ["missing", "dangling", "pipe", "."] {
            assert!(!says_something(&at(name)), "{name}");
        }
    }
}
