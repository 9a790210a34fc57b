//! `mksquashfs` and `unsquashfs`, which make and list the images.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cancel::Cancel;
use crate::tar::Meta;

/// How much of a program's complaints is kept.
const MAX_COMPLAINT_BYTES: usize = 2000;
/// How many symbolic links on the way to `/sbin/init` are followed, as in the kernel.
const MAX_LINKS: usize = 40;
/// How much memory `mksquashfs` takes; its own default is a quarter of the machine, for each import.
const MKSQUASHFS_MEMORY: &str = "512M";

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("`{tool}` is not installed; `apt-get install {package}` brings it")]
    Missing {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It could not be run.
    #[error("cannot run `{tool}`")]
    Run {
        /// The program.
        tool: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("`{tool}` failed ({status}): {complaint}")]
    Failed {
        /// The program.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        complaint: String,
    },
}

/// A running program; killed and reaped when it is dropped before its end.
pub(crate) struct Running {
    tool: &'static str,
    child: Child,
    complaint: Option<JoinHandle<String>>,
    /// Held for [`Cancel`] as long as the program runs.
    _pidfd: Option<Arc<OwnedFd>>,
}

impl Running {
    pub(crate) fn start(
        tool: &'static str,
        package: &'static str,
        command: &mut Command,
        cancel: &Cancel,
    ) -> Result<Self, ToolError> {
        let spawned = command.env("LC_ALL", "C").stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ToolError::Missing { tool, package },
            _ => ToolError::Run { tool, source },
        })?;
        let stderr = child.stderr.take();
        let complaint = stderr.map(|pipe| std::thread::spawn(move || last_words(pipe)));
        // Without a pidfd (Linux before 5.3) it only ends by itself.
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok().map(Arc::new);
        if let Some(pidfd) = &pidfd {
            cancel.ends(pidfd);
        }
        Ok(Self { tool, child, complaint, _pidfd: pidfd })
    }

    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn finish(mut self) -> Result<(), ToolError> {
        drop(self.child.stdin.take());
        let tool = self.tool;
        let status = self.child.wait().map_err(|source| ToolError::Run { tool, source })?;
        if status.success() {
            return Ok(());
        }
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok());
        Err(ToolError::Failed { tool, status, complaint: complaint.unwrap_or_default() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads everything and keeps the end, as one line.
fn last_words(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        let surplus = kept.len().saturating_sub(MAX_COMPLAINT_BYTES);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn mksquashfs(source: &OsStr, image: &Path, keep_times: bool) -> Command {
    let mut command = Command::new("mksquashfs");
    command.arg(source).arg(image);
    command.args(["-noappend", "-comp", "zstd", "-mem", MKSQUASHFS_MEMORY, "-no-recovery"]);
    command.args(["-reproducible", "-mkfs-time", "0", "-no-exports", "-xattrs", "-exit-on-error"]);
    if !keep_times {
        command.args(["-all-time", "0"]);
    }
    // It contradicts -mkfs-time.
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// A `mksquashfs` that takes a tar on its standard input, in the form of [`crate::tar::write_entry`].
pub(crate) struct TarPacker {
    running: Running,
    stdin: BufWriter<ChildStdin>,
}

impl TarPacker {
    /// Starts it. The root is not taken from an archive: it is `root` without its attributes.
    pub(crate) fn start(
        image: &Path,
        keep_times: bool,
        root: &Meta,
        cancel: &Cancel,
    ) -> Result<Self, ToolError> {
        let mut command = mksquashfs(OsStr::new("-"), image, keep_times);
        command.args(["-tar", "-quiet", "-no-progress"]);
        command.args(["-root-mode", &format!("{:o}", root.mode)]);
        command.args(["-root-uid", &root.uid.to_string(), "-root-gid", &root.gid.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start("mksquashfs", "squashfs-tools", &mut command, cancel)?;
        let gone =
            || ToolError::Run { tool: "mksquashfs", source: io::ErrorKind::BrokenPipe.into() };
        let stdin = BufWriter::with_capacity(1 << 16, running.stdin().ok_or_else(gone)?);
        Ok(Self { running, stdin })
    }

    /// The end of the archive. Tells also why writing failed, if it did.
    pub(crate) fn finish(self) -> Result<(), ToolError> {
        let Self { running, stdin } = self;
        // What cannot be written any more is of no use to a program that has ended, and says why.
        let (stdin, rest) = stdin.into_parts();
        drop((stdin, rest));
        running.finish()
    }
}

impl Write for TarPacker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.flush()
    }
}

/// How many files, directories and others are in an image that is whole, as its superblock says.
pub(crate) fn count_inodes(image: &Path) -> io::Result<u64> {
    // Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h of Linux.
    let mut superblock = [0; 96];
    let mut file = File::open(image)?;
    file.read_exact(&mut superblock)?;
    let inodes = superblock[4..8].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let used = superblock[40..48].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let length = file.metadata()?.len();
    if length < used {
        let what =
            format!("the squashfs is cut off: {used} bytes by its superblock, {length} there");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    }
    Ok(inodes)
}

/// The first bytes of a file in an image.
pub(crate) fn first_bytes(image: &Path, path: &str, wanted: u64) -> Result<Vec<u8>, ToolError> {
    let mut command = Command::new("unsquashfs");
    command.args(["-cat", "-no-wildcards"]).arg(image).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running =
        Running::start("unsquashfs", "squashfs-tools", &mut command, &Cancel::default())?;
    let mut start = Vec::new();
    let stdout = running.stdout().ok_or(io::ErrorKind::BrokenPipe);
    let read = stdout
        .map_err(io::Error::from)
        .and_then(|stdout| stdout.take(wanted).read_to_end(&mut start));
    read.map_err(|source| ToolError::Run { tool: "unsquashfs", source })?;
    Ok(start)
}

/// What a look into an image tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) file_count: u64,
    pub(crate) has_systemd: bool,
    /// The symbolic links, by path.
    links: BTreeMap<String, String>,
}

impl Listing {
    /// Where a path leads in the image, whose root its links cannot leave.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        resolve(path, &self.links)
    }
}

/// Lists an image.
pub(crate) fn list(image: &Path) -> Result<Listing, ToolError> {
    let mut command = Command::new("unsquashfs");
    command.args(["-lln", "-d", ""]).arg(image).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running =
        Running::start("unsquashfs", "squashfs-tools", &mut command, &Cancel::default())?;
    let listing = running.stdout().map(|stdout| read_listing(BufReader::new(stdout)));
    running.finish()?;
    Ok(listing.unwrap_or_default())
}

fn read_listing(lines: impl BufRead) -> Listing {
    let mut listing = Listing::default();
    let mut systemds = BTreeSet::new();
    for line in lines.split(b'\n').map_while(Result::ok) {
        // `lrwxrwxrwx 0/0   6 1970-01-01 00:00 /sbin/init -> /lib/systemd/systemd`
        let line = String::from_utf8_lossy(&line);
        let Some((_, path)) = line.split_once(" /").filter(|_| line.len() > 10) else { continue };
        listing.file_count += 1;
        if line.starts_with('l') {
            if let Some((path, target)) = path.split_once(" -> ") {
                listing.links.insert(path.to_owned(), target.to_owned());
            }
        } else if line.starts_with('-') && path.ends_with("/systemd") {
            systemds.insert(path.to_owned());
        }
    }
    listing.has_systemd = listing.resolve("sbin/init").is_some_and(|at| systemds.contains(&at));
    listing
}

/// Follows symbolic links inside of an image, whose root they cannot leave.
fn resolve(path: &str, links: &BTreeMap<String, String>) -> Option<String> {
    let mut open: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut followed = 0;
    while let Some(name) = open.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => drop(at.pop()),
            _ => at.push(name),
        }
        if let Some(target) = links.get(&at.join("/")) {
            followed += 1;
            if followed > MAX_LINKS {
                return None;
            }
            at.pop();
            if target.starts_with('/') {
                at.clear();
            }
            open.extend(target.split('/').rev().map(str::to_owned));
        }
    }
    Some(at.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_found_through_links() {
        let listing = |lines: &[&str]| read_listing(lines.join("\n").as_bytes());
        let merged = listing(&[
            "drwxr-xr-x 0/0  35 1970-01-01 00:00 ",
            "lrwxrwxrwx 0/0   7 1970-01-01 00:00 /lib -> usr/lib",
            "lrwxrwxrwx 0/0   8 1970-01-01 00:00 /sbin -> usr/sbin",
            "lrwxrwxrwx 0/0   8 1970-01-01 00:00 /usr/sbin/init -> ../../lib/systemd/systemd",
            "-rwxr-xr-x 0/0   8 1970-01-01 00:00 /usr/lib/systemd/systemd",
        ]);
        assert_eq!((merged.file_count, merged.has_systemd), (4, true));
        let circle = listing(&["lrwxrwxrwx 0/0 8 1970-01-01 00:00 /sbin/init -> /sbin/init"]);
        assert_eq!((circle.file_count, circle.has_systemd), (1, false));
        let dangling = listing(&["lrwxrwxrwx 0/0 8 1970-01-01 00:00 /sbin/init -> /lib/systemd"]);
        assert!(!dangling.has_systemd);
    }
}
