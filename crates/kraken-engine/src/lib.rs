//! The engine: from what nodes should be and what was found out about them to the next step for
//! each, as a state machine. It has no clock, no socket, no thread and nothing async.
//!
//! In: [`Input`]s, each with the time at which it happened: cfg that has changed, discoveries,
//! answers of modules, commands of operators, ticks. Out: [`Output`]s: steps to dispatch or to
//! interrupt, entries for the journal, documents that have changed. [`Engine::next_deadline`] says
//! when it wants a tick at the latest.
//!
//! Promises, held by tests:
//!
//! - Same inputs, same outputs, to the byte. An input that changes nothing puts nothing out.
//! - A step is done when its effects are *discovered*; what a module says proves nothing. Never are
//!   two steps under way on one node, and each ends: done, failed, timed out or interrupted.
//! - It reacts to the state, not to the edge: nothing that was said can be lost, whatever came in
//!   between, and one node that hangs keeps no other waiting.
//! - Nothing disruptive is dispatched for a node that is held, frozen, not freshly known, or one of
//!   too many that were lost at once, in the cluster or in one [`Domain`] ([`Storm`]); nor for any node while all are frozen. Holds,
//!   freezes and uses say who, why and until when ([`Mark`]), and end by themselves when told so.
//! - A node that falls silent is recovered as its policy says, and not again and again: after that a person
//!   has to say so ([`Silence`]).
//! - What fails is tried again ever more seldom, then given up; then another way is taken, and when
//!   there is none the node is quarantined with the reason, and the others do not wait for it.
//! - Why nothing happens is data ([`Explanation`]).

mod absorb;
mod attempt;
mod availability;
mod backoff;
mod command;
mod common;
mod decide;
mod domains;
mod engine;
mod experience;
mod explain;
mod forecast;
mod found;
mod gates;
mod guard;
mod input;
mod interner;
mod journal;
mod marks;
mod modules;
mod node;
mod notes;
mod outlook;
mod output;
mod recovery;
mod restart;
mod settings;
mod status;
mod storm;
mod table;
mod timers;
mod way;

pub use common::Common;
pub use decide::{permitted, without_permissions};
pub use engine::{Counters, Engine, NodeView, Summary};
pub use experience::{Experience, Lesson};
pub use explain::{Expected, Explanation, FailureView};
pub use found::FoundRunning;
pub use guard::{Domain, LostWith, StormView};
pub use input::{Command, DispatchId, Failure, Input};
pub use journal::{Cause, Entry, What};
pub use marks::{InUse, Mark, MarkKind, Marks, Terms};
pub use outlook::{LimitWait, NodePlan, Outlook, Plan, PlanSummary, PlannedStep};
pub use output::{Order, Output};
pub use recovery::{Silence, SilencePolicy, UnheardView, Unrecovered};
pub use settings::{Availability, Group, Limit, Role, Scope, Settings, Share, Storm};
pub use status::{Status, Unavailable, Want};
