//! The root of a container: entered first, furnished then.
//!
//! Everything below happens after the change of root, so that a link in the image which leads
//! to `/etc` leads to the container's, never to the node's.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::mounts::{self, Entry, Links};
use super::{ContainerSpec, Stage, StageFailure, identity, inside};
use crate::image::Kind;

/// Makes the specified root this process's `/`, with everything a program expects in it. Returns what the image
/// has to do without, in words.
pub(super) fn enter(spec: &ContainerSpec) -> Result<Vec<String>, StageFailure> {
    let kind = spec.image.kind;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .stage("keep mounts private")?;
    let console = spec.console.as_deref().map(take_console).transpose()?;
    pivot(&spec.root).stage(format!("change the root to {}", spec.root.display()))?;
    for entry in &mounts::table(kind) {
        mount(entry).stage(format!("mount {}", entry.target))?;
    }
    make_devices()?;
    match console {
        Some(console) => place_console(console).stage("make /dev/console")?,
        None => symlink("/proc/self/fd/2", "/dev/console").stage("make /dev/console")?,
    }
    if kind == Kind::Plain {
        protect()?;
    }
    identity::write(spec)
}

/// pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one for a moment and is
/// then taken away, so no directory for it is needed.
fn pivot(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn mount(entry: &Entry) -> io::Result<()> {
    let target = match entry.links {
        Links::Follow => follow(entry.target)?,
        Links::Replace => {
            inside::make_own_directory(Path::new(entry.target))?;
            PathBuf::from(entry.target)
        }
    };
    match rustix::mount::mount(entry.fs, &target, entry.fs, entry.flags, entry.options) {
        Err(Errno::NODEV) if entry.optional => Ok(()),
        other => Ok(other?),
    }
}

/// Where a link of the image leads, made if need be. It must not lead into what is mounted for the program's and the
/// node's sake, or that would be covered.
fn follow(target: &str) -> io::Result<PathBuf> {
    let real = inside::make_directory(Path::new(target))?;
    let system = ["/proc", "/sys", "/dev"].into_iter().find(|system| real.starts_with(system));
    match system.or((real == Path::new("/")).then_some("/")) {
        Some(system) => Err(io::Error::other(format!(
            "{target} in the image is a link to {}, so {system} would be covered",
            real.display()
        ))),
        None => Ok(real),
    }
}

fn make_devices() -> Result<(), StageFailure> {
    for (path, major, minor) in mounts::DEVICES {
        rustix::fs::mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        )
        // The mode is subject to the umask, and these are for everybody.
        .and_then(|()| rustix::fs::chmod(path, Mode::from_raw_mode(0o666)))
        .stage(format!("make {path}"))?;
    }
    for (target, path) in mounts::LINKS {
        symlink(target, path).stage(format!("make {path}"))?;
    }
    Ok(())
}

fn symlink(target: &str, path: &str) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Takes hold of the terminal before the root changes, when it can still be seen.
fn take_console(path: &Path) -> Result<OwnedFd, StageFailure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).stage("take the console")
}

fn place_console(console: OwnedFd) -> io::Result<()> {
    fs::write("/dev/console", "")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&console, "", CWD, "/dev/console", flags)?)
}

/// Closes the ways by which the root of a plain container could reach the node.
fn protect() -> Result<(), StageFailure> {
    for path in mounts::READ_ONLY {
        if Path::new(path).exists() {
            make_read_only(path).stage(format!("make {path} read-only"))?;
        }
    }
    for path in mounts::HIDDEN {
        match fs::metadata(path) {
            Ok(found) => hide(path, found.is_dir()).stage(format!("hide {path}"))?,
            Err(_) => continue,
        }
    }
    Ok(())
}

fn make_read_only(path: &str) -> rustix::io::Result<()> {
    rustix::mount::mount_bind_recursive(path, path)?;
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    rustix::mount::mount_remount(path, flags, "")
}

fn hide(path: &str, is_dir: bool) -> rustix::io::Result<()> {
    if is_dir {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=0")
    } else {
        rustix::mount::mount_bind("/dev/null", path)
    }
}
