//! The vocabulary of Layercake: what is known of a node, what it may be made to do, and how long
//! each of that takes. Server and node are built on the same words.
//!
//! Out: [`schemas`], which say what may stand in a node's documents and what it means;
//! [`mutations`], the steps that lead from a machine without power to a running image and back, for
//! a given [`Timing`]; and the addresses and values of the variables as constants, such as
//! [`phys_state::POWER_ON`]. It does nothing itself: no module, no clock, no input or output.
//!
//! Promises, held by tests: every value that a mutation names exists in the schemas, every value a
//! variable can have can be left again, and nothing that may end a user's work lacks the guard
//! `busy`.

mod architecture;
mod facts;
mod foreseen;
mod found_running;
mod last_known;
mod mutations;
mod restart;
mod services;
mod silence;
mod specification;
mod timing;
mod variables;
mod withheld;

pub use architecture::{ARCHITECTURES, architecture, runs_on};
pub use facts::{
    IMAGE_KINDS, MAX_CPUS, MAX_IMAGE_BYTES, MAX_MEMORY_MIB, MIN_MEMORY_MIB, POWER_DRIVERS, schemas,
};
pub use foreseen::foreseen;
pub use found_running::{FOUND_RUNNING, FoundRunning};
pub use kraken_model::{DurationError, format_duration, parse_duration};
pub use last_known::{is_last_known, known_and_last_known};
pub use mutations::{POWER_CUT, mutations};
pub use restart::restart;
pub use services::{SERVICES, image_service, service_state};
pub use silence::{LIKELY_UNSEEN, MOST_RECOVERIES, RECOVERIES, SILENCE, SILENCE_WORDS};
pub use specification::specification;
pub use timing::{Contradiction, Timing, TimingError};
pub use variables::{boot_state, busy, claim, image_state, phys_state, run_state};
pub use withheld::{PERMITTED, node_knows, node_mutations, withheld};

/// The modules that carry mutations out, as their names begin.
pub mod module {
    /// Switches machines.
    pub const POWER: &str = "power";
    /// Boots machines from the network.
    pub const BOOT: &str = "boot";
    /// Keeps parent and node in step.
    pub const SYNC: &str = "sync";
    /// Runs system images; a service of the node.
    pub const IMAGE: &str = "image";
}

/// What a node says of itself; everything else is said of it by its parent.
const NODE_OWNS: &[&str] =
    &[image_state::PATH, "image_reason", "images", "services", "layer0", "arch", "platform"];

/// Whether the node itself is the one who discovers the value at an address.
#[must_use]
pub fn node_owns(path: &kraken_model::Path) -> bool {
    NODE_OWNS.iter().any(|owned| path.is_under(owned))
}

/// What a machine is made of and how it is plugged in: told by people in the cluster file, and where
/// it was discovered, that is what counts.
const OF_THE_MACHINE: &[&str] = &["arch", "platform", "net"];

/// Whether a value at this address describes the machine itself rather than what it does.
#[must_use]
pub fn describes_machine(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or(path);
    OF_THE_MACHINE.contains(&first)
}

/// A document with these values.
#[cfg(test)]
fn document(values: &[(&str, &str)]) -> kraken_model::Document {
    let mut document = kraken_model::Document::new();
    for (path, value) in values {
        document.set(kraken_model::Path::known(path), *value);
    }
    document
}
