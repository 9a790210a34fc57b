//! From the initramfs to a root that can be changed.
//!
//! The first root, the initramfs, cannot be left by pivot_root(2), so containers could not be made
//! from it. Its content moves to a memory file system that is then made read-only; over it lies an
//! overlay in memory. The result is moved onto `/`, as switch_root(8) does.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

const BASE: &str = "/.base";
const UPPER: &str = "/.upper";
const NEW_ROOT: &str = "/.root";
/// Mounted already; moved instead of copied.
const MOVED: [&str; 4] = ["proc", "sys", "dev", "run"];

/// Can this kernel do overlays?
pub(super) fn has_overlay() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay")
}

/// Moves; returns what went wrong on the way. In the worst case the initramfs stays the root, in
/// which the node still joins and says so, but can run no images.
pub(super) fn move_to_a_real_root() -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = try_to_move(&mut problems) {
        problems.push(format!("cannot leave the initramfs, no image will run: {error}"));
    }
    problems
}

fn try_to_move(problems: &mut Vec<String>) -> io::Result<()> {
    for dir in [BASE, UPPER, NEW_ROOT] {
        fs::create_dir_all(dir)?;
    }
    rustix::mount::mount("base", BASE, "tmpfs", MountFlags::NODEV, c"mode=0755")?;
    move_tree(Path::new("/"), Path::new(BASE), true)?;
    for dir in MOVED.iter().chain(&["tmp", "etc"]) {
        fs::create_dir_all(Path::new(BASE).join(dir))?;
    }
    let root = match overlay() {
        Ok(()) => NEW_ROOT,
        Err(error) => {
            problems.push(format!("the root stays writable memory, without an overlay: {error}"));
            BASE
        }
    };
    for dir in MOVED {
        rustix::mount::mount_move(format!("/{dir}"), format!("{root}/{dir}"))?;
    }
    rustix::process::chdir(root)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

fn overlay() -> io::Result<()> {
    rustix::mount::mount("upper", UPPER, "tmpfs", MountFlags::NODEV, c"mode=0755")?;
    fs::create_dir(format!("{UPPER}/upper"))?;
    fs::create_dir(format!("{UPPER}/work"))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    rustix::mount::mount_remount(BASE, flags, "mode=0755")?;
    let options = c"lowerdir=/.base,upperdir=/.upper/upper,workdir=/.upper/work";
    let mounted = rustix::mount::mount("layer0", NEW_ROOT, "overlay", MountFlags::empty(), options);
    if let Err(error) = mounted {
        // The base becomes the root itself, and has to be writable for that.
        rustix::mount::mount_remount(BASE, MountFlags::NODEV, "mode=0755")?;
        return Err(error.into());
    }
    // The overlay holds both by itself; nobody else is to reach them.
    for dir in [BASE, UPPER] {
        rustix::mount::unmount(dir, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// Moves a tree file by file, so that no more than one file is in memory twice.
fn move_tree(from: &Path, to: &Path, is_top: bool) -> io::Result<()> {
    let device = fs::symlink_metadata(from)?.dev();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source)?;
        let name = entry.file_name();
        let is_ours = [BASE, UPPER, NEW_ROOT].iter().any(|dir| Path::new(dir) == source);
        let is_moved = is_top && MOVED.iter().any(|moved| name == *moved);
        if is_ours || is_moved || meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
            move_tree(&source, &target, false)?;
            fs::remove_dir(&source)?;
        } else if meta.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            fs::remove_file(&source)?;
        } else if meta.is_file() {
            fs::copy(&source, &target)?;
            fs::remove_file(&source)?;
        }
        // Nothing else is in an initramfs of ours; device nodes come with devtmpfs.
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_moved_with_its_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("lib/modules")).unwrap();
        fs::create_dir_all(from.join("proc/1")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("init"), b"program").unwrap();
        fs::set_permissions(from.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(from.join("lib"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(from.join("lib/modules/a.ko"), b"module").unwrap();
        symlink("/init", from.join("lib/link")).unwrap();
        move_tree(&from, &to, true).unwrap();
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("init"), mode("lib")), (0o755, 0o711));
        assert_eq!(fs::read(to.join("lib/modules/a.ko")).unwrap(), b"module");
        assert_eq!(fs::read_link(to.join("lib/link")).unwrap(), Path::new("/init"));
        let left: Vec<_> = fs::read_dir(&from).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["proc"]);
        assert!(!to.join("proc").exists());
    }
}
