//! The engine from outside: what goes in, what comes out.
#![allow(clippy::unwrap_used)]

mod adoption;
mod bounds;
mod domains;
mod doubt;
mod failures;
mod found_running;
mod learning;
mod limits;
mod marks;
mod meanwhile;
mod modules;
mod originals;
mod out_of_use;
mod outlook;
mod permission;
mod properties;
mod recovery;
mod restart;
mod sentences;
mod storms;
mod words;
mod world;
