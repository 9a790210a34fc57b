//! What init has to say: on the console for whoever looks, in a bounded log for the parent.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::monitor::{LogLimits, RotatingLog, Stream};

/// Where the log is.
pub(super) const LOG: &str = "/run/layercake/log/init.log";

/// Both of them.
pub(super) struct Console {
    console: Option<File>,
    log: Option<RotatingLog>,
}

impl Console {
    /// The console alone, before there is a place for a log.
    pub(super) fn early() -> Self {
        Self { console: None, log: None }
    }

    /// Both.
    pub(super) fn open() -> Self {
        let limits = LogLimits { file_bytes: 128 * 1024, ..LogLimits::default() };
        Self { console: None, log: Some(RotatingLog::open(PathBuf::from(LOG), limits)) }
    }

    /// Says one thing. Init does not fail because nobody can hear it.
    pub(super) fn say(&mut self, text: &str) {
        if self.console.is_none() {
            self.console = File::options().write(true).open("/dev/console").ok();
        }
        if let Some(console) = &mut self.console {
            let _ = console.write_all(format!("layercake: {text}\r\n").as_bytes());
        }
        if let Some(log) = &mut self.log {
            log.line(Stream::Console, text.as_bytes());
        }
    }
}

/// Makes the console this process's standard streams, or `/dev/null` where there is none.
pub(super) fn open_standard_streams() {
    let open = |path| File::options().read(true).write(true).open(path);
    let Ok(stream) = open("/dev/console").or_else(|_| open("/dev/null")) else { return };
    let _ = rustix::stdio::dup2_stdin(stream.as_fd());
    let _ = rustix::stdio::dup2_stdout(stream.as_fd());
    let _ = rustix::stdio::dup2_stderr(stream.as_fd());
}
