//! Calling an import off.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Signal, pidfd_send_signal};

/// Calls an import off from elsewhere. The programs that it runs are ended, so that it does not wait for
/// them; it ends with an error, and nothing has changed.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    called_off: AtomicBool,
    programs: Mutex<Vec<Weak<OwnedFd>>>,
}

impl Cancel {
    /// Calls the import off. Without effect on one that has ended.
    pub fn cancel(&self) {
        self.0.called_off.store(true, Ordering::SeqCst);
        let mut programs = self.0.programs.lock().unwrap_or_else(PoisonError::into_inner);
        for program in programs.drain(..).filter_map(|program| program.upgrade()) {
            // One that has ended by itself meanwhile needs no signal.
            let _ = pidfd_send_signal(&*program, Signal::KILL);
        }
    }

    pub(crate) fn is_called_off(&self) -> bool {
        self.0.called_off.load(Ordering::SeqCst)
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_called_off() { Err(io::Error::other("called off")) } else { Ok(()) }
    }

    /// Has a program, by its pidfd, ended when the import is called off.
    pub(crate) fn ends(&self, program: &Arc<OwnedFd>) {
        let mut programs = self.0.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|program| program.strong_count() > 0);
        programs.push(Arc::downgrade(program));
        drop(programs);
        if self.is_called_off() {
            self.cancel();
        }
    }
}
