//! Planning: from what a node should be and what it is to the next step.
//!
//! In: a [`ModuleSet`] (all [`Mutation`]s of an application, compiled), a [`Goal`] (what cfg says of
//! the variables), [`Facts`] (what guards ask besides), and the [`State`] of a node. Out: the next
//! mutation and the cost to go ([`Policy`]), or why there is none ([`explain`]).
//!
//! All variables of a node are packed into one word; a mutation is a mask and a value over it. A
//! policy answers from *any* state, so nothing is ever repaired: an unexpected discovery is another
//! state with its own next step. Whatever can no longer be known is forgotten
//! ([`ModuleSet::forget`]), in planning as at run time.
//!
//! Promises: pure functions, deterministic to the bit; the cheapest way, ties broken by the order
//! of declaration; the product of all variables is never listed: variables that no mutation ties
//! together are planned apart, and within a group only what can be reached is looked at.

mod cache;
mod carry;
mod check;
mod compile;
mod costs;
mod estimate;
mod explain;
mod foresight;
mod graph;
mod group;
mod mutation;
mod obstacles;
mod policy;
mod reach;
mod restart;
mod search;
pub mod service;
mod set;

pub use cache::{PolicyCache, PolicyId};
pub use check::{Finding, MAX_CHECKED, check};
pub use compile::Problem;
pub use costs::Costs;
pub use explain::{Explanation, Obstacle, WayStep, expected, explain};
pub use foresight::Foresight;
pub use graph::{Edge, Graph, Values};
pub use group::MAX_VISITED;
pub use mutation::{Context, Effect, Fallback, Guard, Mutation, Retry, Test};
pub use policy::{Policy, Step};
pub use restart::Restart;
pub use service::Service;
pub use set::{Facts, Goal, ModuleSet, MutationId, State, VarId, Variable, Watched};
