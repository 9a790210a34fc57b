//! The kernel as the image service sees it, and the real one.
//!
//! The trait is the boundary: the service decides what is built and undone in which order, and can
//! be tested with a kernel that fails at any step.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use layercake_sys::LoopDevice;
use rustix::mount::{MountFlags, UnmountFlags};

use super::launch::{LaunchError, Launched};
use crate::monitor::MonitorSpec;

/// An image's file as a block device; freed with its last user.
#[derive(Debug)]
pub struct Attachment {
    device: LoopDevice,
}

impl Attachment {
    /// The device's node.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.device.path()
    }
}

/// What the image service asks of the kernel.
pub trait Kernel: Send + Sync + 'static {
    /// Makes a block device of an image's file.
    fn attach(&self, image: &Path) -> io::Result<Attachment>;
    /// Mounts an image read-only.
    fn mount_image(&self, device: &Attachment, target: &Path) -> io::Result<()>;
    /// Puts a container's root together: a layer in memory over the image.
    fn mount_root(&self, image: &Path, scratch: &Path, target: &Path) -> io::Result<()>;
    /// Takes a mount away, at once or as soon as nobody uses it any more.
    fn unmount(&self, target: &Path) -> io::Result<()>;
    /// Makes a cgroup, its parents included.
    fn make_cgroup(&self, root: &Path, group: &Path) -> io::Result<()>;
    /// Kills what is in a cgroup and removes it.
    fn remove_cgroup(&self, group: &Path) -> io::Result<()>;
    /// Starts a monitor and waits until its container is prepared.
    fn launch(&self, program: &Path, spec: &MonitorSpec) -> Result<Launched, LaunchError>;
}

/// The real kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn attach(&self, image: &Path) -> io::Result<Attachment> {
        Ok(Attachment { device: layercake_sys::attach_loop_device(&File::open(image)?)? })
    }

    fn mount_image(&self, device: &Attachment, target: &Path) -> io::Result<()> {
        fs::create_dir_all(target)?;
        let flags = MountFlags::RDONLY | MountFlags::NODEV;
        // What an image says about setuid and owners is honoured inside its container only, where
        // the bounding set of capabilities limits it; device nodes never are.
        Ok(rustix::mount::mount(device.path(), target, "squashfs", flags, None)?)
    }

    fn mount_root(&self, image: &Path, scratch: &Path, target: &Path) -> io::Result<()> {
        fs::create_dir_all(scratch)?;
        fs::create_dir_all(target)?;
        let flags = MountFlags::NODEV;
        rustix::mount::mount("layercake", scratch, "tmpfs", flags, c"mode=0755")?;
        let mounted = overlay(image, scratch, target);
        if mounted.is_err() {
            self.unmount(scratch)?;
        }
        mounted
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // Somebody still has a file open in it. The mount is taken out of the tree now, and
            // freed by the kernel when that ends.
            Err(rustix::io::Errno::BUSY) => {
                let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                Ok(rustix::mount::unmount(target, flags)?)
            }
            // Not a mount point, or not there: it is away already.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    fn make_cgroup(&self, root: &Path, group: &Path) -> io::Result<()> {
        fs::create_dir_all(group)?;
        // Controllers have to be handed down level by level (cgroups(7)).
        let levels = group.ancestors().skip(1).take_while(|level| level.starts_with(root));
        let mut levels: Vec<&Path> = levels.collect();
        levels.reverse();
        for level in levels {
            let Ok(controllers) = fs::read_to_string(level.join("cgroup.controllers")) else {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("{} is not in a cgroup2 file system", level.display()),
                ));
            };
            for controller in controllers.split_ascii_whitespace() {
                // A controller that cannot be had is no reason not to run: nothing is limited by
                // it, and the group itself works without.
                let _ = fs::write(level.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        Ok(())
    }

    fn remove_cgroup(&self, group: &Path) -> io::Result<()> {
        remove_cgroup(group)
    }

    fn launch(&self, program: &Path, spec: &MonitorSpec) -> Result<Launched, LaunchError> {
        super::launch::launch(program, spec)
    }
}

fn overlay(image: &Path, scratch: &Path, target: &Path) -> io::Result<()> {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // A path with a comma or colon would be taken apart by the file system; ours are made of
    // digests, image names and numbers below the state directory.
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        image.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount("layercake", target, "overlay", MountFlags::NODEV, options.as_c_str())?)
}

/// How long the kernel may take to get rid of killed processes.
const CGROUP_EMPTY_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

fn remove_cgroup(group: &Path) -> io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    fs::write(group.join("cgroup.kill"), "1")?;
    wait_until_empty(group)?;
    remove_group_tree(group)
}

/// A cgroup can be removed once its processes are gone, and it tells when: `cgroup.events`
/// changes (cgroups(7)).
fn wait_until_empty(group: &Path) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::io::{Read, Seek};
    let mut events = File::open(group.join("cgroup.events"))?;
    let started = super::record::monotonic_ns();
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        if super::record::monotonic_ns() - started > CGROUP_EMPTY_LIMIT.as_nanos() as u64 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes survive being killed"));
        }
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut fds, Some(&pause))?;
    }
}

/// A systemd container makes groups of its own below its group.
fn remove_group_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The mount points at or below `dir`, the youngest first, which is the order to unmount them.
pub fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let mut mounts: Vec<PathBuf> =
        mountinfo.lines().filter_map(mount_point).filter(|at| at.starts_with(dir)).collect();
    mounts.reverse();
    Ok(mounts)
}

/// The fifth field of a line of mountinfo, with its octal escapes undone (proc(5)).
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut path = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        path.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4)?;
        path.push(char::from(u8::from_str_radix(code, 8).ok()?));
        rest = &rest[at + 4..];
    }
    path.push_str(rest);
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt/a b")));
        assert_eq!(mount_point("36 35"), None);
    }
}
