//! A whole fleet from one seed: the production engine, planner and sync around simulated machines,
//! controllers, networks and clocks, in virtual time.
//!
//! In: an [`Application`] (its words and mutations, its machines, what its modules do to them) and
//! a seed. The seed says what happens on a day of the fleet ([`draw`]): crashes of the parent, of
//! modules, agents and machines, controllers that hang, err or lie, lost power, cut cables, a bad
//! network, operators who hold, freeze and change their minds. Then faults stop. Out: how it ended
//! ([`Outcome`]), and which [`Invariant`] was violated, if any.
//!
//! Or without its engine, as a [`Field`] of machines, agents and networks around an engine that runs
//! elsewhere, in whatever time its driver lets pass.
//!
//! Promises, held by tests:
//!
//! - The same seed gives the same run, to the last output of the engine. There is no clock, no
//!   thread and no socket here.
//! - Engine and sync are the ones that ship, driven as the runtime drives them: what is durable is
//!   what the runtime makes durable, and a crash may come between any two events.
//! - Invariants are checked after every event, from what went in, what came out and what is really
//!   so; never by asking who is judged.
//! - The checker bites: each known [`Bug`] that is planted is found.
//! - A run that fails can be made shorter ([`shrink`]): what is not needed for the failure is left
//!   out.

mod agent;
mod application;
mod brain;
mod checker;
mod comparison;
mod cuts;
mod desk;
mod disk;
mod field;
mod fleet;
mod happening;
mod invariant;
mod marks;
mod modules;
mod network;
mod parent;
mod per_node;
mod period;
mod plant;
mod queue;
mod quota;
mod random;
mod recoveries;
mod runs;
mod strikes;

pub use application::{Alarm, Application, Blow, Cadence, Deeds, Side, Task, Wish};
pub use brain::{Said, Seen};
pub use comparison::{Change, Difference, Known, compare};
pub use field::{Field, Ordered};
pub use fleet::{Outcome, Plan};
pub use happening::{Day, Happening, NODES_PER_RACK, Noise, What, Word, draw};
pub use invariant::{Invariant, Violation};
pub use kraken_sync::{ParentCounters, Secret};
pub use plant::Bug;
pub use random::Random;
pub use runs::{run, run_then, shrink};
