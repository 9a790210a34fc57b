//! Following the containers' logs.
//!
//! The log files are the buffer: the follower reads on when it is told that a file changed and when
//! its reader has taken what came before, and a slow reader costs no memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;

use super::ImageName;
use crate::monitor::{LogLine, parse_log_line};

/// One line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLine {
    /// Which container.
    pub name: ImageName,
    /// What it wrote.
    pub line: LogLine,
}

/// One file, and how far it was read.
struct Followed {
    reader: BufReader<File>,
    inode: u64,
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
}

/// Reads what is appended to the logs of a directory.
pub(super) struct Tail {
    dir: PathBuf,
    inotify: AsyncFd<OwnedFd>,
    files: BTreeMap<ImageName, Followed>,
}

impl Tail {
    /// Begins at the present end of every log.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(&inotify, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        let inotify = layercake_sys::until_readable(inotify)?;
        let mut tail = Self { dir: dir.to_owned(), inotify, files: BTreeMap::new() };
        for name in tail.logs()? {
            if let Some(mut followed) = tail.open_log(&name)? {
                followed.reader.seek(SeekFrom::End(0))?;
                tail.files.insert(name, followed);
            }
        }
        Ok(tail)
    }

    /// Sends lines until nobody receives them any more.
    pub(super) async fn run(mut self, lines: Sender<ImageLine>) {
        loop {
            // A log that cannot be read now is tried again at its next change.
            if let Ok(false) = self.send_new_lines(&lines).await {
                return;
            }
            tokio::select! {
                // Cancel-safe: readiness stays until it is cleared.
                ready = self.inotify.readable() => match ready {
                    Ok(mut ready) => {
                        if drain(self.inotify.get_ref()).is_err() { return; }
                        ready.clear_ready();
                    }
                    Err(_) => return,
                },
                () = lines.closed() => return,
            }
        }
    }

    fn logs(&self) -> io::Result<Vec<ImageName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".log"));
            names.extend(name.and_then(|name| name.parse().ok()));
        }
        Ok(names)
    }

    fn open_log(&self, name: &ImageName) -> io::Result<Option<Followed>> {
        let file = match File::open(self.dir.join(format!("{name}.log"))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Followed { reader: BufReader::new(file), inode, pending: Vec::new() }))
    }

    /// False when nobody receives lines any more.
    async fn send_new_lines(&mut self, lines: &Sender<ImageLine>) -> io::Result<bool> {
        for name in self.logs()? {
            loop {
                let Some(followed) = self.files.get_mut(&name) else {
                    match self.open_log(&name)? {
                        Some(followed) => self.files.insert(name.clone(), followed),
                        None => break,
                    };
                    continue;
                };
                // Looked at before reading: whatever was appended to the old file before the new
                // one took its name is read below.
                let current = fs::metadata(self.dir.join(format!("{name}.log")));
                let was_replaced = current.is_ok_and(|now| now.ino() != followed.inode);
                while let Some(line) = followed.next_line()? {
                    let line = ImageLine { name: name.clone(), line };
                    if lines.send(line).await.is_err() {
                        return Ok(false);
                    }
                }
                if !was_replaced {
                    break;
                }
                self.files.remove(&name);
            }
        }
        Ok(true)
    }
}

impl Followed {
    fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if self.reader.read_until(b'\n', &mut self.pending)? == 0 {
                return Ok(None);
            }
            let Some(text) = self.pending.strip_suffix(b"\n") else { continue };
            let line = parse_log_line(text);
            self.pending.clear();
            // A line that is none was written by somebody else: not ours to forward.
            if line.is_some() {
                return Ok(line);
            }
        }
    }
}

/// Takes the events away: what they say is looked up in the directory itself.
fn drain(inotify: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(inotify, &mut buffer) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
