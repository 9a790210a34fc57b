//! Planning, seen from outside: policies, knowability, explanations, findings and refusals.

#![allow(clippy::unwrap_used)]

mod checking;
mod drawing;
mod explaining;
mod knowing;
mod policies;
mod refusing;
mod words;
