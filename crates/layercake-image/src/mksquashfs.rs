//! `mksquashfs` and `unsquashfs`, which make and list the images.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use crate::tarcheck::{RootFacts, Sink};

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
}

impl Running {
    pub(crate) fn start(
        tool: &'static str,
        package: &'static str,
        command: &mut Command,
    ) -> Result<Self, ToolError> {
        let spawned = command.env("LC_ALL", "C").stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ToolError::Missing { tool, package },
            _ => ToolError::Run { tool, source },
        })?;
        let stderr = child.stderr.take();
        let complaint = stderr.map(|pipe| std::thread::spawn(move || last_words(pipe)));
        Ok(Self { tool, child, complaint })
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

/// Packs a directory; `percent` hears how far it is.
pub(crate) fn pack_directory(
    directory: &Path,
    image: &Path,
    keep_times: bool,
    percent: &mut dyn FnMut(u8),
) -> Result<(), ToolError> {
    let mut command = mksquashfs(directory.as_os_str(), image, keep_times);
    command.arg("-progress").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start("mksquashfs", "squashfs-tools", &mut command)?;
    if let Some(stdout) = running.stdout() {
        // The bar is redrawn after a carriage return: `[===   ] 12/34  35%`.
        for line in BufReader::new(stdout).split(b'\r').map_while(Result::ok) {
            if let Some(now) = parse_percent(&line) {
                percent(now);
            }
        }
    }
    running.finish()
}

fn parse_percent(line: &[u8]) -> Option<u8> {
    let text = line.get(..line.iter().position(|&byte| byte == b'%')?)?;
    let text = std::str::from_utf8(text).ok()?;
    text.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|&now| now <= 100)
}

/// A `mksquashfs` that takes a tar on its standard input.
pub(crate) struct TarPacker<'p> {
    image: &'p Path,
    keep_times: bool,
    running: Option<(Running, ChildStdin)>,
    error: Option<ToolError>,
}

impl<'p> TarPacker<'p> {
    pub(crate) fn new(image: &'p Path, keep_times: bool) -> Self {
        Self { image, keep_times, running: None, error: None }
    }

    /// The end of the archive. Tells also why `put` failed, if it did.
    pub(crate) fn finish(mut self) -> Result<(), ToolError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.running.take() {
            Some((running, stdin)) => {
                drop(stdin);
                running.finish()
            }
            None => Ok(()),
        }
    }
}

impl Sink for TarPacker<'_> {
    fn start(&mut self, root: RootFacts) -> io::Result<()> {
        let mut command = mksquashfs(OsStr::new("-"), self.image, self.keep_times);
        command.args(["-tar", "-quiet", "-no-progress"]);
        command.args(["-root-mode", &format!("{:o}", root.mode)]);
        command.args(["-root-uid", &root.uid.to_string(), "-root-gid", &root.gid.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        match Running::start("mksquashfs", "squashfs-tools", &mut command) {
            Ok(mut running) => {
                let stdin = running.stdin().ok_or(io::ErrorKind::BrokenPipe)?;
                self.running = Some((running, stdin));
                Ok(())
            }
            Err(error) => {
                self.error = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.running {
            Some((_, stdin)) => stdin.write_all(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// What a look into an image tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) file_count: u64,
    pub(crate) has_systemd: bool,
}

/// Lists an image.
pub(crate) fn list(image: &Path) -> Result<Listing, ToolError> {
    let mut command = Command::new("unsquashfs");
    command.args(["-lln", "-d", ""]).arg(image).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start("unsquashfs", "squashfs-tools", &mut command)?;
    let listing = running.stdout().map(|stdout| read_listing(BufReader::new(stdout)));
    running.finish()?;
    Ok(listing.unwrap_or_default())
}

fn read_listing(lines: impl BufRead) -> Listing {
    let mut listing = Listing::default();
    let mut links = BTreeMap::new();
    let mut systemds = BTreeSet::new();
    for line in lines.split(b'\n').map_while(Result::ok) {
        // `lrwxrwxrwx 0/0   6 1970-01-01 00:00 /sbin/init -> /lib/systemd/systemd`
        let line = String::from_utf8_lossy(&line);
        let Some((_, path)) = line.split_once(" /").filter(|_| line.len() > 10) else { continue };
        listing.file_count += 1;
        if line.starts_with('l') {
            if let Some((path, target)) = path.split_once(" -> ") {
                links.insert(path.to_owned(), target.to_owned());
            }
        } else if line.starts_with('-') && path.ends_with("/systemd") {
            systemds.insert(path.to_owned());
        }
    }
    listing.has_systemd = resolve("sbin/init", &links).is_some_and(|at| systemds.contains(&at));
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
        assert_eq!(merged, Listing { file_count: 4, has_systemd: true });
        let circle = listing(&["lrwxrwxrwx 0/0 8 1970-01-01 00:00 /sbin/init -> /sbin/init"]);
        assert_eq!(circle, Listing { file_count: 1, has_systemd: false });
        let dangling = listing(&["lrwxrwxrwx 0/0 8 1970-01-01 00:00 /sbin/init -> /lib/systemd"]);
        assert!(!dangling.has_systemd);
    }

    #[test]
    fn the_bar_of_mksquashfs_is_read() {
        assert_eq!(parse_percent(b"[=====|     ]  845/1691  49%"), Some(49));
        assert_eq!(parse_percent(b"Creating 4.0 filesystem on p.sq"), None);
    }
}
