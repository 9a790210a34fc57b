//! Running a site's own commands.
//!
//! In: a [`Run`], which says what is run, with which environment, and how long and how much it may
//! write. Out: what it wrote to its standard output, or a [`CommandError`] with its last words;
//! meanwhile every line, as it comes.
//!
//! Promises: a command has ended when its process has, whoever keeps its outputs open; no shell unless the program is one; nothing of this process's environment but `PATH`;
//! a command runs in a process group of its own and is killed with everything it started when its
//! time is over, when it writes too much, when nobody waits for it any more, or when this process is
//! killed (a `/bin/sh` beside it sees to that).

mod error;
mod lines;
mod run;
mod warden;

pub use error::CommandError;
pub use run::{DEFAULT_OUTPUT_BYTES, Pipe, Run, last_words};
