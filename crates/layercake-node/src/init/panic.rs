//! A panic becomes a reason that is reported, in every role.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The most of a panic's message that is kept.
const MAX_REPORT_BYTES: usize = 4096;

/// Where a role's last panic is written.
#[must_use]
pub fn report_path(role: &str) -> PathBuf {
    PathBuf::from(format!("/run/layercake/panic-{role}"))
}

/// Writes panics of this process to [`report_path`]. For process 1, whose end would be the
/// machine's, a panic executes init anew.
pub fn install(role: &'static str) {
    std::panic::set_hook(Box::new(move |info| {
        let mut report = format!("{role}: {info}\n");
        report.truncate(report.floor_char_boundary(MAX_REPORT_BYTES));
        let _ = fs::write(report_path(role), &report);
        let _ = fs::write("/dev/kmsg", format!("layercake-node: panic in {report}"));
        if rustix::process::getpid() == rustix::process::Pid::INIT {
            let _failed = Command::new("/proc/self/exe").arg(super::SETTLED).exec();
        }
    }));
}
