//! Ctrl-C, SIGTERM and SIGHUP: noted, so that whoever made something takes it down before ending.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// From now on an interrupt is noted instead of ending the process. The third one ends it at once: what
/// a lab left then is removed by the next lab, or by `cargo xtask lab clean`.
pub(crate) fn install() -> Result<(), Error> {
    ctrlc::set_handler(|| match REQUESTS.fetch_add(1, Ordering::SeqCst) {
        0 => eprintln!("\nxtask: interrupted, taking everything down"),
        1 => eprintln!("xtask: still taking everything down; once more to give up on that"),
        _ => std::process::exit(130),
    })
    .map_err(|error| Error::Refused(format!("cannot listen for Ctrl-C: {error}")))
}

/// Whether somebody wants this to end.
pub(crate) fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0
}

/// An error when somebody wants this to end.
pub(crate) fn check() -> Result<(), Error> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}
